"""A step that the candidate leaves out is told from one that was not found."""

import pytest
import torch
from port_styles import STYLES, Port

from parity.judge.verdict import Verdict
from parity.lockstep.comparison import compare
from parity.lockstep.pairing import Pairing
from parity.sides.pytorch.observation.candidate import ObservedCandidate

BLOCK = "backbone.blocks.2"


@pytest.fixture
def results(lockstep):
    """The results of a port with a fault, by node."""

    def make(node, change, style="functions", folded=False):
        fault = {node: change}
        model = Port(lockstep.referee, lockstep.outputs, STYLES[style](), fault, folded).eval()
        plain = lockstep.pairing(lockstep.faithful)
        candidate = ObservedCandidate(model, list(lockstep.kinds))
        pairing = Pairing(plain.reference, candidate, lockstep.referee, lockstep.images)
        return {item.name: item for item in compare(pairing).nodes}

    return make


def left_out(style, layer, given, step):
    return given[0]


@pytest.mark.parametrize(
    "node, reads, reader, operation",
    [
        ("se.gate", "se.expand_conv", "se.scale", "mul"),
        ("depthwise_act", "depthwise_bn", "se.pool", "mean"),
        # A convolution that shows itself has no batch norm in it.
        ("depthwise_bn", "depthwise_conv", "depthwise_act", "silu"),
    ],
)
def test_no_such_layer(results, node, reads, reader, operation):
    found = results(f"{BLOCK}.{node}", left_out)[f"{BLOCK}.{node}"]
    assert found.verdict is Verdict.FUNCTION_DIFFERS
    assert found.reason.startswith(
        f"the candidate leaves it out: nothing is computed between {BLOCK}.{reads} and what reads "
        f"it: {BLOCK}.{reader} is made directly from it, by {operation} at "
    )
    assert "port_styles.py:" in found.reason


def test_a_folded_layer_is_not_called_left_out(results, lockstep):
    """Its convolution is a part of what is wrong, and cannot be told from it."""
    node = f"{BLOCK}.depthwise_conv"
    found = results(node, lambda style, layer, given, step: step().roll(1, 2), folded=True)
    reasons = {name: found[name].reason for name in (node, f"{BLOCK}.depthwise_bn")}
    assert not any("leaves it out" in reason for reason in reasons.values())


def test_not_found_says_what_was_considered(results):
    def another(style, layer, given, step):
        # What is a product of matrices is no activation, whatever it is.
        width = given[0].shape[-1]
        return given[0] @ torch.ones(width, width).tril()

    node = f"{BLOCK}.depthwise_act"
    found = results(node, another)[node]
    assert found.verdict is Verdict.NOT_COVERED
    told = found.reason.partition("by itself it is not found: ")[2]
    assert told.startswith(f"nothing that is made from {BLOCK}.depthwise_bn has its values: ")
    assert "mm at " in told
    assert "test_missing.py:" in told and "of its rms off" in told
    assert told.endswith("; --names can say which submodule makes it")


def test_not_found_says_that_nothing_lies_there(results):
    def of_nothing(style, layer, given, step):
        return torch.ones(1, len(layer.weight), 1, 1)

    node = "class_head.predict.pointwise@P7"
    found = results(node, of_nothing)[node]
    assert found.verdict is Verdict.NOT_COVERED
    assert found.reason == (
        "not found: no other tensor is made from class_head.predict.depthwise@P7 alone; --names "
        "can say which submodule makes it"
    )
