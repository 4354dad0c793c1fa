"""The faithful operation of each kind of node, and all that may be put in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults import (
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
from parity.faults.case import Case, Evaluation, Hypothesis

_CONVOLUTIONS = (NodeKind.CONV, NodeKind.DEPTHWISE)


def faithful(case: Case) -> Evaluation:
    """The operation as it should be."""
    kind = case.kind
    if kind in _CONVOLUTIONS:
        return convolution.faithful(case)
    if kind is NodeKind.BATCH_NORM:
        return batch_norm.faithful(case)
    if kind is NodeKind.ACTIVATION:
        return activations.of_each(case, activations.official(case))
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
    """All hypotheses about a node, in the order of simplicity.

    Of two that reproduce an output the one with fewer fitted constants is preferred, and of two
    with equally many the one that comes earlier here: what was done to the whole output, then to
    the operation, then where its values went, then what was added to it, then precision. Within
    each of these the likelier stands first.

    Args:
        case: The failing node.
        base: The faithful operation.
        wrong: Indices of the channels that it does not reproduce; empty where shapes differ.
    """
    families: list[Callable[[], Iterator[Hypothesis]]] = [
        lambda: general.simple(case, base),
        lambda: predictions.hypotheses(case, base),
    ]
    if case.is_input:
        families.append(lambda: images.hypotheses(case))
    families += [
        lambda: _of_kind(case),
        lambda: general.moved(case, base),
        lambda: general.permuted(case, base),
    ]
    if case.kind not in (*_CONVOLUTIONS, NodeKind.BATCH_NORM):
        families.append(lambda: activations.on_top(base))
    families += [
        lambda: general.clamped(case, base),
        lambda: general.scaled(case, base),
        lambda: general.zeroed(case, base),
        lambda: general.by_channel(case, base),
    ]
    if case.kind in _CONVOLUTIONS and wrong.numel():
        families.append(lambda: kernel_fit.hypotheses(case, base, wrong))
    families.append(lambda: precision.hypotheses(case, faithful))
    for family in families:
        yield from _as_far_as_it_goes(family)


def _as_far_as_it_goes(family: Callable[[], Iterator[Hypothesis]]) -> Iterator[Hypothesis]:
    try:
        yield from family()
    # A fit may fail on values that nobody foresaw (NaN, a singular matrix): the other families
    # still have something to say, and so has the comparison.
    except Exception:
        return


def _of_kind(case: Case) -> Iterator[Hypothesis]:
    kind = case.kind
    if kind is NodeKind.ACTIVATION:
        return activations.hypotheses(case, activations.official(case))
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
