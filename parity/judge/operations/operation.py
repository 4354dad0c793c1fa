"""What every kind of operation says about itself: its exact values, and what rounding can do.

Arrays are NHWC. A *line* is one row of one image of the output: a tensor [N, H, W, C] has N * H.
Large tensors are worked through in parts of whole lines, so that copies in float64 stay small.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from efficientdet_spec import same_outputs, same_padding
from parity.process.arrays import Array
from parity.process.compiled import in_order, products_on_one_core

PART = 1 << 17
"""Elements of the output that one core works on together: they stay in its cache."""


class Operation(ABC):
    """One node's operation, with its parameters."""

    def shape(self, inputs: Sequence[Array]) -> tuple[int, ...]:
        """NHWC shape of the output."""
        return inputs[0].shape

    def terms(self, inputs: Sequence[Array]) -> int:
        """Number of values that one output element sums up; 1 where it is no sum of many."""
        return 1

    def sized(self, size: tuple[int, int]) -> Operation:
        """The same for an output of another height and width, where those are not the inputs'.

        Args:
            size: Height and width of the output.
        """
        return self

    def depends_on(self, number: int) -> bool:
        """Whether the output depends on one of the inputs at all.

        Args:
            number: Which of the inputs.
        """
        return True

    @abstractmethod
    def figures(self, inputs: Sequence[Array], lines: slice) -> tuple[Array, Array]:
        """The exact output, and the magnitude on which the roundings of each element act.

        The exact value is in float64, whose own roundings are 2**29 times smaller than those of
        float32; of a selection, which has no roundings, in the inputs' type. The magnitude, the
        *gauge*, is that of all terms of a sum together, of the type whose roundings are meant.

        Values below the smallest normal number may be flushed to zero, by either side, on the way
        in or out. Magnitudes are raised by :func:`underflow` so that this counts as rounding; it
        changes nothing where values are normal.

        Args:
            inputs: Feature maps, NHWC.
            lines: Of the output.

        Returns:
            Two arrays [lines, W, C].
        """

    def spread(self, inputs: Sequence[Array], errors: Sequence[Array]) -> Array:
        """The largest change of each output element for changes of the inputs within bounds.

        Of a mean, a maximum, a copy or a sum with weights that are not negative it is that of the
        bounds.

        Args:
            inputs: Feature maps, NHWC.
            errors: For each of them the largest change of each element.

        Returns:
            NHWC; first order in the errors but for products, which are exact.
        """
        result: Array = self.whole(errors)[0].astype(errors[0].dtype)
        return result

    def breadth(self, inputs: Sequence[Array]) -> int:
        """Number of values that are at hand for one place of the output."""
        return self.shape(inputs)[-1]

    def parts(self, inputs: Sequence[Array]) -> Iterator[slice]:
        """All lines of the output, in parts to be computed together."""
        batch, height, width, _ = self.shape(inputs)
        step = max(1, PART // (width * self.breadth(inputs)))
        lines = batch * height
        return (slice(start, min(start + step, lines)) for start in range(0, lines, step))

    def whole(self, inputs: Sequence[Array]) -> tuple[Array, Array]:
        """:meth:`figures` of all lines, NHWC."""
        with products_on_one_core():
            found = list(in_order(lambda part: self.figures(inputs, part), self.parts(inputs)))
        truth, gauge = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        shape = self.shape(inputs)
        return truth.reshape(shape), gauge.reshape(shape)


def by_lines(array: Array) -> Array:
    """[N, H, W, C] as [N * H, W, C]."""
    return array.reshape(-1, *array.shape[2:])


def underflow(dtype: np.dtype[Any]) -> float:
    """The magnitude one rounding of which is the smallest normal number."""
    kind = np.finfo(dtype)
    return float(kind.tiny) / (float(kind.eps) / 2)


def outputs(plane: Sequence[int], stride: Sequence[int]) -> tuple[int, int]:
    """Height and width behind an operation with TensorFlow's SAME padding."""
    height, width = (same_outputs(size, step) for size, step in zip(plane, stride, strict=True))
    return height, width


def padding_before(
    plane: Sequence[int], kernel: Sequence[int], stride: Sequence[int]
) -> tuple[int, int]:
    """How many rows and columns TensorFlow's SAME padding puts before the features."""
    top, left = (
        same_padding(size, k, step)[0] for size, k, step in zip(plane, kernel, stride, strict=True)
    )
    return top, left
