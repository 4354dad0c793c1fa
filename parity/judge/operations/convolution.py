"""Convolutions with TensorFlow's SAME padding (``tf.nn``, notes on padding)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from parity.judge.compiled import compiled, in_order
from parity.judge.operations.operation import PART, Operation, by_lines, underflow
from parity.stream import Array


class Convolution(Operation):
    """Convolution over all channels, as a product of matrices.

    Args:
        kernel: [O, I, kh, kw], as PyTorch has it.
        bias: [O]; None for none.
        stride: Along height and width.
    """

    threaded = True

    def __init__(self, kernel: Array, bias: Array | None, stride: tuple[int, int]) -> None:
        self._kernel, self._bias, self._stride = kernel, bias, stride
        self._size = (kernel.shape[2], kernel.shape[3])

    def shape(self, inputs: Sequence[Array]) -> tuple[int, ...]:
        """As of any operation."""
        batch, *plane, _ = inputs[0].shape
        return (batch, *_outputs(plane, self._stride), len(self._kernel))

    def terms(self, inputs: Sequence[Array]) -> int:
        """As of any operation."""
        return int(self._kernel[0].size) + (self._bias is not None)

    def figures(self, inputs: Sequence[Array], lines: slice) -> tuple[Array, Array]:
        """As of any operation."""
        patches = self._patches(inputs[0], lines)
        matrix, sizes = self._matrix, np.abs(self._matrix)
        shape = (-1, self.shape(inputs)[2], len(self._kernel))
        wide, positive = np.empty(patches.shape), np.empty(patches.shape, patches.dtype)
        rows = [array.reshape(-1) for array in (patches, wide, positive)]
        parts = [slice(start, start + PART) for start in range(0, patches.size, PART)]
        deque(in_order(lambda part: _widen(*(row[part] for row in rows)), parts), maxlen=0)
        truth, gauge = wide @ matrix.astype(np.float64), positive @ sizes
        # Each magnitude is raised before it is multiplied, and so is their sum.
        raised = underflow(patches.dtype) * (1 + sizes.sum(axis=0))
        if self._bias is not None:
            truth += self._bias
            raised += np.abs(self._bias)
        gauge += raised
        return truth.reshape(shape), gauge.reshape(shape)

    @cached_property
    def _matrix(self) -> Array:
        """[kh * kw * I, O], in the order of a patch."""
        result: Array = self._kernel.transpose(2, 3, 1, 0).reshape(-1, len(self._kernel))
        return result

    def _patches(self, features: Array, lines: slice) -> Array:
        """[lines * W, kh * kw * I]: what each output element is made of."""
        if self._size == self._stride == (1, 1):
            return by_lines(features)[lines].reshape(-1, features.shape[-1])
        _, height, width, channels = features.shape
        down, across = self._stride
        rows, columns = _outputs((height, width), self._stride)
        top, left = _before((height, width), self._size, self._stride)
        count = lines.stop - lines.start
        found = np.zeros((count, columns, *self._size, channels), features.dtype)
        for line in range(count):
            image, row = divmod(lines.start + line, rows)
            for i in range(self._size[0]):
                y = row * down - top + i
                if not 0 <= y < height:
                    continue
                for j in range(self._size[1]):
                    first = max(0, -(-(left - j) // across))
                    last = min(columns, (width - 1 + left - j) // across + 1)
                    x = first * across - left + j
                    taken = features[image, y, x::across][: last - first]
                    found[line, first:last, i, j] = taken
        return found.reshape(count * columns, -1)

    def spread(self, inputs: Sequence[Array], errors: Sequence[Array]) -> Array:
        """As of any operation; without the bias, which does not change."""
        return _of_magnitudes(Convolution(np.abs(self._kernel), None, self._stride), errors)


class Depthwise(Operation):
    """One filter for each channel.

    Args:
        kernel: [C, 1, kh, kw], as PyTorch has it.
        bias: [C]; None for none.
        stride: Along height and width.
    """

    def __init__(self, kernel: Array, bias: Array | None, stride: tuple[int, int]) -> None:
        self._kernel, self._bias, self._stride = kernel, bias, stride

    def shape(self, inputs: Sequence[Array]) -> tuple[int, ...]:
        """As of any operation."""
        batch, *plane, channels = inputs[0].shape
        return (batch, *_outputs(plane, self._stride), channels)

    def terms(self, inputs: Sequence[Array]) -> int:
        """As of any operation."""
        return int(self._kernel[0].size) + (self._bias is not None)

    def figures(self, inputs: Sequence[Array], lines: slice) -> tuple[Array, Array]:
        """As of any operation."""
        (features,) = inputs
        _, rows, columns, channels = self.shape(inputs)
        size = self._kernel.shape[2:]
        taps = np.ascontiguousarray(self._kernel[:, 0].transpose(1, 2, 0), np.float64)
        bias = np.zeros(channels) if self._bias is None else self._bias.astype(np.float64)
        truth = np.empty((lines.stop - lines.start, columns, channels))
        gauge = np.empty(truth.shape, features.dtype)
        before = _before(features.shape[1:3], size, self._stride)
        low = underflow(features.dtype)
        _slide(features, taps, bias, low, self._stride, before, lines.start, rows, truth, gauge)
        return truth, gauge

    def spread(self, inputs: Sequence[Array], errors: Sequence[Array]) -> Array:
        """As of any operation; without the bias, which does not change."""
        return _of_magnitudes(Depthwise(np.abs(self._kernel), None, self._stride), errors)


@compiled
def _widen(values: Array, wide: Array, positive: Array) -> None:
    for i in range(len(values)):
        wide[i] = values[i]
        positive[i] = abs(values[i])


def _of_magnitudes(operation: Operation, errors: Sequence[Array]) -> Array:
    result: Array = operation.whole(errors)[0].astype(errors[0].dtype)
    return result


def _outputs(plane: Sequence[int], stride: tuple[int, int]) -> tuple[int, int]:
    height, width = (-(-size // step) for size, step in zip(plane, stride, strict=True))
    return height, width


def _before(
    plane: Sequence[int], kernel: Sequence[int], stride: tuple[int, int]
) -> tuple[int, int]:
    """How many rows and columns of zeros come before the features."""
    outputs = _outputs(plane, stride)
    top, left = (
        max((out - 1) * step + k - size, 0) // 2
        for out, step, k, size in zip(outputs, stride, kernel, plane, strict=True)
    )
    return top, left


@compiled
def _slide(
    features: Array,
    taps: Array,
    bias: Array,
    low: float,
    stride: tuple[int, int],
    before: tuple[int, int],
    start: int,
    rows: int,
    truth: Array,
    gauge: Array,
) -> None:
    """Fill in some lines' outputs and gauges, from line ``start`` on."""
    _, height, width, channels = features.shape
    sums, sizes = np.empty(channels), np.empty(channels)
    for line in range(truth.shape[0]):
        image, row = divmod(start + line, rows)
        for column in range(truth.shape[1]):
            for channel in range(channels):
                sums[channel] = bias[channel]
                sizes[channel] = abs(bias[channel]) + low
            for i in range(taps.shape[0]):
                y = row * stride[0] - before[0] + i
                if y < 0 or y >= height:
                    continue
                for j in range(taps.shape[1]):
                    x = column * stride[1] - before[1] + j
                    if x < 0 or x >= width:
                        continue
                    for channel in range(channels):
                        value = np.float64(features[image, y, x, channel])
                        tap = taps[i, j, channel]
                        sums[channel] += value * tap
                        sizes[channel] += (abs(value) + low) * abs(tap)
            for channel in range(channels):
                truth[line, column, channel] = sums[channel]
                gauge[line, column, channel] = sizes[channel]
