"""``compare.py`` from the command line, on the tiny model."""

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from made_images import waves

import compare
import efficientdet_parity as ep
from converter.mappings.official import iterate_pairs
from converter.tensorflow_files.bundle import open_bundle
from efficientdet_spec import TINY, Fusion
from parity.commands.asking import inputs
from parity.judge.verdict import Verdict
from torch_model import build
from torch_model.checkpoint import ModelCheckpoint, load_checkpoint, save_checkpoint

ROOT = Path(compare.__file__).resolve().parent
INSTALLED = importlib.util.find_spec("tensorflow") is not None
HAS_OPENCV = importlib.util.find_spec("cv2") is not None
needs_tensorflow = pytest.mark.skipif(not INSTALLED, reason="TensorFlow is not installed")
needs_opencv = pytest.mark.skipif(not HAS_OPENCV, reason="OpenCV is not installed")

PROGRESS = ("comparing: ", "diagnosing: ", "attributing: ", "recording: ")
"""How lines on standard error begin that tell how far the work is."""

OUTPUTS = [
    f"{head}.predict.pointwise@P{level}"
    for head in ("class_head", "box_head")
    for level in TINY.levels
]


@pytest.fixture(scope="module", autouse=True)
def threads():
    """Comparisons set the number of threads of the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run_nodes(folder, path, *options):
    """Exit code and JSON result of ``compare.py nodes``."""
    # More threads would only wait for each other on tensors as small as these.
    fixed = ["--json", str(path), "--threads", "1"]
    code = compare.main(["nodes", str(folder), *fixed, *map(str, options)])
    return code, json.loads(path.read_text())


@pytest.fixture(scope="session")
def result(tiny_checkpoint, tmp_path_factory):
    """Exit code and result of comparing the tiny checkpoint as it is."""
    path = tmp_path_factory.mktemp("compared") / "nodes.json"
    return run_nodes(tiny_checkpoint, path)


@pytest.fixture
def refused(capsys, tmp_path):
    """Runs ``compare.py``, which must refuse its input; returns the message."""

    def call(*arguments):
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        code = compare.main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        # A comparison that fails at its very end has shown its progress by then.
        lines = [line for line in output.err.splitlines() if not line.startswith(PROGRESS)]
        assert (code, output.out) == (2, "")
        assert len(lines) == 1, output.err
        assert lines[0].startswith("compare.py: error: ")
        assert sorted(tmp_path.rglob("*")) == before
        return lines[0]

    return call


@pytest.fixture
def candidate(tiny_pth, tmp_path):
    """Writes a ``.pth`` of the tiny model after a change of its tensors."""

    def make(change):
        content = load_checkpoint(tiny_pth)
        state = {name: value.clone() for name, value in content.state_dict.items()}
        change(state)
        path = tmp_path / "candidate.pth"
        save_checkpoint(path, ModelCheckpoint(content.config, state, content.provenance))
        return path

    return make


def failing(values):
    passing = ("exact", "rounding")
    return [node["name"] for node in values["nodes"] if node["verdict"] not in passing]


def sizes(item):
    """Batch, height and width of an input."""
    return item["batch"], item["height"], item["width"]


def rms_of_outputs(values):
    return {
        node["name"]: node["free"]["rms"] for node in values["nodes"] if node["name"] in OUTPUTS
    }


@needs_tensorflow
def test_parity(result):
    code, values = result
    assert code == 0
    assert (values["schema"], values["version"]) == ("efficientdet-parity/nodes", 3)
    assert (values["outcome"], values["passes"]) == ("parity", True)
    assert values["sentence"].startswith("PARITY: all ")
    assert "roundings on 2 inputs; an error above " in values["sentence"]
    assert values["model"] == "efficientdet-tiny"
    assert values["dtype"] == "float32"
    assert values["candidate"] == "converted on the fly"
    assert values["not_shown"] == []
    photograph, amplitude = values["inputs"]
    assert photograph["source"] == "generated, like a photograph"
    assert sizes(photograph) == (1, *TINY.image_size)
    assert amplitude["source"] == "generated, of high amplitude"
    height, width = TINY.image_size
    assert sizes(amplitude) == (2, height // 2 + 1, 3 * width // 4 + 1)
    assert {item["outcome"] for item in values["inputs"]} == {"parity"}
    assert photograph["sha256"] != amplitude["sha256"]
    assert values["outputs"] == OUTPUTS
    assert values["reference"] == {
        "kind": "graph",
        "source": "built in",
        "framework": "TensorFlow",
    }
    assert values["nodes_pass"] is True
    assert values["findings"] == values["suspects"] == []
    assert values["environment"]["device"] == "cpu"
    counts = values["counts"]
    assert counts.keys() == {verdict.value for verdict in Verdict}
    assert counts["rounding"] > 0
    assert counts["exact"] + counts["rounding"] == len(values["nodes"])


@needs_tensorflow
def test_what_parity_covers(result):
    values = result[1]
    covers = values["coverage"]
    assert covers["nodes"] == covers["covered"] == len(values["nodes"])
    # The bluntest node, on the input on which it is sharpest; each node tells of its worst.
    nodes = {node["name"]: node for node in values["nodes"]}
    assert 0 < covers["detectable"] <= max(node["detectable"] for node in nodes.values()) < 1e-3
    assert covers["detectable_node"] in nodes
    assert {node["input"] for node in values["nodes"]} == {0, 1}
    reached = covers["reached"]
    assert 0 < reached["score"] <= 1 and reached["spread"] > 0
    assert nodes[reached["deviations_node"]]["kind"] == "batch norm"
    assert "swish" in covers["assumed"]
    assert covers["text"][0].startswith(f"{len(nodes)} of {len(nodes)} nodes, on 2 inputs (")
    # Weights are seeded, some of them below zero.
    assert any("a weight that relu makes 0" in note for note in covers["notes"])


@needs_tensorflow
def test_every_parameter_lies_in_a_covered_node(result):
    nodes = {node["name"]: node for node in result[1]["nodes"]}
    assert len(nodes) == len(result[1]["nodes"])
    for name, node in nodes.items():
        assert node["verdict"] in ("exact", "rounding"), name
        assert node["tensor"], name
        assert node["own"]["finite"] and not (node["own"]["constant"] and max(node["shape"]) > 1), (
            name
        )
    assert len({node["tensor"] for node in nodes.values()}) == len(nodes)
    modules = {name.partition("@")[0] for name in nodes}
    owners = {pair.parameter.rpartition(".")[0] for pair in iterate_pairs(TINY)}
    # A fusion's weights belong to the node that fuses.
    owners = {
        f"{owner}.fuse" if re.fullmatch(r"fpn\.cells\.\d+\.nodes\.\d+", owner) else owner
        for owner in owners
    }
    assert owners - modules == set()
    # What a head shares between levels is a node at each of them.
    assert {name for name in nodes if name.startswith("box_head.convs.0.depthwise")} == {
        f"box_head.convs.0.depthwise@P{level}" for level in TINY.levels
    }


@needs_tensorflow
def test_one_changed_weight_is_found(tiny_checkpoint, candidate, tmp_path):
    name = "backbone.blocks.3.depthwise_conv"

    def change(state):
        state[f"{name}.weight"][0, 0, 1, 2] += 0.01

    path = candidate(change)
    code, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", "--candidate", path)
    assert code == 1
    assert values["passes"] is False
    assert values["candidate"] == str(path)
    assert failing(values) == [name]
    assert values["counts"]["function differs"] == 1
    (suspect,) = values["suspects"]
    assert suspect["nodes"] == [name] and suspect["outputs"] == len(OUTPUTS)
    (finding,) = values["findings"]
    assert finding["place"] == f"{name}.weight" and finding["slug"].startswith("parameter-")


@needs_tensorflow
def test_all_changed_weights_are_found(tiny_checkpoint, candidate, trace, tmp_path, capsys):
    """Faults of every kind at once; each is named, however the others spread."""

    def change(state):
        state["backbone.stem_bn.running_mean"][2] += 0.01
        state["backbone.blocks.2.se.reduce_conv.bias"][0] += 0.01
        state["fpn.cells.0.nodes.4.weights"][1] += 0.01
        state["class_head.bns.1.P5.weight"][3] *= 1.001
        state["box_head.convs.0.pointwise.weight"][1, 2] += 0.01

    path = candidate(change)
    options = ["--candidate", path, "--reference", trace]
    code, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", *options)
    assert code == 1
    assert set(failing(values)) == {
        "backbone.stem_bn",
        "backbone.blocks.2.se.reduce_conv",
        "fpn.cells.0.nodes.4.fuse",
        "class_head.bns.1.P5",
        *(f"box_head.convs.0.pointwise@P{level}" for level in TINY.levels),
    }
    # The summary for people names them, too.
    output = capsys.readouterr().out
    assert "backbone.stem_bn" in output and "PARITY:" not in output


@needs_tensorflow
def test_a_weight_that_is_not_a_number_never_passes(tiny_checkpoint, candidate, trace, tmp_path):
    def change(state):
        state["box_head.predict.pointwise.bias"][0] = float("nan")

    path = candidate(change)
    options = ["--candidate", path, "--reference", trace]
    code, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", *options)
    assert code == 1
    assert set(failing(values)) == {f"box_head.predict.pointwise@P{level}" for level in TINY.levels}
    assert {
        node["verdict"] for node in values["nodes"] if "box_head.predict.pointwise" in node["name"]
    } == {"function differs"}
    assert values["sentence"].startswith(
        "DIFFERENCE: box_head.predict.pointwise@P3 is the first node with a value that is NaN"
    )
    # NaN spreads: no share of it is anything's.
    assert values["contributions"] == []


@needs_tensorflow
def test_an_unchanged_candidate_passes(tiny_checkpoint, tiny_pth, trace, result, tmp_path):
    options = ["--candidate", tiny_pth, "--reference", trace]
    code, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", *options)
    assert code == 0
    assert values["candidate"] == str(tiny_pth)
    assert [node["name"] for node in values["nodes"]] == [
        node["name"] for node in result[1]["nodes"]
    ]


@needs_tensorflow
def test_raw_and_average_weights(tiny_checkpoint, result, tmp_path):
    code, raw = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", "--weights", "raw")
    assert code == 0
    assert raw["checkpoint"]["weights"] == "raw"
    assert result[1]["checkpoint"]["weights"] == "ema"
    before, after = rms_of_outputs(result[1]), rms_of_outputs(raw)
    assert before.keys() == after.keys() == set(OUTPUTS)
    assert all(before[name] != after[name] for name in OUTPUTS)
    # Two tensors may have one rms; their elements tell them apart.
    models = [ep.convert(tiny_checkpoint, weights=weights) for weights in ("ema", "raw")]
    images = torch.linspace(-1, 1, 3 * 96 * 128).reshape(1, 3, 96, 128)
    with torch.no_grad():
        averages, values = ([*classes, *boxes] for classes, boxes in (m(images) for m in models))
    for one, other in zip(averages, values, strict=True):
        assert (one - other).square().mean().sqrt() > 1e-4 * one.square().mean().sqrt()


@needs_tensorflow
def test_raw_weights_against_a_candidate_of_averages(tiny_checkpoint, tiny_pth, tmp_path):
    """The commonest fault of converters: the wrong one of a variable's two values."""
    options = ["--candidate", tiny_pth, "--weights", "raw", "--size", "96x128"]
    code, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", *options)
    assert code == 1
    owners = {"backbone.stem_conv", "fpn.cells.1.nodes.1.fuse", OUTPUTS[0]}
    assert owners < set(failing(values))
    # It is said what each value is instead.
    assert {item["slug"] for item in values["findings"]} == {"parameter-ema"}
    assert {item["slug"] for item in values["suspects"] if item["tried"]} == {"parameters-ema"}


