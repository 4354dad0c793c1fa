"""Measures every node that two networks meet at, against its exact value."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from efficientdet_spec import NodeKind
from parity.judge.limits import SIDE_LIMIT
from parity.judge.means import another_mean, reproducing_order
from parity.judge.measure import ThreeWay, apart, measured, unit_roundoff
from parity.judge.operations import BatchNorm, Clamp
from parity.judge.reach import Reach, reach
from parity.judge.referee import Ruling
from parity.judge.verdict import Measurement, Problem, Verdict
from parity.lockstep.isolated import Meeting
from parity.lockstep.own import OwnDifferences
from parity.process.arrays import Array
from parity.sides.side import Made


class Measuring:
    """A reader of the isolated pass.

    Args:
        outputs: Nodes that are the network's outputs.
        own: Keeps the largest differences of nodes.

    Attributes:
        reach: How far the reference's activations went, by node of a batch norm.
        peaks: The largest value that the reference has at each output node.
        saturated: Of each activation that has a highest value, whether the reference's tensors
            go above it.
    """

    def __init__(self, outputs: Collection[str], own: OwnDifferences | None = None) -> None:
        self.reach: dict[str, Reach] = {}
        self.peaks: dict[str, float] = {}
        self.saturated: dict[str, bool] = {}
        self._outputs = frozenset(outputs)
        self._own = own or OwnDifferences()

    def __call__(self, met: Meeting) -> Measurement:
        """How far both sides are from each other and from the exact value."""
        self._note(met)
        if met.candidate is not None and met.own.astray:
            return self._on_own_inputs(met, met.candidate)
        found = self._on_the_reference(met)
        if met.candidate is None or found.sound or not met.own.rulings:
            return found
        instead = self._on_own_inputs(met, met.candidate)
        return instead if instead.sound else found

    def _on_the_reference(self, met: Meeting) -> Measurement:
        """:meth:`__call__` of a node that was given the reference's tensors."""
        ruling, made = met.ruling, met.candidate
        exact = measured(ruling, met.output, met.reference)
        self._own.note(met, exact.own, self._outputs)
        if made is None:
            return Measurement(None, exact=exact, limit=ruling.limit)
        orders: tuple[str | None, str | None] = (None, None)
        another = None
        if met.kind is NodeKind.MEAN and ruling.certain:
            sides = (met.output, met.reference)
            orders, another = _mean_order(ruling.inputs[0], ruling, exact, sides)
        return Measurement(
            made.value.shape,
            exact=exact,
            functions_apart=_functions_apart(made, ruling, exact),
            limit=ruling.limit,
            certain=ruling.certain,
            problem=met.problem,
            wrong_inputs=met.wrong_inputs,
            orders=orders,
            another_mean=another,
        )

    def _on_own_inputs(self, met: Meeting, made: Made) -> Measurement:
        """:meth:`__call__` of a node that reads other tensors, which the reference lacks."""
        shape = made.value.shape
        blank = Measurement(shape, limit=met.ruling.limit, wrong_inputs=met.wrong_inputs)
        blank = replace(blank, own_inputs=True)
        if not met.own.rulings:
            return replace(blank, problem=Problem(met.own.why_not))
        first = None
        for ruling, passed_over in met.own.rulings:
            if ruling.shape != shape:
                text = (
                    f"its shape is {list(shape or ())}; of inputs such as its own, whose shapes "
                    f"are not the reference's, the model makes {list(ruling.shape)}"
                )
                found = replace(blank, problem=Problem(text, Verdict.FUNCTION_DIFFERS))
            else:
                exact = measured(ruling, made.value.array(), None)
                found = replace(
                    blank,
                    exact=exact,
                    functions_apart=_functions_apart(made, ruling, exact),
                    limit=ruling.limit,
                    certain=ruling.certain,
                    passed_over=passed_over,
                )
            if found.sound:
                return found
            first = first or found
        assert first is not None
        return first

    def _note(self, met: Meeting) -> None:
        """What the reference's tensors say of the input."""
        operation = met.ruling.operation
        if isinstance(operation, BatchNorm):
            features = met.ruling.inputs[0]
            self.reach[met.name] = reach(features, operation.mean, operation.deviation)
        if isinstance(operation, Clamp) and math.isfinite(operation.highest):
            self.saturated[met.name] = bool((met.ruling.inputs[0] > operation.highest).any())
        if met.reference is not None and met.name in self._outputs:
            self.peaks[met.name] = float(met.reference.max())


def _functions_apart(made: Made, ruling: Ruling, exact: ThreeWay) -> float | None:
    """How far the candidate's own function is from the faithful one, where it is a question."""
    close = min(float(SIDE_LIMIT), ruling.limit.candidate)
    if exact.candidate is None or (exact.candidate.roundings or 0.0) <= close:
        return None
    its_own = made.exact()
    if its_own is None or its_own.shape != ruling.shape:
        return None
    return apart(ruling.truth, its_own, ruling.gauge, unit_roundoff(ruling.dtype))


def _mean_order(
    values: Array, ruling: Ruling, exact: ThreeWay, sides: Sequence[Array | None]
) -> tuple[tuple[str | None, str | None], str | None]:
    """In which order each side has added up a mean; what the candidate computes instead of it."""
    unit = unit_roundoff(values.dtype)
    found: list[str | None] = []
    another = None
    for side, (array, distance, gauge) in enumerate(
        zip(
            sides,
            (exact.candidate, exact.reference),
            (ruling.gauge, ruling.reference_gauge),
            strict=True,
        )
    ):
        order = None
        if array is not None and distance and (distance.roundings or 0.0) > SIDE_LIMIT:
            limit = ruling.limit.candidate
            order = reproducing_order(values, array, gauge, unit, limit)
            # An order that reproduces it to a few roundings leaves nothing else to explain.
            if side == 0 and (order is None or order.roundings > SIDE_LIMIT):
                another = another_mean(values, array, gauge, unit)
            beyond = (distance.roundings or 0.0) > limit
            found.append(order.title if order and beyond else None)
        else:
            found.append(None)
    return (found[0], found[1]), another
