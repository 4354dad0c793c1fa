"""Two layers that follow each other: both are named where both are wrong, and the right one of a
span that makes them together."""

import pytest
import torch
from port_styles import STYLES, Port
from structural_defects import changed, symmetric
from torch.nn import functional as F

from parity.diagnosis.suspects import diagnosed, suspects
from parity.lockstep.comparison import compare
from parity.lockstep.pairing import Pairing
from parity.sides.pytorch.observation.candidate import ObservedCandidate

CONV, NORM = "backbone.blocks.3.depthwise_conv", "backbone.blocks.3.depthwise_bn"


def told(lockstep, fault, *, folded, style="functions", change=lambda model: None):
    """The suspects by their first node."""
    model = Port(lockstep.referee, lockstep.outputs, STYLES[style](), fault, folded).eval()
    with torch.no_grad():
        change(model)
    plain = lockstep.pairing(lockstep.faithful)
    candidate = ObservedCandidate(model, list(lockstep.kinds))
    pairing = Pairing(plain.reference, candidate, lockstep.referee, lockstep.images)
    nodes = compare(pairing).nodes
    found = diagnosed(pairing, suspects(pairing, nodes), nodes, lockstep.known(), [], 5)
    return {item.nodes[0]: item for item in found}


def epsilon(style, layer, given, step):
    with changed(layer, eps=0.1):
        return step()


def mirrored(style, layer, given, step):
    x = F.pad(given[0], [size // 2 for size in layer.kernel_size for _ in "ab"], "reflect")
    return F.conv2d(x, layer.weight, layer.bias, layer.stride, 0, 1, layer.groups)


@pytest.mark.parametrize("style", ["functions", "channels last"])
def test_both_of_two_neighbours_are_named(lockstep, style):
    found = told(lockstep, {CONV: symmetric, NORM: epsilon}, folded=False)
    assert {node: item.slug for node, item in found.items()} == {
        CONV: "padding-symmetric",
        NORM: "epsilon",
    }


@pytest.mark.parametrize(
    "fault, slug", [(symmetric, "padding-symmetric"), (mirrored, "padding-reflect")]
)
def test_the_convolution_of_a_span_is_named(lockstep, fault, slug):
    item = told(lockstep, {CONV: fault}, folded=True)[NORM]
    assert item.slug == slug
    assert item.diagnosis.startswith(f"in {CONV}, which the candidate makes together with it")


def test_the_batch_norm_of_a_span_is_named(lockstep):
    norm = lockstep.faithful.get_submodule(NORM)
    was, is_now = ((norm.running_var + eps).sqrt() for eps in (norm.eps, 0.1))

    def folded_otherwise(model):
        layer = next(step[2] for step in model._steps if step[0] == CONV)
        layer.weight.data.mul_((was / is_now).view(-1, 1, 1, 1))
        layer.bias.data.sub_(norm.bias).mul_(was / is_now).add_(norm.bias)

    item = told(lockstep, {}, folded=True, change=folded_otherwise)[NORM]
    assert item.slug == "epsilon"
    assert f"{CONV}, which is made together with it in one span, is right" in item.evidence
