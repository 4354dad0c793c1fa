"""Tries hypotheses one after another until one reproduces the candidate's output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.limits import SIDE_LIMIT
from parity.torch_side.hypotheses import (
    activations,
    batch_norm,
    convolution,
    elementwise,
    fusion,
    general,
    images,
    kernel_fit,
    mean,
    precision,
    predictions,
    resampling,
)
from parity.torch_side.hypotheses.case import ALL, Case, Channels, Diagnosis, Evaluation, Hypothesis

LIMIT = 2 * SIDE_LIMIT
"""Roundings within which a hypothesis reproduces an output: one side's for the candidate's own
arithmetic, and as many for faults that are two operations in one, whose first rounding the second
carries on."""

CLOSER = 10
"""How many times closer than the faithful operation a hypothesis has to come. One that says the
same at this node (symmetric padding at stride 1) comes equally close and explains nothing."""

_STEP = 2
"""Units of roundoff between neighbouring numbers."""

_AGREEING = 0.9
"""Share of values that agree where an output was rounded as assumed."""

_SCREENED = 2
"""Channels on which a hypothesis is tried before it is tried on all."""


def faithful(case: Case) -> Evaluation:
    """The operation as it should be."""
    kind = case.kind
    if kind in (NodeKind.CONV, NodeKind.DEPTHWISE):
        return convolution.faithful(case)
    if kind is NodeKind.BATCH_NORM:
        return batch_norm.faithful(case)
    if kind is NodeKind.ACTIVATION:
        return activations.of_each(case, torch.nn.functional.silu)
    if kind is NodeKind.GATE:
        return activations.of_each(case, torch.sigmoid)
    if kind is NodeKind.FUSE:
        return fusion.faithful(case)
    simple: dict[NodeKind, Callable[[Case], Evaluation]] = {
        NodeKind.MEAN: mean.faithful,
        NodeKind.SCALE: elementwise.scale,
        NodeKind.ADD: elementwise.add,
        NodeKind.POOL: resampling.pool,
        NodeKind.UPSAMPLE: resampling.upsample,
    }
    return simple[kind](case)


def hypotheses(case: Case, base: Evaluation, wrong: Tensor) -> Iterator[Hypothesis]:
    """All hypotheses about a node, those first that would be believed first.

    Args:
        case: The failing node.
        base: The faithful operation.
        wrong: Indices of the channels that it does not reproduce; empty where shapes differ.
    """
    yield from general.simple(case, base)
    yield from predictions.hypotheses(case, base)
    if case.is_input:
        yield from images.hypotheses(case)
    yield from _of_kind(case)
    yield from general.moved(case, base)
    if case.kind not in (NodeKind.CONV, NodeKind.DEPTHWISE, NodeKind.BATCH_NORM):
        yield from activations.on_top(base)
    yield from general.fitted(case, base)
    if case.kind in (NodeKind.CONV, NodeKind.DEPTHWISE) and wrong.numel():
        yield from kernel_fit.hypotheses(case, wrong)


def _of_kind(case: Case) -> Iterator[Hypothesis]:
    kind = case.kind
    if kind is NodeKind.ACTIVATION:
        return activations.hypotheses(case, torch.nn.functional.silu)
    if kind is NodeKind.GATE:
        return activations.hypotheses(case, torch.sigmoid)
    families: dict[NodeKind, Callable[[Case], Iterator[Hypothesis]]] = {
        NodeKind.CONV: convolution.hypotheses,
        NodeKind.DEPTHWISE: convolution.hypotheses,
        NodeKind.BATCH_NORM: batch_norm.hypotheses,
        NodeKind.FUSE: fusion.hypotheses,
        NodeKind.MEAN: mean.hypotheses,
        NodeKind.SCALE: elementwise.scale_hypotheses,
        NodeKind.ADD: elementwise.add_hypotheses,
        NodeKind.POOL: resampling.pool_hypotheses,
        NodeKind.UPSAMPLE: resampling.upsample_hypotheses,
    }
    return families[kind](case)


@torch.no_grad()
def diagnose(case: Case) -> Diagnosis | None:
    """The simplest fault that reproduces what a candidate made of a node's inputs.

    Hypotheses are tried in order, first on a few channels, then on all. The first that fits is
    the answer; of those that follow under the same name (other epsilons, other siblings) one
    that fits at least twice as closely is preferred.

    Args:
        case: The failing node.

    Returns:
        The diagnosis; None where nothing fits, or where there is nothing to explain because
        the candidate is within one side's roundings of the faithful operation.
    """
    candidate = case.candidate
    if candidate.dim() != 4 or not candidate.numel():
        return None
    output, gauge = faithful(case)(ALL)

    def base(channels: Channels) -> tuple[Tensor, Tensor]:
        return output[:, channels], gauge[:, channels]

    by_channel = _roundings(case, base, ALL)
    without = float(by_channel.max())
    if without <= SIDE_LIMIT:
        return None
    screen = _telling(by_channel, candidate.shape[1])
    comparable = by_channel.numel() == output.shape[1] == candidate.shape[1]
    wrong = (by_channel > SIDE_LIMIT).nonzero().flatten() if comparable else torch.arange(0)
    tried = 0
    for slug, group in groupby(hypotheses(case, base, wrong), lambda item: item.slug):
        best: tuple[float, str] | None = None
        for hypothesis in group:
            tried += 1
            # A better fit under the same name has to be twice as close.
            bound = LIMIT if best is None else best[0] / 2
            bound = min(bound, without / CLOSER)
            if float(_roundings(case, hypothesis.evaluate, screen).max()) > bound:
                continue
            distance = float(_roundings(case, hypothesis.evaluate, ALL).max())
            if distance <= bound:
                best = distance, hypothesis.title
        if best is not None:
            return Diagnosis(slug, best[1], best[0], without, tried, case.unit)
    return _of_lower_precision(case, output, gauge, screen, tried)


def _telling(by_channel: Tensor, count: int) -> Tensor:
    """The channels that the faithful operation misses most, and the one it misses least."""
    if by_channel.numel() != count:
        return torch.linspace(0, count - 1, min(count, _SCREENED)).long()
    order = by_channel.argsort(descending=True)
    return torch.cat([order[: _SCREENED - 1], order[_SCREENED - 1 :][-1:]])


def _roundings(case: Case, evaluate: Evaluation, channels: Channels) -> Tensor:
    """Largest distance from the candidate in each channel, in units of ``unit * gauge``.

    A single infinity where the operation cannot be computed or gives another shape.
    """
    theirs = case.candidate[:, channels]
    nothing = torch.full((1,), math.inf, dtype=torch.float64)
    try:
        output, gauge = evaluate(channels)
    # What a fault asks for is not always possible for the shapes at hand.
    except (RuntimeError, IndexError, ValueError):
        return nothing
    if output.shape != theirs.shape or gauge.shape != theirs.shape:
        return nothing
    error = (theirs.double() - output).abs()
    counts = error / (case.unit * (gauge + case.underflow))
    # Infinities on both sides leave no number, but do agree.
    counts = torch.where((theirs.double() == output) | (error == 0), 0.0, counts)
    return counts.nan_to_num(nan=math.inf).amax((0, 2, 3))


def _of_lower_precision(
    case: Case, output: Tensor, gauge: Tensor, screen: Tensor, tried: int
) -> Diagnosis | None:
    """Whether the node was computed in a type of lower precision."""
    candidate = case.candidate.double()
    if candidate.shape != output.shape or not bool(torch.isfinite(candidate).all()):
        return None
    error = (candidate - output).abs()

    def diagnosis(title: str, distance: float, unit: float) -> Diagnosis:
        without = float((error / (unit * (gauge + case.underflow))).max())
        return Diagnosis("reduced-precision", title, distance, without, tried, unit)

    for way in precision.ways(case, faithful):
        tried += 1
        if way.output:
            measured = partial(_from_rounded, case, way)
            limit, unit = _STEP, way.precision.unit
        else:
            measured = partial(_roundings, case, way.evaluate)
            limit, unit = LIMIT, case.unit
        if float(measured(screen).max()) <= limit:
            distance = float(measured(ALL).max())
            found = diagnosis(way.title, distance, unit)
            if distance <= limit and (way.output or CLOSER * distance <= found.without):
                return found
    scale = precision.squared(case, faithful)
    noise = None if scale is None else precision.noise(candidate - output, output, scale)
    if noise is None:
        return None
    title = (
        f"errors of the size that operands rounded to a {noise.bits}-bit mantissa give "
        f"({'TF32 or float16' if noise.bits == 10 else 'bfloat16'})"
    )
    distance = float((error / (noise.unit * (gauge + case.underflow))).max())
    return diagnosis(title, distance, noise.unit)


def _from_rounded(case: Case, way: precision.Rounded, channels: Channels) -> Tensor:
    """Largest distance of the candidate from an output rounded to lower precision.

    In units of the lower type's roundoff, beyond what the candidate's own roundings explain;
    infinite unless nearly all values agree. Where the unrounded value lies near the middle of
    two neighbours the candidate may hold the other one, two units away.
    """
    theirs = case.candidate[:, channels].double()
    made, gauge = way.evaluate(channels)
    rounded = way.precision.rounded(made)
    if float((rounded == theirs).double().mean()) < _AGREEING:
        return torch.full((1,), math.inf, dtype=torch.float64)
    excess = (theirs - rounded).abs() - LIMIT * case.unit * (gauge + case.underflow)
    spacing = way.precision.unit * rounded.abs().clamp(min=way.precision.smallest)
    return (excess.clamp(min=0) / spacing).amax((0, 2, 3))
