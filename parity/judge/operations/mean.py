"""Mean over height and width."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from parity.judge.operations.operation import PART, Operation, underflow
from parity.process.arrays import Array
from parity.process.compiled import compiled, in_order


class Mean(Operation):
    """[N, H, W, C] to [N, 1, 1, C]."""

    def shape(self, inputs: Sequence[Array]) -> tuple[int, ...]:
        """See :class:`Operation`."""
        batch, _, _, channels = inputs[0].shape
        return (batch, 1, 1, channels)

    def terms(self, inputs: Sequence[Array]) -> int:
        """See :class:`Operation`."""
        _, height, width, _ = inputs[0].shape
        return int(height * width)

    def figures(self, inputs: Sequence[Array], lines: slice) -> tuple[Array, Array]:
        """See :class:`Operation`; the gauge is the mean of the magnitudes."""
        features = inputs[0][lines]
        count, height, width, channels = features.shape
        truth, gauge = np.empty((2, count, 1, channels))
        step = max(1, PART // (width * channels))
        parts = [slice(top, min(top + step, height)) for top in range(0, height, step)]
        for image, plane in enumerate(features):
            sums = sum(in_order(partial(_sums_of, plane), parts))
            truth[image, 0], gauge[image, 0] = sums / (height * width)
        low = underflow(features.dtype)
        return truth, (gauge + 2 * low).astype(features.dtype)


def _sums_of(plane: Array, rows: slice) -> Array:
    return _sums(plane[rows])


@compiled
def _sums(plane: Array) -> Array:
    """[2, C]: the sums of the values and of their magnitudes."""
    height, width, channels = plane.shape
    found = np.zeros((2, channels))
    for row in range(height):
        for column in range(width):
            for channel in range(channels):
                value = np.float64(plane[row, column, channel])
                found[0, channel] += value
                found[1, channel] += abs(value)
    return found
