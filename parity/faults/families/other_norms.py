"""Norms that are no batch norm, and batch norms that were folded, updated or stored wrongly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import (
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    Operation,
    by_resemblance,
    counted,
    fitted,
)
from parity.faults.basics.fault import Variant, in_variants, with_numbers
from parity.faults.basics.operations import BatchNorm, batch_norm, batch_norm_of
from parity.faults.families.fitted_activations import rounded
from parity.faults.families.precision import PRECISIONS
from parity.results.digits import told

KINDS = frozenset({NodeKind.BATCH_NORM})

_ENOUGH = 16
"""Values of a channel that must show its scale and its offset."""


def _normalised(own: BatchNorm, mean: Tensor, scale: Tensor, *, affine: bool = True) -> Evaluation:
    """``(x - mean) scale gamma + beta`` with mean and scale of any shape that spreads over x."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x = own.x[:, channels]
        centre, factor = (
            v[:, channels] if v.dim() == 4 and v.shape[1] > 1 else v for v in (mean, scale)
        )
        gamma, beta = (v[channels].view(1, -1, 1, 1) for v in (own.gamma, own.beta))
        if not affine:
            gamma, beta = torch.ones_like(gamma), torch.zeros_like(beta)
        output = (x - centre) * factor * gamma + beta
        reach = (x.abs() + centre.abs()) * (factor * gamma).abs()
        # A mean is off by roundings of the values that it is the mean of, here about 1 / factor.
        return output, reach + gamma.abs() + beta.abs()

    return evaluate


def _affine_or_not(words: str, own: BatchNorm, mean: Tensor, scale: Tensor) -> Iterator[Variant]:
    yield words, _normalised(own, mean, scale)
    bare = f"{words}, without gamma and beta"
    yield bare, _normalised(own, mean, scale, affine=False)


_AXES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("each pixel's, over the channels", (1,)),
    ("each image's", (1, 2, 3)),
    ("each image's and channel's", (2, 3)),
    ("this batch's of each channel", (0, 2, 3)),
    ("each row's", (3,)),
    ("each column's", (2,)),
    ("the whole batch's, of all channels", (0, 1, 2, 3)),
)


