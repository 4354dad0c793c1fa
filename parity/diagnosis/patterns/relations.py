"""What a candidate's values have to do with the true ones: the simplest relation that holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from parity.results.digits import told, told_apart

_ABOUT = 0.1
"""Part of the difference that a relation may leave and still be told, with what it leaves."""

_ALL = 1e-3
"""Part of the difference that a relation leaves where it is all of it: none with more numbers is
looked for."""

_SAMPLES = 16
"""Values for each number that is fitted, below which a fit proves nothing."""

_CHANNELS = 512
"""Channels among which mixtures are looked for."""

_POSITIONS = 2048
"""Positions by which these are looked for."""


@dataclass(frozen=True)
class Relation:
    """A relation that was fitted.

    Attributes:
        left: The part of the difference that it leaves.
        text: It, as the rest of a sentence on "it" where something differs.
        numbers: How many numbers were fitted.
    """

    left: float
    text: str
    numbers: int


def related(exact: Tensor, made: Tensor, differs: Tensor, what: str = "") -> str | None:
    """A sentence on the simplest relation that accounts for the difference; None where none does.

    Args:
        exact: The true values, [N, C, H, W].
        made: The candidate's.
        differs: Where they differ by more than roundings; nothing is said of other values.
        what: What these values are called.
    """
    size = float((made - exact)[differs].square().sum().sqrt())
    if not size:
        return None
    best: Relation | None = None
    for relation in _relations(exact, made, differs, size):
        if relation.left < _ABOUT and (best is None or relation.left < best.left / 10):
            best = relation
        if best is not None and best.left < _ALL:
            break
    if best is None:
        return None
    what = what or ("It" if _nearly(differs) else "Where it differs, it")
    return f"{what} is {best.text}, which leaves {best.left:.2%} of the difference."


def _nearly(differs: Tensor) -> bool:
    """Whether all but single values differ, where the relation changes nothing."""
    return float(differs.double().mean()) > 0.98


def _relations(exact: Tensor, made: Tensor, differs: Tensor, size: float) -> Iterator[Relation]:
    """Relations with a few numbers first."""
    weight = differs.double()
    count = int(differs.sum())

    def left(fit: Tensor) -> float:
        return float(((made - fit) * weight).square().sum().sqrt()) / size

    everything = (0, 1, 2, 3)
    if count >= _SAMPLES:
        factor = _factor(exact, made, weight, everything)
        yield _times(left(factor * exact), factor)
        offset = _mean(made - exact, weight, everything)
        text = f"about the truth plus {float(offset):.5g}"
        yield Relation(left(exact + offset), text, 1)
        yield from _of_sign(exact, made, weight, left)
        yield from _bent(exact, made, weight, left)
        slope, start = _line(exact, made, weight, everything)
        text = f"about the truth times {float(slope):.5g} plus {float(start):.5g}"
        yield Relation(left(slope * exact + start), text, 2)
    for axes, whose in (
        ((1, 2, 3), "image"),
        ((0, 2, 3), "channel"),
        ((0, 1, 3), "row"),
        ((0, 1, 2), "column"),
        ((0, 1), "position"),
    ):
        yield from _along(exact, made, weight, axes, whose, left)
    yield from _of_other_images(exact, made, weight, left)
    yield from _of_other_channels(exact, made, left)


def _times(left: float, factor: Tensor) -> Relation:
    value = float(factor)
    text = told(value, 1.0)
    if text is None or abs(value) < 1e-6:
        # What is zero is told as that.
        return Relation(1.0, "", 1)
    sign = ", with the other sign" if value < 0 else ""
    return Relation(left, f"about the truth times {text}{sign}", 1)


def _of_sign(
    exact: Tensor, made: Tensor, weight: Tensor, left: Callable[[Tensor], float]
) -> Iterator[Relation]:
    sign = exact.sign()
    scale = _factor(sign, made, weight, (0, 1, 2, 3))
    if float(scale):
        yield Relation(left(scale * sign), f"about {float(scale):.5g} times the truth's sign", 1)
    yield Relation(left(exact.abs()), "about the truth's magnitude", 1)


def _bent(
    exact: Tensor, made: Tensor, weight: Tensor, left: Callable[[Tensor], float]
) -> Iterator[Relation]:
    """One factor for values above zero and another for those below."""
    above, below = exact.clamp(min=0), exact.clamp(max=0)
    rise, fall = (_factor(part, made, weight, (0, 1, 2, 3)) for part in (above, below))
    text = (
        f"about the truth times {float(rise):.5g} where that is positive, and times "
        f"{float(fall):.5g} where it is negative"
    )
    yield Relation(left(rise * above + fall * below), text, 2)


def _along(
    exact: Tensor,
    made: Tensor,
    weight: Tensor,
    axes: tuple[int, ...],
    whose: str,
    left: Callable[[Tensor], float],
) -> Iterator[Relation]:
    """A number, or two, for each image, channel, position, row or column."""
    counts = weight.sum(axes, keepdim=True)
    held = counts > 0
    number = int(held.sum())
    # One is the whole, and as many as there are values are no relation.
    if number < 2 or float(counts[held].min()) < _SAMPLES // 2 or number * _SAMPLES > weight.sum():
        return
    factors = _factor(exact, made, weight, axes)
    text = f"the truth times a factor of its own, {_range(factors[held])}"
    yield Relation(left(factors * exact), f"at each {whose} about {text}", number)
    offsets = _mean(made - exact, weight, axes)
    text = f"the truth plus an offset of its own, {_range(offsets[held])}"
    yield Relation(left(exact + offsets), f"at each {whose} about {text}", number)
    slopes, starts = _line(exact, made, weight, axes)
    text = (
        f"the truth times a factor of its own, {_range(slopes[held])}, plus an offset of its own, "
        f"{_range(starts[held])}"
    )
    yield Relation(left(slopes * exact + starts), f"at each {whose} about {text}", 2 * number)


def _of_other_images(
    exact: Tensor, made: Tensor, weight: Tensor, left: Callable[[Tensor], float]
) -> Iterator[Relation]:
    """Each image with a share of the one before, or behind it."""
    for step, words in ((1, "before"), (-1, "behind")) if len(exact) > 1 else ():
        other = exact.roll(step, 0)
        own, share = _two(exact, other, made, weight)
        where = "the other image" if len(exact) == 2 else f"the image {words} it"
        yield Relation(left(own * exact + share * other), _mixed(own, share, where, "image"), 2)


def _of_other_channels(
    exact: Tensor, made: Tensor, left: Callable[[Tensor], float]
) -> Iterator[Relation]:
    """Each channel with a share of one other, the same distance away."""
    channels = exact.shape[1]
    flat = exact.transpose(0, 1).flatten(1)
    if not 2 < channels <= _CHANNELS or flat.shape[1] < _SAMPLES:
        return
    step = -(-flat.shape[1] // _POSITIONS)
    error = (made - exact).transpose(0, 1).flatten(1)[:, ::step]
    known = flat[:, ::step]
    known = known - known.mean(1, keepdim=True)
    alike = (error @ known.T).abs() / known.norm(dim=1).clamp(min=1e-300)
    alike.fill_diagonal_(0)
    distances = (alike.argmax(1) - torch.arange(channels, device=alike.device)) % channels
    distance = int(distances.mode().values)
    if not distance or float((distances == distance).double().mean()) < 0.5:
        return
    other = exact.roll(-distance, 1)
    own, share = _two(exact, other, made, torch.ones_like(exact))
    way = distance if distance <= channels // 2 else distance - channels
    where = "the channel behind it" if way == 1 else "the channel before it"
    if abs(way) > 1:
        where = f"the channel {abs(way)} {'behind' if way > 0 else 'before'} it"
    yield Relation(left(own * exact + share * other), _mixed(own, share, where, "channel"), 3)


def _mixed(own: float, share: float, where: str, whose: str) -> str:
    if abs(own) < 1e-3:
        return f"at each {whose} about {_times_words(share)}that of {where}"
    sign = "plus" if share > 0 else "minus"
    other = f"{abs(share):.4g} times that of {where}"
    return f"at each {whose} about {own:.4g} times the truth {sign} {other}"


def _times_words(share: float) -> str:
    return "" if abs(share - 1) < 1e-3 else f"{share:.4g} times "


def _two(one: Tensor, other: Tensor, made: Tensor, weight: Tensor) -> tuple[float, float]:
    """The shares of two tensors in a third, by least squares."""
    a, b, c = (float((x * y * weight).sum()) for x, y in ((one, one), (one, other), (other, other)))
    p, q = (float((x * made * weight).sum()) for x in (one, other))
    determinant = a * c - b * b
    if determinant <= 1e-9 * a * c:
        return 1.0, 0.0
    return (p * c - q * b) / determinant, (q * a - p * b) / determinant


def _factor(exact: Tensor, made: Tensor, weight: Tensor, axes: tuple[int, ...]) -> Tensor:
    power = (exact.square() * weight).sum(axes, keepdim=True).clamp(min=1e-300)
    return (exact * made * weight).sum(axes, keepdim=True) / power


def _mean(x: Tensor, weight: Tensor, axes: tuple[int, ...]) -> Tensor:
    return (x * weight).sum(axes, keepdim=True) / weight.sum(axes, keepdim=True).clamp(min=1)


def _line(
    exact: Tensor, made: Tensor, weight: Tensor, axes: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    centre, middle = _mean(exact, weight, axes), _mean(made, weight, axes)
    slope = _factor(exact - centre, made - middle, weight, axes)
    return slope, middle - slope * centre


def _range(values: Tensor) -> str:
    """The smallest and the largest of some numbers, which do not read as one where they are two."""
    return " to ".join(told_apart(float(values.min()), float(values.max())))
