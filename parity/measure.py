"""How far two arrays are apart. Pure functions on NumPy arrays, in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_CHUNK = 1 << 18
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
    if reference.shape != candidate.shape:
        raise ValueError(f"{list(candidate.shape)} against {list(reference.shape)}")
    flat = [np.ascontiguousarray(array).reshape(-1) for array in (reference, candidate)]
    flat_gauge = None if gauge is None else np.ascontiguousarray(gauge).reshape(-1)
    unit = unit_roundoff(candidate.dtype)
    size = reference.size
    squares = squared_difference = 0.0
    largest, largest_at = 0.0, 0
    most, most_at = 0.0, 0
    low, high = math.inf, -math.inf
    finite = True
    for start in range(0, size, _CHUNK):
        ours, theirs = (array[start : start + _CHUNK] for array in flat)
        delta = np.subtract(theirs, ours, dtype=np.float64)
        squares += _sum_of_squares(ours)
        squared_difference += float(np.vdot(delta, delta))
        np.abs(delta, out=delta)
        at = int(delta.argmax())
        peak = float(delta[at])
        if not math.isfinite(float(ours.sum()) + peak):
            finite = finite and bool(np.isfinite(ours).all() and np.isfinite(theirs).all())
        # A NaN compares false with everything and must not hide a later maximum.
        if peak > largest or math.isnan(peak):
            largest, largest_at = peak, start + at
        low, high = min(low, float(ours.min())), max(high, float(ours.max()))
        if flat_gauge is not None:
            count, where = _roundings(delta, flat_gauge[start : start + _CHUNK], unit)
            if count > most:
                most, most_at = count, start + where
    return Difference(
        rms=math.sqrt(squares / size),
        rms_difference=math.sqrt(squared_difference / size),
        max_difference=largest,
        max_index=_index(largest_at, reference.shape),
        finite=finite,
        constant=low == high,
        roundings=None if gauge is None else most,
        roundings_index=None if gauge is None else _index(most_at, reference.shape),
    )


def _sum_of_squares(values: Array) -> float:
    total = float(np.vdot(values, values))
    # Squares of large float32 values overflow where the values are finite.
    return total if math.isfinite(total) else float(np.sum(np.square(values, dtype=np.float64)))


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def _roundings(delta: Array, gauge: Array, unit: float) -> tuple[float, int]:
    """Largest ``delta / (unit * gauge)`` and where.

    Infinite where a difference has no finite gauge above zero to be measured by.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        counts = delta / (unit * gauge.astype(np.float64))
    counts[~np.isfinite(gauge) | np.isnan(counts)] = math.inf
    # No difference is none, whatever the gauge.
    counts[delta == 0] = 0.0
    where = int(counts.argmax())
    return float(counts[where]), where