@needs_tensorflow
@pytest.mark.parametrize(
    ("height", "width"),
    # Both sides odd in the one, and one of them as short as it may be; the others are in between.
    [
        pytest.param(130, 201, marks=pytest.mark.heavy),
        pytest.param(96, 128, marks=pytest.mark.heavy),
        (65, 300),
    ],
)
def test_sizes_that_are_not_square(height, width, tiny_checkpoint, tmp_path):
    code, values = run_nodes(
        tiny_checkpoint, tmp_path / "nodes.json", "--size", f"{height}x{width}"
    )
    assert code == 0
    assert sizes(values["inputs"][0]) == (1, height, width)
    assert values["environment"]["threads"] == 1
    features = [TINY.feature_sizes(*sizes(item)[1:]) for item in values["inputs"]]
    by_name = {node["name"]: node for node in values["nodes"]}
    for level in TINY.levels:
        node = by_name[f"box_head.predict.pointwise@P{level}"]
        batch = values["inputs"][node["input"]]["batch"]
        assert tuple(node["shape"]) == (batch, *features[node["input"]][level], 36)


@needs_tensorflow
def test_double_precision_shows_one_structure(tiny_checkpoint, result, tmp_path):
    code, values = run_nodes(
        tiny_checkpoint, tmp_path / "nodes.json", "--dtype", "float64", "--size", "96x128"
    )
    assert code == 0
    assert values["dtype"] == "float64"
    assert 0 < values["largest_relative_max"] < 1e-10
    # It is the wider type that brings the sides together.
    assert result[1]["largest_relative_max"] > 1e-7
    assert len(values["nodes"]) == len(result[1]["nodes"])


