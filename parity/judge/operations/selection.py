"""Operations that take values as they are: max-pool and nearest-neighbour up-sampling."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from parity.judge.operations.operation import Operation, by_lines, padding_before
from parity.process.arrays import Array
from parity.process.compiled import compiled


class _Selection(Operation):
    """Brings features to a given size; it has no roundings, and is judged relative to its output.

    Args:
        size: Height and width of the output.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size

    def shape(self, inputs: Sequence[Array]) -> tuple[int, ...]:
        """See :class:`Operation`."""
        batch, _, _, channels = inputs[0].shape
        return (batch, *self._size, channels)

    def sized(self, size: tuple[int, int]) -> Operation:
        """See :class:`Operation`."""
        return type(self)(size)

    def figures(self, inputs: Sequence[Array], lines: slice) -> tuple[Array, Array]:
        """See :class:`Operation`."""
        truth = self._taken(inputs[0], lines)
        return truth, np.abs(truth)

    @abstractmethod
    def _taken(self, features: Array, lines: slice) -> Array:
        """Some lines of the output."""


class MaxPool(_Selection):
    """Max-pool with SAME padding by minus infinity (official ``ResampleFeatureMap``).

    ``stride = (size - 1) // target + 1`` and ``kernel = stride + 1``.
    """

    def _taken(self, features: Array, lines: slice) -> Array:
        plane = features.shape[1:3]
        stride = [(s - 1) // t + 1 for s, t in zip(plane, self._size, strict=True)]
        before = padding_before(plane, [step + 1 for step in stride], stride)
        found = np.empty(
            (lines.stop - lines.start, self._size[1], features.shape[3]), features.dtype
        )
        _pool(features, (stride[0], stride[1]), before, lines.start, self._size[0], found)
        return found


class Upsample(_Selection):
    """Output pixel i takes input pixel ``floor(i * in / out)``."""

    def _taken(self, features: Array, lines: slice) -> Array:
        _, height, width, _ = features.shape
        images, rows = np.divmod(np.arange(lines.start, lines.stop), self._size[0])
        columns = np.arange(self._size[1]) * width // self._size[1]
        taken = by_lines(features)[images * height + rows * height // self._size[0]]
        result: Array = np.ascontiguousarray(taken[:, columns])
        return result


@compiled
def _pool(
    features: Array,
    stride: tuple[int, int],
    before: tuple[int, int],
    start: int,
    rows: int,
    found: Array,
) -> None:
    """Fill in some lines' outputs, from line ``start`` on; a NaN is larger than any number."""
    _, height, width, channels = features.shape
    for line in range(found.shape[0]):
        image, row = divmod(start + line, rows)
        for column in range(found.shape[1]):
            for channel in range(channels):
                found[line, column, channel] = -np.inf
            for i in range(stride[0] + 1):
                y = row * stride[0] - before[0] + i
                if y < 0 or y >= height:
                    continue
                for j in range(stride[1] + 1):
                    x = column * stride[1] - before[1] + j
                    if x < 0 or x >= width:
                        continue
                    for channel in range(channels):
                        value = features[image, y, x, channel]
                        if value > found[line, column, channel] or value != value:
                            found[line, column, channel] = value
