"""Means over many positions: the order in which a side adds, and what it computes instead.

Two questions about a mean that is further from the exact value than a few roundings. Does a float32
sum in a plain order, one value after another, reproduce it? Then its error is that order's. And
does another divisor, or another extent, explain it better than the mean itself? A division by K + 1
is 2**24 / K roundings off, less than a sum of K terms may carry where K is above 36,000, but in all
channels alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from parity.process.arrays import Array
from parity.process.compiled import compiled_as_written, in_order

_CHANNELS = 64
"""Channels that one core adds up together: all their sums stay in its nearest cache."""

LANES = (1, 2, 4, 8, 16)
"""Numbers of interleaved sums that are tried: one value after another, or as many in turn as
vector registers and unrolled loops hold. TensorFlow 2.21 on the CPU uses four."""

EXPLAINS = 0.5
"""A wrong mean is the explanation where it accounts for this part of the difference at least.

Of the difference's projection on the alternative's: 0 for a right mean, 1 for the wrong one, so
that half is as far from either. Independent roundings of C channels move it by ``1 / sqrt(C)`` of
their size relative to the shift."""


@dataclass(frozen=True)
class Order:
    """An order of summation that reproduces a mean.

    Attributes:
        title: The order in words.
        roundings: Largest distance of the mean from the simulation.
    """

    title: str
    roundings: float


def reproducing_order(
    values: Array, mean: Array, gauge: Array, unit: float, limit: float
) -> Order | None:
    """The plain order of summation that reproduces a mean, the closest one; None where none does.

    Args:
        values: [N, H, W, C], what is averaged, in the type of the sides.
        mean: [N, 1, 1, C], the mean that a side made.
        gauge: The same shape, the magnitude on which its roundings act.
        unit: Unit roundoff of the sides' type.
        limit: Roundings that the simulation may be off.
    """
    if not np.isfinite(values).all() or not np.isfinite(mean).all():
        return None
    found: list[Order] = []
    made, scale = _flat(mean).astype(np.float64), unit * _flat(gauge).astype(np.float64)
    for title, simulated in _simulations(values):
        distance = np.abs(made - simulated)
        with np.errstate(divide="ignore", invalid="ignore"):
            counts = np.where(distance == 0, 0.0, distance / scale)
        worst = float(np.max(counts))
        if worst <= limit:
            found.append(Order(title, worst))
    return min(found, key=lambda order: order.roundings, default=None)


def _flat(array: Array) -> Array:
    return array.reshape(array.shape[0], -1)


def _simulations(values: Array) -> Iterator[tuple[str, Array]]:
    _, height, width, _ = values.shape
    several = [lanes for lanes in LANES if lanes <= height * width]
    for axes, way in (((0, 1, 2, 3), "row by row"), ((0, 2, 1, 3), "column by column")):
        for lanes, mean in zip(several, _added_up(values.transpose(axes), several), strict=True):
            sums = f"in {lanes} interleaved sums, " if lanes > 1 else ""
            yield f"{sums}one value after another, {way}", mean
        if height == 1 or width == 1:
            # Both ways are one.
            break


def _added_up(plane: Array, lanes: Sequence[int]) -> Array:
    """Means over axes 1 and 2 of [N, A, B, C], one value following another along B, then A.

    Args:
        plane: The values.
        lanes: For each mean the number of sums that take turns and are then added up.

    Returns:
        [number of means, N, C].
    """
    batch, rows, columns, channels = plane.shape
    totals = np.zeros((len(lanes), batch, channels), plane.dtype)
    parts = [slice(start, start + _CHANNELS) for start in range(0, channels, _CHANNELS)]
    counts = np.array(lanes)
    list(in_order(lambda part: _add_up(plane[..., part], counts, totals[..., part]), parts))
    mean: Array = totals / plane.dtype.type(rows * columns)
    return mean


@compiled_as_written
def _add_up(plane: Array, lanes: Array, totals: Array) -> None:
    """Fill in [number of lanes, N, C] the sums of [N, A, B, C], each value read once for all."""
    batch, rows, columns, channels = plane.shape
    count = rows * columns
    for image in range(batch):
        sums = np.zeros((len(lanes), lanes.max(), channels), plane.dtype)
        for position in range(count):
            row, column = divmod(position, columns)
            values = plane[image, row, column]
            for way in range(len(lanes)):
                if position < count - count % lanes[way]:
                    own = sums[way, position % lanes[way]]
                    for channel in range(channels):
                        own[channel] += values[channel]
        for way in range(len(lanes)):
            for lane in range(lanes[way]):
                totals[way, image] += sums[way, lane]
            for position in range(count - count % lanes[way], count):
                totals[way, image] += plane[image, position // columns, position % columns]


def another_mean(values: Array, mean: Array, gauge: Array, unit: float) -> str | None:
    """What a side computed instead of the mean, where that explains its output better.

    Args:
        values: [N, H, W, C], what is averaged.
        mean: [N, 1, 1, C], what the side made of it.
        gauge: The same shape, the magnitude on which its roundings act.
        unit: Unit roundoff of the sides' type.

    Returns:
        The other mean in words; None where the mean itself explains the output as well.
    """
    if not np.isfinite(values).all() or not np.isfinite(mean).all():
        return None
    exact = _flat(values.mean((1, 2), dtype=np.float64))
    scale = unit * _flat(gauge).astype(np.float64)
    counted = (_flat(mean).astype(np.float64) - exact) / scale
    best: tuple[float, str] | None = None
    for title, other in _alternatives(values, exact):
        shift = (other - exact) / scale
        energy = float(np.vdot(shift, shift))
        if not energy:
            continue
        share = float(np.vdot(counted, shift)) / energy
        left = counted - shift
        remaining = float(np.vdot(left, left)) / (float(np.vdot(counted, counted)) or 1.0)
        if share >= EXPLAINS and remaining <= EXPLAINS**2 and (not best or remaining < best[0]):
            best = remaining, title
    return best[1] if best else None


def _alternatives(values: Array, exact: Array) -> Iterator[tuple[str, Array]]:
    """Other divisors and other extents, by channel."""
    _, height, width, _ = values.shape
    count = height * width
    total = exact * count
    divisors = {
        count + 1: "one more than",
        count - 1: "one less than",
        (height + 1) * (width + 1): "one row and one column more than",
        count + height: "one column more than",
        count + width: "one row more than",
    }
    for divisor, words in divisors.items():
        if divisor > 0:
            yield f"divides by {divisor}, {words} the {count} positions", total / divisor
    for title, rows, columns in (
        ("the first row", slice(1, None), slice(None)),
        ("the last row", slice(None, -1), slice(None)),
        ("the first column", slice(None), slice(1, None)),
        ("the last column", slice(None), slice(None, -1)),
        ("the whole border", slice(1, -1), slice(1, -1)),
    ):
        part = values[:, rows, columns]
        if not part.size or part.shape == values.shape:
            continue
        kept = _flat(part.sum((1, 2), dtype=np.float64))
        yield f"leaves out {title}", kept / (part.shape[1] * part.shape[2])
        yield f"leaves out {title} but divides by all {count} positions", kept / count
