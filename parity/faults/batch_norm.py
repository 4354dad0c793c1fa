"""What ports get wrong in a batch norm: its epsilon, its statistics, or whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from parity.faults import activations
from parity.faults.case import (
    ALL,
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    by_resemblance,
    fitted,
)
from parity.results.digits import told

_GROUPS = (1, 2, 4, 8, 16, 32)
"""Numbers of groups that a group norm is given."""

_EPSILONS = (1e-5, 1e-4, 1e-2, 1e-6, 0.0, 1e-7, 1e-8, 1e-12)


@dataclass(frozen=True)
class BatchNorm:
    """One batch norm; called with channels it gives them and their gauge.

    Attributes:
        x: Its input.
        gamma: Scale of each channel.
        beta: Offset of each channel.
        mean: Mean of each channel.
        variance: Variance of each channel.
        epsilon: Added to the variance.
    """

    x: Tensor
    gamma: Tensor
    beta: Tensor
    mean: Tensor
    variance: Tensor
    epsilon: float

    def __call__(self, channels: Channels) -> tuple[Tensor, Tensor]:
        """``(x - mean) gamma / sqrt(variance + epsilon) + beta`` at some channels."""
        gamma, beta, mean, variance = (
            value[channels].view(1, -1, 1, 1)
            for value in (self.gamma, self.beta, self.mean, self.variance)
        )
        scale = gamma / torch.sqrt(variance + self.epsilon)
        x = self.x[:, channels]
        gauge = x.abs() * scale.abs() + (mean * scale).abs() + beta.abs()
        return (x - mean) * scale + beta, gauge


def faithful(case: Case) -> BatchNorm:
    """The batch norm as it should be."""
    module: Any = case.module
    return _with_parameters_of(module, case.arguments[0], float(module.eps))


def _with_parameters_of(module: Any, x: Tensor, epsilon: float) -> BatchNorm:
    values = (module.weight, module.bias, module.running_mean, module.running_var)
    gamma, beta, mean, variance = (value.detach().double() for value in values)
    return BatchNorm(x, gamma, beta, mean, variance, epsilon)


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Faults of a batch norm, the simplest and likeliest first."""
    own = faithful(case)
    for epsilon in _EPSILONS:
        if epsilon != own.epsilon:
            yield _epsilon(own, epsilon)
    yield from _missing(own)
    yield from _wrong_formula(own)
    yield from _batch_statistics(own)
    for label, values in case.alternatives.items():
        other = replace(
            own,
            gamma=values.get("weight", own.gamma).double(),
            beta=values.get("bias", own.beta).double(),
            mean=values.get("running_mean", own.mean).double(),
            variance=values.get("running_var", own.variance).double(),
        )
        yield Hypothesis(f"parameters-{label}", f"with its {label} parameters", other)
    yield from _siblings(case, own)
    yield from _exchanged(own)
    yield from activations.on_top(own)
    yield Hypothesis("applied-twice", "applied twice", _twice(own))
    yield from _fitted_epsilon(case, own)


def _epsilon(own: BatchNorm, epsilon: float) -> Hypothesis:
    return Hypothesis(
        "epsilon",
        f"batch norm with epsilon {epsilon:g} instead of {own.epsilon:g}",
        replace(own, epsilon=epsilon),
    )


def _missing(own: BatchNorm) -> Iterator[Hypothesis]:
    one, zero = torch.ones_like(own.gamma), torch.zeros_like(own.gamma)
    yield Hypothesis("gamma-missing", "without its scale gamma", replace(own, gamma=one))
    yield Hypothesis("beta-missing", "without its offset beta", replace(own, beta=zero))
    yield Hypothesis(
        "affine-missing", "without its scale and offset", replace(own, gamma=one, beta=zero)
    )
    yield Hypothesis("mean-missing", "without subtracting its mean", replace(own, mean=zero))
    yield Hypothesis(
        "variance-missing", "without dividing by its deviation", replace(own, variance=one)
    )
    yield Hypothesis(
        "statistics-missing",
        "with mean 0 and variance 1 instead of its statistics",
        replace(own, mean=zero, variance=one),
    )


