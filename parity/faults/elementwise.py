"""What ports get wrong where two tensors meet: the squeeze-excite scale and the residual sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from parity.faults import activations
from parity.faults.case import (
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    fitted,
)
from parity.results.digits import told

_Pair = Callable[[Tensor, Tensor], Tensor]


def _of_both(case: Case, function: _Pair) -> Evaluation:
    """A function of the node's two arguments, value by value."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x, y = (argument[:, channels] for argument in case.arguments)
        output = function(x, y)
        # Sums are judged by the magnitudes that they add up.
        return output, output.abs() + x.abs() + y.abs() if adds(function) else output.abs()

    def adds(function: _Pair) -> bool:
        # A product gives nothing where one factor is zero.
        one = torch.ones((), dtype=torch.float64)
        return bool(function(one, 0 * one).abs() + function(0 * one, one).abs() > 0)

    return evaluate


def scale(case: Case) -> Evaluation:
    """The features times the gate, as it should be."""
    return _of_both(case, lambda x, gate: x * gate)


def add(case: Case) -> Evaluation:
    """The branch plus the shortcut, as it should be."""
    return _of_both(case, lambda x, shortcut: x + shortcut)


def scale_hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Faults where the gate scales the features."""
    for slug, title, function in (
        ("left-out", "the gate left out", lambda x, gate: x + 0 * gate),
        ("gate-added", "the gate added instead of multiplied", lambda x, gate: x + gate),
        ("gate-squared", "the gate applied twice", lambda x, gate: x * gate * gate),
        ("gate-residual", "the unscaled features added", lambda x, gate: x + x * gate),
        ("gate-inverted", "scaled by 1 minus the gate", lambda x, gate: x * (1 - gate)),
        ("gate-divided", "divided by the gate", lambda x, gate: x / gate),
        ("gate-activated", "the gate put through sigmoid again", lambda x, g: x * g.sigmoid()),
        ("gate-root", "scaled by the root of the gate", lambda x, g: x * g.clamp(min=0).sqrt()),
    ):
        yield Hypothesis(slug, title, _of_both(case, function))
    gate = case.arguments[1]
    changed: tuple[tuple[str, str, Tensor], ...] = (
        ("gate-reversed", "the gate's channels in reverse order", gate.flip(1)),
        ("gate-moved", "the gate's channels moved by one", gate.roll(1, 1)),
        ("gate-moved", "the gate's channels moved back by one", gate.roll(-1, 1)),
        ("gate-averaged", "one gate for all channels, their mean", gate.mean(1, True)),
        ("gate-of-other-image", "the gate of another image", gate.roll(1, 0)),
    )
    for slug, title, other in changed:
        yield Hypothesis(slug, title, _product(case, other.expand_as(gate)))
    yield from activations.on_top(scale(case))


def _product(case: Case, gate: Tensor) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output = case.arguments[0][:, channels] * gate[:, channels]
        return output, output.abs()

    return evaluate


def add_hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Faults where a residual is added."""
    faults: tuple[tuple[str, str, _Pair], ...] = (
        ("shortcut-left-out", "the shortcut left out", lambda x, y: x),
        ("branch-left-out", "the branch left out: the shortcut alone", lambda x, y: y),
        ("averaged", "averaged instead of added", lambda x, y: (x + y) / 2),
        ("subtracted", "the shortcut subtracted", lambda x, y: x - y),
        ("subtracted", "the branch subtracted from the shortcut", lambda x, y: y - x),
        ("multiplied", "multiplied instead of added", lambda x, y: x * y),
        ("shortcut-twice", "the shortcut added twice", lambda x, y: x + y + y),
        ("branch-twice", "the branch added twice", lambda x, y: x + x + y),
        ("maximum", "the larger of both instead of the sum", torch.maximum),
        ("root-half", "the sum divided by the root of 2", lambda x, y: (x + y) / 2**0.5),
    )
    for slug, title, function in faults:
        yield Hypothesis(slug, title, _of_both(case, function))
    yield from activations.on_top(add(case))
    for _, title, activation in activations.ACTIVATIONS[:2]:
        yield Hypothesis(
            "branch-activated",
            f"{title} on the branch before the sum",
            _of_both(case, partial(_activated_sum, activation)),
        )
    yield from _weighted(case)


def _activated_sum(activation: activations.Function, x: Tensor, y: Tensor) -> Tensor:
    return activation(x) + y


def _weighted(case: Case) -> Iterator[Hypothesis]:
    """The multiples of branch and shortcut that fit best."""
    x, y = case.arguments
    if not x.shape == y.shape == case.candidate.shape:
        return
    factors = least_squares([x, y], case.candidate)
    if factors is None:
        return
    # A factor that is right is off by roundings only.
    texts = [told(value, 1.0, 4) if abs(value - 1) > case.unit else None for value in factors]
    if texts == [None, None]:
        return
    a, b = (1.0 if text is None else v for v, text in zip(factors, texts, strict=True))
    parts = [
        name if text is None else f"{text} times {name}"
        for name, text in zip(("the branch", "the shortcut"), texts, strict=True)
    ]

    def again(case: Case, base: Evaluation) -> Evaluation:
        return _of_both(case, lambda u, v: a * u + b * v)

    constants = 2 - texts.count(None)
    base = add(case)
    yield fitted("weighted", " plus ".join(parts), case, base, again, constants)


def least_squares(terms: list[Tensor], target: Tensor) -> list[float] | None:
    """The factors that bring a sum of tensors closest to another; None where not determined."""
    matrix = torch.stack([term.reshape(-1) for term in terms])
    gram = matrix @ matrix.T
    if not bool(torch.isfinite(gram).all()) or bool(torch.linalg.cond(gram) > 1e10):
        return None
    found = torch.linalg.solve(gram, matrix @ target.double().reshape(-1))
    return [float(value) for value in found] if bool(torch.isfinite(found).all()) else None
