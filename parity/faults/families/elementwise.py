"""What ports get wrong where two tensors meet: the squeeze-excite scale and the residual sum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import (
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    Operation,
    counted,
    fitted,
)
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


def _other_gates(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    for slug, title, function in activations.ACTIVATIONS:
        if slug not in ("absolute", "relu"):
            yield (
                f"{title} of the gate",
                of_both(operation, partial(_gated_through, function)),
            )


def _gated_through(function: Change, x: Tensor, gate: Tensor) -> Tensor:
    return x * function(gate)


def _affine_gate(
    operation: Operation, base: Evaluation, factor: float, offset: float
) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x, gate = (value[:, channels] for value in operation.arguments)
        output = x * (factor * gate + offset)
        return output, x.abs() * (abs(factor) * gate.abs() + abs(offset))

    return evaluate


def _fitted_gate(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """``x (a gate + b)`` with the numbers that fit best."""
    x, gate = case.arguments
    if x.shape != case.candidate.shape:
        return
    factors = least_squares([x * gate, x.clone()], case.candidate)
    if factors is None or abs(factors[1]) <= case.unit:
        return
    for a, b in dict.fromkeys(zip(*(_as_written(v) for v in factors), strict=True)):
        constants = 1 + (a != 1)
        title = f"scaled by {a:.5g} times the gate plus {b:.5g}"
        again = partial(_affine_gate, factor=a, offset=b)
        yield fitted("gate-affine", title, case, base, again, constants)


def _fitted_power(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """``x gate^p`` with the power that fits best."""
    x, gate = case.arguments
    if x.shape != case.candidate.shape or gate.numel() < 8:
        return
    shown = (x * case.candidate.double()).sum((2, 3)) / x.square().sum((2, 3))
    usable = (shown > 1e-6) & (gate[..., 0, 0] > 1e-6) & ((gate[..., 0, 0] - 1).abs() > 0.05)
    if int(usable.sum()) < 8:
        return
    power = float((shown[usable].log() / gate[..., 0, 0][usable].log()).median())
    for value in _as_written(power):
        if value not in (0.0, 1.0):
            title = f"scaled by the gate to the power of {value:.5g}"
            again = partial(_to_the_power, value)
            yield fitted("gate-power", title, case, base, again, 1)


def _to_the_power(power: float, operation: Operation, base: Evaluation) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x, gate = (value[:, channels] for value in operation.arguments)
        output = x * gate.pow(power)
        return output, output.abs() * (1 + abs(power) * (1 + gate.clamp(min=1e-30).log().abs()))

    return evaluate


def _as_written(value: float) -> tuple[float, float]:
    return float(f"{value:.3g}"), value


def _fitted_gate_order(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """The channel whose gate each channel has."""
    x, gate = case.arguments
    if x.shape != case.candidate.shape or x[0, 0].numel() < 2:
        return
    power = x.square().sum((2, 3))
    shown = (x * case.candidate.double()).sum((2, 3)) / power
    if not bool((power > 0).all()):
        return
    order = torch.cdist(shown.T, gate[..., 0, 0].T).argmin(1)
    moved = (order != torch.arange(len(order))).nonzero().flatten().tolist()
    if moved:
        listed = ", ".join(f"{i} has that of {int(order[i])}" for i in moved[:3])
        title = f"{len(moved)} of {len(order)} channels with another channel's gate: {listed}"
        yield fitted("gate-permuted", title, case, base, partial(_gate_in_order, order), 2)


def _gate_in_order(order: Tensor, operation: Operation, base: Evaluation) -> Evaluation:
    return _product(operation, operation.arguments[1][:, order])


def _fitted_drops(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Some images' branches left out, those of the others times one factor (drop-connect)."""
    x, y = case.arguments
    if not x.shape == y.shape == case.candidate.shape or x.shape[0] < 2:
        return
    factors = _by_image(x, case.candidate.double() - y)
    gone = (factors.abs() < _NONE).nonzero().flatten().tolist()
    kept = factors[factors.abs() >= _NONE]
    if not gone or not len(kept):
        return
    factor = float(kept.median())
    text = told(factor, 1.0, 4) if abs(factor - 1) > _NONE else None
    rest = f", that of the others times {text}" if text else ""
    chance = f" (survival probability {1 / factor:.3g})" if text and factor > 1 else ""
    title = (
        f"drop-connect left on: the branch of {'image' if len(gone) == 1 else 'images'} "
        f"{counted(gone)} left out{rest}{chance}"
    )
    yield fitted("drop-connect", title, case, base, partial(_again_dropped, factor), 2)


_NONE = 1e-4
"""Share of a branch that counts as nothing."""


def _by_image(x: Tensor, made: Tensor) -> Tensor:
    """The factor of each image's branch."""
    axes = (1, 2, 3)
    return (x * made).sum(axes) / x.square().sum(axes).clamp(min=1e-300)


def _again_dropped(factor: float, operation: Operation, base: Evaluation) -> Evaluation:
    """With the images left out that the candidate left out, whichever these are here."""
    assert isinstance(operation, Case)
    x, y = operation.arguments
    shares = _by_image(x, operation.candidate.double() - y)
    return _with_drops(operation, torch.where(shares.abs() < _NONE, 0.0, factor))


def _with_drops(operation: Operation, factors: Tensor) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x, y = (value[:, channels] for value in operation.arguments)
        part = x * factors.to(x).view(-1, 1, 1, 1)
        return part + y, part.abs() + y.abs() + (part + y).abs()

    return evaluate


def _dropped(operation: Operation, base: Evaluation) -> Evaluation | None:
    count = operation.arguments[0].shape[0]
    return None if count < 2 else _with_drops(operation, 1.25 * (torch.arange(count) > 0))


