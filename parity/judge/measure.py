"""How far arrays are apart. Pure functions on NumPy arrays, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from parity.judge.tally import Tally, tally
from parity.judge.threefold import Threefold, threefold
from parity.process.arrays import Array
from parity.process.compiled import in_order, products_on_one_core

_CHUNK = 1 << 17
"""Elements looked at together, by one core: what is read again is still in its cache."""


@dataclass(frozen=True)
class Difference:
    """The distance between a reference and a candidate of one shape.

    Attributes:
        rms: Root mean square of the reference; NaN where a value of it is not finite.
        rms_difference: Root mean square of candidate minus reference.
        max_difference: Largest absolute difference.
        max_index: Where it lies, an index into the (NHWC) arrays.
        finite: Whether every value of both arrays is finite.
        constant: Whether all values of the reference are equal, so that agreement with it
            says little.
        roundings: Largest ``|candidate - reference| / (unit * gauge)``; None without a gauge.
        roundings_index: Where that lies.
    """

    rms: float
    rms_difference: float
    max_difference: float
    max_index: tuple[int, ...]
    finite: bool
    constant: bool
    roundings: float | None = None
    roundings_index: tuple[int, ...] | None = None

    @property
    def relative_rms(self) -> float:
        """:attr:`rms_difference` in units of the reference's rms."""
        return _ratio(self.rms_difference, self.rms)

    @property
    def relative_max(self) -> float:
        """:attr:`max_difference` in units of the reference's rms."""
        return _ratio(self.max_difference, self.rms)


@dataclass(frozen=True)
class ThreeWay:
    """Reference and candidate against each other and each against the exact values.

    Attributes:
        own: Candidate against reference.
        candidate: Candidate against exact.
        reference: Reference against exact.
        largest_gauge: The candidate's largest gauge, in units of the exact values' rms.
        bounded: Whether every gauge of both sides is finite.
        constant_channels: Number of channels (last axis) in which all exact values are equal.
        saturated: Whether every exact value is 0 or 1 to within one rounding.
    """

    own: Difference | None
    candidate: Difference | None
    reference: Difference | None
    largest_gauge: float
    constant_channels: int
    saturated: bool
    bounded: bool = True


def _ratio(numerator: float, denominator: float) -> float:
    if numerator == 0:
        return 0.0
    return numerator / denominator if denominator else math.inf


def unit_roundoff(dtype: np.dtype[Any]) -> float:
    """Largest relative error of one rounding: 2**-24 in float32, 2**-53 in float64."""
    return float(np.finfo(dtype).eps) / 2


def difference(reference: Array, candidate: Array, gauge: Array | None = None) -> Difference:
    """Measure ``candidate`` against ``reference``.

    Args:
        reference: Any shape, float32 or float64.
        candidate: The same shape; roundings are counted in units of its type.
        gauge: For each element the magnitude on which its roundings act (same shape), or None.

    Raises:
        ValueError: The shapes differ.
    """
    _check_shapes(reference, candidate)
    unit = unit_roundoff(candidate.dtype)
    theirs, ours, scale = flat(reference), flat(candidate), flat(gauge)
    parts = list(_parts(reference.size, _CHUNK))
    tallies = in_order(lambda p: tally(theirs[p], ours[p], scale[p], unit), parts)
    starts = [part.start for part in parts]
    return _result(list(tallies), starts, reference.shape, with_gauge=gauge is not None)


def apart(one: Array, other: Array, gauge: Array, unit: float) -> float:
    """Largest distance of two arrays of one shape, in units of ``unit * gauge``.

    Args:
        one: Any shape.
        other: The same shape.
        gauge: Likewise.
        unit: The unit roundoff to count in.

    Raises:
        ValueError: The shapes differ.
    """
    _check_shapes(one, other)
    with np.errstate(invalid="ignore"):
        # Infinities of one sign and NaNs on both sides are the same answer.
        alike = (one == other) | (np.isnan(one) & np.isnan(other))
    first, second = (np.where(alike, 0.0, array) for array in (one, other))
    scale = flat(gauge)
    theirs, ours = flat(first), flat(second)
    parts = _parts(one.size, _CHUNK)
    tallies = in_order(lambda p: tally(theirs[p], ours[p], scale[p], unit), parts)
    return max(item.most for item in tallies)


