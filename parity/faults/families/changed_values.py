"""Faults that any node may have: right values scaled, offset, cut off, or some of them zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import (
    ALL,
    Again,
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    Operation,
    counted,
    fitted,
    number,
)
from parity.faults.basics.fault import (
    CONVOLUTIONS,
    EVERY,
    Fault,
    Kinds,
    with_numbers,
)
from parity.faults.families import activations
from parity.results.digits import told

_VALUES = 16
"""Values to which a number must be fitted to mean something."""

_BEYOND = 4
"""Values that a limit must have cut off to be one."""

_EQUAL = 1e-6
"""Deviation from 1 of a factor that is fitted to float32 values and says nothing."""

_DROPPED = 0.2
"""Share of the values that are dropped where dropout is put in."""

_CLAMP = 0.1
"""What outputs are clamped to where that is put in."""

_FACTORS = (0.5, 2.0)
_OFFSETS = (-0.5, 0.7)
"""From which to which channels are scaled and offset where that is put in."""


def _fitted_clamp(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
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
    again = partial(_clamped, low=bounds[0], high=bounds[1])
    yield fitted("clamped", f"clamped to {' and '.join(acting)}", case, base, again, len(acting))


def _clamped(
    operation: Operation, base: Evaluation, low: float | None, high: float | None
) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(channels)
        # What is left as it was keeps its roundings, however large its terms were.
        return output.clamp(low, high), gauge

    return evaluate


def _fitted_factor(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """All values times one number."""
    both = _comparable(case, base)
    if both is None or both[0].numel() < _VALUES:
        return
    output, candidate = both
    power = float(output.square().sum())
    factor = float((output * candidate).sum()) / power if power else 1.0
    text = told(factor, 1.0)
    if text is not None:
        again = _times(_one(factor), _one(0.0))
        yield fitted("scaled", f"every value times {text}", case, base, again, 1)


def _fitted_by_level(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """All values times a number that is another one at each of the module's nodes."""
    if "@" not in case.name:
        return
    factor = _factor(case, base)
    if factor is not None and told(factor, 1.0) is not None:
        title = "every value times a number of its own at each level"
        yield Hypothesis(
            "scaled-by-level", title, _refitted(case, base), 2, _refitted, words=_level_in_words
        )


def _factor(case: Case, base: Evaluation) -> float | None:
    both = _comparable(case, base)
    if both is None or both[0].numel() < _VALUES:
        return None
    output, candidate = both
    power = float(output.square().sum())
    return float((output * candidate).sum()) / power if power else None


def _refitted(case: Case, base: Evaluation) -> Evaluation:
    return _affine(base, _one(_factor(case, base) or 1.0), _one(0.0))


def _level_in_words(case: Case, base: Evaluation) -> str:
    level = case.name.rpartition("@")[2].partition(" ")[0]
    return f"{_factor(case, base) or 1.0:.5g} at {level}"


