"""Sums and products of feature maps: a residual, a gated feature, a weighted fusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parity.judge.operations.operation import Operation, by_lines, underflow
from parity.process.arrays import Array
from parity.process.compiled import compiled


class Scale(Operation):
    """Features [N, H, W, C] times a gate [N, 1, 1, C]."""

    def figures(self, inputs: Sequence[Array], lines: slice) -> tuple[Array, Array]:
        """See :class:`Operation`; inputs are the features, then the gate."""
        features, gate = inputs
        height = features.shape[1]
        x = by_lines(features)[lines]
        # The gate of each line's image.
        of_line = by_lines(gate)[np.arange(lines.start, lines.stop) // height]
        truth, gauge = np.empty(x.shape), np.empty(x.shape, x.dtype)
        _multiply(x, of_line[:, 0], underflow(x.dtype), truth, gauge)
        return truth, gauge

    def spread(self, inputs: Sequence[Array], errors: Sequence[Array]) -> Array:
        """See :class:`Operation`."""
        features, gate = inputs
        ours, gates = errors
        result: Array = ours * np.abs(gate) + np.abs(features) * gates + ours * gates
        return result


class WeightedSum(Operation):
    """Feature maps of one shape, each times a number that is not negative.

    Args:
        weights: One for each map, [M]; or [M, C], one for each of its channels.
    """

    def __init__(self, weights: Array | Sequence[float]) -> None:
        self._weights = np.array(weights, np.float64)

    def depends_on(self, number: int) -> bool:
        """See :class:`Operation`; a weight of zero takes its map out."""
        return bool(np.any(self._weights[number]))

    def figures(self, inputs: Sequence[Array], lines: slice) -> tuple[Array, Array]:
        """See :class:`Operation`."""
        first = by_lines(inputs[0])[lines]
        truth, gauge = np.zeros(first.shape), np.zeros(first.shape, first.dtype)
        low = underflow(first.dtype)
        for features, weight in zip(inputs, self._weights, strict=True):
            x = by_lines(features)[lines]
            if weight.ndim:
                _add_channels(x, weight, low, truth, gauge)
            else:
                _add(x.reshape(-1), weight, low * weight, truth.reshape(-1), gauge.reshape(-1))
        gauge += gauge.dtype.type(low)
        return truth, gauge


@compiled
def _multiply(x: Array, gate: Array, low: float, truth: Array, gauge: Array) -> None:
    for line in range(x.shape[0]):
        for column in range(x.shape[1]):
            for channel in range(x.shape[2]):
                value = np.float64(x[line, column, channel])
                factor = np.float64(gate[line, channel])
                truth[line, column, channel] = value * factor
                gauge[line, column, channel] = (abs(value) + low) * (abs(factor) + low) + low


@compiled
def _add(x: Array, weight: float, low: float, truth: Array, gauge: Array) -> None:
    for i in range(len(x)):
        term = x[i] * weight
        truth[i] += term
        gauge[i] += abs(term) + low


@compiled
def _add_channels(x: Array, weights: Array, low: float, truth: Array, gauge: Array) -> None:
    for line in range(x.shape[0]):
        for column in range(x.shape[1]):
            for channel in range(x.shape[2]):
                term = x[line, column, channel] * weights[channel]
                truth[line, column, channel] += term
                gauge[line, column, channel] += abs(term) + low * weights[channel]
