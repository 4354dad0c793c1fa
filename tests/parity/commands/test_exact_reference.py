"""The exact values as the reference: the same verdicts without TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import compare
from efficientdet_spec import MODELS, TINY, get_config
from parity.commands.references import kind_of
from parity.diagnosis.suspects import diagnosed, suspects
from parity.lockstep.comparison import compare as compare_pairing
from parity.lockstep.pairing import Pairing
from parity.process.outcome import Outcome
from parity.results.proof import PUBLISHED, proof_of
from parity.settings.nodes import EXACT, GRAPH, needs_of_reference
from parity.sides.exact import exact_reference
from parity.sides.naming import own_paths
from parity.sides.pytorch import TorchCandidate
from parity.sides.stream import StreamError

ROOT = Path(__file__).parents[3]

WORDS = {"graph": "graph", "exact": "exact", "/tmp/exact": "trace", "exact.pth": "module"}

WITHOUT = """
import sys
for name in ("tensorflow", "h5py", "cv2", "pycocotools"):
    sys.modules[name] = None
import compare
sys.exit(compare.main(sys.argv[1:]))
"""


@pytest.fixture
def exact(lockstep):
    return exact_reference(lockstep.referee, lockstep.outputs, {"kind": "exact", "source": "test"})


def pairing(lockstep, exact, model):
    return Pairing(
        exact, TorchCandidate(model, own_paths(lockstep.kinds)), lockstep.referee, lockstep.images
    )


def named(lockstep, paired):
    """What is wrong where, by the verdicts and the diagnosis."""
    nodes = compare_pairing(paired).nodes
    failing = [node.name for node in nodes if node.verdict.fails]
    found = suspects(paired, nodes)
    found = diagnosed(paired, found, nodes, lockstep.known(), [], 5) if found else []
    return failing, [(item.nodes[0], item.slug) for item in found]


def test_a_machine_without_tensorflow_can_compare(tiny_checkpoint, tmp_path):
    result = tmp_path / "nodes.json"
    command = ["nodes", str(tiny_checkpoint), "--reference", "exact", "--json", str(result)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    reference = json.loads(result.read_text())["reference"]
    assert (reference["kind"], reference["framework"]) == ("exact", "NumPy")
    (note,) = reference["notes"]
    assert note.startswith("TensorFlow was not run; no published comparison covers this model")
    assert "TensorFlow was not run" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("backbone.stem_bn", lambda layer: setattr(layer, "eps", 1e-5)),
        ("fpn.resample_p6.conv", lambda layer: layer.weight.data.mul_(1.01)),
        ("backbone.blocks.1.depthwise_conv", lambda layer: setattr(layer, "stride", (1, 1))),
    ],
)
def test_a_fault_has_the_same_place_and_name_as_with_the_graph(lockstep, exact, place, change):
    model = lockstep.candidate()
    change(model.get_submodule(place))
    failing, guilty = named(lockstep, pairing(lockstep, exact, model))
    assert (failing, guilty) == named(lockstep, lockstep.pairing(model))
    assert failing[0] == guilty[0][0] == place


def test_a_faithful_model_has_parity_and_the_reference_no_difference(lockstep, exact):
    comparison = compare_pairing(pairing(lockstep, exact, lockstep.candidate()))
    assert comparison.outcome is Outcome.PARITY
    # Half a unit in the last place is one rounding of the gauge at most.
    assert all(node.reference_from_exact.roundings <= 1 for node in comparison.nodes)


def test_each_tensor_is_the_exact_value_of_those_before(lockstep, exact):
    held = {}
    with exact.compute(lockstep.images) as tensors:
        for name in exact.kinds:
            held[name] = tensors.take(name)
            tensors.release()
    for name in ("backbone.blocks.0.depthwise_conv", "class_head.predict.pointwise@P4"):
        (source,) = lockstep.referee.sources(name)
        truth, _ = lockstep.referee.operation(name).whole([held[source]])
        assert held[name].dtype == np.float32
        assert np.array_equal(held[name], truth.astype(np.float32))


def test_tensors_that_pass_are_computed_only_for_those_behind(lockstep, exact):
    names = list(exact.kinds)
    with exact.compute(lockstep.images) as tensors:
        first = tensors.take(names[0])
        tensors.release()
        for _ in names[1:-1]:
            tensors.skip()
        last = tensors.take(names[-1])
    with exact.compute(lockstep.images) as tensors:
        assert np.array_equal(tensors.take(names[0]), first)
        tensors.release()
        for name in names[1:-1]:
            tensors.take(name)
            tensors.release()
        assert np.array_equal(tensors.take(names[-1]), last)
        tensors.release()
        with pytest.raises(StreamError, match="ended before"):
            tensors.take(names[-1])
    with exact.compute(lockstep.images) as tensors, pytest.raises(StreamError, match="offers"):
        tensors.take(names[1])


def test_in_double_precision_and_without_noise(tiny_checkpoint, tmp_path):
    result = tmp_path / "nodes.json"
    options = ["--reference", "exact", "--noise", "--dtype", "float64", "--json", str(result)]
    assert compare.main(["nodes", str(tiny_checkpoint), *options, "--contributions", "0"]) == 0
    written = json.loads(result.read_text())
    assert max(node["free"]["relative_max"] for node in written["nodes"]) < 1e-11
    assert {noise["side"] for noise in written["noise"]} == {"candidate"}
    assert "the reference has no noise" in written["reference"]["notes"][-1]


@pytest.mark.parametrize(
    ("published", "name"), [(item, name) for item in PUBLISHED for name in item.models]
)
def test_each_official_model_has_a_published_comparison(published, name):
    told = proof_of(get_config(name))
    assert f"published comparison of {name} ({published.folder}, made with version " in told
    pages = ROOT / published.folder
    assert (pages / f"{name}.html").is_file()
    summary = json.loads((pages / "report.json").read_text())
    (model,) = [item for item in summary["models"] if item["model"] == name and not item["trained"]]
    # Older versions call the outcome the verdict.
    assert model.get("outcome", model.get("verdict")) == "parity"
    assert f"version {published.version}" in (ROOT / "docs/proof.md").read_text()


def test_every_model_of_googles_is_published():
    assert {name for item in PUBLISHED for name in item.models} == set(MODELS) - {TINY.name}


def test_words_and_files_are_told_apart():
    kinds = {text: kind_of(Path(text)).__name__.rpartition(".")[2] for text in WORDS}
    assert kinds == WORDS
    assert kind_of(None).__name__.endswith(".graph")
    assert list(needs_of_reference(GRAPH)) == ["tensorflow"] != list(needs_of_reference(EXACT))


def test_half_precision_inside_is_found(lockstep, exact):
    model = lockstep.candidate()
    layer = model.get_submodule("fpn.resample_p6.conv")
    forward = layer.forward
    layer.forward = lambda x: forward(x.to(torch.bfloat16).float())
    failing, _ = named(lockstep, pairing(lockstep, exact, model))
    assert failing == ["fpn.resample_p6.conv"]
