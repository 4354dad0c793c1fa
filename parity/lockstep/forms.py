"""Two forms of one candidate: the one that its user runs, and the one whose nodes can be seen.

What ``torch.compile`` makes of a module computes the same in other steps, which cannot be seen.
Its nodes are judged as they are written. What it returns is held against what the written form
returns, with a bound: how far roundings can move these outputs, found by experiment. The written
form runs once more, and each node's tensor is given roundings of the size that its limit allows.
What that makes of the outputs is what any other order of the same steps can make of them. A small
output may by chance be moved little, and other steps may err to one side, so that what is beyond
the bound is tried a few times more, every other time with one sign in all of a channel.

*The size.* The limit of a sum is ``lambda`` standard deviations (:mod:`parity.judge.limits`), so
that a deviation is the limit divided by ``lambda``. Each element is moved by so many roundings of
its gauge, up or down by chance. The gauges are those of the reference's tensors.

*The bound.* The largest of N independent errors is expected near ``sqrt(2 ln 2N)`` deviations, and
exceeds ``sqrt(2 ln (2N / p))`` with a probability below ``p``: what was seen is raised by their
ratio. Both forms round, which makes their difference ``sqrt(2)`` times as large. What comes behind
the last nodes, such as a sigmoid, may round as a handful of operations may.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from parity.judge.limits import FALSE_ALARM, SIDE_LIMIT, chance_factor
from parity.judge.measure import unit_roundoff
from parity.lockstep.isolated import IsolatedWalk, Meeting
from parity.lockstep.pairing import Pairing
from parity.lockstep.repetition import equal_runs
from parity.process.arrays import Array
from parity.results.records.nodes import OTHER_FORM, Finding
from parity.sides.side import COMPILED, Made, Value

_RUNS = 4
"""Runs with other roundings at most, before an output counts as beyond what they can do."""


@dataclass
class Forms:
    """What follows from both forms' outputs; one of the three has a sentence.

    Attributes:
        notes: Where they agree.
        findings: Where they do not.
        not_shown: Where that cannot be told.
    """

    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    not_shown: list[str] = field(default_factory=list)


def compared_forms(
    pairing: Pairing,
    real: Sequence[Value],
    written: Sequence[Value],
    visited: Collection[str],
    *,
    judged: bool,
) -> Forms:
    """Hold what the real form of a candidate returns against what the written one returns.

    Args:
        pairing: What is compared.
        real: Outputs of the form in which it is used, on the images.
        written: Those of the form whose nodes were judged.
        visited: The nodes that this one makes.
        judged: Whether none of its nodes differs, so that the bound is worth its time.
    """
    form = pairing.candidate.form or COMPILED
    begins = f"Nodes were judged on the {form.seen} form"
    if equal_runs(real, written):
        return Forms(notes=[f"{begins}; the {form.used} form's outputs are the same bit for bit."])
    odd = _otherwise(real, written)
    if odd:
        return _different(f"{begins}; the {form.used} form returns {odd}")
    apart = [
        0.0 if one.identical(other) else one.apart(other)
        for one, other in zip(real, written, strict=True)
    ]
    begins += f"; the {form.used} form's outputs differ from it by"
    if not judged:
        return Forms(notes=[f"{begins} up to {max(apart):.3g}."])
    if not set(visited) >= set(pairing.outputs):
        text = f"{begins} up to {max(apart):.3g}, and how much of that is rounding cannot be told"
        return Forms(not_shown=[f"{text} where the last nodes are not seen"])
    bounds = [0.0] * len(apart)
    for number in range(_RUNS):
        walk = _Rounding(pairing, visited, number)
        walk.run()
        moved = zip(written, walk.returned, strict=True)
        bounds = [max(bound, _bound(*pair)) for bound, pair in zip(bounds, moved, strict=True)]
        # NaN is beyond any bound.
        worst = max(range(len(apart)), key=lambda n: _beyond(apart[n], bounds[n]))
        if _beyond(apart[worst], bounds[worst]) <= 1:
            break
    told = f"{begins} {apart[worst]:.3g} (output number {worst})"
    bound = f"the bound {bounds[worst]:.3g} of what roundings at every node can do there"
    if _beyond(apart[worst], bounds[worst]) <= 1:
        return Forms(notes=[f"{told}, within {bound}."])
    return _different(f"{told}, beyond {bound}")


def _different(text: str) -> Forms:
    return Forms(findings=[Finding(OTHER_FORM, "the candidate", text[0].lower() + text[1:])])


def _beyond(apart: float, bound: float) -> float:
    if apart == 0:
        return 0.0
    return math.inf if math.isnan(apart) or not bound else apart / bound


def _otherwise(real: Sequence[Value], written: Sequence[Value]) -> str:
    """In what the outputs of two forms differ besides their values; empty for nothing."""
    if len(real) != len(written):
        return f"{len(real)} tensors, not {len(written)}"
    for number, (one, other) in enumerate(zip(real, written, strict=True)):
        if one.dims != other.dims or one.dtype != other.dtype:
            return (
                f"{one.dtype} of the shape {list(one.dims)} as output number {number}, not "
                f"{other.dtype} of {list(other.dims)}"
            )
    return ""


def _bound(written: Value, moved: Value) -> float:
    """How far an output of another form may be, as the module says.

    Args:
        written: The output.
        moved: The same where every node was moved by roundings.
    """
    if written.coarseness is None or written.dims != moved.dims:
        return 0.0
    count = max(1, math.prod(written.dims))
    raised = math.sqrt(math.log(2 * count / FALSE_ALARM) / math.log(2 * count))
    return math.sqrt(2) * raised * moved.apart(written) + SIDE_LIMIT * written.rounding


class _Rounding(IsolatedWalk):
    """Lets the candidate go on with its own tensors, each moved by roundings.

    Args:
        pairing: What is compared.
        visited: The nodes that the candidate makes.
        number: Which of several such runs it is, each with other signs.
    """

    name = "rounding"

    def __init__(self, pairing: Pairing, visited: Collection[str], number: int) -> None:
        super().__init__(pairing, self._look, visited)
        self._deviation: Array | None = None
        self._chance = np.random.default_rng(number)
        self._by_channel = number % 2 == 1
        elements = pairing.elements or 2 * pairing.referee.elements
        self._lambda = 3 * chance_factor(elements)

    def _look(self, met: Meeting) -> None:
        """Keep the standard deviation of each element's roundings, until the node is moved."""
        ruling = met.ruling
        roundings = ruling.limit.candidate / self._lambda * unit_roundoff(ruling.dtype)
        self._deviation = ruling.gauge * ruling.dtype.type(roundings)

    def meet(self, name: str, reference: Array | None, made: Made | None) -> Array | None:
        """See :class:`IsolatedWalk`; the candidate's own tensor goes on, moved."""
        return self._moved(made, super().meet(name, reference, made))

    def meet_late(self, name: str, made: Made) -> Array | None:
        """As :meth:`meet`."""
        return self._moved(made, super().meet_late(name, made))

    def _moved(self, made: Made | None, instead: Array | None) -> Array | None:
        if made is None or instead is None or self._deviation is None:
            return None
        own = made.value.array()
        # Another exponential may be off to one side everywhere, which adds up.
        drawn = (1, 1, 1, own.shape[-1]) if self._by_channel else own.shape
        signs = self._chance.choice(np.array([-1, 1], own.dtype), size=drawn)
        moved: Array = own + signs * self._deviation
        return moved
