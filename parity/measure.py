"""How far arrays are apart. Pure functions on NumPy arrays, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_CHUNK = 1 << 17
"""Elements looked at together: temporaries stay in the processor's cache."""


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
    tally = _Tally(reference.shape, unit_roundoff(candidate.dtype), gauge is not None)
    flat = [np.ascontiguousarray(array).reshape(-1) for array in (reference, candidate)]
    flat_gauge = None if gauge is None else np.ascontiguousarray(gauge).reshape(-1)
    for part in _parts(reference.size, _CHUNK):
        theirs, ours = flat[0][part], flat[1][part]
        sums = _Sums.of(theirs)
        tally.add(part, theirs, ours, sums, None if flat_gauge is None else flat_gauge[part])
    return tally.result()


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
    flat = [np.ascontiguousarray(array).reshape(-1) for array in (one, other, gauge)]
    most = 0.0
    for part in _parts(one.size, _CHUNK):
        first, second = (array[part].astype(np.float64) for array in flat[:2])
        with np.errstate(invalid="ignore"):
            delta = np.abs(first - second)
        # Infinities of one sign and NaNs on both sides are the same answer.
        delta[(first == second) | (np.isnan(first) & np.isnan(second))] = 0.0
        most = max(most, _roundings(delta, flat[2][part], unit)[0])
    return most


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
    shape = exact.shape
    sides = [side for side in (candidate, reference) if side is not None]
    for side in sides:
        _check_shapes(exact, side)
    unit = unit_roundoff(sides[0].dtype if sides else exact.dtype)
    tallies = [_Tally(shape, unit, True) for _ in range(3)]

    def flat(array: Array | None) -> Array | None:
        return None if array is None else np.ascontiguousarray(array).reshape(-1)

    truth, scale, ours, theirs = (flat(a) for a in (exact, gauge, candidate, reference))
    other = scale if reference_gauge is None else flat(reference_gauge)
    assert truth is not None and scale is not None and other is not None
    channels = shape[-1]
    lows, highs = np.full(channels, math.inf), np.full(channels, -math.inf)
    largest_gauge, squares, saturated, bounded = 0.0, 0.0, True, True
    for part in _parts(exact.size, max(1, _CHUNK // channels) * channels):
        values = truth[part]
        sums = _Sums.of(values)
        squares += sums.squares
        rows = values.reshape(-1, channels)
        np.minimum(lows, rows.min(axis=0), out=lows)
        np.maximum(highs, rows.max(axis=0), out=highs)
        saturated = saturated and _is_saturated(values, unit)
        weights = scale[part]
        largest_gauge = max(largest_gauge, float(weights.max()))
        bounded = bounded and _all_finite(weights) and _all_finite(other[part])
        if ours is not None:
            tallies[1].add(part, values, ours[part], sums, weights)
        if theirs is not None:
            tallies[2].add(part, values, theirs[part], sums, other[part])
        if ours is not None and theirs is not None:
            tallies[0].add(part, theirs[part], ours[part], _Sums.of(theirs[part]), weights)
    return ThreeWay(
        own=tallies[0].result() if ours is not None and theirs is not None else None,
        candidate=tallies[1].result() if ours is not None else None,
        reference=tallies[2].result() if theirs is not None else None,
        largest_gauge=_ratio(largest_gauge, math.sqrt(squares / truth.size)),
        bounded=bounded,
        constant_channels=int(np.count_nonzero(lows == highs)),
        saturated=saturated,
    )


def _check_shapes(one: Array, other: Array) -> None:
    if one.shape != other.shape:
        raise ValueError(f"{list(other.shape)} against {list(one.shape)}")


def _parts(size: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def _all_finite(values: Array) -> bool:
    # Values of float32 that overflow when added up are finite all the same.
    return math.isfinite(float(values.sum(dtype=np.float64)))


def _is_saturated(values: Array, unit: float) -> bool:
    # One look at a single value decides nearly always.
    if unit < values[0] < 1 - unit:
        return False
    distance = np.minimum(np.abs(values), np.abs(values - 1))
    return bool((distance <= unit).all())


@dataclass(frozen=True)
class _Sums:
    """What a part of one array adds to the figures about it."""

    squares: float
    low: float
    high: float
    finite: bool

    @classmethod
    def of(cls, values: Array) -> _Sums:
        squares = _sum_of_squares(values.astype(np.float64, copy=False))
        finite = math.isfinite(squares) or bool(np.isfinite(values).all())
        return cls(squares, float(values.min()), float(values.max()), finite)


def _sum_of_squares(values: Array) -> float:
    # A BLAS would wake its threads for each part, which takes longer than the sum.
    return float(np.einsum("i,i->", values, values))


class _Tally:
    """Adds up a difference part by part."""

    def __init__(self, shape: tuple[int, ...], unit: float, with_gauge: bool) -> None:
        self._shape = shape
        self._unit = unit
        self._with_gauge = with_gauge
        self._squares = self._squared_difference = 0.0
        self._largest, self._largest_at = 0.0, 0
        self._most, self._most_at = 0.0, 0
        self._low, self._high = math.inf, -math.inf
        self._finite = True

    def add(
        self, part: slice, reference: Array, candidate: Array, sums: _Sums, gauge: Array | None
    ) -> None:
        # Casting first is several times faster than letting the subtraction cast.
        delta = candidate.astype(np.float64)
        with np.errstate(invalid="ignore"):
            # Infinities on both sides leave NaN, which is what is to be told.
            delta -= reference.astype(np.float64, copy=False)
        self._squares += sums.squares
        self._squared_difference += _sum_of_squares(delta)
        np.abs(delta, out=delta)
        at = int(delta.argmax())
        peak = float(delta[at])
        self._finite = self._finite and sums.finite
        if not math.isfinite(peak):
            self._finite = self._finite and bool(np.isfinite(candidate).all())
        # A NaN compares false with everything and must not hide a later maximum.
        if peak > self._largest or math.isnan(peak):
            self._largest, self._largest_at = peak, part.start + at
        self._low, self._high = min(self._low, sums.low), max(self._high, sums.high)
        if gauge is not None and peak != 0:
            count, where = _roundings(delta, gauge, self._unit)
            if count > self._most:
                self._most, self._most_at = count, part.start + where

    def result(self) -> Difference:
        size = math.prod(self._shape)
        return Difference(
            rms=math.sqrt(self._squares / size),
            rms_difference=math.sqrt(self._squared_difference / size),
            max_difference=self._largest,
            max_index=_index(self._largest_at, self._shape),
            finite=self._finite,
            constant=self._low == self._high,
            roundings=self._most if self._with_gauge else None,
            roundings_index=_index(self._most_at, self._shape) if self._with_gauge else None,
        )


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def _roundings(delta: Array, gauge: Array, unit: float) -> tuple[float, int]:
    """Largest ``delta / (unit * gauge)`` and where.

    Infinite where a difference has no finite gauge above zero to be measured by.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        counts = delta / (unit * gauge.astype(np.float64))
    # An infinite gauge makes any difference look like none.
    if not _all_finite(gauge) or not _all_finite(counts):
        counts[~np.isfinite(gauge) | np.isnan(counts)] = math.inf
        # No difference is none, whatever the gauge.
        counts[delta == 0] = 0.0
    where = int(counts.argmax())
    return float(counts[where]), where
