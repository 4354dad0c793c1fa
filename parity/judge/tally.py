"""What a part of some arrays adds to the figures about them: the compiled loops of measuring."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from parity.process.arrays import Array
from parity.process.compiled import compiled

_BLOCK = 1 << 10
"""Elements between two looks at what was found so far."""


class Tally(NamedTuple):
    """What a part of two arrays, and perhaps of a gauge, adds to their difference."""

    squares: float
    squared_difference: float
    largest: float
    largest_at: int
    most: float
    most_at: int
    first: float
    constant: bool
    finite: bool


def tally(reference: Array, candidate: Array, gauge: Array, unit: float) -> Tally:
    """How far two rows are apart; ``gauge`` is empty where there is none."""
    squares, squared_difference, (largest, at), others, finite = _apart(reference, candidate)
    most, most_at = 0.0, 0
    if gauge.size and largest != 0:
        most, most_at = _most_roundings(reference, candidate, gauge, unit)
    first = float(reference[0])
    return Tally(
        squares, squared_difference, largest, at, most, most_at, first, others == 0, finite
    )


@compiled
def _apart(reference: Array, candidate: Array) -> tuple[float, float, tuple[float, int], int, bool]:
    """How far two arrays are apart.

    Returns:
        The reference's sum of squares, that of the difference, the largest difference and where
        it is, the number of the reference's values that are not its first, and whether all values
        are finite.
    """
    squares, squared_difference, largest = 0.0, 0.0, 0.0
    at, others = 0, 0
    finite = True
    # Block by block, and one thing at a time: only loops without a branch, whose body is short,
    # use the processor's wide registers.
    for start in range(0, len(reference), _BLOCK):
        theirs, ours = reference[start : start + _BLOCK], candidate[start : start + _BLOCK]
        own, apart, above = 0.0, 0.0, 0
        for i in range(len(theirs)):
            delta = np.float64(ours[i]) - np.float64(theirs[i])
            own += np.float64(theirs[i]) * np.float64(theirs[i])
            apart += delta * delta
        for i in range(len(theirs)):
            above += int(abs(np.float64(ours[i]) - np.float64(theirs[i])) > largest)
        if others == 0:
            for i in range(len(theirs)):
                others += int(theirs[i] != reference[0])
        squares += own
        squared_difference += apart
        overflows = not (own < np.inf and apart < np.inf)
        if (above or overflows) and largest == largest:
            # A NaN compares false with everything: the first one is what is to be told.
            for i in range(len(theirs)):
                delta = abs(np.float64(ours[i]) - np.float64(theirs[i]))
                if not delta <= largest:
                    largest, at = delta, start + i
                    if delta != delta:
                        break
        # A sum of squares may overflow where no value does.
        if overflows:
            for i in range(len(theirs)):
                finite &= abs(theirs[i]) < np.inf and abs(ours[i]) < np.inf
    return squares, squared_difference, (largest, at), others, finite


@compiled
def _most_roundings(
    reference: Array, candidate: Array, gauge: Array, unit: float
) -> tuple[float, int]:
    """Largest difference in units of ``unit * gauge`` and where.

    It is infinite where a difference has no finite gauge above zero to be measured by. No
    difference is no rounding, whatever the gauge.
    """
    most, at = 0.0, 0
    for start in range(0, len(reference), _BLOCK):
        theirs, ours = reference[start : start + _BLOCK], candidate[start : start + _BLOCK]
        weights = gauge[start : start + _BLOCK]
        # A product is quicker than a quotient, which is needed only where there is more than ever.
        bound, above, sums = most * unit, 0, 0.0
        for i in range(len(theirs)):
            delta = abs(np.float64(ours[i]) - np.float64(theirs[i]))
            above += int(delta > bound * np.float64(weights[i]))
        for i in range(len(theirs)):
            delta = abs(np.float64(ours[i]) - np.float64(theirs[i]))
            sums += delta + abs(np.float64(weights[i]))
        # What is not finite compares as if there were nothing.
        if not above and sums < np.inf:
            continue
        for i in range(len(theirs)):
            delta = abs(np.float64(ours[i]) - np.float64(theirs[i]))
            weight = np.float64(weights[i])
            if delta == 0:
                continue
            count = np.inf
            if 0 < weight < np.inf and delta == delta:
                count = delta / (unit * weight)
            if count > most:
                most, at = count, start + i
    return most, at
