"""The activations, and the sigmoid of a squeeze-excite gate."""

from __future__ import annotations

from abc import abstractmethod
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


HARD_SWISH_SLOPE = 1.5
"""Largest slope of ``x * relu6(x + 3) / 6``, just below 3."""

MISH_SLOPE = 1.0885
"""Largest slope of ``x * tanh(log(1 + exp(x)))``, near x = 1.5 (1.08849)."""

RELU6_LIMIT = 6.0
"""Highest value of ReLU6 (official ``tf.nn.relu6``)."""

_MISH_LINEAR = 40.0
"""Above this mish is x to more than double precision, and ``exp(2 x)`` may still be computed."""


class _Sigmoid(Operation):
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


class Swish(_Sigmoid):
    """``x * sigmoid(x)``."""

    gate = False
    slope = SWISH_SLOPE


class Gate(_Sigmoid):
    """The sigmoid."""

    gate = True
    slope = SIGMOID_SLOPE


class Clamp(Operation):
    """``max(x, 0)``, which may be saturated: a selection, which has no roundings.

    It is judged relative to its output. Between two values it changes by no more than they do.
    """

    highest: float = np.inf

    def figures(self, inputs: Sequence[Array], lines: slice) -> tuple[Array, Array]:
        """See :class:`Operation`."""
        (features,) = inputs
        truth = self._taken(by_lines(features)[lines])
        low = truth.dtype.type(underflow(truth.dtype))
        return truth, np.abs(truth) + low

    def spread(self, inputs: Sequence[Array], errors: Sequence[Array]) -> Array:
        """See :class:`Operation`; nothing where both ends are saturated."""
        (features,), (bound,) = inputs, errors
        here = self._taken(features)
        above = self._taken(features + bound) - here
        below = here - self._taken(features - bound)
        result: Array = np.maximum(above, below).astype(bound.dtype)
        return result

    def _taken(self, x: Array) -> Array:
        result: Array = np.clip(x, x.dtype.type(0), x.dtype.type(self.highest))
        return result


class Relu(Clamp):
    """``max(x, 0)``."""


class Relu6(Clamp):
    """``min(max(x, 0), 6)``."""

    highest = RELU6_LIMIT


class _Smooth(Operation):
    """A function f of one value, judged as :class:`_Sigmoid`'s is.

    A program may compute it in other steps than another, each of which is rounded at the magnitude
    of what it works on: hard swish as ``x * (x / 6 + 1 / 2)`` rounds at -3 what becomes 0.
    """

    slope: float

    def figures(self, inputs: Sequence[Array], lines: slice) -> tuple[Array, Array]:
        """See :class:`Operation`."""
        (features,) = inputs
        values = by_lines(features)[lines]
        x = values.astype(np.float64)
        truth, slope = self._evaluate(x)
        size = np.maximum(np.abs(truth), np.abs(x * slope))
        gauge = size + np.maximum(np.abs(x), 1.0) * underflow(values.dtype)
        return truth, gauge.astype(values.dtype)

    def spread(self, inputs: Sequence[Array], errors: Sequence[Array]) -> Array:
        """See :class:`Operation`."""
        (bound,) = errors
        result: Array = bound * bound.dtype.type(self.slope)
        return result

    @abstractmethod
    def _evaluate(self, x: Array) -> tuple[Array, Array]:
        """The function's values and slopes, in float64."""


class HardSwish(_Smooth):
    """``x * relu6(x + 3) / 6``."""

    slope = HARD_SWISH_SLOPE

    def _evaluate(self, x: Array) -> tuple[Array, Array]:
        gate = np.clip(x + 3, 0, 6) / 6
        inside = (x > -3) & (x < 3)
        return x * gate, gate + np.where(inside, x / 6, 0)


class Mish(_Smooth):
    """``x * tanh(log(1 + exp(x)))``, where ``tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2)``."""

    slope = MISH_SLOPE

    def _evaluate(self, x: Array) -> tuple[Array, Array]:
        curved = np.minimum(x, _MISH_LINEAR)
        power = np.exp(curved)
        grown = power * (power + 2)
        gate = grown / (grown + 2)
        # 1 - gate^2, and the sigmoid, without cancellation.
        rest = 4 * (grown + 1) / (grown + 2) ** 2
        return x * gate, gate + curved * (power / (1 + power)) * rest


ACTIVATIONS: Mapping[Activation, type[Operation]] = MappingProxyType(
    {
        Activation.SWISH: Swish,
        Activation.RELU: Relu,
        Activation.RELU6: Relu6,
        Activation.HARD_SWISH: HardSwish,
        Activation.MISH: Mish,
    }
)
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