def _fitted_offset(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """All values plus one number."""
    both = _comparable(case, base)
    if both is None or both[0].numel() < _VALUES:
        return
    output, candidate = both
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


def _times(factors: Tensor, offsets: Tensor) -> Callable[[Operation, Evaluation], Evaluation]:
    return lambda operation, base: _affine(base, factors, offsets)


def _one(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


def _affine(base: Evaluation, factors: Tensor, offsets: Tensor) -> Evaluation:
    """``factor * output + offset``, either of one value or of one for each channel."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(channels)
        a, b = (
            (v[:, channels] if v.shape[1] > 1 else v).to(output.dtype) for v in (factors, offsets)
        )
        return a * output + b, a.abs() * gauge + b.abs() + (a * output).abs()

    return evaluate


def _fitted_zeros(case: Case, base: Evaluation, slug: str, scaled: bool) -> Iterator[Hypothesis]:
    """Some values zero, the others right or all times one factor (dropout).

    Args:
        case: The failing node.
        base: Its faithful operation.
        slug: The fault.
        scaled: Whether the others are to be times a factor.
    """
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
    # What is left of right values differs from 1 by roundings.
    text = told(factor, 1.0) if abs(factor - 1) > _EQUAL else None
    if (text is not None) is not scaled:
        return
    what = _below(case, gone) or _zeros(gone, share)
    if text is None:
        yield fitted(slug, what, case, base, _dropped(1.0), 2)
    else:
        title = f"{what}, the others times {text}"
        rate = 1 - 1 / factor if factor > 1 else 0.0
        # A rate that is drawn scatters around what it is scaled by.
        scatter = math.sqrt(max(rate * (1 - rate), 1e-9) / _draws(gone))
        if rate and abs(share - rate) < 5 * scatter:
            title = f"dropout with p = {rate:.3g}, left on: {title}"
        yield fitted(slug, title, case, base, _dropped(factor), 3)


def _draws(gone: Tensor) -> int:
    """How many times it was drawn what is dropped: for each value, or for each channel."""
    whole = gone.flatten(2).all(2) | ~gone.flatten(2).any(2)
    return gone.shape[0] * gone.shape[1] if bool(whole.all()) else gone.numel()


def _below(case: Case, gone: Tensor) -> str:
    """Which values are zero, where that depends on an activation's input alone."""
    x = case.arguments[0]
    if case.kind is not NodeKind.ACTIVATION or x.shape != gone.shape:
        return ""
    highest, lowest = float(x[gone].max()), float(x[~gone].min())
    if highest < lowest:
        return f"zero wherever its input is below {number((highest + lowest) / 2)}"
    highest, lowest = float(x[~gone].max()), float(x[gone].min())
    if highest < lowest:
        return f"zero wherever its input is above {number((highest + lowest) / 2)}"
    return ""


def _zeros(gone: Tensor, share: float) -> str:
    """Which values are zero, in words."""
    channels = gone.all(3).all(2).all(0).nonzero().flatten().tolist()
    images = gone.all(3).all(2).all(1).nonzero().flatten().tolist()
    if images:
        return f"images {counted(images)} zeroed"
    if channels and len(channels) * gone[:, 0].numel() == int(gone.sum()):
        return f"channels {counted(channels)} of {gone.shape[1]} zeroed"
    plane = gone.all(1).all(0)
    lines = [
        f"{name} {counted(held)}"
        for name, axis in (("rows", 1), ("columns", 0))
        if (held := plane.all(axis).nonzero().flatten().tolist())
    ]
    inside = plane.all(1)[:, None] | plane.all(0)
    if lines and not bool((gone & ~inside).any()):
        return f"{' and '.join(lines)} of {plane.shape[0]}x{plane.shape[1]} zeroed"
    return f"{_percent(share)} of the values zeroed"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else f"{100 * share:.2g}%"


def _dropped(factor: float) -> Again:
    """Zero where the candidate is, and the faithful values times a factor elsewhere."""

    def again(case: Case, base: Evaluation) -> Evaluation:
        return _without(base, case.candidate == 0, factor)

    return again


def _without(base: Evaluation, gone: Tensor, factor: float) -> Evaluation:
    """Some values zero, the others times a factor."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        values, gauge = base(channels)
        return torch.where(gone[:, channels], 0.0, values * factor), gauge * abs(factor)

    return evaluate


def _dropping(operation: Operation, base: Evaluation, factor: float) -> Evaluation:
    """A fifth of the values dropped, the same at every call."""
    shape = base(ALL)[0].shape
    gone = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < _DROPPED
    return _without(base, gone, factor)


def _fitted_channels(case: Case, base: Evaluation, how: str) -> Iterator[Hypothesis]:
    """Each channel times a factor of its own, plus an offset of its own, or both.

    Args:
        case: The failing node.
        base: Its faithful operation.
        how: ``scaled``, ``offset`` or ``affine``.
    """
    both = _comparable(case, base)
    # As many numbers as values would fit anything.
    if both is None or both[0][:, 0].numel() < _VALUES:
        return
    output, candidate = both
    axes = (0, 2, 3)
    factors = torch.ones_like(output[:1, :, :1, :1])
    offsets = torch.zeros_like(factors)
    if how == "scaled":
        power = output.square().sum(axes, keepdim=True)
        factors = (output * candidate).sum(axes, keepdim=True) / power
        factors = torch.where(power > 0, factors, 1.0)
    elif how == "offset":
        offsets = (candidate - output).mean(axes, keepdim=True)
    else:
        centred = output - output.mean(axes, keepdim=True)
        spread = centred.square().sum(axes, keepdim=True)
        factors = (centred * candidate).sum(axes, keepdim=True) / spread
        factors = torch.where(spread > 0, factors, 1.0)
        offsets = (candidate - factors * output).mean(axes, keepdim=True)
    yield from _of_channels(how, factors, offsets, case, base)


def _channelwise(operation: Operation, base: Evaluation, scaled: bool, offset: bool) -> Evaluation:
    """Channels scaled by 0.5 to 2, or offset by -0.5 to 0.7, or both."""
    count = base(ALL)[0].shape[1]
    factors = torch.linspace(*_FACTORS, count) if scaled else torch.ones(count)
    offsets = torch.linspace(*_OFFSETS, count) if offset else torch.zeros(count)
    return _affine(base, factors.view(1, -1, 1, 1), offsets.view(1, -1, 1, 1))


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


_ACTIVATED_ELSEWHERE: Kinds = CONVOLUTIONS | {
    NodeKind.BATCH_NORM, NodeKind.SCALE, NodeKind.ADD, NodeKind.FUSE,
}  # fmt: skip

UNIFORM = (
    with_numbers(
        "scaled",
        "an output larger by a thousandth",
        EVERY,
        _fitted_factor,
        _times(_one(1.001), _one(0.0)),
    ),
    with_numbers(
        "offset", "an offset of every value", EVERY, _fitted_offset, _times(_one(1.0), _one(0.01))
    ),
)
"""What is done alike to every value."""

FAULTS = (
    activations.on_top(EVERY - _ACTIVATED_ELSEWHERE),
    with_numbers(
        "clamped",
        "an output clamped",
        EVERY,
        _fitted_clamp,
        partial(_clamped, low=None, high=_CLAMP),
    ),
    *UNIFORM,
    Fault(
        "scaled-by-level",
        "an output scaled by another number at each level",
        EVERY,
        _fitted_by_level,
        without="it takes several levels to show that each has a number of its own",
    ),
    with_numbers(
        "zeroed",
        "some values zeroed",
        EVERY,
        partial(_fitted_zeros, slug="zeroed", scaled=False),
        partial(_dropping, factor=1.0),
    ),
    with_numbers(
        "dropout",
        "dropout left on",
        EVERY,
        partial(_fitted_zeros, slug="dropout", scaled=True),
        partial(_dropping, factor=1 / (1 - _DROPPED)),
    ),
    with_numbers(
        "channels-scaled",
        "channels scaled",
        EVERY,
        partial(_fitted_channels, how="scaled"),
        partial(_channelwise, scaled=True, offset=False),
    ),
    with_numbers(
        "channels-offset",
        "channels offset",
        EVERY,
        partial(_fitted_channels, how="offset"),
        partial(_channelwise, scaled=False, offset=True),
    ),
    with_numbers(
        "channels-affine",
        "channels scaled and offset",
        EVERY,
        partial(_fitted_channels, how="affine"),
        partial(_channelwise, scaled=True, offset=True),
    ),
)  # fmt: skip
"""What was done to the right values."""
