"""How far a candidate's output is from what a hypothesis gives."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from parity.faults.basics.case import Case, Channels, Evaluation, LowerPrecision

_AGREEING = 0.9
"""Share of values that agree where an output was rounded as assumed."""


def roundings(case: Case, evaluate: Evaluation, channels: Channels) -> Tensor:
    """Largest distance of the candidate in each channel, in units of ``unit * gauge``.

    Args:
        case: The failing node.
        evaluate: The operation.
        channels: The channels to look at.

    Returns:
        [channels]; a single infinity where the operation cannot be computed or gives another
        shape. NaN is never near anything.
    """
    return _both(case, evaluate, None, channels)[0]


def beside(
    case: Case, evaluate: Evaluation, base: Evaluation, channels: Channels
) -> tuple[float, float]:
    """Largest distance of the candidate from a hypothesis and from the faithful operation.

    Both in roundings of the hypothesis: one that allows itself more than the faithful operation
    does not come nearer by that. Infinite where shapes differ.

    Args:
        case: The failing node.
        evaluate: The hypothesis.
        base: The faithful operation.
        channels: The channels to look at.
    """
    ours, faithful = _both(case, evaluate, base, channels)
    return float(ours.max()), float(faithful.max())


def from_stored(case: Case, evaluate: Evaluation, stored: LowerPrecision) -> float:
    """Largest distance of the candidate from an output rounded to lower precision.

    In units of the lower type's roundoff, beyond what the candidate's own roundings explain;
    infinite unless nearly all values agree bit for bit. Where the unrounded value lies near the
    middle of two neighbours the candidate may hold the other one, two units away.

    Args:
        case: The failing node.
        evaluate: What is rounded.
        stored: The type.
    """
    theirs = case.candidate.double()
    made, gauge = _computed(evaluate, slice(None))
    if made is None or gauge is None or made.shape != theirs.shape:
        return math.inf
    rounded = stored.rounded(made)
    if float((rounded == theirs).double().mean()) < _AGREEING:
        return math.inf
    excess = (theirs - rounded).abs() - case.bound * case.unit * (gauge + case.underflow)
    spacing = stored.unit * rounded.abs().clamp(min=stored.smallest)
    counts = torch.where(theirs == rounded, 0.0, excess.clamp(min=0) / spacing)
    return float(counts.nan_to_num(nan=math.inf, posinf=math.inf).max())


def _both(
    case: Case, evaluate: Evaluation, base: Evaluation | None, channels: Channels
) -> tuple[Tensor, Tensor]:
    nothing = torch.full((1,), math.inf, dtype=torch.float64)
    theirs = case.candidate[:, channels].double()
    output, gauge = _computed(evaluate, channels)
    if output is None or gauge is None or output.shape != theirs.shape:
        return nothing, nothing
    if gauge.shape != theirs.shape:
        return nothing, nothing
    ours = _count(case, theirs, output, gauge)
    if base is None:
        return ours, nothing
    faithful, _ = _computed(base, channels)
    if faithful is None or faithful.shape != theirs.shape:
        return ours, nothing
    return ours, _count(case, theirs, faithful, gauge)


def _computed(evaluate: Evaluation, channels: Channels) -> tuple[Tensor | None, Tensor | None]:
    try:
        return evaluate(channels)
    # What a fault asks for is not always possible for the shapes and values at hand, and what
    # cannot be computed explains nothing. A comparison never ends here.
    except Exception:
        return None, None


def _count(case: Case, theirs: Tensor, output: Tensor, gauge: Tensor) -> Tensor:
    counts = (theirs - output).abs() / (case.unit * (gauge + case.underflow))
    # An infinite gauge, or one below zero, would make anything near; infinities agree where they
    # are equal.
    counts = torch.where(torch.isfinite(gauge) & (gauge >= 0), counts, math.inf)
    counts = torch.where(theirs == output, 0.0, counts)
    return counts.nan_to_num(nan=math.inf, posinf=math.inf).amax((0, 2, 3))