@needs_tensorflow
@needs_opencv
def test_an_image_file(tiny_checkpoint, result, tmp_path):
    import cv2
    import numpy as np

    image = np.random.default_rng(0).integers(0, 256, (90, 140, 3)).astype(np.uint8)
    path = tmp_path / "image.png"
    assert cv2.imwrite(str(path), image)
    code, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", "--image", path)
    assert code == 0
    (item,) = values["inputs"]
    assert item["source"] == str(path) and sizes(item) == (1, *TINY.image_size)
    assert item["sha256"] != result[1]["inputs"][0]["sha256"]


@needs_tensorflow
@needs_opencv
def test_images_that_cannot_be_read(tiny_checkpoint, tmp_path, refused):
    missing = tmp_path / "missing.png"
    message = refused("nodes", tiny_checkpoint, "--image", missing)
    assert f"{missing} cannot be read (No such file or directory)" in message
    cases = {
        b"": "(0 bytes) is no JPEG, PNG or BMP image",
        b"this is no image": "(16 bytes) is no JPEG, PNG or BMP image",
        b"\x89PNG\r\n\x1a\n": "is damaged or cut short",
    }
    for content, expected in cases.items():
        path = tmp_path / "image.png"
        path.write_bytes(content)
        message = refused("nodes", tiny_checkpoint, "--image", path)
        assert f"{path} {expected}" in message


