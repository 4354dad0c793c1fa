"""Faults that any node may have: its output moved, reordered, scaled, or not computed at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.case import (
    Again,
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    counted,
    fitted,
    number,
)
from parity.faults.predictions import reordered
from parity.results.digits import told

_SAMPLES = 64
"""Positions by which channels are told apart."""

_VALUES = 16
"""Values to which a number must be fitted to mean something."""

_BEYOND = 4
"""Values that a limit must have cut off to be one."""

_EQUAL = 1e-6
"""Deviation from 1 of a factor that is fitted to float32 values and says nothing."""


def simple(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Faults looked for before any other."""
    first = case.arguments[0]
    # Of two inputs it depends on the operation what is missing.
    one = case.kind not in (NodeKind.SCALE, NodeKind.ADD)
    if one and isinstance(first, Tensor) and first.shape == case.candidate.shape:
        if case.kind is NodeKind.ACTIVATION and bool((first >= 0).all()):
            title = "left out, or a ReLU: its output is its input, of which no value is negative"
            yield Hypothesis("left-out-or-relu", title, _same(first))
        yield Hypothesis("left-out", "left out: its output is its input", _same(first))
    yield Hypothesis("zero", "all values zero", _after(base, torch.zeros_like))
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


def clamped(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Values cut off at a limit that the output shows."""
    both = _comparable(case, base)
    if both is None:
        return
    output, candidate = both
    low, high = float(candidate.min()), float(candidate.max())
    # A limit that no value exceeds but by its rounding says nothing.
    slack = 64 * case.unit * max(-low, high)
    below = int((output < low - slack).sum()) >= _BEYOND
    above = int((output > high + slack).sum()) >= _BEYOND
    if low >= high or not (below or above):
        return
    acting = [f"at least {number(low)}"] * below + [f"at most {number(high)}"] * above
    bounds = (low if below else None, high if above else None)

    def again(case: Case, base: Evaluation) -> Evaluation:
        return _after(base, lambda v: v.clamp(*bounds))

    yield fitted("clamped", f"clamped to {' and '.join(acting)}", case, base, again, len(acting))


def scaled(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """All values times one number, or plus one."""
    both = _comparable(case, base)
    if both is None or both[0].numel() < _VALUES:
        return
    output, candidate = both
    power = float(output.square().sum())
    factor = float((output * candidate).sum()) / power if power else 1.0
    text = told(factor, 1.0)
    if text is not None:
        yield fitted(
            "scaled", f"every value times {text}", case, base, _times(_one(factor), _one(0.0)), 1
        )
    offset = float((candidate - output).mean())
    # The roundings of few values blur it, so that a round number nearby is as good.
    for value in dict.fromkeys((float(f"{offset:.1g}"), float(f"{offset:.2g}"), offset)):
        if math.isfinite(value) and value:
            again = _times(_one(1.0), _one(value))
            yield fitted("offset", f"{value:.5g} added to every value", case, base, again, 1)


def _comparable(case: Case, base: Evaluation) -> tuple[Tensor, Tensor] | None:
    """The faithful and the candidate's output; None where nothing can be fitted to them."""
    output, _ = base(slice(None))
    candidate = case.candidate.double()
    if output.shape != candidate.shape:
        return None
    finite = bool(torch.isfinite(candidate).all()) and bool(torch.isfinite(output).all())
    return (output, candidate) if finite else None


def _times(factors: Tensor, offsets: Tensor) -> Again:
    return lambda case, base: _affine(base, factors, offsets)


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


def permuted(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """The order in which the faithful channels come, where each of the candidate's is one."""
    output, _ = base(slice(None))
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
    yield fitted(
        "channels-permuted" if proper else "channels-repeated",
        f"{len(changed)} of {len(order)} channels in another's place: {listed}"
        + (", ..." if len(changed) > 4 else ""),
        case,
        base,
        lambda case, base: reordered(base, order),
        len(changed),
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


def zeroed(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Some values zero, the others right or all times one factor (dropout)."""
    both = _comparable(case, base)
    if both is None:
        return
    output, candidate = both
    gone = (candidate == 0) & (output != 0)
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
        what = f"{_percent(share)} of the values zeroed"
    # What is left of right values differs from 1 by roundings.
    text = told(factor, 1.0) if abs(factor - 1) > _EQUAL else None
    if text is None:
        yield fitted("zeroed", what, case, base, _dropped(1.0), 2)
    else:
        title = f"{what}, the others times {text}"
        yield fitted("dropout", title, case, base, _dropped(factor), 3)


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else f"{100 * share:.2g}%"


def _dropped(factor: float) -> Again:
    """Zero where the candidate is, and the faithful values times a factor elsewhere."""

    def again(case: Case, base: Evaluation) -> Evaluation:
        def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
            values, gauge = base(channels)
            gone = case.candidate[:, channels] == 0
            return torch.where(gone, 0.0, values * factor), gauge * abs(factor)

        return evaluate

    return again


def by_channel(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """Each channel times a factor of its own, plus an offset of its own."""
    both = _comparable(case, base)
    # As many numbers as values would fit anything.
    if both is None or both[0][:, 0].numel() < _VALUES:
        return
    output, candidate = both
    axes = (0, 2, 3)
    power = output.square().sum(axes, keepdim=True)
    factors = (output * candidate).sum(axes, keepdim=True) / power
    factors = torch.where(power > 0, factors, 1.0)
    offsets = (candidate - output).mean(axes, keepdim=True)
    one, zero = torch.ones_like(factors), torch.zeros_like(factors)
    yield from _of_channels("scaled", factors, zero, case, base)
    yield from _of_channels("offset", one, offsets, case, base)
    centred = output - output.mean(axes, keepdim=True)
    spread = centred.square().sum(axes, keepdim=True)
    slopes = (centred * candidate).sum(axes, keepdim=True) / spread
    slopes = torch.where(spread > 0, slopes, 1.0)
    rest = (candidate - slopes * output).mean(axes, keepdim=True)
    yield from _of_channels("affine", slopes, rest, case, base)


def _of_channels(
    how: str, factors: Tensor, offsets: Tensor, case: Case, base: Evaluation
) -> Iterator[Hypothesis]:
    texts, count = [], 0
    for values, word, right in ((factors, "times", 1), (offsets, "plus", 0)):
        changed = _changed(values - right)
        if changed:
            texts.append(_changes(values.flatten(), changed, word, right))
            count += len(changed)
    if texts:
        words = {"affine": "scaled and offset"}.get(how, how)
        yield fitted(
            f"channels-{how}",
            f"its channels {words}: {'; '.join(texts)}",
            case,
            base,
            _times(factors, offsets),
            count,
        )


def _changed(differences: Tensor) -> list[int]:
    """The channels that a fit changes; those of right ones are off by roundings only."""
    flat = differences.flatten().abs()
    largest = float(flat.max())
    if not math.isfinite(largest):
        return []
    found: list[int] = (flat > max(1e-3 * largest, 1e-7)).nonzero().flatten().tolist()
    return found


def _changes(flat: Tensor, changed: list[int], word: str, right: int) -> str:
    """Which channels a fit changes and within what range."""
    chosen = flat[changed]
    low, high = (told(float(v), right, 4) or str(v) for v in (chosen.min(), chosen.max()))
    reach = f"{word} {low}" if low == high else f"{word} {low} to {high}"
    where = f", channels {counted(changed)}" if len(changed) < len(flat) else ""
    return f"{reach} in {len(changed)} of {len(flat)}{where}"
