"""What ports get wrong in a batch norm: its epsilon, its statistics, or whose they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import (
    ALL,
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    Operation,
    by_resemblance,
    fitted,
)
from parity.faults.basics.fault import Fault, Variant, in_variants, with_numbers
from parity.faults.basics.operations import BatchNorm, batch_norm, batch_norm_of
from parity.faults.families import activations
from parity.results.digits import told

_KINDS = frozenset({NodeKind.BATCH_NORM})

_GROUPS = (1, 2, 4, 8, 16, 32)
"""Numbers of groups that a group norm is given."""

_EPSILONS = (1e-5, 1e-4, 1e-2, 1e-6, 0.0, 1e-7, 1e-8, 1e-12)
"""PyTorch's own comes first."""

_UNUSUAL_EPSILON = 3.7e-3
"""One that nobody uses, to be put into models."""

_Change = Callable[[BatchNorm], BatchNorm]


def _fault(slug: str, title: str, *forms: tuple[str, _Change]) -> Fault:
    """A batch norm with other parameters, statistics or epsilon, each a function of its own."""

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        own = batch_norm(operation)
        for words, change in forms:
            yield words, change(own)

    return in_variants(slug, title, _KINDS, variants)


def _epsilons(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = batch_norm(operation)
    for epsilon in _EPSILONS:
        if epsilon != own.epsilon:
            words = f"batch norm with epsilon {epsilon:g} instead of {own.epsilon:g}"
            yield words, replace(own, epsilon=epsilon)


def _set_epsilon(norm: Any) -> None:
    norm.eps = _EPSILONS[0]


def _other_epsilon(operation: Operation, base: Evaluation, epsilon: float) -> Evaluation:
    return replace(batch_norm(operation), epsilon=epsilon)


def _fitted_epsilon(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """The epsilon that the slopes of the channels of the smallest variances show."""
    own = batch_norm(case)
    x = own.x
    if x.shape != case.candidate.shape or x[:, 0].numel() < 2:
        return
    chosen = own.variance.argsort()[: max(4, x.shape[1] // 4)]
    inputs, outputs = x[:, chosen], case.candidate[:, chosen].double()
    inputs = inputs - inputs.mean((0, 2, 3), keepdim=True)
    slopes = (inputs * outputs).sum((0, 2, 3)) / inputs.square().sum((0, 2, 3))
    found = (own.gamma[chosen] / slopes).square() - own.variance[chosen]
    found = found[torch.isfinite(found)]
    if not found.numel():
        return
    # The smallest variance shows it most clearly; the median of a few guards against a bad one.
    shown = float(found[:3].median())
    for epsilon in (float(f"{shown:.1g}"), float(f"{shown:.2g}"), shown):
        text = told(epsilon, own.epsilon)
        if epsilon <= 0 or text is None:
            continue

        def again(case: Case, base: Evaluation, epsilon: float = epsilon) -> Evaluation:
            return _other_epsilon(case, base, epsilon)

        title = f"batch norm with epsilon {text} instead of {own.epsilon:g}"
        yield fitted("epsilon", title, case, base, again, 1)


def _without_gamma(own: BatchNorm) -> BatchNorm:
    return replace(own, gamma=torch.ones_like(own.gamma))


def _without_beta(own: BatchNorm) -> BatchNorm:
    return replace(own, beta=torch.zeros_like(own.beta))


def _without_mean(own: BatchNorm) -> BatchNorm:
    return replace(own, mean=torch.zeros_like(own.mean))


def _without_variance(own: BatchNorm) -> BatchNorm:
    return replace(own, variance=torch.ones_like(own.variance))


def _reversed(own: BatchNorm) -> BatchNorm:
    gamma, beta, mean, variance = (
        value.flip(0) for value in (own.gamma, own.beta, own.mean, own.variance)
    )
    return replace(own, gamma=gamma, beta=beta, mean=mean, variance=variance)


def _batch_statistics(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = batch_norm(operation)
    count = own.x.numel() // own.x.shape[1]
    for correction, text in ((0, ""), (1, ", unbiased")):
        if count > correction:
            variance, mean = torch.var_mean(own.x, (0, 2, 3), correction=correction)
            yield (
                f"with this batch's own statistics{text} (training mode)",
                replace(own, mean=mean, variance=variance),
            )


def _instance_statistics(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = batch_norm(operation)
    # Of a single image these are the batch's, which another input tells apart.
    yield "with each image's own statistics", _of_groups(own, own.x.shape[1])


def _group_statistics(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = batch_norm(operation)
    channels = own.x.shape[1]
    for groups in _GROUPS:
        if channels % groups == 0 and groups < channels:
            what = "of all channels (layer norm)" if groups == 1 else f"of {groups} groups"
            yield f"with each image's own statistics {what}", _of_groups(own, groups)


def _of_groups(own: BatchNorm, groups: int) -> Evaluation:
    """A group norm: statistics of each image and group of channels."""
    x = own.x
    each = x.shape[1] // groups

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        grouped = x.reshape(x.shape[0], groups, -1)
        spread, centre = (
            v.repeat_interleave(each, 1)[:, channels, None]
            for v in torch.var_mean(grouped, 2, correction=0, keepdim=True)
        )
        scale = torch.rsqrt(spread + own.epsilon)
        gamma, beta = (v[channels].view(1, -1, 1, 1) for v in (own.gamma, own.beta))
        output = (x[:, channels] - centre) * scale * gamma + beta
        reach = x[:, channels].abs() + centre.abs()
        # A mean is off by roundings of the values that it is the mean of, here about 1 / scale.
        return output, (reach * scale + 1) * gamma.abs() + beta.abs()

    return evaluate


def _with_values(label: str) -> Fault:
    """The checkpoint's other values, such as those that are no moving averages."""

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        values = operation.alternatives.get(label)
        if not values:
            return
        own = batch_norm(operation)
        gamma, beta, mean, variance = (
            values.get(name, ours).to(own.x.dtype)
            for name, ours in (
                ("weight", own.gamma),
                ("bias", own.beta),
                ("running_mean", own.mean),
                ("running_var", own.variance),
            )
        )
        other = replace(own, gamma=gamma, beta=beta, mean=mean, variance=variance)
        yield f"with its {label} parameters", other

    return in_variants(f"parameters-{label}", f"the checkpoint's {label} values", _KINDS, variants)


def _of_siblings(operation: Operation, words: str, taken: tuple[str, ...]) -> Iterator[Variant]:
    """Some of another batch norm's values, for each of the others that has as many channels."""
    own = batch_norm(operation)
    for name in by_resemblance(operation.name, operation.siblings):
        other = batch_norm_of(operation.siblings[name], own.x, own.epsilon)
        if other.gamma.shape == own.gamma.shape:
            values: dict[str, Any] = {value: getattr(other, value) for value in taken}
            yield f"with the {words} of {name}", replace(own, **values)


def _of_other_node(slug: str, title: str, words: str, *taken: str) -> Fault:
    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        return _of_siblings(operation, words, taken)

    return in_variants(slug, title, _KINDS, variants)


def _exchanged(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = batch_norm(operation)
    names = ("gamma", "beta", "mean", "variance")
    values = (own.gamma, own.beta, own.mean, own.variance)
    orders = sorted(permutations(range(4)), key=_moved)
    for order in orders[1:]:
        gamma, beta, mean, variance = (values[i] for i in order)
        moved = [
            f"{names[source]} for {names[place]}"
            for place, source in enumerate(order)
            if place != source
        ]
        yield (
            "with " + ", ".join(moved),
            replace(own, gamma=gamma, beta=beta, mean=mean, variance=variance),
        )


_BETA_AND_MEAN = 1
"""The number of the form that exchanges these two, which gives no roots of negative numbers."""


def _moved(order: tuple[int, ...]) -> int:
    return sum(place != source for place, source in enumerate(order))


def _twice(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = batch_norm(operation)

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = own(ALL)
        second, scale = replace(own, x=output)(channels)
        slope = own.gamma / torch.sqrt(own.variance + own.epsilon)
        return second, scale + (gauge * slope.abs().view(1, -1, 1, 1))[:, channels]

    yield "applied twice", evaluate


FAULTS = (
    in_variants(
        "epsilon",
        "batch norm with PyTorch's epsilon",
        _KINDS,
        _epsilons,
        change=_set_epsilon,
        alike=("eps",),
    ),
    _fault(
        "gamma-missing", "batch norm without gamma", ("without its scale gamma", _without_gamma)
    ),
    _fault("beta-missing", "batch norm without beta", ("without its offset beta", _without_beta)),
    _fault(
        "affine-missing",
        "batch norm without gamma and beta",
        ("without its scale and offset", lambda own: _without_gamma(_without_beta(own))),
    ),
    _fault(
        "mean-missing",
        "batch norm without its mean",
        ("without subtracting its mean", _without_mean),
    ),
    _fault(
        "variance-missing",
        "batch norm without its variance",
        ("without dividing by its deviation", _without_variance),
    ),
    _fault(
        "statistics-missing",
        "batch norm with initial statistics",
        (
            "with mean 0 and variance 1 instead of its statistics",
            lambda own: _without_mean(_without_variance(own)),
        ),
    ),
    # Each is the faithful formula with the variance that gives the wrong divisor.
    _fault(
        "variance-as-deviation",
        "batch norm's variance taken for a deviation",
        (
            "divided by its variance, not by the square root of it",
            lambda own: replace(own, variance=(own.variance + own.epsilon).square(), epsilon=0.0),
        ),
        (
            "its variance taken for a deviation and squared",
            lambda own: replace(own, variance=own.variance.square()),
        ),
    ),
    _fault(
        "deviation-as-variance",
        "batch norm's deviation taken for its variance",
        (
            "its deviation taken for its variance",
            lambda own: replace(own, variance=own.variance.clamp(min=0).sqrt()),
        ),
    ),
    _fault(
        "variance-inverted",
        "batch norm multiplied by its deviation",
        (
            "multiplied by its deviation instead of divided",
            lambda own: replace(own, variance=1 / (own.variance + own.epsilon), epsilon=0.0),
        ),
    ),
    _fault(
        "epsilon-outside",
        "batch norm's epsilon outside the root",
        (
            "epsilon added to the deviation instead of the variance",
            lambda own: replace(
                own,
                variance=(own.variance.clamp(min=0).sqrt() + own.epsilon).square(),
                epsilon=0.0,
            ),
        ),
    ),
    _fault(
        "gamma-plus-one",
        "batch norm scaled by 1 + gamma",
        ("scaled by 1 + gamma", lambda own: replace(own, gamma=own.gamma + 1)),
    ),
    _fault(
        "gamma-absolute",
        "batch norm scaled by |gamma|",
        ("scaled by |gamma|", lambda own: replace(own, gamma=own.gamma.abs())),
    ),
    _fault(
        "mean-added",
        "batch norm's mean added",
        ("its mean added, not subtracted", lambda own: replace(own, mean=-own.mean)),
    ),
    _fault(
        "beta-subtracted",
        "batch norm's beta subtracted",
        ("beta subtracted, not added", lambda own: replace(own, beta=-own.beta)),
    ),
    _fault(
        "beta-scaled",
        "batch norm's beta inside the scale",
        ("beta multiplied by gamma", lambda own: replace(own, beta=own.beta * own.gamma)),
    ),
    _fault(
        "parameters-reversed",
        "batch norm's channels in reverse order",
        ("its parameters' channels in reverse order", _reversed),
    ),
    in_variants("batch-statistics", "batch norm in training mode", _KINDS, _batch_statistics),
    in_variants(
        "instance-statistics", "instance norm for batch norm", _KINDS, _instance_statistics
    ),
    in_variants("group-statistics", "group norm for batch norm", _KINDS, _group_statistics),
    _with_values("raw"),
    _with_values("ema"),
    _of_other_node(
        "parameters-of-other-node",
        "another batch norm's parameters",
        "parameters",
        "gamma",
        "beta",
        "mean",
        "variance",
    ),
    _of_other_node(
        "statistics-of-other-node",
        "another batch norm's statistics",
        "mean and variance",
        "mean",
        "variance",
    ),
    _of_other_node(
        "affine-of-other-node",
        "another batch norm's gamma and beta",
        "gamma and beta",
        "gamma",
        "beta",
    ),
    in_variants(
        "parameters-exchanged",
        "a batch norm's parameters for one another",
        _KINDS,
        _exchanged,
        put_in=_BETA_AND_MEAN,
    ),
    activations.on_top(_KINDS),
    in_variants("applied-twice", "batch norm applied twice", _KINDS, _twice),
    with_numbers(
        "epsilon",
        "batch norm with an epsilon that nobody uses",
        _KINDS,
        _fitted_epsilon,
        lambda operation, base: _other_epsilon(operation, base, _UNUSUAL_EPSILON),
    ),
)
"""Faults of a batch norm, the simplest and likeliest first."""
