"""The functions that a port may put in place of another, or on top."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import (
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    Operation,
    Site,
    fitted,
)
from parity.faults.basics.fault import Fault, Kinds, Variant, in_variants, with_numbers
from parity.faults.basics.operations import Change, is_selection, of_each, official
from parity.results.digits import told

ACTIVATIONS: tuple[tuple[str, str, Change], ...] = (
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
    ("relu-squared", "squared ReLU", lambda x: F.relu(x).square()),
    ("tanh", "1.7159 tanh(2x/3)", lambda x: 1.7159 * torch.tanh(2 * x / 3)),
    ("log-sigmoid", "log sigmoid", F.logsigmoid),
    ("hard-tanh", "hard tanh, clip(x, -1, 1)", F.hardtanh),
    ("tanh-shrink", "x - tanh(x)", F.tanhshrink),
    ("soft-shrink", "soft shrinkage by 0.5", F.softshrink),
    ("hard-shrink", "hard shrinkage at 0.5", F.hardshrink),
    ("tanh-exp", "x tanh(exp(x))", lambda x: x * torch.tanh(torch.exp(x))),
    ("swish-squared", "x sigmoid(x) squared", lambda x: F.silu(x).square()),
    ("sigmoid-squared", "sigmoid squared", lambda x: torch.sigmoid(x).square()),
    ("sine", "the sine", torch.sin),
    ("gaussian", "exp(-x^2)", lambda x: torch.exp(-x.square())),
    ("reciprocal", "1 / x", torch.reciprocal),
)
"""(slug, title, function), likely ones first."""

LIKELY: tuple[tuple[str, Change], ...] = tuple(
    (title, function)
    for slug, title, function in ACTIVATIONS
    if slug in ("relu", "swish", "relu6", "hard-swish", "mish")
)
"""Those that models have, which a port may have left somewhere: (title, function)."""

_STEEP = frozenset({"square", "exponential", "relu-squared", "swish-squared", "reciprocal"})
"""Functions that stretch an error by more than a little."""

_CLAMPS = (20.0, 10.0, 6.0, 5.0, 3.0, 1.0)
"""Magnitudes that inputs are cut off at."""

_CAP = 6.0
"""Above which ReLU6 is flat."""

_BOTH: Kinds = frozenset({NodeKind.ACTIVATION, NodeKind.GATE})

_ALIKE = {"relu6": ("relu", "left-out-or-relu"), "relu": ("left-out-or-relu",)}
"""Functions that are one where no value is negative, or above six."""


def on_top(kinds: Kinds, *, alike: Iterable[str] = ()) -> Fault:
    """An operation followed by an activation that does not belong there.

    Args:
        kinds: The kinds of node.
        alike: As for a fault.
    """

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        for slug, title, function in ACTIVATIONS:
            if slug not in _STEEP:
                yield f"{title} on top", then(base, function)

    title = "an activation that does not belong there"
    return in_variants("activation-extra", title, kinds, variants, alike=alike)


def then(base: Evaluation, function: Change) -> Evaluation:
    """A function of Lipschitz constant about one applied to an operation's output."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(channels)
        result = function(output)
        # The function may stretch an error a little (swish by 1.1) and rounds its own result.
        return result, gauge + result.abs()

    return evaluate


def instead(site: Site) -> str:
    """What stands where something else should be, as the end of a sentence."""
    if site.kind is NodeKind.GATE:
        return "instead of the gate's sigmoid"
    own = official(site)
    return f"instead of {next(title for title, function in LIKELY if function is own)}"


def _other(slug: str) -> Fault:
    """Another function in the place of an activation or a gate."""
    listed = [(title, function) for name, title, function in ACTIVATIONS if name == slug]
    functions = {function for _, function in listed}

    def is_another(site: Site) -> bool:
        # The faithful function is no fault, however inaccurately it was computed.
        return official(site) not in functions

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        if F.relu in functions and float(operation.arguments[0].max()) <= _CAP:
            # Where another node of the layer has one, that tells which of the two it is.
            words = f"ReLU, or ReLU6 (no value is above {_CAP:g}),"
            yield f"{words} {instead(operation)}", of_each(operation, F.relu, 1.0)
        for title, function in listed:
            yield f"{title} {instead(operation)}", of_each(operation, function, 1.0)

    title = f"{listed[0][0].partition(' (')[0]} instead of the official function"
    return in_variants(slug, title, _BOTH, variants, where=is_another, alike=_ALIKE.get(slug, ()))


