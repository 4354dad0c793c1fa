"""``compare.py`` from the command line, on the tiny model."""

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import compare
from converter.bundle import open_bundle
from converter.mapping import iterate_pairs
from efficientdet_spec import TINY
from torch_model import build
from torch_model.checkpoint import ModelCheckpoint, load_checkpoint, save_checkpoint

ROOT = Path(compare.__file__).resolve().parent
INSTALLED = importlib.util.find_spec("tensorflow") is not None
HAS_OPENCV = importlib.util.find_spec("cv2") is not None
needs_tensorflow = pytest.mark.skipif(not INSTALLED, reason="TensorFlow is not installed")
needs_opencv = pytest.mark.skipif(not HAS_OPENCV, reason="OpenCV is not installed")

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
    fixed = ["--json", str(path), "--quiet", "--threads", "1"]
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
        lines = [line for line in output.err.splitlines() if not line.startswith("comparing: ")]
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
    return [node["name"] for node in values["nodes"] if node["verdict"] == "differs"]


def rms_of_outputs(values):
    return {
        node["name"]: node["free"]["rms"] for node in values["nodes"] if node["name"] in OUTPUTS
    }


@needs_tensorflow
def test_parity(result):
    code, values = result
    assert code == 0
    assert (values["schema"], values["version"]) == ("efficientdet-parity/nodes", 1)
    assert values["passes"] is True
    assert values["model"] == "efficientdet-tiny"
    assert values["dtype"] == "float32"
    assert values["candidate"] == "converted on the fly"
    assert values["images"]["source"] == "built-in"
    assert (values["images"]["height"], values["images"]["width"]) == TINY.image_size
    assert values["outputs"] == OUTPUTS
    assert values["counts"]["differs"] == values["counts"]["not covered"] == 0
    assert values["counts"]["rounding"] > 0
    assert sum(values["counts"].values()) == len(values["nodes"])


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
    assert values["counts"]["differs"] == 1
    assert values["counts"]["not covered"] == 0


@needs_tensorflow
def test_all_changed_weights_are_found(tiny_checkpoint, candidate, tmp_path, capsys):
    """Faults of every kind at once; each is named, however the others spread."""

    def change(state):
        state["backbone.stem_bn.running_mean"][2] += 0.01
        state["backbone.blocks.2.se.reduce_conv.bias"][0] += 0.01
        state["fpn.cells.0.nodes.4.weights"][1] += 0.01
        state["class_head.bns.1.P5.weight"][3] *= 1.001
        state["box_head.convs.0.pointwise.weight"][1, 2] += 0.01

    path = candidate(change)
    code, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", "--candidate", path)
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
def test_a_weight_that_is_not_a_number_never_passes(tiny_checkpoint, candidate, tmp_path):
    def change(state):
        state["box_head.predict.pointwise.bias"][0] = float("nan")

    path = candidate(change)
    code, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", "--candidate", path)
    assert code == 1
    bad = {node["name"] for node in values["nodes"] if node["verdict"] not in ("exact", "rounding")}
    assert bad == {f"box_head.predict.pointwise@P{level}" for level in TINY.levels}


@needs_tensorflow
def test_an_unchanged_candidate_passes(tiny_checkpoint, tiny_pth, result, tmp_path):
    code, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", "--candidate", tiny_pth)
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
    assert all(abs(before[name] / after[name] - 1) > 1e-4 for name in OUTPUTS)


@needs_tensorflow
def test_raw_weights_against_a_candidate_of_averages(tiny_checkpoint, tiny_pth, tmp_path):
    """The commonest fault of converters: the wrong one of a variable's two values."""
    code, values = run_nodes(
        tiny_checkpoint, tmp_path / "nodes.json", "--candidate", tiny_pth, "--weights", "raw"
    )
    assert code == 1
    owners = {node["name"] for node in values["nodes"] if node["verdict"] == "differs"}
    assert {"backbone.stem_conv", "fpn.cells.1.nodes.1.fuse", OUTPUTS[0]} < owners


