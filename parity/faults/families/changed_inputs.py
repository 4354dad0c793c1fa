"""A convolution of an input that something was done to before: activated, cut off, filtered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from parity.faults.basics.case import (
    ALL,
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    Operation,
    fitted,
    with_these,
)
from parity.faults.basics.fault import CONVOLUTIONS, Variant, in_variants, with_numbers
from parity.faults.basics.operations import Convolution, convolution, extended, reading
from parity.faults.families import activations
from parity.results.digits import told

_FEW = 4
"""Output channels by which a filter is fitted."""

_SIDE = 5
"""Side of the filters that are fitted."""

_LARGEST = 1 << 22
"""Elements of an input that a filter is fitted to: some seconds' work."""

_STEPS = 30
"""Steps within which a limit settles."""

_KNOWN = 3
"""Activations before a convolution that have been looked for by then."""


def _activated(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = convolution(operation)
    for _, title, function in islice(activations.ACTIVATIONS, _KNOWN, None):
        yield f"{title} before it", reading(own, function)
    yield "its input with the other sign", reading(own, torch.neg)


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
                with_these(_limited, limit, above),
                1,
            )


def _fitted_limits(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """An input cut off at two numbers."""
    own = convolution(case)
    output = base(ALL)[0]
    if output.shape != case.candidate.shape:
        return
    channels = torch.linspace(0, output.shape[1] - 1, min(output.shape[1], 8)).long()
    part, theirs = own.only(channels), case.candidate[:, channels].double()
    sample = part.x.flatten()
    sample = sample[torch.linspace(0, len(sample) - 1, min(len(sample), 4096)).long()]

    def made(low: float, high: float) -> Tensor:
        return replace(part, x=part.x.clamp(low, high))(ALL)[0]

    ends = [
        (float(sample.quantile(share)), float(sample.quantile(1 - share)))
        for share in (0.003, 0.01, 0.03, 0.1, 0.2)
    ]
    pairs = [(low, high) for low, _ in ends for _, high in ends]
    low, high = min(pairs, key=lambda pair: float((made(*pair) - theirs).square().sum()))
    bare = replace(part, bias=None)
    for _ in range(_STEPS):
        slopes = torch.stack(
            [
                replace(bare, x=cut.to(part.x.dtype))(ALL)[0].flatten()
                for cut in (part.x < low, part.x > high)
            ],
            1,
        )
        change = torch.linalg.lstsq(slopes, (theirs - made(low, high)).flatten()[:, None]).solution
        low, high = low + float(change[0]), high + float(change[1])
        if not low < high:
            return
        if float(change.abs().max()) <= 1e-12 * max(abs(low), abs(high)):
            break
    for a, b in dict.fromkeys(((float(f"{low:.3g}"), float(f"{high:.3g}")), (low, high))):
        yield fitted(
            "input-clamped",
            f"its input cut off at {a:.5g} and {b:.5g}",
            case,
            base,
            with_these(_within, a, b),
            2,
        )


def _within(operation: Operation, low: float, high: float) -> Evaluation:
    own = convolution(operation)

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        part = own.only(channels)
        return replace(part, x=part.x.clamp(low, high))(ALL)

    return evaluate


def _filtered(operation: Operation, kernel: Tensor, mode: str) -> Evaluation:
    """A convolution of an input that a small filter has passed, the same for every channel."""
    own = convolution(operation)

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        part = own.only(channels)
        filters = kernel.to(part.x).expand(part.x.shape[1], 1, -1, -1)

        def passed(x: Tensor, weights: Tensor) -> Tensor:
            reach = kernel.shape[-1] // 2
            x = extended(extended(x, 2, reach, reach, mode), 3, reach, reach, mode)
            return F.conv2d(x, weights, groups=x.shape[1])

        output = replace(part, x=passed(part.x, filters))(ALL)[0]
        magnitude = replace(
            part,
            x=passed(part.x.abs(), filters.abs()),
            weight=part.weight.abs(),
            bias=None if part.bias is None else part.bias.abs(),
        )(ALL)[0]
        return output, magnitude

    return evaluate


def _fitted_filter(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """A blur or any other small filter of the input."""
    own = convolution(case)
    output = base(ALL)[0]
    size = own.x.numel() if own.groups == 1 else own.x[:, 0].numel() * _FEW
    if output.shape != case.candidate.shape or size > _LARGEST:
        return
    channels = torch.linspace(0, output.shape[1] - 1, min(output.shape[1], _FEW)).long()
    part = replace(own.only(channels), bias=None)
    bias = 0.0 if own.bias is None else own.bias[channels].view(1, -1, 1, 1)
    target = (case.candidate[:, channels].double() - bias).flatten()
    if len(target) < 8 * _SIDE**2 or not bool(torch.isfinite(target).all()):
        return
    reach = _SIDE // 2
    for mode in ("zeros", "replicate", "reflect"):
        around = extended(extended(part.x, 2, reach, reach, mode), 3, reach, reach, mode)
        height, width = part.x.shape[2:]
        made = [
            replace(part, x=around[:, :, y : y + height, x : x + width])(ALL)[0].flatten()
            for y in range(_SIDE)
            for x in range(_SIDE)
        ]
        found = torch.linalg.lstsq(torch.stack(made, 1), target[:, None]).solution[:, 0]
        found = torch.where(found.abs() < 1e-5 * found.abs().max(), 0.0, found)
        used = int((found != 0).sum())
        if used < 2 or not bool(torch.isfinite(found).all()):
            continue
        kernel = found.view(1, 1, _SIDE, _SIDE)
        middle = ", ".join(f"{float(v):.3g}" for v in kernel[0, 0, reach, 1:-1])
        yield fitted(
            "input-filtered",
            f"its input passed through a filter of {used} pixels (its middle row {middle}; sum "
            f"{float(found.sum()):.3g})",
            case,
            base,
            with_these(_filtered, kernel, mode),
            used,
        )


def _limited(operation: Operation, limit: float, above: bool) -> Evaluation:
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
    in_variants(
        "activation-before", "an unusual activation before", CONVOLUTIONS, _activated,
        where=lambda site: not site.is_input,
    ),
    with_numbers(
        "input-clamped",
        "an input cut off",
        CONVOLUTIONS,
        _fitted_limit,
        lambda operation, base: _limited(operation, 0.7, True),
        alike=("activation-before",),
    ),
    with_numbers(
        "input-clamped",
        "an input cut off at both ends",
        CONVOLUTIONS,
        _fitted_limits,
        lambda operation, base: _within(operation, -0.4, 0.7),
        alike=("activation-before",),
    ),
    with_numbers(
        "input-filtered",
        "a blurred input",
        CONVOLUTIONS,
        _fitted_filter,
        lambda operation, base: _filtered(
            operation, F.pad(torch.ones(1, 1, 3, 3) / 9, (1, 1, 1, 1)), "zeros"
        ),
    ),
)  # fmt: skip
"""An operation of a part, or of a changed input."""