class Expected(Protocol):
    """What a node should be, in parts of whole lines, as an operation gives it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """NHWC, or of any rank with the channels last."""

    def parts(self) -> Iterator[slice]:
        """All lines, in parts to be computed together."""

    def figures(self, lines: slice) -> tuple[Array, Array, Array]:
        """[lines, ..., C] exact values, the candidate's gauge and the reference's."""


@dataclass(frozen=True)
class _Arrays:
    """What is expected, where all of it is at hand."""

    truth: Array
    gauge: Array
    reference_gauge: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.truth.shape

    def parts(self) -> Iterator[slice]:
        return _parts(self.truth.size // self.shape[-1], max(1, _CHUNK // self.shape[-1]))

    def figures(self, lines: slice) -> tuple[Array, Array, Array]:
        truth, gauge, other = (
            array.reshape(-1, array.shape[-1])[lines]
            for array in (self.truth, self.gauge, self.reference_gauge)
        )
        return truth, gauge, other


def three_way(
    exact: Array,
    gauge: Array,
    candidate: Array | None,
    reference: Array | None,
    reference_gauge: Array | None = None,
) -> ThreeWay:
    """Measure two sides against each other and against the exact values.

    Args:
        exact: [..., C], possibly of a wider type.
        gauge: For each element the magnitude on which the candidate's roundings act.
        candidate: One side, or None where there is none.
        reference: The other, likewise.
        reference_gauge: The same for the reference, where it is another.

    Raises:
        ValueError: The shapes differ.
    """
    other = gauge if reference_gauge is None else reference_gauge
    return measured(_Arrays(exact, gauge, other), candidate, reference)


def measured(expected: Expected, candidate: Array | None, reference: Array | None) -> ThreeWay:
    """As :func:`three_way`, of exact values that are computed as they are looked at.

    Args:
        expected: What the sides should be.
        candidate: One side, or None where there is none.
        reference: The other, likewise.

    Raises:
        ValueError: The shapes differ.
    """
    shape = expected.shape
    for side in (candidate, reference):
        if side is not None and side.shape != shape:
            raise ValueError(f"{list(side.shape)} against {list(shape)}")
    # Once, since a side of another layout is copied for it.
    sides = tuple(None if side is None else flat(side) for side in (candidate, reference))
    parts = list(expected.parts())
    width = math.prod(shape) // parts[-1].stop
    look = _Look(sides, width, shape[-1])
    with products_on_one_core():
        found = in_order(lambda part: look.at(part.start, *expected.figures(part)), parts)
    return look.together(list(found), [part.start * width for part in parts], shape)


@dataclass(frozen=True)
class _Look:
    """Looks at parts of both sides.

    Attributes:
        sides: The candidate as one row, and the reference; None where there is none.
        width: Elements of a line.
        channels: Elements of a place.
    """

    sides: tuple[Array | None, ...]
    width: int
    channels: int

    def at(self, line: int, *figures: Array) -> Threefold:
        """What some lines show, from this one on: exact values and both gauges."""
        truth, gauge, other = map(flat, figures)
        place = slice(line * self.width, line * self.width + truth.size)
        there = [side[place] for side in self.sides if side is not None]
        # Where a side is missing something stands in for it, of which nothing is told.
        stands_in = there[0] if there else gauge
        ours, theirs = (stands_in if side is None else side[place] for side in self.sides)
        unit = unit_roundoff(theirs.dtype)
        return threefold(truth, (gauge, other), (ours, theirs), self.channels, unit)

    def together(
        self, found: Sequence[Threefold], starts: Sequence[int], shape: tuple[int, ...]
    ) -> ThreeWay:
        """All parts."""
        ours, theirs = (side is not None for side in self.sides)
        own, candidate, reference = (
            _result(tallies, starts, shape, with_gauge=True) if there else None
            for tallies, there in (
                ([part.own for part in found], ours and theirs),
                ([part.candidate for part in found], ours),
                ([part.reference for part in found], theirs),
            )
        )
        wholes = [part.whole for part in found]
        rms = math.sqrt(sum(whole.squares for whole in wholes) / math.prod(shape))
        first = wholes[0].first_place
        varying = np.any([whole.varying | (whole.first_place != first) for whole in wholes], axis=0)
        return ThreeWay(
            own=own,
            candidate=candidate,
            reference=reference,
            largest_gauge=_ratio(max(whole.largest_gauge for whole in wholes), rms),
            bounded=all(whole.bounded for whole in wholes),
            constant_channels=int(np.count_nonzero(~varying)),
            saturated=all(whole.saturated for whole in wholes),
        )


def _check_shapes(one: Array, other: Array) -> None:
    if one.shape != other.shape:
        raise ValueError(f"{list(other.shape)} against {list(one.shape)}")


def _parts(size: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def row_parts(size: int, channels: int) -> Iterator[slice]:
    """Parts of a tensor of this many elements that hold all channels of each place."""
    return _parts(size, max(1, _CHUNK // channels) * channels)


def flat(array: Array | None) -> Array:
    """One row, not to be written to, so that each combination of types is compiled once.

    Args:
        array: Any shape; None gives an empty row.
    """
    row = np.empty(0, np.float32) if array is None else np.ascontiguousarray(array).reshape(-1)
    row = row.view()
    row.flags.writeable = False
    return row


def _result(
    found: Sequence[Tally], starts: Sequence[int], shape: tuple[int, ...], *, with_gauge: bool
) -> Difference:
    """All parts together."""
    largest, most = found[0], found[0]
    largest_at, most_at = starts[0] + largest.largest_at, starts[0] + most.most_at
    for item, start in zip(found[1:], starts[1:], strict=True):
        if not item.largest <= largest.largest and not math.isnan(largest.largest):
            largest, largest_at = item, start + item.largest_at
        if item.most > most.most:
            most, most_at = item, start + item.most_at
    size = math.prod(shape)
    return Difference(
        rms=math.sqrt(sum(item.squares for item in found) / size),
        rms_difference=math.sqrt(sum(item.squared_difference for item in found) / size),
        max_difference=largest.largest,
        max_index=_index(largest_at, shape),
        finite=all(item.finite for item in found),
        constant=all(item.constant and item.first == found[0].first for item in found),
        roundings=most.most if with_gauge else None,
        roundings_index=_index(most_at, shape) if with_gauge else None,
    )


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))
