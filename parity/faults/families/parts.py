"""Faults in some channels or some images only: the rest is right."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
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
    computed,
    counted,
    fitted,
)
from parity.faults.basics.distance import roundings
from parity.faults.basics.fault import CONVOLUTIONS, EVERY, Fault, Kinds, with_numbers
from parity.faults.basics.operations import faithful

BY_CHANNEL: Kinds = frozenset({
    NodeKind.ACTIVATION, NodeKind.GATE, NodeKind.ADD, NodeKind.SCALE, NodeKind.FUSE,
    NodeKind.MEAN, NodeKind.POOL, NodeKind.UPSAMPLE, NodeKind.BATCH_NORM,
})  # fmt: skip
"""Nodes of which each channel is made of its own input channels alone."""

_VALUES = 64
"""Values of a part that must show what is wrong there."""

_LISTED = 6
"""Ranges that a title lists."""

_IMAGES, _CHANNELS = 0, 1

_UNARY = CONVOLUTIONS | {NodeKind.BATCH_NORM, NodeKind.ACTIVATION, NodeKind.GATE}

_ENOUGH = 16
"""Values that must be the input's own for a part to count as left out."""


def _wrong(case: Case, base: Evaluation, axis: int) -> Tensor | None:
    """The channels or images in which a node fails; None where that is none or all."""
    output, gauge = base(ALL)
    if output.shape != case.candidate.shape or output.shape[axis] < 2:
        return None
    counts = (case.candidate.double() - output).abs() / (case.unit * (gauge + case.underflow))
    counts = torch.where(case.candidate == output, 0.0, counts)
    counts = counts.nan_to_num(nan=torch.inf).transpose(0, axis).flatten(1).amax(1)
    failing = (counts > case.limit).nonzero().flatten()
    few = len(failing) * output.select(axis, 0).numel() < _VALUES
    return None if len(failing) in (0, len(counts)) or few else failing


def _part_of(case: Operation, places: Tensor, axis: int, count: int) -> Any:
    """The same operation in some channels or images alone."""

    def chosen(value: Any) -> Any:
        if isinstance(value, Tensor) and value.dim() == 4 and value.shape[axis] == count:
            return value.index_select(axis, places)
        return [chosen(item) for item in value] if isinstance(value, list) else value

    arguments = tuple(chosen(value) for value in case.arguments)
    if axis == _CHANNELS and case.kind is NodeKind.FUSE and getattr(arguments[1], "ndim", 0) > 1:
        # Each channel has weights of its own.
        arguments = (arguments[0], arguments[1].index_select(1, places))
    changes: dict[str, Any] = {"arguments": arguments}
    if isinstance(case, Case):
        changes["candidate"] = case.candidate.index_select(axis, places)
    if axis == _CHANNELS and case.kind is NodeKind.BATCH_NORM:
        changes["module"] = _norm_of(case.module, places)
        changes["siblings"] = {
            name: _norm_of(other, places)
            for name, other in case.siblings.items()
            if getattr(other, "weight", torch.empty(0)).numel() == count
        }
    return replace(case, **changes)


def _norm_of(norm: Any, places: Tensor) -> Any:
    part = copy.deepcopy(norm)
    for name in ("weight", "bias"):
        getattr(part, name).data = getattr(norm, name).detach()[places]
    for name in ("running_mean", "running_var"):
        setattr(part, name, getattr(norm, name)[places])
    return part


def _in_words(places: Tensor, count: int, axis: int) -> str:
    what = "image" if axis == _IMAGES else "channel"
    listed = places.tolist()
    if len(listed) > 2 and count > 3:
        for first, step in ((0, 2), (1, 2), (0, 3), (0, 4)):
            if listed == list(range(first, count, step)):
                every = {2: "every second", 3: "every third", 4: "every fourth"}[step]
                return f"in {every} {what}, from {first} on"
    ranges: list[tuple[int, int]] = []
    for index in listed:
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1] = (ranges[-1][0], index)
        else:
            ranges.append((index, index))
    texts = [f"{a}" if a == b else f"{a} to {b}" for a, b in ranges]
    more = f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    plural = "" if len(listed) == 1 else "s"
    return f"in {what}{plural} {', '.join(texts[:_LISTED])}{more} of {count}"