@needs_tensorflow
def test_image_without_opencv(tiny_checkpoint, tmp_path, refused, monkeypatch):
    import cv2

    path = tmp_path / "image.png"
    assert cv2.imwrite(str(path), waves(24, 40))
    monkeypatch.setitem(sys.modules, "cv2", None)
    message = refused("nodes", tiny_checkpoint, "--image", path)
    assert f"pip install '{ROOT}[images]'" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "1x300"], "cannot process 1x300 pixels"),
        (["--size", "32x512"], "cannot process 32x512 pixels"),
        (["--size", "0x128"], "'0x128' is no image size"),
        (["--size", "big"], "'big' is no image size"),
        (["--size=-128"], "'-128' is no image size"),
        (["--threads", "0"], "--threads is 0"),
        (["--threads=-1"], "--threads is -1"),
        (["--threads", "99999999999999"], "--threads is 99999999999999"),
        (["--size", ""], "'' is no image size"),
        (["--model", "d0"], "holds the variables of efficientdet-tiny, not of efficientdet-d0"),
        (["--num-classes", "90"], "has 7 classes"),
    ],
)
def test_impossible_options(options, message, tiny_checkpoint, refused):
    assert message in refused("nodes", tiny_checkpoint, *options)


@needs_tensorflow
def test_candidates_that_cannot_be_used(tiny_checkpoint, tmp_path, refused):
    def message(path):
        return refused("nodes", tiny_checkpoint, "--candidate", path)

    other = TINY.with_classes(3)
    path = tmp_path / "other.pth"
    save_checkpoint(path, ModelCheckpoint(other, build(other).state_dict(), {}))
    assert f"{path} holds efficientdet-tiny with num_classes 3, but" in message(path)
    other = replace(TINY, fusion=Fusion.SOFTMAX_ATTENTION)
    save_checkpoint(path, ModelCheckpoint(other, build(other).state_dict(), {}))
    assert "with fpn_weight_method attn, but the checkpoint is efficientdet-tiny with " in (
        message(path)
    )
    assert "does not exist" in message(tmp_path / "missing.pth")
    path = tmp_path / "plain.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    assert "not one that convert.py wrote" in message(path)
    path.write_bytes(b"garbage")
    assert "is not a PyTorch file" in message(path)


def test_checkpoints_that_cannot_be_used(tiny_checkpoint, tmp_path, refused):
    assert "does not exist" in refused("nodes", tmp_path / "nothing")
    (tmp_path / "model.index").write_bytes((tiny_checkpoint / "model.index").read_bytes())
    assert "data-00000-of-00001 is missing" in refused("nodes", tmp_path)


@needs_tensorflow
@pytest.mark.parametrize("name", ["file/nodes.json", "folder"])
def test_result_that_cannot_be_written(name, tiny_checkpoint, tmp_path, refused):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder").mkdir()
    message = refused("nodes", tiny_checkpoint, "--threads", 1, "--json", tmp_path / name)
    assert str(tmp_path / name) in message


def test_tensorflow_is_not_installed(tiny_checkpoint, refused, monkeypatch):
    find = importlib.util.find_spec

    def find_all_but_tensorflow(name, *arguments):
        return None if name == "tensorflow" else find(name, *arguments)

    monkeypatch.setattr(importlib.util, "find_spec", find_all_but_tensorflow)
    message = refused("nodes", tiny_checkpoint)
    assert "needs tensorflow, which is not installed" in message
    assert f"pip install '{ROOT}[tensorflow]'" in message


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_seeded_checkpoints_are_reproducible(tiny_checkpoint, tmp_path, capsys):
    assert compare.main(["seed", "tiny", str(tmp_path / "again")]) == 0
    assert "not trained" in capsys.readouterr().out
    other = tmp_path / "other"
    assert compare.main(["seed", "efficientdet-tiny", str(other), "--salt", "pepper"]) == 0
    expected = {"checkpoint", "model.index", "model.data-00000-of-00001"}
    assert hashes(tiny_checkpoint).keys() == hashes(other).keys() == expected
    # Only what is drawn is exact; the batch norms' statistics are computed.
    first, again, salted = (
        open_bundle(folder / "model") for folder in (tiny_checkpoint, tmp_path / "again", other)
    )
    name = "box_net/box-0/pointwise_kernel/ExponentialMovingAverage"
    assert first.read(name).tobytes() == again.read(name).tobytes()
    assert first.read(name).tobytes() != salted.read(name).tobytes()


