"""What a part of three arrays, the exact values and both sides, says of them: one compiled loop.

As :mod:`parity.judge.tally`, for three pairs at once: each value is read and widened a single
time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from parity.judge.tally import Tally
from parity.process.arrays import Array
from parity.process.compiled import compiled

_BLOCK = 1 << 9
"""Elements between two looks at what was found so far."""


class Whole(NamedTuple):
    """What a part of the exact values and of both gauges says by itself.

    Attributes:
        squares: Sum of the squares of the exact values.
        largest_gauge: Of the candidate.
        bounded: Whether both gauges are finite everywhere.
        saturated: Whether every exact value is 0 or 1 to within one rounding.
        first_place: [C], its values at the first place.
        varying: [C], whether a channel has a value that is not the first place's.
    """

    squares: float
    largest_gauge: float
    bounded: bool
    saturated: bool
    first_place: Array
    varying: Array


class Threefold(NamedTuple):
    """What a part says.

    Attributes:
        whole: Of the exact values.
        own: Of the candidate against the reference.
        candidate: Of the candidate against the exact values.
        reference: Of the reference against the exact values.
    """

    whole: Whole
    own: Tally
    candidate: Tally
    reference: Tally


def threefold(
    truth: Array,
    gauges: tuple[Array, Array],
    sides: tuple[Array, Array],
    channels: int,
    unit: float,
) -> Threefold:
    """How far rows are apart.

    Args:
        truth: Exact values, of whole places.
        gauges: What the candidate's roundings act on, and what the reference's do.
        sides: The candidate's values and the reference's.
        channels: Number of values at each place.
        unit: The unit roundoff to count in.
    """
    found = _Found(*_look(truth, *gauges, *sides, unit))
    varying, saturated = _survey(truth, channels, unit)
    # Of exact values, candidate and reference the second of each pair is held against the first.
    tallies = [
        Tally(
            squares=found.squares[one],
            squared_difference=found.squared_differences[pair],
            largest=found.largest[pair],
            largest_at=found.largest_at[pair],
            most=found.most[pair],
            most_at=found.most_at[pair],
            first=float((truth, *sides)[one][0]),
            constant=bool(found.constant[one]),
            finite=bool(found.finite[one] and found.finite[two]),
        )
        for pair, (one, two) in enumerate(((2, 1), (0, 1), (0, 2)))
    ]
    whole = Whole(
        found.squares[0],
        found.largest_gauge,
        found.bounded,
        saturated,
        truth[:channels],
        varying,
    )
    return Threefold(whole, *tallies)


class _Found(NamedTuple):
    """What :func:`_look` finds: of the three arrays, of the three pairs, and of the gauges."""

    squares: tuple[float, float, float]
    constant: Array
    finite: Array
    squared_differences: tuple[float, float, float]
    largest: Array
    largest_at: Array
    most: Array
    most_at: Array
    largest_gauge: float
    bounded: bool


@compiled
def _look(
    truth: Array, gauge: Array, other: Array, ours: Array, theirs: Array, unit: float
) -> tuple[Any, ...]:
    """The fields of :class:`_Found`.

    A count of roundings is infinite where a difference has no finite gauge above zero to be
    measured by. No difference is no rounding, whatever the gauge.
    """
    squares, own_squares, other_squares = 0.0, 0.0, 0.0
    square_apart, square_own, square_other = 0.0, 0.0, 0.0
    constant, finite = np.ones(3, np.bool_), np.ones(3, np.bool_)
    largest, most = np.zeros(3), np.zeros(3)
    largest_at, most_at = np.zeros(3, np.int64), np.zeros(3, np.int64)
    largest_gauge, bounded = 0.0, True
    # Block by block, and one thing at a time: only loops without a branch use the processor's
    # wide registers. What is more than anything before it is looked for where it must be.
    for start in range(0, len(truth), _BLOCK):
        x, a = truth[start : start + _BLOCK], ours[start : start + _BLOCK]
        b, g = theirs[start : start + _BLOCK], gauge[start : start + _BLOCK]
        h = other[start : start + _BLOCK]
        xx, aa, bb, dd, ee, ff = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(len(x)):
            exact, own, their = np.float64(x[i]), np.float64(a[i]), np.float64(b[i])
            d, e, f = own - their, own - exact, their - exact
            xx += exact * exact
            aa += own * own
            bb += their * their
            dd += d * d
            ee += e * e
            ff += f * f
        weights, beyond, above_gauge, above_count = 0.0, 0, 0, 0
        reach = most * unit
        for i in range(len(x)):
            exact, own, their = np.float64(x[i]), np.float64(a[i]), np.float64(b[i])
            weight, other_weight = np.float64(g[i]), np.float64(h[i])
            d, e, f = abs(own - their), abs(own - exact), abs(their - exact)
            weights += abs(weight) + abs(other_weight)
            above_gauge += int(weight > largest_gauge)
            beyond += int((d > largest[0]) | (e > largest[1]) | (f > largest[2]))
            # A product is quicker than a quotient.
            above_count += int(
                (d > reach[0] * weight) | (e > reach[1] * weight) | (f > reach[2] * other_weight)
            )
        squares += xx
        own_squares += aa
        other_squares += bb
        square_apart += dd
        square_own += ee
        square_other += ff
        # A NaN compares false with everything, and a sum of squares may overflow where no value
        # does.
        plain = xx + aa + bb + dd + ee + ff < np.inf
        weighted = weights < np.inf
        bounded &= weighted
        if above_gauge:
            for i in range(len(g)):
                largest_gauge = max(largest_gauge, np.float64(g[i]))
        if not plain:
            for i in range(len(x)):
                finite[0] &= abs(x[i]) < np.inf
                finite[1] &= abs(a[i]) < np.inf
                finite[2] &= abs(b[i]) < np.inf
        if constant.any():
            for i in range(len(x)):
                constant[0] &= x[i] == truth[0]
                constant[1] &= a[i] == ours[0]
                constant[2] &= b[i] == theirs[0]
        for pair in range(3):
            if not (beyond or above_count) and plain and weighted:
                break
            for i in range(len(x)):
                exact, own, their = np.float64(x[i]), np.float64(a[i]), np.float64(b[i])
                one, two = exact if pair else their, their if pair == 2 else own
                weight = np.float64(h[i]) if pair == 2 else np.float64(g[i])
                delta = abs(two - one)
                if not delta <= largest[pair] and largest[pair] == largest[pair]:
                    largest[pair], largest_at[pair] = delta, start + i
                if delta != 0 and not (delta <= most[pair] * unit * weight and weight < np.inf):
                    count = np.inf
                    if 0 < weight < np.inf and delta == delta:
                        count = delta / (unit * weight)
                    if count > most[pair]:
                        most[pair], most_at[pair] = count, start + i
    return (
        (squares, own_squares, other_squares),
        constant,
        finite,
        (square_apart, square_own, square_other),
        largest,
        largest_at,
        most,
        most_at,
        largest_gauge,
        bounded,
    )


@compiled
def _survey(values: Array, channels: int, unit: float) -> tuple[Array, bool]:
    """:attr:`Whole.varying` and :attr:`Whole.saturated`."""
    varying = np.zeros(channels, np.bool_)
    left = channels
    for start in range(0, len(values), channels):
        for channel in range(channels):
            if not varying[channel] and values[start + channel] != values[channel]:
                varying[channel] = True
                left -= 1
        if left == 0:
            break
    for i in range(len(values)):
        if not min(abs(values[i]), abs(values[i] - 1)) <= unit:
            return varying, False
    return varying, True
