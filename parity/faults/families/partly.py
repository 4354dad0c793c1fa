"""An operation that acts on a part of its input only, or on an input that was changed before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

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
    counted,
    fitted,
)
from parity.faults.basics.fault import CONVOLUTIONS, Variant, in_variants, with_numbers
from parity.faults.basics.operations import Convolution, convolution
from parity.faults.families import activations
from parity.results.digits import told

_UNARY = CONVOLUTIONS | {NodeKind.BATCH_NORM, NodeKind.ACTIVATION, NodeKind.GATE}

_ENOUGH = 16
"""Values that must be the input's own for a part to count as left out."""

_STEPS = 30
"""Steps within which a limit settles."""

_KNOWN = 3
"""Activations before a convolution that have been looked for by then."""


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
                lambda case, base, axis=axis: _mixed(case, base, _held(case, axis)),  # type: ignore[misc]
                2,
            )


def _held(case: Case, axis: int) -> Tensor:
    """Where along an axis all of the output is the input."""
    held = case.candidate.double() == case.arguments[0]
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


def _activated(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = convolution(operation)
    for _, title, function in islice(activations.ACTIVATIONS, _KNOWN, None):
        yield f"{title} before it", replace(own, x=function(own.x))
    yield "its input with the other sign", replace(own, x=-own.x)


def _fitted_limit(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """An input cut off above or below at one number."""
    own = convolution(case)
    output = base(ALL)[0]
    if output.shape != case.candidate.shape:
        return
    channels = torch.linspace(0, output.shape[1] - 1, min(output.shape[1], 8)).long()
    theirs = case.candidate[:, channels].double()
    # As many channels as are looked at are cut together with what they read.
    part = own.only(channels)
    for above in (True, False):
        value = _settled_limit(part, theirs, above)
        if value is None:
            continue
        text = told(value, float("inf"))
        short = float(f"{value:.3g}")
        for limit in dict.fromkeys((short, value)):
            yield fitted(
                "input-clamped",
                f"its input cut off at {'most' if above else 'least'} "
                f"{f'{limit:.5g}' if limit == short else text}",
                case,
                base,
                lambda case, base, limit=limit, above=above: _limited(case, limit, above=above),  # type: ignore[misc]
                1,
            )


def _limited(operation: Operation, limit: float, *, above: bool) -> Evaluation:
    own = convolution(operation)

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        part = own.only(channels)
        x = part.x.clamp(max=limit) if above else part.x.clamp(min=limit)
        return replace(part, x=x)(ALL)

    return evaluate


def _settled_limit(part: Convolution, theirs: Tensor, above: bool) -> float | None:
    """The limit that comes nearest, by Newton's method on a function that is linear in pieces."""
    x = part.x
    flat = x.flatten()
    sample = flat[torch.linspace(0, len(flat) - 1, min(len(flat), 4096)).long()]
    shares = (0.999, 0.99, 0.97, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3)
    starts = torch.quantile(sample, torch.tensor(shares if above else [1 - s for s in shares],
                                                 dtype=sample.dtype))  # fmt: skip

    def made(limit: float) -> Tensor:
        cut = x.clamp(max=limit) if above else x.clamp(min=limit)
        return replace(part, x=cut)(ALL)[0]

    def miss(limit: float) -> float:
        return float((made(limit) - theirs).square().sum())

    value = min((float(v) for v in starts), key=miss)
    for _ in range(_STEPS):
        cut = x > value if above else x < value
        slope = replace(part, x=cut.to(x.dtype), bias=None)(ALL)[0]
        power = float(slope.square().sum())
        if not power:
            return None
        change = float((slope * (theirs - made(value))).sum()) / power
        value += change
        if abs(change) <= 1e-12 * max(abs(value), 1e-6):
            break
    return value


FAULTS = (
    with_numbers(
        "left-out-partly", "half of the channels passed through", _UNARY, _left_out_partly, _half
    ),
    in_variants(
        "activation-before", "an unusual activation before", CONVOLUTIONS, _activated,
        where=lambda site: not site.is_input,
    ),
    with_numbers(
        "input-clamped",
        "an input cut off",
        CONVOLUTIONS,
        _fitted_limit,
        lambda operation, base: _limited(operation, 0.7, above=True),
        alike=("activation-before",),
    ),
)  # fmt: skip
"""An operation of a part, or of a changed input."""
