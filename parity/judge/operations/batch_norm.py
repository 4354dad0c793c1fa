"""Batch norm at inference: ``(x - mean) gamma / sqrt(variance + epsilon) + beta``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parity.judge.operations.operation import Operation, by_lines, underflow
from parity.process.arrays import Array
from parity.process.compiled import compiled


class BatchNorm(Operation):
    """Batch norm with its moving statistics.

    Args:
        mean: [C].
        variance: [C].
        gamma: [C].
        beta: [C].
        epsilon: Added to the variance.

    Attributes:
        mean: [C], the moving mean in float64.
        deviation: [C], the moving deviation with epsilon, likewise.
    """

    def __init__(
        self, mean: Array, variance: Array, gamma: Array, beta: Array, epsilon: float
    ) -> None:
        wide = (array.astype(np.float64) for array in (mean, variance, gamma, beta))
        self.mean, wide_variance, wide_gamma, self._beta = wide
        self.deviation = np.sqrt(wide_variance + epsilon)
        self._scale = wide_gamma / self.deviation

    def figures(self, inputs: Sequence[Array], lines: slice) -> tuple[Array, Array]:
        """See :class:`Operation`; the gauge is ``|x s| + |mean s| + |beta|`` with the scale s."""
        (features,) = inputs
        x = by_lines(features)[lines]
        truth, gauge = np.empty(x.shape), np.empty(x.shape, x.dtype)
        offset = np.abs(self.mean * self._scale) + np.abs(self._beta)
        low = underflow(x.dtype)
        places = (-1, x.shape[-1])
        _normalise(
            x.reshape(places),
            self.mean,
            self._scale,
            self._beta,
            offset + low * (1 + np.abs(self._scale)),
            truth.reshape(places),
            gauge.reshape(places),
        )
        return truth, gauge

    def spread(self, inputs: Sequence[Array], errors: Sequence[Array]) -> Array:
        """See :class:`Operation`."""
        (bound,) = errors
        result: Array = bound * np.abs(self._scale).astype(bound.dtype)
        return result


@compiled
def _normalise(
    x: Array, mean: Array, scale: Array, beta: Array, offset: Array, truth: Array, gauge: Array
) -> None:
    for place in range(x.shape[0]):
        for channel in range(x.shape[1]):
            value = np.float64(x[place, channel])
            truth[place, channel] = (value - mean[channel]) * scale[channel] + beta[channel]
            gauge[place, channel] = abs(value * scale[channel]) + offset[channel]