def _layer_norms(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Statistics over the channels of each pixel, over rows, columns or everything."""
    own = batch_norm(operation)
    for words, axes in _AXES:
        if axes in ((1, 2, 3), (2, 3), (0, 2, 3)):
            continue
        variance, mean = torch.var_mean(own.x, axes, correction=0, keepdim=True)
        scale = torch.rsqrt(variance + own.epsilon)
        yield from _affine_or_not(f"with other statistics, {words}", own, mean, scale)


def _bare_norms(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Statistics of the input, with no gamma and beta, or unbiased."""
    own = batch_norm(operation)
    for words, axes in _AXES[1:4]:
        count = math.prod(own.x.shape[axis] for axis in axes)
        for correction, how in ((0, ""), (1, ", unbiased")):
            if count <= correction:
                continue
            variance, mean = torch.var_mean(own.x, axes, correction=correction, keepdim=True)
            scale = torch.rsqrt(variance + own.epsilon)
            title = f"with other statistics, {words}{how}"
            if correction and axes != (0, 2, 3):
                yield title, _normalised(own, mean, scale)
            yield f"{title}, without gamma and beta", _normalised(own, mean, scale, affine=False)


def _half_statistics(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """One of mean and variance of the input, the other as it should be."""
    own = batch_norm(operation)
    stored = (own.variance + own.epsilon).view(1, -1, 1, 1).rsqrt()
    for words, axes in ((_AXES[3]), (_AXES[2])):
        variance, mean = torch.var_mean(own.x, axes, correction=0, keepdim=True)
        scale = torch.rsqrt(variance + own.epsilon)
        yield f"with the mean of its input ({words})", _normalised(own, mean, stored)
        centre = own.mean.view(1, -1, 1, 1)
        yield f"with the variance of its input ({words})", _normalised(own, centre, scale)


def _rms_norms(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = batch_norm(operation)
    nothing = torch.zeros_like(own.x[:1, :1, :1, :1])
    without_beta = replace(own, beta=torch.zeros_like(own.beta))
    for words, axes in _AXES[:4]:
        power = own.x.square().mean(axes, keepdim=True)
        total = power * math.prod(own.x.shape[axis] for axis in axes)
        for how, scale in (
            ("the root of the mean square", torch.rsqrt(power + own.epsilon)),
            ("the length", torch.rsqrt(total + own.epsilon)),
            ("the length", torch.rsqrt(total.clamp(min=1e-24))),
        ):
            title = f"divided by {how} of its input, {words}"
            yield title, _normalised(own, nothing, scale)
            yield f"{title}, without beta", _normalised(without_beta, nothing, scale)
            yield f"{title}, without gamma and beta", _normalised(own, nothing, scale, affine=False)


def _groups(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Group norm with any number of groups, and of any unbiased variance."""
    own = batch_norm(operation)
    shape = own.x.shape
    for groups in range(2, shape[1]):
        if shape[1] % groups:
            continue
        grouped = own.x.reshape(shape[0], groups, -1)
        for correction, how in ((0, ""), (1, ", unbiased")):
            if grouped.shape[2] <= correction:
                continue
            variance, mean = torch.var_mean(grouped, 2, correction=correction, keepdim=True)
            each = shape[1] // groups
            centre, scale = (
                v.repeat_interleave(each, 1)[..., None]
                for v in (mean, torch.rsqrt(variance + own.epsilon))
            )
            words = f"with each image's own statistics of {groups} groups{how}"
            if correction or groups not in (2, 4, 8, 16, 32):
                yield words, _normalised(own, centre, scale)
            yield f"{words}, without gamma and beta", _normalised(own, centre, scale, affine=False)


# Folding


def _folds(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """``x scale + beta - mean factor`` where scale and factor do not belong together."""
    own = batch_norm(operation)
    deviation = (own.variance + own.epsilon).sqrt()
    bare = own.variance.clamp(min=0).sqrt().clamp(min=1e-12)
    one = torch.ones_like(own.gamma)
    factors = (
        ("gamma / deviation", own.gamma / deviation),
        ("gamma / deviation without epsilon", own.gamma / bare),
        ("gamma", own.gamma),
        ("1 / deviation", 1 / deviation),
        ("1", one),
        ("gamma / variance", own.gamma / (own.variance + own.epsilon)),
        ("gamma times deviation", own.gamma * deviation),
        ("0", 0 * one),
    )
    offsets = (
        ("beta", own.beta),
        ("0", 0 * one),
        ("beta gamma / deviation", own.beta * own.gamma / deviation),
        ("beta / deviation", own.beta / deviation),
        ("beta gamma", own.beta * own.gamma),
        ("2 beta", 2 * own.beta),
    )
    for scale_words, scale in factors[:-1]:
        for mean_words, factor in (*factors, ("-gamma / deviation", -own.gamma / deviation)):
            for offset_words, offset in offsets:
                words = (
                    f"folded into x times {scale_words}, plus {offset_words}, minus the mean "
                    f"times {mean_words}"
                )
                yield words, _folded(own, scale, factor, offset)


def _folded(own: BatchNorm, scale: Tensor, factor: Tensor, offset: Tensor) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        a, m, b = (
            v[channels].view(1, -1, 1, 1) for v in (scale, own.mean * factor, offset)
        )  # fmt: skip
        x = own.x[:, channels]
        return x * a - m + b, (x * a).abs() + m.abs() + b.abs()

    return evaluate


# Stored otherwise


def _rounded_values(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = batch_norm(operation)
    choices = (
        ("parameters and statistics", ("gamma", "beta", "mean", "variance")),
        ("statistics", ("mean", "variance")),
        ("parameters", ("gamma", "beta")),
        ("variance", ("variance",)),
        ("mean", ("mean",)),
        ("gamma", ("gamma",)),
        ("beta", ("beta",)),
    )
    for precision in PRECISIONS:
        if precision.dtype is None:
            continue
        for words, names in choices:
            values: dict[str, Any] = {name: precision.rounded(getattr(own, name)) for name in names}
            yield f"its {words} rounded to {precision.title}", replace(own, **values)


def _over_other_axes(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """Parameters that run along another axis than the channels."""
    own = batch_norm(operation)
    count, shape = own.gamma.numel(), own.x.shape
    values = torch.stack([own.gamma, own.beta, own.mean, own.variance])
    size = own.x[0].numel()
    places = (torch.arange(size) % count).view(shape[1:])
    yield (
        "its parameters along the last axis, as of an NHWC tensor read as NCHW",
        _by_place(own, values[:, places]),
    )
    for axis, words in ((2, "rows"), (3, "columns")):
        if shape[axis] == count:
            view = [4, 1, 1, 1]
            view[axis] = count
            yield (
                f"its parameters along the {words} instead of the channels",
                _by_place(own, values.view(view).expand(4, *shape[1:])),
            )


def _by_place(own: BatchNorm, values: Tensor) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        gamma, beta, mean, variance = values[:, channels]
        x = own.x[:, channels]
        scale = gamma / torch.sqrt(variance + own.epsilon)
        gauge = x.abs() * scale.abs() + (mean * scale).abs() + beta.abs()
        return (x - mean) * scale + beta, gauge

    return evaluate


def _one_of_sibling(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """One of another batch norm's values."""
    own = batch_norm(operation)
    for name in by_resemblance(operation.name, operation.siblings):
        other = batch_norm_of(operation.siblings[name], own.x, own.epsilon)
        if other.gamma.shape == own.gamma.shape:
            for taken in ("gamma", "beta", "mean", "variance"):
                values: dict[str, Any] = {taken: getattr(other, taken)}
                yield f"with the {taken} of {name}", replace(own, **values)


# Fitted


def _lines(case: Case, own: BatchNorm) -> tuple[Tensor, Tensor, Tensor] | None:
    """Each channel's scale and offset in the candidate, and where they are well determined."""
    x, made = own.x, case.candidate.double()
    if x.shape != made.shape or x[:, 0].numel() < _ENOUGH:
        return None
    axes = (0, 2, 3)
    centre, level = x.mean(axes, keepdim=True), made.mean(axes, keepdim=True)
    spread = (x - centre).square().sum(axes)
    scale = ((x - centre) * (made - level)).sum(axes) / spread
    offset = level.flatten() - scale * centre.flatten()
    sure = torch.isfinite(scale) & (spread > 0) & (scale.abs() > 0)
    return (scale, offset, sure) if int(sure.sum()) >= 2 else None


def _fitted_update(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Statistics that have moved some way towards those of this batch."""
    own = batch_norm(case)
    found = _lines(case, own)
    if found is None:
        return
    scale, offset, sure = found
    variances = (own.gamma / scale).square() - own.epsilon
    for correction in (1, 0):
        variance, mean = torch.var_mean(own.x, (0, 2, 3), correction=correction)
        usable = sure & torch.isfinite(variances)
        # The mean that gives the offset: offset = beta - mean scale.
        at = (own.beta - offset) / scale
        towards, moved = (mean - own.mean)[usable], (at - own.mean)[usable]
        power = float((towards * towards).sum())
        share = float((towards * moved).sum()) / power if power else math.nan
        spread, gone = (variance - own.variance)[usable], (variances - own.variance)[usable]
        weight = own.variance[usable].square().clamp(min=1e-12)
        of_variance = float((spread * gone / weight).sum() / (spread.square() / weight).sum())
        for moment in dict.fromkeys([*rounded(share), *rounded(of_variance)]):
            text = told(moment, 0.0, 4)
            if text is None or not 0 < moment < 1.5 or moment == 1:
                continue
            again = partial(_updated, moment, correction)
            title = (
                f"its statistics moved by {text} of the way to this batch's, as calls in training "
                f"mode do"
            )
            yield fitted("statistics-updated", title, case, base, again, 1)


def _updated(
    moment: float, correction: int, operation: Operation, base: Evaluation
) -> Evaluation:  # fmt: skip
    own = batch_norm(operation)
    variance, mean = torch.var_mean(own.x, (0, 2, 3), correction=correction)
    return replace(
        own,
        mean=own.mean + moment * (mean - own.mean),
        variance=own.variance + moment * (variance - own.variance),
    )


def _fitted_variance(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """The variance of every channel times one number."""
    own = batch_norm(case)
    found = _lines(case, own)
    if found is None:
        return
    scale, _, sure = found
    factors = ((own.gamma / scale).square() - own.epsilon) / own.variance
    usable = sure & torch.isfinite(factors) & (own.variance > 10 * own.epsilon)
    if int(usable.sum()) < 2:
        return
    factor = float(factors[usable].median())
    count = own.x[:, 0].numel()
    guesses: list[tuple[float, str]] = []
    if abs(factor - 1) < 0.5 and factor not in (1.0,):
        whole = round(factor / (factor - 1) if factor > 1 else 1 / (1 - factor))
        for n in dict.fromkeys((count, whole)):
            if n > 1:
                guesses.append((n / (n - 1), f"n / (n - 1) with n = {n}"))
                guesses.append(((n - 1) / n, f"(n - 1) / n with n = {n}"))
    guesses += [(value, "") for value in rounded(factor)]
    for value, words in guesses:
        text = told(value, 1.0)
        if text is not None and value > 0:
            title = f"its variance times {text}" + (f", {words}" if words else "")
            again = partial(_with_variance_times, value)
            yield fitted("variance-scaled", title, case, base, again, 1)


def _with_variance_times(value: float, operation: Operation, base: Evaluation) -> Evaluation:
    own = batch_norm(operation)
    return replace(own, variance=own.variance * value)


def _fitted_order(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """The channel whose scale and offset each channel has."""
    own = batch_norm(case)
    found = _lines(case, own)
    if found is None:
        return
    scale, offset, sure = found
    if not bool(sure.all()):
        return
    slopes = own.gamma / torch.sqrt(own.variance + own.epsilon)
    shifts = own.beta - own.mean * slopes
    ours, theirs = torch.stack([slopes, shifts], 1), torch.stack([scale, offset], 1)
    size = ours.abs().mean(0).clamp(min=1e-12)
    order = torch.cdist(theirs / size, ours / size).argmin(1)
    changed = (order != torch.arange(len(order))).nonzero().flatten().tolist()
    if not changed:
        return
    again = partial(_in_order, order)
    words = _order_in_words(order, changed)
    # Each channel has one of the layer's own pairs of numbers: what is fitted is how they moved.
    title = f"its parameters in another order than its channels: {words}"
    yield fitted("parameters-permuted", title, case, base, again, 2)


def _order_in_words(order: Tensor, changed: list[int]) -> str:
    count = len(order)
    steps = (order - torch.arange(count)) % count
    if bool((steps == steps[0]).all()):
        step = int(steps[0])
        return f"moved by {step if step <= count // 2 else step - count:+d}"
    return f"{len(changed)} of {count} moved, channel " + ", ".join(
        f"{i} has those of {int(order[i])}" for i in changed[:3]
    ) + (", ..." if len(changed) > 3 else "")  # fmt: skip


def _in_order(order: Tensor, operation: Operation, base: Evaluation) -> Evaluation:
    own = batch_norm(operation)
    gamma, beta, mean, variance = (
        v[order] for v in (own.gamma, own.beta, own.mean, own.variance)
    )  # fmt: skip
    return replace(own, gamma=gamma, beta=beta, mean=mean, variance=variance)


def _rolled(operation: Operation, base: Evaluation) -> Evaluation:
    count = batch_norm(operation).gamma.numel()
    return _in_order(torch.arange(count).roll(1), operation, base)


def _lost_values(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Initial values in some channels, the layer's own in the rest."""
    own = batch_norm(case)
    found = _lines(case, own)
    if found is None:
        return
    scale, offset, _ = found
    fresh = 1 / math.sqrt(1 + own.epsilon)
    lost = ((scale - fresh).abs() < 1e-5) & (offset.abs() < 1e-5)
    where = lost.nonzero().flatten().tolist()
    if 0 < len(where) < len(lost):
        title = f"initial values in {len(where)} of {len(lost)} channels ({counted(where)})"
        yield fitted("values-lost", title, case, base, partial(_with_lost, lost), 2)


def _with_lost(lost: Tensor, operation: Operation, base: Evaluation) -> Evaluation:
    own = batch_norm(operation)
    values: dict[str, Any] = {}
    for name, initial in (("gamma", 1.0), ("beta", 0.0), ("mean", 0.0), ("variance", 1.0)):
        values[name] = torch.where(lost, initial, getattr(own, name))
    return replace(own, **values)


def _lost_example(operation: Operation, base: Evaluation) -> Evaluation:
    count = batch_norm(operation).gamma.numel()
    return _with_lost(torch.arange(count) < count // 3, operation, base)


FAULTS = (
    in_variants("layer-norm", "a norm over the channels of each pixel", KINDS, _layer_norms),
    in_variants("group-statistics", "a group norm of any kind", KINDS, _groups),
    in_variants("batch-statistics", "statistics of the input, bare or unbiased", KINDS, _bare_norms,
                alike=("instance-statistics", "group-statistics")),
    in_variants("half-statistics", "only one statistic of the input", KINDS, _half_statistics),
    in_variants("rms-norm", "a norm by the root of the mean square", KINDS, _rms_norms),
    in_variants("parameters-rounded", "a batch norm's values in half precision", KINDS,
                _rounded_values, put_in=7),
    in_variants("parameters-along-other-axis", "a batch norm's values along another axis", KINDS,
                _over_other_axes),
    in_variants("fold-error", "a batch norm folded wrongly", KINDS, _folds, put_in=12),
    in_variants("value-of-other-node", "one of another batch norm's values", KINDS,
                _one_of_sibling),
    with_numbers("variance-scaled", "a variance stored with another divisor", KINDS,
                 _fitted_variance, partial(_with_variance_times, 1.1)),
    with_numbers("statistics-updated", "statistics updated by calls in training mode", KINDS,
                 _fitted_update, partial(_updated, 0.1, 1)),
    with_numbers("parameters-permuted", "a batch norm's values in another order", KINDS,
                 _fitted_order, _rolled),
    with_numbers("values-lost", "initial values in some channels", KINDS, _lost_values,
                 _lost_example),
)  # fmt: skip
"""Norms of other kinds, and batch norms whose values are others, the simplest first."""
