"""The activations, of which swish is the only one, and the sigmoid of a squeeze-excite gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from efficientdet_spec import Activation
from parity.judge.operations.operation import Operation, by_lines, underflow
from parity.process.arrays import Array
from parity.process.compiled import compiled

SWISH_SLOPE = 1.0999
"""Largest slope of ``x * sigmoid(x)``, near x = 2.4 (1.09984)."""

SIGMOID_SLOPE = 0.25
"""Largest slope of the sigmoid, at 0."""


class _Function(Operation):
    """A function f of one value.

    It is judged relative to its output, or relative to ``x f'(x)`` where that is more: an
    exponential reduces its argument to the range that it approximates, which rounds it
    (``x * sigmoid(x)`` at -30 moves by 29 roundings of itself for one of x).
    """

    gate: bool
    slope: float

    def figures(self, inputs: Sequence[Array], lines: slice) -> tuple[Array, Array]:
        """See :class:`Operation`."""
        (features,) = inputs
        x = by_lines(features)[lines]
        truth, gauge = np.empty(x.shape), np.empty(x.shape, x.dtype)
        with np.errstate(over="ignore"):
            # Of NumPy's own functions this one uses the processor's wide registers.
            np.exp(np.negative(x, dtype=np.float64, out=truth), out=truth)
        low = underflow(x.dtype)
        _sigmoid(x.reshape(-1), truth.reshape(-1), gauge.reshape(-1), self.gate, low)
        return truth, gauge

    def spread(self, inputs: Sequence[Array], errors: Sequence[Array]) -> Array:
        """See :class:`Operation`."""
        (bound,) = errors
        result: Array = bound * bound.dtype.type(self.slope)
        return result


class Swish(_Function):
    """``x * sigmoid(x)``."""

    gate = False
    slope = SWISH_SLOPE


class Gate(_Function):
    """The sigmoid."""

    gate = True
    slope = SIGMOID_SLOPE


ACTIVATIONS: Mapping[Activation, type[Operation]] = MappingProxyType({Activation.SWISH: Swish})
"""What computes each activation exactly."""


@compiled
def _sigmoid(x: Array, truth: Array, gauge: Array, gate: bool, low: float) -> None:
    """Fill in outputs and gauges.

    Args:
        x: [K].
        truth: [K], ``exp(-x)``, to become the exact outputs.
        gauge: [K], to be filled.
        gate: Whether the sigmoid itself is meant.
        low: What an underflowing sigmoid leaves, an error times |x| in ``x * sigmoid(x)``.
    """
    for i in range(len(x)):
        value = np.float64(x[i])
        share = 1 / (1 + truth[i])
        # Of y = x s with the sigmoid s the slope is s + y (1 - s), of s itself s (1 - s).
        slope = (1 - share) * value
        made = share if gate else value * share
        truth[i] = made
        conditioned = abs((slope if gate else slope + 1) * made)
        gauge[i] = max(abs(value), 1.0) * low + max(conditioned, abs(made))
