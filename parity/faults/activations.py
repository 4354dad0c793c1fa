"""The functions that a port may put in place of another, or on top."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from parity.faults.case import (
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    fitted,
)
from parity.results.digits import told

Function = Callable[[Tensor], Tensor]

ACTIVATIONS: tuple[tuple[str, str, Function], ...] = (
    ("relu", "ReLU", F.relu),
    ("swish", "swish", F.silu),
    ("sigmoid", "sigmoid", torch.sigmoid),
    ("relu6", "ReLU6", F.relu6),
    ("leaky-relu", "leaky ReLU (slope 0.01)", lambda x: F.leaky_relu(x, 0.01)),
    ("leaky-relu", "leaky ReLU (slope 0.1)", lambda x: F.leaky_relu(x, 0.1)),
    ("leaky-relu", "leaky ReLU (slope 0.2)", lambda x: F.leaky_relu(x, 0.2)),
    ("gelu", "GELU (error function)", F.gelu),
    ("gelu", "GELU (tanh approximation)", lambda x: F.gelu(x, approximate="tanh")),
    ("gelu", "GELU (sigmoid approximation)", lambda x: x * torch.sigmoid(1.702 * x)),
    ("hard-swish", "hard swish", F.hardswish),
    ("hard-sigmoid", "hard sigmoid, relu6(x + 3) / 6", F.hardsigmoid),
    (
        "hard-sigmoid",
        "hard sigmoid of Keras, clip(0.2 x + 0.5)",
        lambda x: (0.2 * x + 0.5).clamp(0, 1),
    ),
    ("tanh", "tanh", torch.tanh),
    ("tanh", "(tanh + 1) / 2", lambda x: (torch.tanh(x) + 1) / 2),
    ("elu", "ELU", F.elu),
    ("elu", "SELU", F.selu),
    ("mish", "Mish", F.mish),
    ("softplus", "softplus", F.softplus),
    ("softsign", "softsign", F.softsign),
    ("absolute", "the absolute value", torch.abs),
    ("square", "the square", torch.square),
    ("exponential", "the exponential", torch.exp),
)
"""(slug, title, function), likely ones first."""


def on_top(base: Evaluation) -> Iterator[Hypothesis]:
    """An operation followed by an activation that does not belong there."""
    for slug, title, function in ACTIVATIONS:
        if slug not in ("square", "exponential"):
            yield Hypothesis("activation-extra", f"{title} on top", then(base, function))


def then(base: Evaluation, function: Function) -> Evaluation:
    """A function of Lipschitz constant about one applied to an operation's output."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(channels)
        result = function(output)
        # The function may stretch an error a little (swish by 1.1) and rounds its own result.
        return result, gauge + result.abs()

    return evaluate


def of_each(case: Case, function: Function, reach: float = 0.0) -> Evaluation:
    """A function of each value of the node's first argument.

    Args:
        case: The failing node.
        function: What is computed of each value.
        reach: Part of the argument's magnitude on which roundings act too: 1 for functions such
            as GELU whose small results are differences of larger terms.
    """
    # An underflowing sigmoid leaves an error times |x| in x * sigmoid(x).
    lost = max(reach, case.underflow)

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x = case.arguments[0][:, channels]
        output, moved = _with_conditioning(function, x)
        magnitude = torch.maximum(output.abs(), moved.abs())
        return output, magnitude + lost * x.abs() + case.underflow

    return evaluate


def _with_conditioning(function: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    """``f(x)`` and ``x f'(x)``, by which a rounding of the argument moves it."""
    with torch.enable_grad():
        argument = x.detach().requires_grad_()
        output = function(argument)
        slope: Tensor | None = None
        if output.requires_grad:
            # Of a function of each value the gradient of the sum is the slope at each.
            (slope,) = torch.autograd.grad(output.sum(), argument)
    return output.detach(), torch.zeros_like(x) if slope is None else x * slope


def official(case: Case) -> Function:
    """What an activation of the faithful model computes of each value."""
    layer: Any = case.module
    (function,) = (function for slug, _, function in ACTIVATIONS if slug == layer.activation.value)
    return function


def hypotheses(case: Case, own: Function) -> Iterator[Hypothesis]:
    """What may stand in place of an activation or a gate.

    Args:
        case: The failing node.
        own: What the faithful operation computes of each value.
    """
    for slug, title, function in ACTIVATIONS:
        # The faithful function is no fault, however inaccurately it was computed.
        if function is not own:
            yield Hypothesis(
                slug, f"{title} instead of the official function", of_each(case, function, 1.0)
            )
    yield Hypothesis("applied-twice", "applied twice", of_each(case, lambda v: own(own(v))))
    yield Hypothesis(
        "input-negated",
        "applied to the negative of its input",
        of_each(case, lambda v: own(-v)),
    )
    yield Hypothesis("softmax", "softmax over the channels", _softmax(case))
    yield from _other_slope(case, own)
    low, high = float(case.candidate.min()), float(case.candidate.max())
    for bound in (20.0, 10.0, 6.0, 5.0, 3.0, 1.0):
        if low >= -bound and high <= bound:
            clamped = of_each(case, partial(_of_clamped, own, bound))
            yield Hypothesis(
                "input-clamped", f"applied to its input clamped to -{bound:g}..{bound:g}", clamped
            )


def _of_clamped(own: Function, bound: float, x: Tensor) -> Tensor:
    return own(x.clamp(-bound, bound))


def _softmax(case: Case) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output = torch.softmax(case.arguments[0], 1)[:, channels]
        return output, output

    return evaluate


def _sloped_swish(slope: float, x: Tensor) -> Tensor:
    return x * torch.sigmoid(slope * x)


def _sloped_sigmoid(slope: float, x: Tensor) -> Tensor:
    return torch.sigmoid(slope * x)


def _other_slope(case: Case, own: Function) -> Iterator[Hypothesis]:
    """``x sigmoid(b x)`` and ``sigmoid(b x)`` with the b that the values show."""
    x = case.arguments[0]
    if x.shape != case.candidate.shape:
        return
    sample = (x.abs() > 0.3) & (x.abs() < 4)
    values = x[sample][:4096]
    made = case.candidate[sample][:4096].double()
    for title, share, function in (
        ("swish x sigmoid(b x)", made / values, _sloped_swish),
        ("sigmoid(b x)", made, _sloped_sigmoid),
    ):
        inside = (share > 1e-3) & (share < 1 - 1e-3)
        if int(inside.sum()) < 4:
            continue
        slope = float((torch.logit(share[inside]) / values[inside]).median())
        if not math.isfinite(slope):
            continue
        for b in (round(slope, 3), slope):
            text = told(b, 1.0, 4)
            if text is not None:
                again = partial(_of_each_again, partial(function, b))
                words = f"{title} with b = {text} instead of 1"
                yield fitted("other-slope", words, case, of_each(case, own), again, 1)


def _of_each_again(function: Function, case: Case, base: Evaluation) -> Evaluation:
    return of_each(case, function)
