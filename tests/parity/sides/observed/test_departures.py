"""Ports of another architecture: what departs is placed, and what lies behind it is judged."""

import pytest
import torch
from port_departures import DEPARTURES
from port_styles import STYLES, Port

from parity.diagnosis.suspects import suspects
from parity.judge.verdict import Verdict
from parity.lockstep.comparison import compare
from parity.lockstep.pairing import Pairing
from parity.process.outcome import Outcome
from parity.sides.pytorch.observation.candidate import ObservedCandidate

QUICK = ("P6 has no batch norm", "a stride is 1", "heads have a repeat fewer", "a cell is left out")
"""Departures that are tried whenever anything is; the others have the same ways."""

CASES = [
    *(
        pytest.param(name, "functions", marks=[] if name in QUICK else [pytest.mark.heavy])
        for name in DEPARTURES
    ),
    *(
        pytest.param(name, style, marks=pytest.mark.heavy)
        for name, style in (
            ("a stride is 1", "channels last"),
            ("a stride is 1", "by parts"),
            ("a block is left out", "in place"),
            ("a block is repeated", "own functions"),
        )
    ),
]


def compared(lockstep, model):
    plain = lockstep.pairing(lockstep.faithful)
    candidate = ObservedCandidate(model, list(lockstep.kinds))
    pairing = Pairing(plain.reference, candidate, lockstep.referee, lockstep.images)
    return pairing, compare(pairing)


@pytest.mark.parametrize("name, style", CASES)
def test_what_lies_behind_a_departure_is_found_and_judged(lockstep, name, style):
    how, shows = DEPARTURES[name](lockstep)
    model = Port(lockstep.referee, lockstep.outputs, STYLES[style](), **how).eval()
    pairing, found = compared(lockstep, model)
    results = {node.name: node for node in found.nodes}
    there = {*how.get("without", ()), *shows}
    failing = {node.name for node in found.nodes if node.verdict.fails}
    assert found.outcome is Outcome.DIFFERENCE
    assert failing and failing <= there
    first, *_ = suspects(pairing, found.nodes)
    assert set(first.nodes) <= there
    behind = lockstep.referee.downstream(there) - there
    sound = [
        node
        for node in behind
        if results[node].verdict.passes or results[node].verdict is Verdict.OWN_INPUTS
    ]
    assert len(sound) >= 0.9 * len(behind)


def test_a_fault_behind_another_shape_is_accused(lockstep):
    """What a node makes of its own inputs is not passed unseen."""

    def scaled(style, layer, given, step):
        return step() * 1.01

    how, (wrong,) = DEPARTURES["a stride is 1"](lockstep)
    faults = ("backbone.blocks.4.expand_bn", "backbone.blocks.5.se.scale")
    fault = {**how["fault"], **dict.fromkeys(faults, scaled)}
    model = Port(lockstep.referee, lockstep.outputs, STYLES["own functions"](), fault).eval()
    _, found = compared(lockstep, model)
    failing = {node.name for node in found.nodes if node.verdict.fails}
    readers = {name for name, read in lockstep.referee.wiring.items() if set(read) & set(faults)}
    assert wrong in failing
    assert failing <= {wrong, *faults, *readers}
    # A step too many counts to the node itself or to the one that reads it.
    for fault in faults:
        near = {fault} | {n for n, read in lockstep.referee.wiring.items() if fault in read}
        assert failing & near
    told = [node.reason for node in found.nodes if node.name in failing - {wrong}]
    assert all(reason.startswith("on its own inputs, ") for reason in told)


def test_no_parity_is_shown_on_own_inputs(lockstep):
    how, _ = DEPARTURES["P6 has no batch norm"](lockstep)
    model = Port(lockstep.referee, lockstep.outputs, STYLES["functions"](), **how).eval()
    _, found = compared(lockstep, model)
    results = {node.name: node for node in found.nodes}
    left, reader = results["fpn.resample_p6.bn"], results["fpn.resample_p6.pool"]
    assert left.verdict is Verdict.FUNCTION_DIFFERS and "leaves it out" in left.reason
    assert reader.verdict is Verdict.OWN_INPUTS and reader.passed_over == (left.name,)
    assert not reader.verdict.passes and not reader.verdict.fails


@pytest.mark.heavy
def test_other_weights_are_found_by_order(lockstep):
    """Without one value or parameter in common every convolution is known by its place."""

    model = Port(lockstep.referee, lockstep.outputs, STYLES["functions"]()).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.held:
            if tensor.dim() == 4:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / 4)
    pairing, found = compared(lockstep, model)
    partners = next(iter(pairing.candidate._found.values())).partners.found
    kernels = [node for node, kind in lockstep.kinds.items() if "convolution" in kind.value]
    assert set(kernels) <= partners.keys()
    assert found.outcome is Outcome.DIFFERENCE
