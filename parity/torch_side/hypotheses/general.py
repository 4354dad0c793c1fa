"""Faults that any node may have: its output moved, reordered, scaled, or not computed at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.torch_side.hypotheses.case import (
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    counted,
    number,
)
from parity.torch_side.hypotheses.predictions import reordered

_SAMPLES = 64
"""Positions by which channels are told apart."""


def simple(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Faults looked for before any other."""
    first = case.arguments[0]
    # Of two inputs it depends on the operation what is missing.
    one = case.kind not in (NodeKind.SCALE, NodeKind.ADD)
    if one and isinstance(first, Tensor) and first.shape == case.candidate.shape:
        yield Hypothesis("left-out", "left out: its output is its input", _same(first))
    zero = torch.zeros((), dtype=torch.float64)
    yield Hypothesis("zero", "all values zero", _after(base, lambda v: zero * v))
    yield Hypothesis("negated", "all values with the other sign", _after(base, lambda v: -v))


def moved(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """The right values in other places."""
    shape = case.candidate.shape
    for slug, title, function in (
        ("transposed", "height and width of its output exchanged", lambda v: v.mT),
        ("flipped", "its output's rows in reverse order", lambda v: v.flip(2)),
        ("flipped", "its output's columns in reverse order", lambda v: v.flip(3)),
        ("flipped", "its output rotated by 180 degrees", lambda v: v.flip(2, 3)),
        ("rotated", "its output rotated by 90 degrees", lambda v: v.rot90(1, (2, 3))),
        ("rotated", "its output rotated by 270 degrees", lambda v: v.rot90(3, (2, 3))),
    ):
        yield Hypothesis(slug, title, _after(base, function))
    for rows, columns in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)):
        title = f"its output moved by {rows:+d} rows and {columns:+d} columns"
        yield Hypothesis(
            "moved",
            f"{title}, cyclically",
            _after(base, partial(torch.roll, shifts=(rows, columns), dims=(2, 3))),
        )
        yield Hypothesis(
            "moved",
            f"{title}, zeros taking its place",
            _after(base, partial(_shift, rows=rows, columns=columns)),
        )
    if shape[0] > 1:
        yield Hypothesis(
            "images-reordered", "the images in reverse order", _after(base, lambda v: v.flip(0))
        )
        yield Hypothesis(
            "images-repeated",
            "the first image's values for every image",
            _after(base, lambda v: v[:1].expand_as(v)),
        )
    count = shape[1]
    natural = torch.arange(count)
    yield Hypothesis(
        "channels-reversed", "its channels in reverse order", reordered(base, natural.flip(0))
    )
    for step in (1, -1):
        yield Hypothesis(
            "channels-moved",
            f"its channels moved by {step:+d}",
            reordered(base, natural.roll(step)),
        )
    for groups in (2, 3, 4, 8):
        if count % groups == 0 and count > groups:
            yield Hypothesis(
                "channels-shuffled",
                f"its channels shuffled in {groups} groups",
                reordered(base, natural.view(groups, -1).T.reshape(-1)),
            )
    yield Hypothesis(
        "reshaped",
        "its NHWC values reshaped to NCHW instead of transposed",
        _whole(base, lambda v: v.permute(0, 2, 3, 1).reshape(v.shape)),
    )
    yield from _permuted(case, base)


