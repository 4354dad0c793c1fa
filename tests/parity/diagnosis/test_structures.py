"""What a candidate's structure has otherwise is named, and nothing of what it has not."""

import pytest
import torch
import torch.nn.functional as F
from port_styles import STYLES, Port
from structural_defects import DEFECTS, TOGETHER, Departed, all_at_once, relu

from parity.diagnosis.structures import structures
from parity.lockstep.comparison import compare
from parity.lockstep.pairing import Pairing
from parity.process.outcome import Outcome
from parity.sides.pytorch.observation.candidate import ObservedCandidate

QUICK = (
    "a stride is 1, another 2",
    "a bias inside separable convolutions",
    "max-pools with kernel = stride",
    "no batch norm behind 1x1 convolutions of features",
    "P4 from another block",
)
"""Defects that are tried whenever anything is; the others have the same ways."""


def said(lockstep, model):
    """The statements on a port, and the outcome of its comparison."""
    plain = lockstep.pairing(lockstep.faithful)
    candidate = ObservedCandidate(model, list(lockstep.kinds))
    pairing = Pairing(plain.reference, candidate, lockstep.referee, lockstep.images)
    found = compare(pairing)
    return structures(pairing, found.nodes, lockstep.config), found.outcome


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.heavy]) for name in DEFECTS],
)
def test_a_defect_is_named_and_nothing_else(lockstep, name):
    how, due = DEFECTS[name]
    statements, outcome = said(lockstep, Departed(lockstep, **how(lockstep)).eval())
    assert outcome is not Outcome.PARITY
    assert [item.slug for item in statements] == list(due)
    for item in statements:
        assert due[item.slug] in item.text
        assert item.places and all("port_styles" in p or "defects" in p for p in item.places)
        assert set(item.nodes) <= set(lockstep.kinds)


def test_all_defects_of_one_port_are_named(lockstep):
    statements, outcome = said(lockstep, Departed(lockstep, **all_at_once(lockstep)).eval())
    assert outcome is Outcome.DIFFERENCE
    due = {slug: text for name in TOGETHER for slug, text in DEFECTS[name][1].items()}
    assert {item.slug for item in statements} == set(due)
    for item in statements:
        assert due[item.slug] in item.text


@pytest.mark.parametrize("style", STYLES)
def test_nothing_is_said_of_a_faithful_port(lockstep, style):
    model = Port(lockstep.referee, lockstep.outputs, STYLES[style]()).eval()
    assert said(lockstep, model) == ([], Outcome.PARITY)


def test_neither_a_filter_on_the_way_nor_a_reflected_border_is_another_structure(lockstep):
    """A filter has the weights of no layer; a border that is reflected is a border."""
    fault = {
        "backbone.blocks.1.depthwise_conv": smoothed,
        "fpn.cells.0.nodes.4.conv.depthwise": reflected,
    }
    model = Port(lockstep.referee, lockstep.outputs, STYLES["functions"](), fault).eval()
    assert said(lockstep, model) == ([], Outcome.DIFFERENCE)


def smoothed(style, layer, given, step):
    (x,) = given
    row = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (row[:, None] * row).expand(x.shape[1], 1, 3, 3)
    smooth = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])
    return style.depthwise(smooth, layer)


def reflected(style, layer, given, step):
    x = F.pad(given[0], (1, 1, 1, 1), mode="reflect")
    return F.conv2d(x, layer.weight, layer.bias, groups=layer.groups)


def test_a_folded_batch_norm_is_not_missing(lockstep):
    """Nor is anything else said than what is wrong."""
    fault = dict.fromkeys([n for n in lockstep.kinds if "_head.acts.0" in n], relu)
    fault["class_head.convs.0.pointwise@P3"] = scaled
    fault["fpn.cells.0.nodes.2.resamples.0.conv"] = scaled
    fault["fpn.cells.0.nodes.2.conv.pointwise"] = scaled
    model = Port(lockstep.referee, lockstep.outputs, STYLES["functions"](), fault, True).eval()
    statements, outcome = said(lockstep, model)
    assert outcome is Outcome.DIFFERENCE
    assert [item.slug for item in statements] == ["activation-other"]
    assert "in 10 of 20 repeats of the heads there is relu" in statements[0].text


def scaled(style, layer, given, step):
    return step() * 1.5
