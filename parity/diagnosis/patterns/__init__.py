"""What a difference looks like where no known fault explains it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parity.diagnosis.patterns.relations import related
from parity.diagnosis.patterns.where import constant_channels, singles, where
from parity.faults.basics.case import ROUNDINGS

_ALIKE = 0.9
"""Correlation above which values have so much in common that it says nothing."""


@torch.no_grad()
def describe(
    truth: Tensor,
    candidate: Tensor,
    gauge: Tensor | None = None,
    limit: float = ROUNDINGS,
) -> list[str]:
    """Sentences on a difference, the most telling first.

    Args:
        truth: The exact output, [N, C, H, W].
        candidate: What was computed instead.
        gauge: Magnitude of each element on which its roundings act, the same shape; the truth's
            own magnitude plus its rms where it is not known.
        limit: Roundings that a correct implementation may carry.

    Returns:
        Whole sentences; none where nothing differs by more than its roundings.
    """
    if truth.shape != candidate.shape:
        return [
            f"Its shape is {list(candidate.shape)} instead of {list(truth.shape)}"
            f"{_ratio(truth, candidate)}."
        ]
    if not candidate.is_floating_point():
        return [f"Its type is {str(candidate.dtype).removeprefix('torch.')}."]
    if not candidate.numel():
        return []
    unit = torch.finfo(candidate.dtype).eps / 2
    exact, made = truth.double(), candidate.double()
    finite = torch.isfinite(made)
    if not bool(finite.all()):
        wrong = ~finite
        first = [int(i) for i in wrong.nonzero()[0]]
        return [
            f"{_count(wrong)} are not finite ({int(made.isnan().sum())} NaN), the first at "
            f"{first} [n, c, y, x].",
            *where(wrong),
        ]
    unknown = ~torch.isfinite(exact)
    if bool(unknown.any()):
        return [f"{_count(unknown)} should not be finite, and are.", *where(unknown)]
    rms = float(exact.square().mean().sqrt())
    scale = exact.abs() + rms if gauge is None else gauge.double()
    error = made - exact
    differs = error.abs() > 2 * max(limit, ROUNDINGS) * unit * scale
    if not bool(differs.any()):
        return []
    size = float(error.square().mean().sqrt())
    relative = f", {size / rms:.3g} of the truth's" if rms else ""
    found = _of_values(exact, made, differs)
    return [
        *_degenerate(made),
        *found.sentences,
        *([] if found.places_too else where(differs)),
        *_grid(exact, made, differs),
        *([] if found.explained else _noise(exact, error, differs, scale, size, rms)),
        *([] if found.explained else _unlike(exact, made, differs)),
        f"{_count(differs)} differ by more than their roundings; the difference has an rms of "
        f"{size:.3g}{relative}, at most {float(error.abs().max()):.3g}.",
    ]


def _ratio(truth: Tensor, candidate: Tensor) -> str:
    if truth.dim() != 4 or candidate.dim() != 4:
        return ""
    if sorted(truth.shape) == sorted(candidate.shape):
        return ": the same axes in another order"
    factors = {
        made / right
        for made, right in zip(candidate.shape[2:], truth.shape[2:], strict=True)
        if made
    }
    if truth.shape[:2] == candidate.shape[:2] and len(factors) == 1:
        return f": {factors.pop():g} times as high and wide"
    return ""


def _count(mask: Tensor) -> str:
    count = int(mask.sum())
    share = count / mask.numel()
    if count == mask.numel():
        return f"All {count} values"
    return f"{count} of {mask.numel()} values ({share:.2%})"


def _degenerate(made: Tensor) -> Iterator[str]:
    low, high = float(made.min()), float(made.max())
    if low == high:
        yield f"Every value is {low:g}."
        return
    told = constant_channels(made)
    if told:
        yield told


@dataclass(frozen=True)
class _Found:
    """What was found of a tensor's values.

    Attributes:
        sentences: On them, the most telling first.
        explained: Whether they account for the difference.
        places_too: Whether they say where it is, as far as that means anything.
    """

    sentences: Sequence[str]
    explained: bool = False
    places_too: bool = False


def _of_values(exact: Tensor, made: Tensor, differs: Tensor) -> _Found:
    """What the candidate's values have to do with the true ones, in the fewest words."""
    if bool((made == made.flatten()[0]).all()):
        return _Found([], explained=True)
    single = singles(exact, made, differs)
    if single:
        return _Found([single], explained=True, places_too=True)
    sides = _sides(exact, made, differs)
    limits = _limits(exact, made, differs)
    if limits:
        return _Found([*limits, *sides], explained=True, places_too=True)
    zeros = made == 0
    if bool(zeros[differs].all()):
        scattered = _is_scattered(differs) and not sides
        share = f", {float(differs.double().mean()):.0%} of all, at no places in particular"
        told = f"Where it differs the candidate is zero{share if scattered else ''}."
        return _Found([told, *sides], explained=True, places_too=scattered)
    dropped = float(zeros.double().mean()) if not bool((exact == 0).any()) else 0.0
    if dropped > _LEAST_DROPPED and _is_scattered(zeros):
        others = differs & ~zeros
        told = f"{dropped:.0%} of its values are zero, at no places in particular."
        relation = related(exact, made, others, "The rest") if bool(others.any()) else None
        return _Found([f"{told} {relation}" if relation else told], bool(relation), bool(relation))
    relation = related(exact, made, differs)
    if relation is None:
        relation = _rearranged(exact, made) or _of_each(exact, made, differs)
    return _Found([*([relation] if relation else []), *sides], relation is not None)