def fitted(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Faults whose numbers the output itself shows."""
    try:
        output, _ = base(slice(None))
    except (RuntimeError, IndexError, ValueError):
        return
    candidate = case.candidate.double()
    if output.shape != candidate.shape or not bool(torch.isfinite(candidate).all()):
        return
    low, high = float(candidate.min()), float(candidate.max())
    # A limit that no value exceeds but by its rounding says nothing.
    slack = 64 * case.unit * max(-low, high)
    acting = [f"at least {number(low)}"] * (float(output.min()) < low - slack)
    acting += [f"at most {number(high)}"] * (float(output.max()) > high + slack)
    if low < high and acting:
        yield Hypothesis(
            "clamped",
            f"clamped to {' and '.join(acting)}",
            _after(base, lambda v: v.clamp(low, high)),
        )
    power = float(output.square().sum())
    if power > 0:
        factor = float((output * candidate).sum()) / power
        yield Hypothesis(
            "scaled", f"every value times {factor:.6g}", _affine(base, _one(factor), _one(0.0))
        )
    offset = float((candidate - output).mean())
    yield Hypothesis(
        "offset", f"{offset:.5g} added to every value", _affine(base, _one(1.0), _one(offset))
    )
    yield from _zeroed(base, output, candidate)
    yield from _by_channel(base, output, candidate)


def _same(x: Tensor) -> Evaluation:
    return lambda channels: (x[:, channels], x[:, channels].abs())


def _after(base: Evaluation, function: Callable[[Tensor], Tensor]) -> Evaluation:
    """A selection of an operation's values, or a multiple of them."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(channels)
        return function(output), function(gauge).abs()

    return evaluate


def _whole(base: Evaluation, function: Callable[[Tensor], Tensor]) -> Evaluation:
    """The same where the function looks across channels."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(slice(None))
        return function(output)[:, channels], function(gauge)[:, channels]

    return evaluate


def _shift(x: Tensor, rows: int, columns: int) -> Tensor:
    result = torch.zeros_like(x)
    height, width = x.shape[2:]
    result[
        :,
        :,
        max(rows, 0) : height + min(rows, 0),
        max(columns, 0) : width + min(columns, 0),
    ] = x[
        :,
        :,
        max(-rows, 0) : height - max(rows, 0),
        max(-columns, 0) : width - max(columns, 0),
    ]
    return result


def _permuted(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """The order in which the faithful channels come, where each of the candidate's is one."""
    try:
        output, _ = base(slice(None))
    except (RuntimeError, IndexError, ValueError):
        return
    if output.shape != case.candidate.shape or output.shape[1] < 2:
        return
    places = output[:, 0].numel()
    sample = torch.linspace(0, places - 1, min(places, _SAMPLES)).long()
    ours = output.transpose(0, 1).flatten(1)[:, sample]
    theirs = case.candidate.double().transpose(0, 1).flatten(1)[:, sample]
    order = torch.cdist(theirs, ours, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    changed = [i for i, source in enumerate(order.tolist()) if source != i]
    if not changed:
        return
    listed = ", ".join(f"{i} holds {int(order[i])}" for i in changed[:4])
    proper = len(set(order.tolist())) == len(order)
    yield Hypothesis(
        "channels-permuted" if proper else "channels-repeated",
        f"{len(changed)} of {len(order)} channels in another's place: {listed}"
        + (", ..." if len(changed) > 4 else ""),
        reordered(base, order),
    )


def _one(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


def _affine(base: Evaluation, factors: Tensor, offsets: Tensor) -> Evaluation:
    """``factor * output + offset``, either of one value or of one for each channel."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(channels)
        a, b = (v[:, channels] if v.shape[1] > 1 else v for v in (factors, offsets))
        return a * output + b, a.abs() * gauge + b.abs() + (a * output).abs()

    return evaluate


def _zeroed(base: Evaluation, output: Tensor, candidate: Tensor) -> Iterator[Hypothesis]:
    """Some values zero, the others right or all times one factor (dropout)."""
    gone = candidate == 0
    share = float(gone.double().mean())
    kept = torch.where(gone, 0.0, output)
    power = float(kept.square().sum())
    if not 0 < share < 1 or not power:
        return
    factor = float((kept * candidate).sum()) / power
    channels = gone.all(3).all(2).all(0).nonzero().flatten().tolist()
    images = gone.all(3).all(2).all(1).nonzero().flatten().tolist()
    if images:
        what = f"images {counted(images)} zeroed"
    elif channels and len(channels) * candidate[:, 0].numel() == int(gone.sum()):
        what = f"channels {counted(channels)} of {candidate.shape[1]} zeroed"
    else:
        what = f"{share:.1%} of the values zeroed"
    dropped = abs(factor - 1) > 1e-5
    title = f"{what}, the others times {factor:.5g}" if dropped else what

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        values, gauge = base(channels)
        zeroed = gone[:, channels]
        return torch.where(zeroed, 0.0, values * factor), gauge * abs(factor)

    yield Hypothesis("dropout" if dropped else "zeroed", title, evaluate)


def _by_channel(base: Evaluation, output: Tensor, candidate: Tensor) -> Iterator[Hypothesis]:
    """Each channel times a factor of its own, plus an offset of its own."""
    places = output[:, 0].numel()
    # As many numbers as values would fit anything.
    if places < 16:
        return
    axes = (0, 2, 3)
    power = output.square().sum(axes, keepdim=True)
    factors = (output * candidate).sum(axes, keepdim=True) / power
    factors = torch.where(power > 0, factors, 1.0)
    offsets = (candidate - output).mean(axes, keepdim=True)
    one, zero = torch.ones_like(factors), torch.zeros_like(factors)
    yield Hypothesis(
        "channels-scaled", f"its channels scaled: {_changes(factors - 1, 'times', 1)}",
        _affine(base, factors, zero),
    )  # fmt: skip
    yield Hypothesis(
        "channels-offset", f"its channels offset: {_changes(offsets, 'plus', 0)}",
        _affine(base, one, offsets),
    )  # fmt: skip
    centred = output - output.mean(axes, keepdim=True)
    spread = centred.square().sum(axes, keepdim=True)
    slopes = (centred * candidate).sum(axes, keepdim=True) / spread
    slopes = torch.where(spread > 0, slopes, 1.0)
    rest = (candidate - slopes * output).mean(axes, keepdim=True)
    yield Hypothesis(
        "channels-affine",
        f"its channels scaled and offset: {_changes(slopes - 1, 'times', 1)}; "
        f"{_changes(rest, 'plus', 0)}",
        _affine(base, slopes, rest),
    )


def _changes(values: Tensor, word: str, base: int) -> str:
    """Which channels a fit changes and within what range."""
    flat = values.flatten()
    largest = float(flat.abs().max())
    if not math.isfinite(largest):
        return "not determined"
    # Fits of right channels are off by roundings only.
    changed = (flat.abs() > max(1e-3 * largest, 1e-7)).nonzero().flatten().tolist()
    if not changed:
        return "none"
    chosen = flat[changed] + base
    low, high = float(chosen.min()), float(chosen.max())
    reach = f"{word} {low:.4g}" if low == high else f"{word} {low:.4g} to {high:.4g}"
    where = f", channels {counted(changed)}" if len(changed) < len(flat) else ""
    return f"{reach} in {len(changed)} of {len(flat)}{where}"