@needs_tensorflow
@pytest.mark.parametrize(("height", "width"), [(130, 201), (96, 128), (65, 300)])
def test_sizes_that_are_not_square(height, width, tiny_checkpoint, tmp_path):
    code, values = run_nodes(
        tiny_checkpoint, tmp_path / "nodes.json", "--size", f"{height}x{width}"
    )
    assert code == 0
    assert (values["images"]["height"], values["images"]["width"]) == (height, width)
    assert values["environment"]["threads"] == 1
    shapes = {node["name"]: tuple(node["shape"]) for node in values["nodes"]}
    sizes = TINY.feature_sizes(height, width)
    assert {name: shapes[name] for name in OUTPUTS if name.startswith("box")} == {
        f"box_head.predict.pointwise@P{level}": (1, *sizes[level], 36) for level in TINY.levels
    }


@needs_tensorflow
def test_double_precision_shows_one_structure(tiny_checkpoint, result, tmp_path):
    code, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", "--dtype", "float64")
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
    assert values["images"]["source"] == str(path)
    assert values["images"]["sha256"] != result[1]["images"]["sha256"]


@needs_tensorflow
@needs_opencv
def test_images_that_cannot_be_read(tiny_checkpoint, tmp_path, refused):
    missing = tmp_path / "missing.png"
    message = refused("nodes", tiny_checkpoint, "--image", missing)
    assert f"{missing} cannot be read (No such file or directory)" in message
    for content in (b"", b"this is no image", b"\x89PNG\r\n\x1a\n"):
        path = tmp_path / "image.png"
        path.write_bytes(content)
        message = refused("nodes", tiny_checkpoint, "--image", path)
        assert f"{path} ({len(content)} bytes) is no image" in message


@needs_tensorflow
def test_image_without_opencv(tiny_checkpoint, tmp_path, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    message = refused("nodes", tiny_checkpoint, "--image", tmp_path / "image.png")
    assert "pip install 'efficientdet-parity[images]'" in message


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
    assert f"{path} holds efficientdet-tiny with 3 classes, but" in message(path)
    assert "is not a file" in message(tmp_path / "missing.pth")
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
    assert "TensorFlow, which is not installed" in message
    assert "pip install 'efficientdet-parity[tensorflow]'" in message


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
    done = subprocess.run(
        [sys.executable, "compare.py", "nodes", str(tiny_checkpoint), "--json", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(path.read_text())["passes"] is True
    # TensorFlow's notices about the processor stay out of the way.
    lines = done.stderr.splitlines()
    progress = ("comparing: ", "attributing: ")
    assert [line for line in lines if not line.startswith(progress)] == []
    assert "PARITY: every node is covered" in done.stdout
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
def test_too_little_memory_is_said_and_is_no_mismatch(tiny_checkpoint, refused, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(compare, "_images", fail)
    assert "memory ran out" in refused("nodes", tiny_checkpoint)


def test_other_failures_are_not_hidden(tiny_checkpoint, monkeypatch):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(compare, "_images", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        compare.main(["nodes", str(tiny_checkpoint)])


def test_parameters_that_are_not_the_checkpoints_are_named(
    tiny_checkpoint, candidate, result, tmp_path, capsys
):
    assert result[1]["parameters_changed"] == []
    name = "fpn.cells.0.nodes.2.weights"

    def change(state):
        # Fast attention cuts both off: the outputs stay as they are.
        state[name][state[name] < 0] -= 1
        state["box_head.predict.pointwise.bias"][0] += 0.5

    path = candidate(change)
    _, values = run_nodes(tiny_checkpoint, tmp_path / "nodes.json", "--candidate", path)
    assert "box_head.predict.pointwise.bias" in values["parameters_changed"]
    assert "not all the checkpoint's" in capsys.readouterr().out
