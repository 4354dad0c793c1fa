"""Gradients of ports with names of their own: each parameter is found by what its node reads."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import compare
from parity.detections.images import photograph_like
from parity.sides.pytorch.observation.holdings import Held, _axes

PORT = Path(__file__).parents[2] / "third_party/port.py"

CHANGED = f"""
import importlib.util
import torch

spec = importlib.util.spec_from_file_location("port", {str(PORT)!r})
port = importlib.util.module_from_spec(spec)
spec.loader.exec_module(port)


def build(faithful):
    model = port.build(faithful)
    {{change}}
    return model
"""

CUT = """conv = next(part for part in model.modules() if isinstance(part, torch.nn.Conv2d))
    conv.register_forward_hook(lambda part, given, made: made.detach())"""
MOMENTUM = """for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 0.5"""
FAILING = "model.register_forward_pre_hook(lambda part, given: (given[0].numpy(), None)[1])"


@pytest.fixture
def differentiated(tiny_checkpoint, tmp_path):
    """Compares a port with a change; returns the exit code and the JSON result."""

    def call(change, *options):
        port, result = tmp_path / "changed.py", tmp_path / "nodes.json"
        # The port is made for sides that are multiples of 32.
        picture = tmp_path / "picture.png"
        assert cv2.imwrite(str(picture), photograph_like(192, 256))
        port.write_text(CHANGED.format(change=change))
        command = ["nodes", str(tiny_checkpoint), "--candidate", f"{port}:build"]
        command += ["--size", "192x256", "--image", str(picture), "--contributions", "0"]
        code = compare.main([*command, "--backward", "--json", str(result), *options])
        return code, json.loads(result.read_text())

    return call


def named(result, mode):
    return {item["name"]: item for item in result["gradients"]["gradients"] if item["mode"] == mode}


def test_all_gradients_of_a_port_are_compared_without_names(differentiated, tiny_conversion):
    code, result = differentiated("pass", "--reference", "exact")
    assert (code, result["outcome"]) == (0, "parity"), result["sentence"]
    parameters = {"scalar", "images", *tiny_conversion.arrays}
    statistics = {name for name in parameters if "running_" in name}
    assert set(named(result, "inference")) == parameters - statistics
    assert set(named(result, "training")) == parameters


def test_a_gradient_that_is_cut_off_and_another_momentum_are_differences(differentiated):
    code, result = differentiated(CUT, "--reference", "exact")
    failing = [item for item in result["gradients"]["gradients"] if "differ" in item["verdict"]]
    assert code == 1
    names = {item["name"] for item in failing}
    assert names == {"images", "backbone.stem_conv.weight"}
    code, result = differentiated(MOMENTUM, "--reference", "exact")
    failing = [item for item in result["gradients"]["gradients"] if "differ" in item["verdict"]]
    assert code == 1 and failing
    assert all("running_" in item["name"] for item in failing)


def test_a_port_that_cannot_be_differentiated_is_not_green(differentiated):
    code, result = differentiated(FAILING, "--reference", "exact")
    assert (code, result["outcome"]) == (3, "not shown")
    (gap,) = result["not_shown"]
    assert gap.startswith("gradients could not be compared (A copy of the candidate in float")


LOCK = "import threading; model.lock = threading.Lock()"
HOOK = "next(model.parameters()).register_hook(lambda gradient: gradient * 0.5)"
BUFFER = """conv = next(part for part in model.modules() if isinstance(part, torch.nn.Conv2d))
    weight = conv.weight.detach()
    del conv.weight
    conv.register_buffer("weight", weight)"""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (LOCK, "gradients could not be compared (A copy of the candidate in float64"),
        pytest.param(
            HOOK,
            "changed by hooks of the candidate's when they are trained",
            marks=pytest.mark.heavy,
        ),
        pytest.param(
            BUFFER, "buffers of the candidate, which no optimizer trains", marks=pytest.mark.heavy
        ),
    ],
)
def test_what_would_be_trained_otherwise_is_not_green(differentiated, change, told):
    code, result = differentiated(change, "--reference", "exact")
    assert (code, result["outcome"]) == (3, "not shown")
    assert any(told in gap for gap in result["not_shown"]), result["not_shown"]


@pytest.mark.parametrize("shape", [(4, 6, 1, 1), (4, 1, 3, 3), (4,)])
def test_a_parameter_in_another_shape_gives_its_gradient_in_ours(shape):
    ours = torch.randn(shape)
    order = torch.randperm(ours.dim()).tolist()
    theirs = ours.permute(order).contiguous()
    held = Held(("weight",), _axes(nn.Parameter(theirs), ours), tuple(shape))
    assert np.array_equal(held.as_ours(theirs).numpy(), ours.numpy())


@pytest.mark.heavy
def test_the_graph_and_the_exact_values_agree_on_a_ports_gradients(differentiated):
    code, result = differentiated("pass")
    assert (code, result["reference"]["kind"]) == (0, "graph")