def _inside(base: Evaluation, part: Evaluation, places: Tensor, axis: int) -> Evaluation:
    """The faithful operation with something else in some channels or images."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        both = base(ALL)
        made = part(ALL)
        merged = []
        for whole, new in zip(both, made, strict=True):
            value = whole.clone()
            value.index_copy_(axis, places, new.to(whole))
            merged.append(value[:, channels])
        return merged[0], merged[1]

    return evaluate


def _listed(faults: Sequence[Fault], part: Case, base: Evaluation) -> Iterator[Hypothesis]:
    for fault in faults:
        if part.kind not in fault.kinds:
            continue
        try:
            yield from fault.recognise(part, base)
        # What a fault needs may not be there in a part.
        except Exception:
            continue


def _recognise(
    case: Case, base: Evaluation, faults: Sequence[Fault], slug: str, axis: int
) -> Iterator[Hypothesis]:
    places = _wrong(case, base, axis)
    if places is None:
        return
    count = case.candidate.shape[axis]
    part: Case = _part_of(case, places, axis, count)
    within = computed(faithful(part))
    screen = torch.arange(min(2, part.candidate.shape[1]))
    where = _in_words(places, count, axis)
    for inner in _listed(faults, part, within):
        # Zeros have a name of their own.
        if inner.stored is not None or inner.slug == "zero":
            continue
        if float(roundings(part, inner.evaluate, screen).max()) > case.bound:
            continue

        def again(case: Case, base: Evaluation, inner: Hypothesis = inner) -> Evaluation:
            part: Case = _part_of(case, places, axis, count)
            within = computed(faithful(part))
            if inner.again is not None:
                return _inside(base, inner.again(part, within), places, axis)
            same = next(
                other
                for other in _listed(faults, part, within)
                if (other.slug, other.title) == (inner.slug, inner.title)
            )
            return _inside(base, same.evaluate, places, axis)

        title, constants = f"{where}: {inner.title}", 1 + inner.constants
        alone = axis == _IMAGES
        yield fitted(slug, title, case, base, again, constants, of_sizes=alone)


def _zeroed_third(operation: Operation, base: Evaluation, axis: int) -> Evaluation | None:
    """Its input, or zeros, in the first third of the channels or in the first image."""
    output, gauge = base(ALL)
    count = output.shape[axis]
    if count < 2:
        return None
    places = torch.arange(1 if axis == _IMAGES else max(2, count // 3))
    if axis == _CHANNELS and operation.kind is NodeKind.ACTIVATION:
        x = operation.arguments[0]
        return _inside(base, lambda channels: (x[:, places], x[:, places].abs()), places, axis)
    chosen = output.index_select(axis, places)
    return _inside(base, lambda channels: (-chosen, gauge.index_select(axis, places)), places, axis)


def in_parts(faults: Sequence[Fault], of_images: Sequence[Fault] = ()) -> tuple[Fault, ...]:
    """The faults of a part, whatever is wrong there.

    Args:
        faults: What may be wrong with it, in the order of simplicity.
        of_images: What may be wrong with images besides. Of channels it has names of its own.
    """
    return (
        with_numbers(
            "part-of-images",
            "a fault in some images of a batch",
            EVERY,
            partial(_recognise, faults=[*faults, *of_images], slug="part-of-images", axis=_IMAGES),
            partial(_zeroed_third, axis=_IMAGES),
        ),
        with_numbers(
            "part-of-channels",
            "a fault in some channels",
            BY_CHANNEL,
            partial(_recognise, faults=faults, slug="part-of-channels", axis=_CHANNELS),
            partial(_zeroed_third, axis=_CHANNELS),
            alike=("channels-scaled",),
        ),
    )


def _left_out_partly(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Its input where it should have acted, in whole channels, images, rows or columns."""
    x, made = case.arguments[0], case.candidate.double()
    output = base(ALL)[0]
    if x.shape != made.shape or output.shape != made.shape:
        return
    held = made == x
    if int((held & (output != x)).sum()) < _ENOUGH or bool(held.all()):
        return
    for axis, name in ((1, "channels"), (0, "images"), (2, "rows"), (3, "columns")):
        left = _held(case, axis).flatten()
        count = int(left.sum())
        if 0 < count < len(left):
            where = counted(left.nonzero().flatten().tolist())
            yield fitted(
                "left-out-partly",
                f"left out in {count} of {len(left)} {name}, {where}, where its output is its "
                f"input",
                case,
                base,
                # Rows and columns are others on a map of another size.
                partial(_left_out_along, axis),
                2,
            )


def _left_out_along(axis: int, case: Case, base: Evaluation) -> Evaluation:
    return _mixed(case, base, _held(case, axis))


def _held(case: Case, axis: int) -> Tensor:
    """Where along an axis all of the output is the input."""
    held: Tensor = case.candidate.double() == case.arguments[0]
    for other in range(4):
        held = held if other == axis else held.all(other, keepdim=True)
    return held


def _mixed(operation: Operation, base: Evaluation, mask: Tensor) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(channels)
        x = operation.arguments[0][:, channels]
        here = mask[:, channels] if mask.shape[1] > 1 else mask
        return torch.where(here, x, output), torch.where(here, x.abs(), gauge)

    return evaluate


def _half(operation: Operation, base: Evaluation) -> Evaluation | None:
    x = operation.arguments[0]
    if base(ALL)[0].shape != x.shape or x.shape[1] < 2:
        return None
    mask = (torch.arange(x.shape[1]) >= x.shape[1] // 2).view(1, -1, 1, 1)
    return _mixed(operation, base, mask)


LEFT_OUT = (
    with_numbers(
        "left-out-partly",
        "half of the channels passed through",
        _UNARY,
        _left_out_partly,
        _half,
        # What is left out in a part of the channels is as rightly called that.
        alike=("part-of-channels", "part-of-images"),
    ),
)
"""An operation that leaves a part of its input as it is."""
