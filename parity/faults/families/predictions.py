"""What ports get wrong in the order of the predictions' channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from parity.faults.basics.case import (
    ALL,
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    Operation,
    Site,
    fitted,
)
from parity.faults.basics.fault import CONVOLUTIONS, Fault, Variant, in_variants, with_numbers

_BOX_ORDERS = (
    ((1, 0, 3, 2), "x before y: [tx, ty, tw, th] instead of [ty, tx, th, tw]"),
    ((1, 0, 2, 3), "tx and ty exchanged"),
    ((0, 1, 3, 2), "th and tw exchanged"),
    ((2, 3, 0, 1), "sizes before centres"),
    ((3, 2, 1, 0), "[tw, th, tx, ty]"),
    ((0, 2, 1, 3), "[ty, th, tx, tw]"),
)


def reordered(base: Evaluation, order: Tensor) -> Evaluation:
    """An operation whose output channel i is the faithful channel ``order[i]``."""
    return lambda channels: base(order[channels])


_Orders = Callable[[Tensor], Iterator[tuple[str, Tensor]]]
"""Orders of the channels, given as [anchors, outputs] in the faithful, anchor-major order."""


def _fault(slug: str, title: str, orders: _Orders, where: Callable[[Site], bool]) -> Fault:
    """The right predictions in wrong channels."""

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        outputs, anchors = operation.outputs_per_anchor, operation.num_anchors
        if not outputs or not anchors or not where(operation):
            return
        for words, order in orders(torch.arange(anchors * outputs).view(anchors, outputs)):
            yield words, reordered(base, order.reshape(-1))

    return in_variants(slug, title, CONVOLUTIONS, variants, where=where)


def _predicts(site: Site) -> bool:
    return bool(site.outputs_per_anchor and site.num_anchors)


def _predicts_boxes(site: Site) -> bool:
    return _predicts(site) and site.outputs_per_anchor == 4


def _values_first(index: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "values before anchors instead of anchors before values", index.T


def _box_orders(index: Tensor) -> Iterator[tuple[str, Tensor]]:
    for order, words in _BOX_ORDERS:
        yield words, index[:, list(order)]


def _anchor_orders(index: Tensor) -> Iterator[tuple[str, Tensor]]:
    anchors, outputs = index.shape
    side = round(anchors**0.5)
    if side * side == anchors:
        blocks = index.view(side, side, outputs)
        yield "scales and aspects of the anchors exchanged", blocks.transpose(0, 1)
        for axis, what in ((0, "scales"), (1, "aspects")):
            yield f"{what} of the anchors in reverse order", blocks.flip(axis)
        if side == 3:
            yield "second and third aspect of the anchors exchanged", blocks[:, [0, 2, 1]]
    yield "anchors in reverse order", index.flip(0)


def _class_orders(index: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "values of each anchor in reverse order", index.flip(1)
    for step in (1, -1):
        yield f"values of each anchor moved by {step:+d}", index.roll(step, 1)


def _fitted_order(case: Case, base: Evaluation, slug: str) -> Iterator[Hypothesis]:
    """Anchors, or the values of each, in whatever order the output shows."""
    outputs, anchors = case.outputs_per_anchor, case.num_anchors
    output, _ = base(ALL)
    candidate = case.candidate.double()
    if not outputs or not anchors or output.shape != candidate.shape:
        return
    places = output[:, 0].numel()
    sample = torch.linspace(0, places - 1, min(places, _SAMPLES)).long()
    ours, theirs = (v.transpose(0, 1).flatten(1)[:, sample] for v in (output, candidate))
    nearest = torch.cdist(theirs, ours, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    blocks = nearest.view(anchors, outputs)
    anchor, value = blocks[:, 0] // outputs, blocks[0] % outputs
    if not bool((blocks == anchor[:, None] * outputs + value).all()):
        return
    moved = [bool((order != torch.arange(len(order))).any()) for order in (anchor, value)]
    if slug == "anchor-order" and not moved[0] or slug == "class-order" and moved != [False, True]:
        return
    parts = [
        f"{what} in the order {_few(order)}"
        for what, order, changed in zip(
            ("anchors", "values of each anchor"), (anchor, value), moved, strict=True
        )
        if changed
    ]
    again = partial(_again_ordered, nearest)
    yield fitted(slug, " and ".join(parts), case, base, again, 1)


def _few(order: Tensor) -> str:
    listed = order.tolist()
    return ", ".join(map(str, listed[:12])) + (", ..." if len(listed) > 12 else "")


_SAMPLES = 64
"""Positions by which channels are told apart."""


def _again_ordered(order: Tensor, operation: Operation, base: Evaluation) -> Evaluation:
    return reordered(base, order)


def _anchors_shuffled(operation: Operation, base: Evaluation) -> Evaluation | None:
    outputs, anchors = operation.outputs_per_anchor, operation.num_anchors
    if not outputs or not anchors or anchors < 2:
        return None
    index = torch.arange(anchors * outputs).view(anchors, outputs)
    order = torch.arange(anchors).roll(2) if anchors > 2 else torch.arange(anchors).flip(0)
    return reordered(base, index[order].reshape(-1))


def _values_shuffled(operation: Operation, base: Evaluation) -> Evaluation | None:
    outputs, anchors = operation.outputs_per_anchor, operation.num_anchors
    if not outputs or not anchors or outputs < 4:
        return None
    index = torch.arange(anchors * outputs).view(anchors, outputs)
    order = torch.tensor([1, 3, 0, 2, *range(4, outputs)])
    return reordered(base, index[:, order].reshape(-1))


def _fitted_bias(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """One number in place of all of a bias, such as the one that it is initialised with."""
    module: Any = case.module
    output, _ = base(ALL)
    predicts = case.outputs_per_anchor and case.num_anchors
    if not predicts or module.bias is None or output.shape != case.candidate.shape:
        return
    own = module.bias.detach()
    shown = (case.candidate.double() - output).mean((0, 2, 3)) + own
    value = float(shown.median())
    for constant in dict.fromkeys((float(f"{value:.3g}"), float(f"{value:.5g}"), value)):
        if constant and math.isfinite(constant):
            title = f"{constant:.5g} for every value of its bias, as it may be initialised"
            again = partial(_with_bias, constant)
            yield fitted("bias-constant", title, case, base, again, 1)


def _with_bias(constant: float, operation: Operation, base: Evaluation) -> Evaluation:
    module: Any = operation.module
    own = module.bias.detach()

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(channels)
        change = (constant - own[channels]).to(output).view(1, -1, 1, 1)
        return output + change, gauge + abs(constant)

    return evaluate


def _softmax(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    outputs = operation.outputs_per_anchor
    if outputs and _predicts(operation):
        yield "softmax over the values of each anchor", _softmax_of(base, outputs)


def _softmax_of(base: Evaluation, outputs: int) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(ALL)
        shape = (output.shape[0], -1, outputs, *output.shape[2:])
        result = torch.softmax(output.view(shape), 2).view(output.shape)
        # A softmax changes by no more than its result times twice the largest change.
        reach = (
            gauge.view(shape)
            .amax(2, keepdim=True)
            .expand(*shape[:1], output.shape[1] // outputs, *shape[2:])
        )
        return result[:, channels], (result * (1 + 2 * reach.reshape(output.shape)))[:, channels]

    return evaluate


FAULTS = (
    _fault("prediction-order", "predictions class-major", _values_first, _predicts),
    _fault(
        "box-order", "the four values of each box in another order", _box_orders, _predicts_boxes
    ),
    _fault("anchor-order", "anchors in another order", _anchor_orders, _predicts),
    _fault("class-order", "the values of each anchor in another order", _class_orders, _predicts),
    in_variants(
        "softmax",
        "softmax over the classes of each anchor",
        CONVOLUTIONS,
        _softmax,
        where=_predicts,
    ),
    with_numbers(
        "anchor-order", "anchors in any order", CONVOLUTIONS,
        partial(_fitted_order, slug="anchor-order"), _anchors_shuffled, where=_predicts,
    ),
    with_numbers(
        "class-order", "the values of each anchor in any order", CONVOLUTIONS,
        partial(_fitted_order, slug="class-order"), _values_shuffled, where=_predicts,
    ),
    with_numbers(
        "bias-constant", "one number for all of a bias", CONVOLUTIONS, _fitted_bias,
        partial(_with_bias, -4.595), where=_predicts,
    ),
)  # fmt: skip
"""The right predictions in wrong channels, or with a function on top."""