def test_seeding_that_cannot_be_done(tmp_path, refused):
    assert "There is no model 'd99'" in refused("seed", "d99", tmp_path / "seed")
    (tmp_path / "file").write_text("not a folder")
    assert "cannot be made" in refused("seed", "tiny", tmp_path / "file" / "seed")
    assert "cannot be made" in refused("seed", "tiny", tmp_path / "file")


@needs_tensorflow
def test_program_runs_by_itself(tiny_checkpoint, tmp_path):
    path = tmp_path / "nodes.json"
    done = in_a_fresh_process("nodes", tiny_checkpoint, "--json", path, "--size", "96x128")
    assert done.returncode == 0, done.stderr
    assert json.loads(path.read_text())["passes"] is True
    # TensorFlow's notices about the processor stay out of the way.
    lines = done.stderr.splitlines()
    assert [line for line in lines if not line.startswith(PROGRESS)] == []
    # The verdict comes first, and its word once more last; no line is too long for a page.
    printed = done.stdout.splitlines()
    assert " ".join(done.stdout.split()).startswith(json.loads(path.read_text())["sentence"])
    assert printed[0].startswith("PARITY: all ") and printed[-1].startswith("PARITY: ")
    assert max(map(len, printed)) <= 100
    assert "This verdict covers" in printed
    assert OUTPUTS[-1] in done.stdout


def test_no_input_is_overwritten(tiny_checkpoint, tiny_pth, refused):
    index = tiny_checkpoint / "model.index"
    before = index.read_bytes(), tiny_pth.read_bytes()
    for path in (index, tiny_pth):
        message = refused("nodes", tiny_checkpoint, "--candidate", tiny_pth, "--json", path)
        assert "is in use by this very run" in message
    assert (index.read_bytes(), tiny_pth.read_bytes()) == before


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory")]
)
def test_too_little_memory_is_said_and_is_no_difference(
    tiny_checkpoint, tiny_pth, refused, monkeypatch, error
):
    def fail(*_):
        raise error

    monkeypatch.setattr(inputs, "prepared", fail)
    assert "memory ran out" in refused("nodes", tiny_checkpoint, "--reference", tiny_pth)


@pytest.mark.parametrize("words", [["nodes"], ["--debug", "nodes"], ["nodes", "--debug"]])
def test_other_failures_are_defects_and_not_hidden(
    words, tiny_checkpoint, tiny_pth, monkeypatch, capsys
):
    def fail(*_):
        raise RuntimeError("a bug in memory")

    monkeypatch.setattr(inputs, "prepared", fail)
    assert compare.main([*words, str(tiny_checkpoint), "--reference", str(tiny_pth)]) == 70
    output = capsys.readouterr()
    assert output.out == ""
    assert ("Traceback" in output.err) == ("--debug" in words)
    last = output.err.splitlines()[-1]
    assert last.startswith(
        "compare.py: this is a defect of the program: RuntimeError: a bug in memory at parity/"
    )


def test_a_checkpoint_with_nan_is_refused_before_anything_runs(rewrite, refused):
    def spoil(tensors):
        tensors["box_net/box-predict/bias/ExponentialMovingAverage"][5] = float("nan")

    folder = rewrite(spoil)
    message = refused("nodes", folder)
    assert "'box_net/box-predict/bias/ExponentialMovingAverage' holds NaN in 1 of 36" in message
    assert refused("record", folder, folder.parent / "trace.h5") == message


def test_help_lists_the_exit_codes(capsys):
    for words in (["--help"], ["nodes", "--help"], ["seed", "--help"]):
        assert compare.main(words) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "1 a difference that rounding does not explain;" in text
        assert "70 a defect of this program; 130 interrupted (Ctrl-C);" in text


@needs_tensorflow
def test_parameters_that_are_not_the_checkpoints_are_a_difference(
    tiny_checkpoint, candidate, trace, tmp_path, capsys
):
    name = "fpn.cells.0.nodes.2.weights"

    def change(state):
        # Fast attention cuts them off: the outputs stay as they are.
        assert (state[name] < 0).any()
        state[name][state[name] < 0] -= 1

    path = candidate(change)
    options = ["--candidate", path, "--reference", trace]
    code, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", *options)
    assert code == 1
    assert values["nodes_pass"] is True and values["passes"] is False
    assert [item["place"] for item in values["findings"]] == [name]
    said = (
        f"DIFFERENCE: every node has parity on these inputs, but {name}: the candidate's value is"
    )
    last = f"DIFFERENCE: 1 finding about the candidate; look first at {name}"
    assert capsys.readouterr().out.splitlines()[-1] == last
    assert (values["outcome"], values["sentence"][: len(said)]) == ("difference", said)


