"""How far activations went, compared with what the statistics of a batch norm expect."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from parity.judge.measure import flat, row_parts
from parity.process.arrays import Array
from parity.process.compiled import compiled, in_order


@dataclass(frozen=True)
class Reach:
    """What a batch norm was given, in deviations: ``(x - mean) / deviation``.

    Attributes:
        spread: Root mean square over all elements; 1 where the input is as in training.
        largest: Largest magnitude; NaN where a value is.
    """

    spread: float
    largest: float


def reach(values: Array, mean: Array, deviation: Array) -> Reach:
    """What a batch norm is given, by its own moving statistics.

    Args:
        values: Its input, [..., C].
        mean: [C], the moving mean.
        deviation: [C], the root of the moving variance and epsilon.
    """
    row = flat(values)
    centre, scale = mean.astype(np.float64), 1 / deviation.astype(np.float64)
    found = list(
        in_order(
            lambda part: _far(row[part], centre, scale), row_parts(values.size, values.shape[-1])
        )
    )
    spread = math.sqrt(sum(squares for squares, _ in found) / values.size)
    return Reach(spread, float(np.max([largest for _, largest in found])))


@compiled
def _far(values: Array, mean: Array, scale: Array) -> tuple[float, float]:
    """The sum of squares and the largest magnitude of a part's deviations."""
    channels = len(mean)
    squares, largest = 0.0, 0.0
    for start in range(0, len(values), channels):
        row = values[start : start + channels]
        own, above = 0.0, 0
        for channel in range(channels):
            far = (np.float64(row[channel]) - mean[channel]) * scale[channel]
            own += far * far
            above += int(abs(far) > largest)
        squares += own
        # A NaN compares false with everything, and what follows from infinity may be one.
        if (above or not own < np.inf) and largest == largest:
            for channel in range(channels):
                far = abs((np.float64(row[channel]) - mean[channel]) * scale[channel])
                if not far <= largest:
                    largest = far
                    if far != far:
                        break
    return squares, largest
