"""A fault at each kind of node is reproduced by a script that needs PyTorch and NumPy alone."""

import json
import subprocess
import sys
from inspect import signature
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from efficientdet_spec import NodeKind
from parity.reproduction.files import files_in
from parity.reproduction.making import reproduced
from parity.results.conclusion import Evidence

OURS = (
    "parity",
    "efficientdet_spec",
    "efficientdet_parity",
    "torch_model",
    "converter",
    "reference_tf",
    "reports",
    "compare",
    "msgspec",
    "tensorflow",
)
BLOCK = "backbone.blocks.2"
CELL = "fpn.cells.0.nodes"


def symmetric(layer, x):
    return F.conv2d(x, layer.weight, layer.bias, layer.stride, 1)


def noisy(layer, *given):
    made = type(layer).forward(layer, *given)
    return made + 0.01 * torch.sin(torch.arange(made.numel())).reshape(made.shape)


def no_number(layer, *given):
    made = type(layer).forward(layer, *given)
    made[:, 1, 0, 0] = float("nan")
    return made


def no_relu(layer, features, weights):
    return sum(x * share for x, share in zip(features, weights / weights.sum(), strict=True))


def pool_with_zeros(layer, x, size):
    pads = [max((goal - 1) * 2 + 3 - side, 0) for side, goal in zip(x.shape[2:], size, strict=True)]
    (top, left) = (pad // 2 for pad in pads)
    return F.max_pool2d(F.pad(x, (left, pads[1] - left, top, pads[0] - top)), 3, 2)


def transposed(layer):
    layer.weight.data = layer.weight.data.mT.contiguous()


def other_epsilon(layer):
    layer.eps = 1e-5


def other_values(layer):
    layer.weight.data = layer.weight.data * 1.01


def without_bias(layer):
    layer.bias.data.zero_()


# By name: kind, node, change of the layer or what it computes, whether the script computes it.
FAULTS = {
    "conv": (NodeKind.CONV, "fpn.resample_p6.conv", without_bias, True),
    "conv values": (NodeKind.CONV, f"{BLOCK}.expand_conv", other_values, True),
    "conv padding": (NodeKind.CONV, "backbone.stem_conv", symmetric, True),
    "depthwise": (NodeKind.DEPTHWISE, f"{BLOCK}.depthwise_conv", transposed, True),
    "norm": (NodeKind.BATCH_NORM, f"{BLOCK}.expand_bn", other_epsilon, True),
    "activation": (NodeKind.ACTIVATION, f"{BLOCK}.expand_act", lambda _, x: F.relu(x), True),
    "gate": (NodeKind.GATE, f"{BLOCK}.se.gate", lambda _, x: F.hardsigmoid(x), True),
    "mean": (NodeKind.MEAN, f"{BLOCK}.se.pool", lambda _, x: x.amax((2, 3), True), True),
    "scale": (NodeKind.SCALE, f"{BLOCK}.se.scale", lambda _, x, g: x * g * g, True),
    "add": (NodeKind.ADD, "backbone.blocks.2.residual", lambda _, x, y: (x + y) / 2, True),
    "fuse": (NodeKind.FUSE, f"{CELL}.0.fuse", no_relu, True),
    "pool": (NodeKind.POOL, "fpn.resample_p6.pool", pool_with_zeros, True),
    "upsample": (
        NodeKind.UPSAMPLE,
        f"{CELL}.0.resamples.1.upsample",
        lambda _, x, size: F.interpolate(x, size=size, mode="bilinear"),
        True,
    ),
    "not finite": (NodeKind.BATCH_NORM, f"{BLOCK}.expand_bn", no_number, False),
    **{
        f"unknown {kind.name}": (kind, node, noisy, False)
        for kind, node in {
            NodeKind.CONV: "fpn.resample_p6.conv",
            NodeKind.DEPTHWISE: f"{BLOCK}.depthwise_conv",
            NodeKind.BATCH_NORM: f"{BLOCK}.expand_bn",
            NodeKind.ACTIVATION: f"{BLOCK}.expand_act",
            NodeKind.GATE: f"{BLOCK}.se.gate",
            NodeKind.MEAN: f"{BLOCK}.se.pool",
            NodeKind.SCALE: f"{BLOCK}.se.scale",
            NodeKind.ADD: "backbone.blocks.2.residual",
            NodeKind.FUSE: f"{CELL}.0.fuse",
            NodeKind.POOL: "fpn.resample_p6.pool",
            NodeKind.UPSAMPLE: f"{CELL}.0.resamples.1.upsample",
        }.items()
    },
}


def faulty(lockstep, node, change):
    model = lockstep.candidate()
    layer = model.get_submodule(node)
    if len(signature(change).parameters) == 1:
        change(layer)
    else:
        layer.forward = lambda *given: change(layer, *given)
    return model


def evidence_of(told):
    return Evidence(
        nodes=list(told.nodes.values()),
        inputs=[],
        coverage=SimpleNamespace(detectable=0.0),
        findings=told.findings,
        suspects=told.suspects,
    )


def reproduction_of(lockstep, model, folder, **options):
    told = lockstep.tell(model)
    evidence = evidence_of(told)
    return told, reproduced(
        lockstep.pairing(model, **options),
        evidence,
        evidence.nodes,
        folder,
        model="tiny",
        candidate="/home/somebody/port.py:build",
    )


@pytest.fixture(scope="module")
def made(lockstep, tmp_path_factory):
    """By fault what was told and what was written."""
    found = {}
    with torch.no_grad():
        for name, (_, node, change, _) in FAULTS.items():
            folder = tmp_path_factory.mktemp("reproduction") / "made"
            model = faulty(lockstep, node, change)
            found[name] = (*reproduction_of(lockstep, model, folder), folder)
    return found


RUNNER = f"""
import contextlib, io, json, runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OURS!r}:
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
printed = {{}}
for path in sys.argv[1:]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        runpy.run_path(path, run_name="__main__")
    printed[path] = text.getvalue()
loaded = [name for name in {OURS!r} if name in sys.modules]
print(json.dumps([printed, loaded]))
"""


@pytest.fixture(scope="module")
def printed(made):
    """What each script prints in a process that can import nothing of this project."""
    paths = [str(files_in(folder)[0]) for _, _, folder in made.values()]
    done = subprocess.run(
        [sys.executable, "-I", "-c", RUNNER, *paths], capture_output=True, text=True, check=True
    )
    texts, loaded = json.loads(done.stdout)
    assert loaded == []
    return dict(zip(made, texts.values(), strict=True))


def numbers(text):
    """The values that a script prints, by what it calls them."""
    pairs = (line.split(": ", 1) for line in text.splitlines())
    names = ("right, in float64", "right, in float32", "wrong", "recorded of the candidate",
             "in roundings")  # fmt: skip
    return {name: float(rest.split()[0].rstrip(",")) for name, rest in pairs if name in names}


def test_every_kind_of_node_is_among_them():
    assert {kind for kind, *_ in FAULTS.values()} == set(NodeKind)


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_printed_is_what_was_found(name, made, printed):
    kind, node, _, computed = FAULTS[name]
    told, result, folder = made[name]
    assert result.reason is None and not result.passed_over, result
    assert result.node == node and told.nodes[node].kind is kind
    assert result.computed is computed, result.notes
    found = numbers(printed[name])
    assert found["right, in float64"] == result.right
    for said, value in (
        ("wrong", result.wrong),
        ("recorded of the candidate", result.recorded),
        ("in roundings", result.roundings),
    ):
        assert found[said] == pytest.approx(value, rel=1e-5, nan_ok=True)
    assert result.roundings > result.limit == told.nodes[node].limit.candidate
    # As far off as the worst element of the whole comparison, of which it is one; a reproduction
    # with fewer input channels has another distance.
    if not any("Of the input channels" in note for note in result.notes):
        assert result.roundings == pytest.approx(told.nodes[node].roundings, rel=1e-2)
    assert sum(path.stat().st_size for path in files_in(folder)) == result.bytes < 12_000


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_kept_is_little_and_no_pickle(name, made):
    kind = FAULTS[name][0]
    _, result, folder = made[name]
    with np.load(files_in(folder)[1], allow_pickle=False) as file:
        shapes = {key: file[key].shape for key in file.files}
    whole = kind is NodeKind.MEAN
    for key, shape in shapes.items():
        if key.startswith("x"):
            assert shape[0] == 1 and (whole or max(shape[2:]) <= 7), (key, shape)
            if kind not in (NodeKind.CONV,):
                assert shape[1] == 1


def test_the_script_alone(made, tmp_path):
    _, result, folder = made["pool"]
    path = files_in(folder)[0]
    done = subprocess.run(
        [sys.executable, "-I", str(path)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert numbers(done.stdout)["wrong"] == result.wrong
    assert "what is wrong: padded with zeros instead of -inf" in done.stdout
    assert "port.py:build" in done.stdout and "/home/somebody" not in path.read_text()
    assert max(map(len, path.read_text().splitlines())) <= 100
    files_in(folder)[1].write_bytes(b"something else")
    done = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True)
    assert (
        done.returncode == 1 and "is not the file that this script was written with" in done.stderr
    )