# Other ways to say what is compared


def in_a_fresh_process(*arguments, without=()):
    """Runs ``compare.py`` where some modules cannot be imported."""
    hidden = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    code = f"import sys; {hidden}import compare; sys.exit(compare.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def code(tmp_path):
    """Writes a candidate as code and returns how it is named."""

    def make(text, function="build"):
        path = tmp_path / "model.py"
        path.write_text(text)
        return f"{path}:{function}"

    yield make
    sys.modules.pop("candidate_model", None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


@needs_tensorflow
def test_a_candidate_as_code(tiny_checkpoint, code, trace, tmp_path):
    path = tmp_path / "nodes.json"
    faithful = code("def build(model):\n    return model")
    exit_code, values = run_nodes(
        tiny_checkpoint, path, "--candidate", faithful, "--reference", trace
    )
    assert exit_code == 0
    assert values["candidate"] == faithful
    wrong = code(
        "def build(model):\n    model.backbone.blocks[3].depthwise_bn.eps = 1e-5\n    return model"
    )
    exit_code, values = run_nodes(tiny_checkpoint, path, "--candidate", wrong, "--reference", trace)
    assert exit_code == 1
    assert failing(values) == ["backbone.blocks.3.depthwise_bn"]
    assert [item["slug"] for item in values["findings"]] == ["eps"]
    assert values["suspects"][0]["diagnosis"]


RENAMED = """
import torch

class Port(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.body, self.neck = model.backbone, model.fpn
        self.classes, self.boxes = model.class_head, model.box_head

    def forward(self, images):
        features = self.neck(self.body(images.contiguous(memory_format=torch.channels_last)))
        return self.classes(features), self.boxes(features)

def build(model):
    return Port(model)
"""


@needs_tensorflow
@pytest.mark.heavy
def test_a_candidate_of_another_structure_with_names(tiny_checkpoint, code, result, tmp_path):
    path, names = tmp_path / "nodes.json", tmp_path / "names.json"
    port = code(RENAMED)
    heads = {"backbone": "body", "fpn": "neck", "class_head": "classes", "box_head": "boxes"}
    nodes = [node["name"] for node in result[1]["nodes"]]
    mapping = {}
    for node in {name.partition("@")[0]: None for name in nodes}:
        first, _, rest = node.partition(".")
        mapping[node] = f"{heads[first]}.{rest}"
    names.write_text(json.dumps(mapping))
    exit_code, values = run_nodes(
        tiny_checkpoint, path, "--candidate", port, "--names", names, "--size", "96x128"
    )
    assert exit_code == 0
    assert [node["name"] for node in values["nodes"]] == nodes
    # That its parameters have other names is no finding.
    assert values["findings"] == []
    # A node that is left out of the names is found without.
    del mapping["backbone.blocks.1.se.act"]
    names.write_text(json.dumps(mapping))
    exit_code, values = run_nodes(
        tiny_checkpoint, path, "--candidate", port, "--names", names, "--size", "96x128"
    )
    assert (exit_code, values["coverage"]["covered"]) == (0, len(nodes))
    # One that is no submodule's is none of what was found, and that is told.
    names.write_text(json.dumps({"backbone.blocks.1.se.act": "neck"}))
    exit_code, values = run_nodes(
        tiny_checkpoint, path, "--candidate", port, "--names", names, "--size", "96x128"
    )
    assert exit_code == 0
    notes = [text for text in values["coverage"]["text"] if "name" in text]
    # The shapes, which it tells, are each input's.
    assert len(notes) == len(values["inputs"])
    assert notes[0].startswith("The name of backbone.blocks.1.se.act is not followed: neck, ")


@needs_tensorflow
@pytest.mark.parametrize(
    "own", [pytest.param(True, marks=pytest.mark.heavy), False], ids=["own paths", "renamed"]
)
def test_what_was_found_can_be_given_back_as_names(tiny_checkpoint, code, trace, tmp_path, own):
    path, names, again = (tmp_path / f"{name}.json" for name in ("nodes", "names", "again"))
    candidate = [] if own else ["--candidate", code(RENAMED)]
    options = [*candidate, "--reference", trace, "--contributions", "0"]
    exit_code, values = run_nodes(tiny_checkpoint, path, *options, "--write-names", names)
    written = json.loads(names.read_text())
    assert exit_code == 0
    assert (written["schema"], written["version"]) == ("efficientdet-parity/names", 1)
    assert [*written["nodes"]] == [node["name"] for node in values["nodes"]]
    stem = written["nodes"]["backbone.stem_conv"]
    assert stem["path"] == f"{'backbone' if own else 'body'}.stem_conv"
    assert (stem["found"] == "own path", stem["operations"] == []) == (own, own)
    exit_code, back = run_nodes(
        tiny_checkpoint, path, *options, "--names", names, "--write-names", again
    )
    assert exit_code == 0
    assert [node["verdict"] for node in back["nodes"]] == [
        node["verdict"] for node in values["nodes"]
    ]
    found = json.loads(again.read_text())["nodes"]
    if own:
        assert {node: entry["path"] for node, entry in found.items()} == {
            node: entry["path"] for node, entry in written["nodes"].items()
        }
    else:
        assert found == written["nodes"]


def test_names_are_not_written_over_what_is_needed(tiny_checkpoint, tmp_path, refused):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"backbone.stem_conv": "backbone.stem_conv"}))
    before = names.read_text()
    for others in (["--names", names], ["--json", names]):
        refused("nodes", tiny_checkpoint, "--write-names", names, *others)
    assert names.read_text() == before