def _twice(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = official(operation)
    yield "applied twice", of_each(operation, lambda v: own(own(v)))


def _of_negative(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = official(operation)
    yield "applied to the negative of its input", of_each(operation, lambda v: own(-v))


def _softmax(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    for axis, words in (
        (1, "the channels"),
        (0, "the images"),
        (2, "the rows"),
        (3, "the columns"),
    ):
        yield f"softmax over {words}", _softmax_over(operation, axis)
    yield "softmax over all pixels", _softmax_over(operation, None)


def _softmax_over(operation: Operation, axis: int | None) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x = operation.arguments[0]
        if axis == 1:
            output = torch.softmax(x, 1)[:, channels]
        elif axis is None:
            chosen = x[:, channels]
            output = torch.softmax(chosen.flatten(2), 2).view_as(chosen)
        else:
            output = torch.softmax(x[:, channels], axis)
        # A rounding of an input moves its exponential by as much as the input is large.
        return output, output * (2 + 2 * x.abs().max())

    return evaluate


def _gate_elsewhere(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """``x sigmoid(y)`` where y is another tensor made of the same input."""
    if operation.kind is not NodeKind.ACTIVATION or official(operation) is not F.silu:
        return
    x = operation.arguments[0]
    count = x.shape[1]
    others: list[tuple[str, Tensor]] = [
        (f"the channel {step:+d} further on", x.roll(-step, 1)) for step in (1, -1)
    ]
    if count % 2 == 0:
        others.append(("the channel half as many further on", x.roll(count // 2, 1)))
    others += [
        ("the channel as far from the end", x.flip(1)),
        ("the next image", x.roll(-1, 0)),
        ("the mean of its channel", x.mean((2, 3), keepdim=True).expand_as(x)),
        ("the mean of the channels", x.mean(1, keepdim=True).expand_as(x)),
        ("the largest of the channels", x.amax(1, keepdim=True).expand_as(x)),
        ("the pixel before it", x.roll(1, 3)),
        ("the pixel above it", x.roll(1, 2)),
    ]
    for words, other in others:
        if not torch.equal(other, x):
            yield f"x sigmoid(y) where y is {words}", _gated_by(operation, other)


def _gated_by(operation: Operation, other: Tensor) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x, y = operation.arguments[0][:, channels], other[:, channels]
        return x * torch.sigmoid(y), x.abs() * (1 + y.abs())

    return evaluate


def _clamped(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = official(operation)
    if is_selection(operation):
        # What is cut off of its input is cut off of its output.
        return
    for bound in _CLAMPS:
        yield (
            f"applied to its input clamped to -{bound:g}..{bound:g}",
            of_each(operation, partial(_of_clamped, own, bound)),
        )


def _of_clamped(own: Change, bound: float, x: Tensor) -> Tensor:
    return own(x.clamp(-bound, bound))


def _sloped_swish(slope: float, x: Tensor) -> Tensor:
    return x * torch.sigmoid(slope * x)


def _sloped_sigmoid(slope: float, x: Tensor) -> Tensor:
    return torch.sigmoid(slope * x)


def _other_slope(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """``x sigmoid(b x)`` and ``sigmoid(b x)`` with the b that the values show."""
    x = case.arguments[0]
    if x.shape != case.candidate.shape:
        return
    sample = (x != 0) & (x.abs() < 4)
    values = x[sample][:4096]
    made = case.candidate[sample][:4096].double()
    for title, share, function in (
        ("swish x sigmoid(b x)", made / values, _sloped_swish),
        ("sigmoid(b x)", made, _sloped_sigmoid),
    ):
        inside = (share > 1e-3) & (share < 1 - 1e-3)
        if int(inside.sum()) < 4:
            continue
        held, x = share[inside], values[inside]
        # Where the gate changes most with the slope, a rounding of it changes the slope least.
        telling = (held * (1 - held) * x).abs().topk(max(4, len(x) // 4)).indices
        slope = float((torch.logit(held[telling]) / x[telling]).median())
        if not math.isfinite(slope):
            continue
        for b in (round(slope, 3), slope):
            text = told(b, 1.0, 4)
            if text is not None:
                again = partial(_of_each_again, partial(function, b))
                swish = case.kind is NodeKind.GATE or official(case) is F.silu
                due = "instead of 1" if swish else instead(case)
                words = f"{title} with b = {text} {due}"
                yield fitted("other-slope", words, case, base, again, 1)


def _of_each_again(function: Change, operation: Operation, base: Evaluation) -> Evaluation:
    return of_each(operation, function)


def _steeper(operation: Operation, base: Evaluation) -> Evaluation:
    swish = operation.kind is NodeKind.ACTIVATION
    return of_each(operation, partial(_sloped_swish if swish else _sloped_sigmoid, 1.25))


FAULTS = (
    *(_other(slug) for slug in dict.fromkeys(slug for slug, _, _ in ACTIVATIONS)),
    in_variants("applied-twice", "an activation applied twice", _BOTH, _twice),
    in_variants("input-negated", "an activation of the negative of its input", _BOTH, _of_negative),
    in_variants("softmax", "softmax over the channels", _BOTH, _softmax),
    in_variants(
        "gate-elsewhere",
        "a swish gated by another value",
        frozenset({NodeKind.ACTIVATION}),
        _gate_elsewhere,
    ),
    with_numbers("other-slope", "x sigmoid(b x) with another b", _BOTH, _other_slope, _steeper),
    in_variants(
        "input-clamped",
        "an activation of its input clamped",
        _BOTH,
        _clamped,
        put_in=len(_CLAMPS) - 1,
    ),
)
"""What may stand in place of an activation or a gate."""
