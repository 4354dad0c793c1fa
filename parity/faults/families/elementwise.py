"""What ports get wrong where two tensors meet: the squeeze-excite scale and the residual sum."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import Case, Channels, Evaluation, Hypothesis, Operation, fitted
from parity.faults.basics.fault import Fault, Kinds, Variant, in_variants, with_numbers
from parity.faults.basics.operations import Change, Pair, of_both
from parity.faults.families import activations
from parity.results.digits import told

_SCALE = frozenset({NodeKind.SCALE})
_ADD = frozenset({NodeKind.ADD})


def _fault(kinds: Kinds, slug: str, title: str, *forms: tuple[str, Pair]) -> Fault:
    """Another function of the two tensors, value by value."""

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        for words, function in forms:
            yield words, of_both(operation, function)

    return in_variants(slug, title, kinds, variants)


def _gate(slug: str, title: str, *forms: tuple[str, Change]) -> Fault:
    """The features times another gate."""

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        gate = operation.arguments[1]
        for words, change in forms:
            yield words, _product(operation, change(gate).expand_as(gate))

    return in_variants(slug, title, _SCALE, variants)


def _product(operation: Operation, gate: Tensor) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output = operation.arguments[0][:, channels] * gate[:, channels]
        return output, output.abs()

    return evaluate


def _activated_branch(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    for _, title, activation in activations.ACTIVATIONS[:2]:
        yield (
            f"{title} on the branch before the sum",
            of_both(operation, partial(_activated_sum, activation)),
        )


def _activated_sum(activation: Change, x: Tensor, y: Tensor) -> Tensor:
    return activation(x) + y


def _weighted_sum(operation: Operation, base: Evaluation, a: float, b: float) -> Evaluation:
    return of_both(operation, lambda x, y: a * x + b * y)


def _fitted_weights(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
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
    again = partial(_weighted_sum, a=a, b=b)
    yield fitted("weighted", " plus ".join(parts), case, base, again, 2 - texts.count(None))


def least_squares(terms: list[Tensor], target: Tensor) -> list[float] | None:
    """The factors that bring a sum of tensors closest to another; None where not determined."""
    matrix = torch.stack([term.reshape(-1) for term in terms])
    gram = matrix @ matrix.T
    if not bool(torch.isfinite(gram).all()) or bool(torch.linalg.cond(gram) > 1e10):
        return None
    found = torch.linalg.solve(gram, matrix @ target.double().reshape(-1))
    return [float(value) for value in found] if bool(torch.isfinite(found).all()) else None


_SCALES = (
    _fault(
        _SCALE, "left-out", "a gate left out", ("the gate left out", lambda x, gate: x + 0 * gate)
    ),
    _fault(
        _SCALE,
        "gate-added",
        "a gate added",
        ("the gate added instead of multiplied", lambda x, gate: x + gate),
    ),
    _fault(
        _SCALE,
        "gate-squared",
        "a gate applied twice",
        ("the gate applied twice", lambda x, gate: x * gate * gate),
    ),
    _fault(
        _SCALE,
        "gate-residual",
        "a gate with a residual",
        ("the unscaled features added", lambda x, gate: x + x * gate),
    ),
    _fault(
        _SCALE,
        "gate-inverted",
        "1 minus a gate",
        ("scaled by 1 minus the gate", lambda x, gate: x * (1 - gate)),
    ),
    _fault(
        _SCALE,
        "gate-divided",
        "features divided by a gate",
        ("divided by the gate", lambda x, gate: x / gate),
    ),
    _fault(
        _SCALE,
        "gate-activated",
        "a second sigmoid of a gate",
        ("the gate put through sigmoid again", lambda x, gate: x * gate.sigmoid()),
    ),
    _fault(
        _SCALE,
        "gate-root",
        "the root of a gate",
        ("scaled by the root of the gate", lambda x, gate: x * gate.clamp(min=0).sqrt()),
    ),
    _gate(
        "gate-reversed",
        "a gate's channels in reverse order",
        ("the gate's channels in reverse order", lambda gate: gate.flip(1)),
    ),
    _gate(
        "gate-moved",
        "a gate's channels moved by one",
        ("the gate's channels moved by one", lambda gate: gate.roll(1, 1)),
        ("the gate's channels moved back by one", lambda gate: gate.roll(-1, 1)),
    ),
    _gate(
        "gate-averaged",
        "one gate for all channels",
        ("one gate for all channels, their mean", lambda gate: gate.mean(1, True)),
    ),
    _gate(
        "gate-of-other-image",
        "another image's gate",
        ("the gate of another image", lambda gate: gate.roll(1, 0)),
    ),
    activations.on_top(_SCALE),
)

_SUMS = (
    _fault(
        _ADD, "shortcut-left-out", "a shortcut left out", ("the shortcut left out", lambda x, y: x)
    ),
    _fault(
        _ADD,
        "branch-left-out",
        "a branch left out",
        ("the branch left out: the shortcut alone", lambda x, y: y),
    ),
    _fault(
        _ADD,
        "averaged",
        "branch and shortcut averaged",
        ("averaged instead of added", lambda x, y: (x + y) / 2),
    ),
    _fault(
        _ADD,
        "subtracted",
        "branch and shortcut subtracted",
        ("the shortcut subtracted", lambda x, y: x - y),
        ("the branch subtracted from the shortcut", lambda x, y: y - x),
    ),
    _fault(
        _ADD,
        "multiplied",
        "branch and shortcut multiplied",
        ("multiplied instead of added", lambda x, y: x * y),
    ),
    _fault(
        _ADD,
        "shortcut-twice",
        "a shortcut added twice",
        ("the shortcut added twice", lambda x, y: x + y + y),
    ),
    _fault(
        _ADD,
        "branch-twice",
        "a branch added twice",
        ("the branch added twice", lambda x, y: x + x + y),
    ),
    _fault(
        _ADD,
        "maximum",
        "the larger of branch and shortcut",
        ("the larger of both instead of the sum", torch.maximum),
    ),
    _fault(
        _ADD,
        "root-half",
        "a sum divided by the root of 2",
        ("the sum divided by the root of 2", lambda x, y: (x + y) / 2**0.5),
    ),
    activations.on_top(_ADD),
    in_variants("branch-activated", "an activation before the sum", _ADD, _activated_branch),
    with_numbers(
        "weighted",
        "a branch scaled as by drop-connect",
        _ADD,
        _fitted_weights,
        partial(_weighted_sum, a=1.25, b=1.0),
    ),
)

FAULTS = (*_SCALES, *_SUMS)
"""Faults where a gate scales features, and where a residual is added."""