def _rearranged(exact: Tensor, made: Tensor) -> str | None:
    """Whether the values are the true ones, in other places."""
    if exact.numel() > _LARGEST:
        return None
    for what, axis in (("Each plane has", 2), ("Each image has", 1), ("It has", 0)):
        one, other = (x.flatten(axis).sort(-1).values for x in (exact, made))
        rms = float(exact.square().mean().sqrt())
        # Values that are hardly off are in their own places, in whatever order they are.
        near = min(_SAME * rms, float((exact - made).abs().max()) / 10)
        if float((one - other).abs().max()) < near:
            return f"{what} the true values, in other places."
    return None


_LARGEST = 2**24
"""Values that are sorted at most."""

_SAME = 1e-4
"""Part of the rms by which sorted values may differ and be the same."""


def _of_each(exact: Tensor, made: Tensor, differs: Tensor) -> str | None:
    """Whether each value is a function of the true one at its place, and the same function."""
    if int(differs.sum()) < _NUMBERS:
        return None
    step = -(-int(differs.sum()) // _SORTED)
    x, order = exact[differs][::step].sort()
    y = made[differs][::step][order]
    # Neighbours have nearly the same argument, so that what they differ by is nothing else.
    near = x.diff() < (x[-1] - x[0]) / len(x)
    jumps = y.diff()[near]
    left = float(jumps.square().mean().sqrt())
    size = float((y - x).square().mean().sqrt())
    if int(near.sum()) > len(x) // 4 and left < size / 50:
        return "Each value follows from the true one alone, by one function that is another."
    return None


_SORTED = 2**14
"""Values that are looked at for a function, at most."""


_LEAST_DROPPED = 0.005
"""Share of zeros above which they are told of."""


def _is_scattered(mask: Tensor) -> bool:
    """Whether places go with no channel, row or column: each has about as many."""
    share = float(mask.double().mean())
    if not 0 < share < 1:
        return False
    for axis in (1, 2, 3):
        shares = mask.transpose(0, axis).flatten(1).double()
        # The deviation of a share of so many independent places, four times.
        allowed = 4 * math.sqrt(share * (1 - share) / shares.shape[1]) + 1e-9
        if float((shares.mean(1) - share).abs().max()) > allowed:
            return False
    return True


def _sides(exact: Tensor, made: Tensor, differs: Tensor) -> list[str]:
    """Whether only values of one sign differ."""
    if bool(differs.all()):
        return []
    low, high = float(exact[differs].min()), float(exact[differs].max())
    held = exact[~differs]
    # Of a few values all may have one sign by chance.
    if int(differs.sum()) < _MANY:
        return []
    if high <= 0 < float(held.max()):
        return [f"Only values whose truth is negative differ ({low:.4g} to {high:.4g})."]
    if low >= 0 > float(held.min()):
        return [f"Only values whose truth is positive differ ({low:.4g} to {high:.4g})."]
    return []


_MANY = 16
"""Values that do not all have one sign by chance: once in 65,536 times."""


def _limits(exact: Tensor, made: Tensor, differs: Tensor) -> list[str]:
    """Whether values are held within limits, and are right within these."""
    low, high = float(made.min()), float(made.max())
    above, below = (
        differs & (made == high) & (exact > high),
        differs & (made == low) & (exact < low),
    )
    if low == high or not bool((above | below == differs).all()):
        return []
    if bool(above.any()) and bool(below.any()):
        return [f"It is held between {low:.6g} and {high:.6g}, and is right within these limits."]
    bound, word = (high, "above") if bool(above.any()) else (low, "below")
    return [f"Where the truth is {word} {bound:.6g} the candidate is {bound:.6g}."]


def _unlike(exact: Tensor, made: Tensor, differs: Tensor) -> Iterator[str]:
    """How little the values have in common with the true ones, where nothing else is said."""
    first, second = exact - exact.mean(), made - made.mean()
    norms = float(first.norm() * second.norm())
    if not norms or float(differs.double().mean()) < 0.5:
        return
    together = float((first * second).sum()) / norms
    if abs(together) < _ALIKE:
        yield f"Its correlation with the truth is {together:.3f}."


def _grid(exact: Tensor, made: Tensor, differs: Tensor) -> Iterator[str]:
    """Whether all values are numbers of a grid, as the true ones are not."""
    if float(differs.double().mean()) < 0.5:
        return
    step, number = _step(made)
    if step and number > 3:
        if not _step(exact)[0]:
            yield (f"Its values are {number} numbers {step:.6g} apart, as of a quantised tensor.")
        return
    if 0 < number <= 3:
        return
    for dtype in (torch.bfloat16, torch.float16):
        if bool((made.to(dtype).double() == made).all()):
            if float((exact.to(dtype).double() == exact).double().mean()) < 0.5:
                yield f"Every value is a number of {str(dtype).removeprefix('torch.')}."
            return


_NUMBERS = 1024
"""Different values of a quantised tensor, at most."""


def _step(values: Tensor) -> tuple[float, int]:
    """The distance of neighbouring values where all are multiples of one, and how many there are.

    Zero where they are not, or where there are as many as in any tensor.
    """
    found: Tensor = torch.unique(values)
    if len(found) < 2 or len(found) > min(_NUMBERS, values.numel() // 8):
        return 0.0, len(found) if len(found) <= 3 else 0
    gaps = found.diff()
    step = float(gaps[gaps > gaps.max() * 1e-3].min())
    whole = float(found[-1] - found[0])
    # Of many steps together the roundings of the values are the least.
    step = whole / max(round(whole / step), 1)
    steps = (found - found[0]) / step
    even = bool(((steps - steps.round()).abs() < 0.02).all())
    return (step, len(found)) if even else (0.0, 0)


def _noise(
    exact: Tensor, error: Tensor, differs: Tensor, scale: Tensor, size: float, rms: float
) -> Iterator[str]:
    """Whether errors go with nothing. Their size says nothing of where they come from."""
    if not rms or float(differs.double().mean()) < 0.5:
        return
    share = float((error.square().mean() / scale.square().mean()).sqrt())
    norms = float(exact.norm() * error.norm())
    together = abs(float((exact * error).sum())) / norms if norms else 1.0
    if together < 0.1 and share < 2**-5:
        yield (
            f"It looks like noise of relative size 2^{math.log2(share):.1f}, spread over all"
            f"{_growth(exact, error)}."
        )


def _growth(exact: Tensor, error: Tensor) -> str:
    """Whether errors grow with the values, or are the same for all."""
    order = exact.abs().flatten().argsort()
    quarter = len(order) // 4
    if quarter < _MANY:
        return ""
    errors = error.flatten()[order]
    small = float(errors[:quarter].square().mean().sqrt())
    large = float(errors[-quarter:].square().mean().sqrt())
    if large > 3 * small:
        return ", in proportion to the values"
    return ", as large for small values as for large ones" if large < 1.25 * small else ""