@needs_tensorflow
def test_names_and_code_that_cannot_be_used(tiny_checkpoint, tmp_path, code, refused):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"backbone.stem_conv": "no.such.stem_conv"}))
    message = refused("nodes", tiny_checkpoint, "--names", names)
    assert "names the submodule 'no.such.stem_conv', which the candidate does not have" in message
    assert "for example backbone.stem_conv" in message
    names.write_text("[")
    assert "cannot be read as JSON" in refused("nodes", tiny_checkpoint, "--names", names)
    text = code("def build(model): return 3")
    assert f"What {text} returns is of type int" in refused(
        "nodes", tiny_checkpoint, "--candidate", text
    )
    missing = f"{tmp_path / 'missing.py'}:build"
    assert "does not exist" in refused("nodes", tiny_checkpoint, "--candidate", missing)


# Traces


@pytest.fixture(scope="session")
def trace(tiny_checkpoint, tmp_path_factory):
    """A trace of the tiny model, recorded where PyTorch cannot be imported."""
    path = tmp_path_factory.mktemp("recorded") / "trace.h5"
    options = ["--size", "96x128", "--threads", "1"]
    done = in_a_fresh_process("record", tiny_checkpoint, path, *options, without=["torch"])
    assert done.returncode == 0, done.stderr
    assert f"wrote {path} (" in done.stdout
    return path


@needs_tensorflow
def test_a_trace_is_compared_where_there_is_no_tensorflow(tiny_checkpoint, trace, tmp_path):
    path = tmp_path / "nodes.json"
    options = ["--reference", trace, "--json", path, "--threads", "1"]
    done = in_a_fresh_process("nodes", tiny_checkpoint, *options, without=["tensorflow"])
    assert done.returncode == 0, done.stderr
    values = json.loads(path.read_text())
    assert values["passes"] is True
    assert values["reference"]["kind"] == "trace"
    assert values["reference"]["source"] == str(trace)
    (item,) = values["inputs"]
    assert sizes(item) == (1, 96, 128)


@needs_tensorflow
def test_a_fault_is_found_with_a_trace(tiny_checkpoint, trace, candidate, tmp_path):
    name = "backbone.blocks.3.depthwise_conv"

    def change(state):
        state[f"{name}.weight"][0, 0, 1, 2] += 0.01

    exit_code, values = run_nodes(
        tiny_checkpoint,
        tmp_path / "nodes.json",
        *("--reference", trace, "--candidate", candidate(change)),
    )
    assert exit_code == 1
    assert failing(values) == [name]


@needs_tensorflow
def test_a_trace_of_some_nodes(tiny_checkpoint, tmp_path):
    path = tmp_path / "part.h5"
    globs = ["--nodes", "backbone.stem*", "--nodes", "backbone.blocks.0.*", "--compress"]
    assert (
        compare.main(["record", str(tiny_checkpoint), str(path), *globs, "--size", "96x128"]) == 0
    )
    report = tmp_path / "report.xml"
    exit_code, values = run_nodes(
        tiny_checkpoint, tmp_path / "nodes.json", "--reference", path, "--junit", report
    )
    # What was not recorded is not covered, and that is neither parity nor a difference.
    assert exit_code == 3
    assert (values["outcome"], values["passes"]) == ("not shown", False)
    assert values["sentence"].startswith("NOT SHOWN: nothing was found to differ, but ")
    suite = ElementTree.parse(report).getroot()
    assert int(suite.get("failures")) == values["counts"]["not covered"] > 0
    passing = [node["name"] for node in values["nodes"] if node["verdict"] in ("exact", "rounding")]
    assert passing == [
        node["name"]
        for node in values["nodes"]
        if node["name"].startswith(("backbone.stem", "backbone.blocks.0."))
    ]
    assert values["counts"]["not covered"] == len(values["nodes"]) - len(passing)


