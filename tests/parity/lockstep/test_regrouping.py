"""Steps taken otherwise with the same result accuse nobody; what only seems so is found."""

import pytest
import torch
from handmade import node
from port_styles import STYLES, Port

from parity.lockstep.comparison import compare, compare_isolated
from parity.lockstep.pairing import Pairing
from parity.lockstep.regrouping import _counts
from parity.process.outcome import Outcome
from parity.sides.pytorch.observation.candidate import ObservedCandidate
from parity.sides.side import Mode

UP, FUSE = "fpn.cells.0.nodes.3.resamples.1.upsample", "fpn.cells.0.nodes.3.fuse"


@pytest.fixture
def compared(lockstep):
    def call(fault, change=lambda model: model):
        style = STYLES["functions"]()
        model = change(Port(lockstep.referee, lockstep.outputs, style, fault=fault).eval())
        candidate = ObservedCandidate(model, list(lockstep.kinds))
        usual = lockstep.pairing(lockstep.faithful)
        return compare(Pairing(usual.reference, candidate, lockstep.referee, lockstep.images))

    return call


def doubled(style, layer, given, step):
    features, size = given
    return torch.nn.functional.interpolate(features * 2, size=tuple(size), mode="nearest")


def of_half(style, layer, given, step):
    maps, weights = given
    shares = torch.relu(weights)
    shares = shares / (shares.sum() + 1e-4)
    return maps[0] * shares[0] + maps[1] * (shares[1] / 2)


def test_what_cancels_in_a_span_is_right_as_a_whole(compared):
    found = compared({UP: doubled, FUSE: of_half})
    assert found.outcome is Outcome.PARITY
    within = {node.name: node.within for node in found.nodes if node.within}
    assert set(within) >= {UP}


def test_an_output_is_not_taken_for_what_nothing_reads(compared):
    output = "box_head.predict.pointwise@P5"
    wrong = {UP: doubled, FUSE: of_half, output: lambda style, layer, given, step: step() * 1.25}
    found = compared(wrong)
    assert found.outcome is Outcome.DIFFERENCE
    assert [item.name for item in found.nodes if item.verdict.fails] == [output]


def test_it_is_so_in_every_mode(lockstep):
    style = STYLES["functions"]()
    fault = {UP: doubled, FUSE: of_half}
    model = Port(lockstep.referee, lockstep.outputs, style, fault=fault).eval()
    usual = lockstep.pairing(lockstep.faithful)
    for mode in (Mode(), Mode(gradients=True), Mode(channels_last=True)):
        candidate = ObservedCandidate(model, list(lockstep.kinds))
        pairing = Pairing(usual.reference, candidate, lockstep.referee, lockstep.images, mode=mode)
        assert not [item.name for item in compare_isolated(pairing) if not item.verdict.passes]


@pytest.mark.parametrize("fault", [{UP: doubled}, {FUSE: of_half}])
def test_half_of_it_is_a_fault(compared, fault):
    found = compared(fault)
    assert found.outcome is Outcome.DIFFERENCE
    assert [node.name for node in found.nodes if node.verdict.fails][0] in {UP, FUSE}


def test_what_a_maximum_or_a_mean_hides_is_not_taken_together_with_it(lockstep):
    usual = lockstep.pairing(lockstep.faithful)
    shown = {name: node(name) for name in lockstep.kinds}
    counted = {name for name in lockstep.kinds if _counts(usual, name, shown)}
    assert UP in counted and "backbone.blocks.2.expand_bn" in counted
    assert not counted & {"fpn.resample_p6.bn", "backbone.blocks.2.depthwise_act"}
    # Through what shows nothing by itself the maximum is met further on.
    hidden = {**shown, "fpn.resample_p6.bn": node("fpn.resample_p6.bn", shape=None)}
    assert not _counts(usual, "fpn.resample_p6.conv", hidden)
    assert _counts(usual, "fpn.resample_p6.conv", shown)


def test_maps_with_height_and_width_exchanged_are_a_difference(compared):
    class Exchanged(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            return tuple(
                [x.transpose(2, 3).contiguous() for x in part] for part in self.model(images)
            )

    assert compared({}, Exchanged).outcome is Outcome.DIFFERENCE


def test_what_is_kept_of_other_images_is_found(compared):
    class Keeping(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model, self.kept = model, {}

        def forward(self, images):
            mean = images.mean((0, 2, 3), keepdim=True)
            kept = self.kept.setdefault(images.shape, mean)
            return self.model(images - mean + kept)

    assert compared({}, Keeping).outcome is Outcome.DIFFERENCE


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_what_is_computed_twice_is_the_same_node_twice(compared, factor):
    class Twice(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model(images)[0], self.model(images * factor)[1]

    assert (compared({}, Twice).outcome is Outcome.PARITY) == (factor == 1)