def _wrong_formula(own: BatchNorm) -> Iterator[Hypothesis]:
    variance, epsilon = own.variance, own.epsilon
    # Each is the faithful formula with the variance that gives the wrong divisor.
    yield Hypothesis(
        "variance-as-deviation",
        "divided by its variance, not by the square root of it",
        replace(own, variance=(variance + epsilon).square(), epsilon=0.0),
    )
    yield Hypothesis(
        "deviation-as-variance",
        "its deviation taken for its variance",
        replace(own, variance=variance.clamp(min=0).sqrt()),
    )
    yield Hypothesis(
        "variance-as-deviation",
        "its variance taken for a deviation and squared",
        replace(own, variance=variance.square()),
    )
    yield Hypothesis(
        "variance-inverted",
        "multiplied by its deviation instead of divided",
        replace(own, variance=1 / (variance + epsilon), epsilon=0.0),
    )
    yield Hypothesis(
        "epsilon-outside",
        "epsilon added to the deviation instead of the variance",
        replace(own, variance=(variance.clamp(min=0).sqrt() + epsilon).square(), epsilon=0.0),
    )
    yield Hypothesis("gamma-plus-one", "scaled by 1 + gamma", replace(own, gamma=own.gamma + 1))
    yield Hypothesis("gamma-absolute", "scaled by |gamma|", replace(own, gamma=own.gamma.abs()))
    yield Hypothesis("mean-added", "its mean added, not subtracted", replace(own, mean=-own.mean))
    yield Hypothesis("beta-subtracted", "beta subtracted, not added", replace(own, beta=-own.beta))
    yield Hypothesis(
        "beta-scaled", "beta multiplied by gamma", replace(own, beta=own.beta * own.gamma)
    )
    yield Hypothesis(
        "parameters-reversed",
        "its parameters' channels in reverse order",
        replace(
            own,
            gamma=own.gamma.flip(0),
            beta=own.beta.flip(0),
            mean=own.mean.flip(0),
            variance=own.variance.flip(0),
        ),
    )


def _batch_statistics(own: BatchNorm) -> Iterator[Hypothesis]:
    x = own.x
    count = x.numel() // x.shape[1]
    for correction, text in ((0, ""), (1, ", unbiased")):
        if count > correction:
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=correction)
            yield Hypothesis(
                "batch-statistics",
                f"with this batch's own statistics{text} (training mode)",
                replace(own, mean=mean, variance=variance),
            )
    if x.shape[0] > 1:
        yield Hypothesis(
            "instance-statistics",
            "with each image's own statistics",
            _of_groups(own, x.shape[1]),
        )
    for groups in _GROUPS:
        if x.shape[1] % groups == 0 and groups < x.shape[1]:
            what = "of all channels (layer norm)" if groups == 1 else f"of {groups} groups"
            yield Hypothesis(
                "group-statistics",
                f"with each image's own statistics {what}",
                _of_groups(own, groups),
            )


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
        return output, reach * (scale * gamma).abs() + beta.abs()

    return evaluate


def _siblings(case: Case, own: BatchNorm) -> Iterator[Hypothesis]:
    others = []
    for name in by_resemblance(case.name, case.siblings):
        other = _with_parameters_of(case.siblings[name], own.x, own.epsilon)
        if other.gamma.shape == own.gamma.shape:
            others.append((name, other))
            yield Hypothesis("parameters-of-other-node", f"with the parameters of {name}", other)
    for name, other in others:
        yield Hypothesis(
            "statistics-of-other-node",
            f"with the mean and variance of {name}",
            replace(own, mean=other.mean, variance=other.variance),
        )
        yield Hypothesis(
            "affine-of-other-node",
            f"with the gamma and beta of {name}",
            replace(own, gamma=other.gamma, beta=other.beta),
        )


def _exchanged(own: BatchNorm) -> Iterator[Hypothesis]:
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
        yield Hypothesis(
            "parameters-exchanged",
            "with " + ", ".join(moved),
            replace(own, gamma=gamma, beta=beta, mean=mean, variance=variance),
        )


def _moved(order: tuple[int, ...]) -> int:
    return sum(place != source for place, source in enumerate(order))


def _twice(own: BatchNorm) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = own(ALL)
        second, scale = replace(own, x=output)(channels)
        slope = own.gamma / torch.sqrt(own.variance + own.epsilon)
        return second, scale + (gauge * slope.abs().view(1, -1, 1, 1))[:, channels]

    return evaluate


def _fitted_epsilon(case: Case, own: BatchNorm) -> Iterator[Hypothesis]:
    """The epsilon that the slopes of the channels of the smallest variances show."""
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
            return replace(faithful(case), epsilon=epsilon)

        title = f"batch norm with epsilon {text} instead of {own.epsilon:g}"
        yield fitted("epsilon", title, case, own, again, 1)