@needs_tensorflow
def test_traces_of_something_else(tiny_checkpoint, trace, rewrite, tmp_path, refused):
    def message(folder, *options):
        return refused("nodes", folder, "--reference", trace, *options)

    def change(tensors):
        name = next(name for name in tensors if name.endswith("box-predict/bias"))
        tensors[name] += 1

    assert "of a checkpoint with the fingerprint" in message(rewrite(change))
    text = message(tiny_checkpoint, "--weights", "raw")
    assert "was recorded with the ema weights" in text and "--weights ema" in text
    assert "was recorded in float32" in message(tiny_checkpoint, "--dtype", "float64")
    assert "with the SHA-256" in message(tiny_checkpoint, "--size", "128x128")
    path = tmp_path / "no.h5"
    path.write_bytes(b"no trace")
    assert str(path) in refused("nodes", tiny_checkpoint, "--reference", path)
    missing = tmp_path / "missing.h5"
    assert str(missing) in refused("nodes", tiny_checkpoint, "--reference", missing)


@needs_tensorflow
def test_the_input_of_a_trace_may_be_given_again(tiny_checkpoint, trace, tmp_path):
    options = ["--reference", trace, "--size", "96x128", "--contributions", 0]
    assert run_nodes(tiny_checkpoint, tmp_path / "nodes.json", *options)[0] == 0


@needs_tensorflow
def test_recording_that_cannot_be_done(tiny_checkpoint, tmp_path, refused):
    path = tmp_path / "trace.h5"
    assert "matches none of the" in refused("record", tiny_checkpoint, path, "--nodes", "nothing")
    index = tiny_checkpoint / "model.index"
    before = index.read_bytes()
    assert "is in use by this very run" in refused("record", tiny_checkpoint, index)
    assert index.read_bytes() == before
    assert "folder" in refused("record", tiny_checkpoint, tmp_path / "missing" / "trace.h5")


# Devices and further results


def test_a_gpu_that_is_not_there(tiny_checkpoint, refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = refused("nodes", tiny_checkpoint, "--device", "cuda")
    assert "--device cuda needs a GPU" in message


@needs_tensorflow
@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no CUDA device: the same comparison runs on the CPU in test_compare_cli",
)
def test_parity_on_a_gpu(tiny_checkpoint, tmp_path):
    exit_code, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", "--device", "cuda")
    assert exit_code == 0, [(name, values["counts"]) for name in failing(values)]
    assert values["environment"]["device"] == "cuda"
    assert values["environment"]["gpu"]
    assert values["environment"]["tf32"] is False


@needs_tensorflow
def test_junit_and_the_table_of_all_nodes(tiny_checkpoint, candidate, trace, tmp_path, capsys):
    def change(state):
        state["backbone.stem_bn.running_mean"][2] += 0.01

    report = tmp_path / "report.xml"
    options = ["--reference", trace, "--junit", report, "--candidate", candidate(change)]
    exit_code, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", *options, "--verbose")
    assert exit_code == 1
    told = capsys.readouterr().out
    assert all(f"\n  {node['name']} " in told for node in values["nodes"])
    suite = ElementTree.parse(report).getroot()
    assert int(suite.get("tests")) == len(values["nodes"]) + len(values["findings"])
    failures = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failures[0] == "backbone.stem_bn" and len(failures) == int(suite.get("failures")) == 2
    assert run_nodes(tiny_checkpoint, tmp_path / "nodes.json", *options)[0] == 1
    told = capsys.readouterr().out
    assert "\n  backbone.stem_conv " not in told and "\n  backbone.stem_bn " in told


@needs_tensorflow
@pytest.mark.parametrize("limit", [0, 1])
def test_diagnoses_as_many_suspects_as_it_is_told(
    limit, tiny_checkpoint, candidate, trace, tmp_path
):
    def change(state):
        state["backbone.stem_bn.running_mean"][2] += 0.01
        state["backbone.blocks.2.se.reduce_conv.bias"][0] += 0.01

    options = ["--reference", trace, "--candidate", candidate(change), "--diagnose", limit]
    _, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", *options)
    assert [item["tried"] for item in values["suspects"]] == [index < limit for index in range(2)]


@pytest.mark.parametrize("option", ["--contributions", "--diagnose"])
def test_numbers_that_are_none(option, tiny_checkpoint, refused):
    for value in ("-1", "99999999"):
        assert f"{option} is {value}" in refused("nodes", tiny_checkpoint, f"{option}={value}")


def test_results_may_not_overwrite_each_other(tiny_checkpoint, tmp_path, refused):
    path = tmp_path / "result"
    message = refused("nodes", tiny_checkpoint, "--json", path, "--junit", path)
    assert "is in use by this very run" in message
