"""Convolutions with TensorFlow's SAME padding (``tf.nn``, notes on padding)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from parity.judge.operations.operation import (
    Operation,
    by_lines,
    outputs,
    padding_before,
    underflow,
)
from parity.process.arrays import Array
from parity.process.compiled import compiled


class _Convolved(Operation):
    """What both kinds of convolution share.

    Args:
        kernel: [O, I, kh, kw], as PyTorch has it.
        bias: [O]; None for none.
        stride: Along height and width.
    """

    def __init__(self, kernel: Array, bias: Array | None, stride: tuple[int, int]) -> None:
        self._kernel, self._bias, self._stride = kernel, bias, stride
        self._size = (kernel.shape[2], kernel.shape[3])

    def shape(self, inputs: Sequence[Array]) -> tuple[int, ...]:
        """See :class:`Operation`."""
        batch, *plane, _ = inputs[0].shape
        return (batch, *outputs(plane, self._stride), len(self._kernel))

    def terms(self, inputs: Sequence[Array]) -> int:
        """See :class:`Operation`."""
        return int(self._kernel[0].size) + (self._bias is not None)

    def spread(self, inputs: Sequence[Array], errors: Sequence[Array]) -> Array:
        """See :class:`Operation`; without the bias, which does not change."""
        magnitudes = type(self)(np.abs(self._kernel), None, self._stride)
        result: Array = magnitudes.whole(errors)[0].astype(errors[0].dtype)
        return result


class Convolution(_Convolved):
    """Convolution over all channels, as a product of matrices."""

    def breadth(self, inputs: Sequence[Array]) -> int:
        """See :class:`Operation`; half, since every part reads the whole kernel again."""
        outputs_of_a_place, terms = len(self._kernel), int(self._kernel[0].size)
        return max(1, max(outputs_of_a_place, terms) // 2)

    def figures(self, inputs: Sequence[Array], lines: slice) -> tuple[Array, Array]:
        """See :class:`Operation`."""
        patches = self._patches(inputs[0], lines)
        matrix, sizes = self._matrices
        shape = (-1, self.shape(inputs)[2], len(self._kernel))
        wide, positive = np.empty(patches.shape), np.empty(patches.shape, patches.dtype)
        _widen(patches.reshape(-1), wide.reshape(-1), positive.reshape(-1))
        truth, gauge = wide @ matrix, positive @ sizes
        # Each magnitude is raised before it is multiplied, and so is their sum.
        raised = underflow(patches.dtype) * (1 + sizes.sum(axis=0))
        if self._bias is not None:
            truth += self._bias
            raised += np.abs(self._bias)
        gauge += raised
        return truth.reshape(shape), gauge.reshape(shape)

    @cached_property
    def _matrices(self) -> tuple[Array, Array]:
        """[I * kh * kw, O] the kernel in float64, and its magnitudes."""
        matrix = self._kernel.reshape(len(self._kernel), -1).T
        return matrix.astype(np.float64), np.abs(matrix)

    def _patches(self, features: Array, lines: slice) -> Array:
        """[lines * W, I * kh * kw]: what each output element is made of."""
        if self._size == self._stride == (1, 1):
            return by_lines(features)[lines].reshape(-1, features.shape[-1])
        plane = features.shape[1:3]
        before = padding_before(plane, self._size, self._stride)
        pads = zip(before, self._size, strict=True)
        padded = np.pad(features, ((0, 0), *pads, (0, 0)))
        down, across = self._stride
        # [N, H', W', I, kh, kw], of which no element is copied yet.
        windows = sliding_window_view(padded, self._size, axis=(1, 2))[:, ::down, ::across]
        rows, columns = outputs(plane, self._stride)
        images, tops = np.divmod(np.arange(lines.start, lines.stop), rows)
        taken = windows[images, tops, :columns]
        return taken.reshape(-1, self._kernel[0].size)


class Depthwise(_Convolved):
    """One filter for each channel: ``I`` is 1, and ``O`` the number of channels."""

    def figures(self, inputs: Sequence[Array], lines: slice) -> tuple[Array, Array]:
        """See :class:`Operation`."""
        (features,) = inputs
        _, rows, columns, channels = self.shape(inputs)
        taps, bias = self._taps
        truth = np.empty((lines.stop - lines.start, columns, channels))
        gauge = np.empty(truth.shape, features.dtype)
        before = padding_before(features.shape[1:3], self._size, self._stride)
        low = underflow(features.dtype)
        _slide(features, taps, bias, low, self._stride, before, lines.start, rows, truth, gauge)
        return truth, gauge

    @cached_property
    def _taps(self) -> tuple[Array, Array]:
        """[kh, kw, C] the kernel and [C] the bias, in float64."""
        taps = np.ascontiguousarray(self._kernel[:, 0].transpose(1, 2, 0), np.float64)
        bias = np.zeros(len(self._kernel)) if self._bias is None else self._bias
        return taps, bias.astype(np.float64)


@compiled
def _widen(values: Array, wide: Array, positive: Array) -> None:
    for i in range(len(values)):
        wide[i] = values[i]
        positive[i] = abs(values[i])


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
