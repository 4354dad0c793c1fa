"""Channels in another order accuse nobody where what reads them counts on it, and only there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from port_styles import STYLES, BothHeads, Permuted

from parity.lockstep.comparison import compare, compare_isolated
from parity.lockstep.pairing import Pairing
from parity.lockstep.reordering import order_of
from parity.process.outcome import Outcome
from parity.sides.pytorch.observation.candidate import ObservedCandidate
from parity.sides.side import Mode

ACT = "backbone.blocks.2.depthwise_act"
"""Between hidden channels of a block that is expanded."""

NORM = "backbone.blocks.2.depthwise_bn"


class Expanded(Permuted):
    expanded = True


class Unread(Permuted):
    readers = False


@pytest.fixture
def paired(lockstep):
    def call(port, fault=None):
        style = STYLES["functions"]()
        model = port(lockstep.referee, lockstep.outputs, style, fault=fault).eval()
        candidate = ObservedCandidate(model, list(lockstep.kinds))
        usual = lockstep.pairing(lockstep.faithful)
        return Pairing(usual.reference, candidate, lockstep.referee, lockstep.images)

    return call


def failing(found):
    return [node.name for node in found.nodes if node.verdict.fails]


@pytest.mark.parametrize("port", [Permuted, Expanded])
def test_hidden_channels_may_lie_in_any_order(paired, port):
    found = compare(paired(port))
    assert failing(found) == []
    assert found.outcome is Outcome.PARITY
    (note,) = (text for text in found.notes if "in another order" in text)
    # What is said of a node is of its channels as they should be.
    assert max(node.free.relative_max for node in found.nodes if node.free) < 1e-3
    # Of two channels the order drawn is the usual one.
    first = "blocks.1.expand_conv" if port is Expanded else "blocks.4.se.reduce_conv"
    assert note.startswith(f"The channels of backbone.{first} and ")


def test_it_is_so_in_every_mode(paired):
    pairing = replace(paired(Permuted), mode=Mode(channels_last=True))
    assert not [node.name for node in compare_isolated(pairing) if not node.verdict.passes]


def slope(style, layer, given, step):
    return given[0] * torch.sigmoid(1.5 * given[0])


def test_a_fault_among_them_is_the_only_one(paired):
    assert failing(compare(paired(Expanded, {ACT: slope}))) == [ACT]


def test_a_layer_between_that_does_not_count_on_the_order_is_the_fault(paired):
    class Forgotten(Expanded):
        def _permute(self, layers, made, read):
            super()._permute(layers, [node for node in made if node != NORM], read)

    assert failing(compare(paired(Forgotten))) == [NORM]


def test_an_order_that_nothing_counts_on_is_a_fault(paired):
    found = compare(paired(Unread))
    assert found.outcome is Outcome.DIFFERENCE
    assert failing(found)[0].endswith("se.reduce_conv")


@pytest.mark.parametrize("node", ["class_head.predict.pointwise@P3", "fpn.cells.0.nodes.0.bn"])
def test_an_order_of_outputs_or_of_one_of_several_inputs_is_a_fault(paired, node):
    def flipped(style, layer, given, step):
        return step().flip(1)

    assert failing(compare(paired(Permuted, {node: flipped})))[0] == node


def test_first_layers_of_two_heads_may_be_one(paired):
    assert compare(paired(BothHeads)).outcome is Outcome.PARITY


def test_a_fault_behind_them_is_found(paired):
    node = "box_head.bns.0.P4"
    found = compare(paired(BothHeads, {node: lambda style, layer, given, step: step() * 1.01}))
    assert found.outcome is Outcome.DIFFERENCE
    # The first node of that level that shows itself.
    assert set(failing(found)) <= {node, "box_head.acts.0@P4"}


@pytest.mark.parametrize("positions", [1, 300])
def test_an_order_is_found_by_values(positions):
    chance = np.random.default_rng(0)
    due = chance.standard_normal((1, positions, 1, 8)).astype("float32")
    # Two that are the same may stand for each other.
    due[..., 5] = due[..., 2]
    order = chance.permutation(8)
    own = np.empty_like(due)
    own[..., order] = due
    found = order_of(own, due)
    assert found is not None and sorted(found) == list(range(8))
    assert np.array_equal(own[..., list(found)], due)
    own[0, 0, 0, 0] += 1
    assert order_of(own, due) is None
    own[0, 0, 0, 0] = np.nan
    assert order_of(own, due) is None