def _fitted_scales(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """A factor for each channel of the branch, or of the shortcut."""
    x, y = case.arguments
    if not x.shape == y.shape == case.candidate.shape or x[:, 0].numel() < 16:
        return
    made = case.candidate.double()
    for number, (scaled, other) in enumerate(((x, y), (y, x))):
        power = scaled.square().sum((0, 2, 3))
        factors = (scaled * (made - other)).sum((0, 2, 3)) / power
        factors = torch.where(power > 0, factors, 1.0)
        changed = ((factors - 1).abs() > 1e-6).nonzero().flatten().tolist()
        if not changed or not bool(torch.isfinite(factors).all()):
            continue
        low, high = float(factors[changed].min()), float(factors[changed].max())
        reach = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        where = "" if len(changed) == len(factors) else f" ({counted(changed)})"
        what = ("branch", "shortcut")[number]
        title = f"{what} times {reach} in {len(changed)} of {len(factors)} channels{where}"
        again = partial(_scaled_by_channel, number, factors)
        yield fitted(f"{what}-scaled", title, case, base, again, len(changed))


def _scaled_by_channel(
    number: int, factors: Tensor, operation: Operation, base: Evaluation
) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        parts = [value[:, channels] for value in operation.arguments]
        parts[number] = parts[number] * factors.to(parts[0])[channels].view(1, -1, 1, 1)
        output = parts[0] + parts[1]
        return output, parts[0].abs() + parts[1].abs() + output.abs()

    return evaluate


def _channels_scaled(operation: Operation, base: Evaluation) -> Evaluation:
    count = operation.arguments[0].shape[1]
    return _scaled_by_channel(0, torch.linspace(0.5, 1.5, count), operation, base)


def _activated_shortcut(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    for title, activation in activations.LIKELY:
        yield (
            f"{title} on the shortcut before the sum",
            of_both(operation, partial(_sum_with_activated, activation)),
        )
        yield (
            f"{title} on branch and shortcut before the sum",
            of_both(operation, partial(_sum_of_activated, activation)),
        )


def _sum_with_activated(activation: Change, x: Tensor, y: Tensor) -> Tensor:
    return x + activation(y)


def _sum_of_activated(activation: Change, x: Tensor, y: Tensor) -> Tensor:
    return activation(x) + activation(y)


def _moved_shortcut(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """The shortcut of other channels or images than its own."""
    moves: tuple[tuple[str, Change], ...] = (
        ("the shortcut's channels in reverse order", lambda y: y.flip(1)),
        ("the shortcut's channels moved by one", lambda y: y.roll(1, 1)),
        ("the shortcut's channels moved back by one", lambda y: y.roll(-1, 1)),
        ("the shortcut of the image after", lambda y: y.roll(-1, 0)),
        ("the shortcut of the image before", lambda y: y.roll(1, 0)),
        ("the first image's shortcut", lambda y: y[:1].expand_as(y)),
        ("the shortcut's height and width exchanged", lambda y: y.mT),
        ("the shortcut mirrored", lambda y: y.flip(3)),
        ("the shortcut upside down", lambda y: y.flip(2)),
        ("the shortcut averaged over the image", lambda y: y.mean((2, 3), True).expand_as(y)),
    )
    x, y = operation.arguments
    for words, move in moves:
        other = move(y)
        if other.shape == x.shape and not torch.equal(other, y):
            yield words, of_both(replace(operation, arguments=(x, other)), lambda x, y: x + y)


def _activated_branch(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    for title, activation in activations.LIKELY:
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
    in_variants(
        "gate-activated", "another function of a gate", _SCALE, _other_gates, alike=("relu",)
    ),
    _gate(
        "gate-of-other-image",
        "the gate of another image, or of all",
        ("the images' gates in reverse order", lambda gate: gate.flip(0)),
        ("the first image's gate", lambda gate: gate[:1]),
        ("the mean of the images' gates", lambda gate: gate.mean(0, True)),
        ("the gate of the image before", lambda gate: gate.roll(-1, 0)),
    ),
    _gate(
        "gate-rounded",
        "a gate of whole numbers",
        ("the gate rounded to 0 or 1", lambda gate: gate.round()),
        ("a gate of 1 where it is above a half, 0 elsewhere", lambda gate: 1.0 * (gate > 0.5)),
    ),
    activations.on_top(_SCALE),
    with_numbers(
        "gate-affine",
        "a gate scaled and offset",
        _SCALE,
        _fitted_gate,
        partial(_affine_gate, factor=0.5, offset=0.5),
    ),
    with_numbers(
        "gate-power", "a power of a gate", _SCALE, _fitted_power, partial(_to_the_power, 1.5)
    ),
    with_numbers(
        "gate-permuted",
        "a gate's channels in another order",
        _SCALE,
        _fitted_gate_order,
        lambda operation, base: _gate_in_order(
            torch.arange(operation.arguments[1].shape[1]).roll(2), operation, base
        ),
    ),
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
    in_variants("shortcut-activated", "an activation of the shortcut", _ADD, _activated_shortcut),
    in_variants("shortcut-moved", "a shortcut of other channels", _ADD, _moved_shortcut),
    with_numbers(
        "drop-connect",
        "drop-connect left on",
        _ADD,
        _fitted_drops,
        _dropped,
    ),
    with_numbers(
        "weighted",
        "a branch scaled as by drop-connect",
        _ADD,
        _fitted_weights,
        partial(_weighted_sum, a=1.25, b=1.0),
    ),
    with_numbers(
        "branch-scaled",
        "a factor for each channel of a branch",
        _ADD,
        _fitted_scales,
        _channels_scaled,
    ),
)

FAULTS = (*_SCALES, *_SUMS)
"""Faults where a gate scales features, and where a residual is added."""
