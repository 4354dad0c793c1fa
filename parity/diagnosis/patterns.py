"""What a difference looks like where no known fault explains it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from parity.faults.basics.case import ROUNDINGS
from parity.results.digits import told, told_apart

_FEW = 6
"""Indices that a sentence lists."""

_CLEAR = 0.999
"""Share that counts as all but exceptions, and correlation that counts as one."""


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
            *_where(wrong),
        ]
    unknown = ~torch.isfinite(exact)
    if bool(unknown.any()):
        return [f"{_count(unknown)} should not be finite, and are.", *_where(unknown)]
    rms = float(exact.square().mean().sqrt())
    scale = exact.abs() + rms if gauge is None else gauge.double()
    error = made - exact
    differs = error.abs() > 2 * max(limit, ROUNDINGS) * unit * scale
    if not bool(differs.any()):
        return []
    size = float(error.square().mean().sqrt())
    relative = f", {size / rms:.3g} of the truth's" if rms else ""
    return [
        *_degenerate(made),
        *_linear(exact, made, error, size),
        *_of_values(exact, made, differs),
        *_where(differs),
        *_grid(exact, made),
        *_noise(exact, error, differs, scale, size, rms),
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
    spread = made.amax((2, 3)) - made.amin((2, 3))
    flat = (spread == 0).all(0)
    count = int(flat.sum())
    if count and made.shape[2] * made.shape[3] > 1:
        zero = int(((made == 0).all(3).all(2).all(0)).sum())
        yield (
            f"{count} of {made.shape[1]} channels are constant ({_listed(flat)}), "
            f"{zero} of them zero."
        )


def _linear(exact: Tensor, made: Tensor, error: Tensor, size: float) -> Iterator[str]:
    """Whether the candidate is the truth times something plus something."""
    power = float(exact.square().sum())
    if power:
        factor = float((exact * made).sum()) / power
        left = float((made - factor * exact).square().mean().sqrt())
        text = told(factor, 1.0)
        if left < size / 10 and text is not None:
            sign = ", with the other sign" if factor < 0 else ""
            yield (
                f"It is about the truth times {text}{sign}, which leaves {left / size:.2%} "
                f"of the difference."
            )
    offset = float(error.mean())
    left = float((error - offset).square().mean().sqrt())
    if left < size / 10:
        yield (
            f"It is about the truth plus {offset:.5g}, which leaves {left / size:.2%} of the "
            f"difference."
        )
    if exact.shape[1] > 1 and exact[:, 0].numel() >= 16:
        yield from _by_channel(exact, made, error, size)
    first, second = exact - exact.mean(), made - made.mean()
    norms = float(first.norm() * second.norm())
    if norms:
        together = float((first * second).sum()) / norms
        if abs(together) < _CLEAR:
            yield f"Its correlation with the truth is {together:.3f}."


def _by_channel(exact: Tensor, made: Tensor, error: Tensor, size: float) -> Iterator[str]:
    axes = (0, 2, 3)
    factors = (exact * made).sum(axes) / exact.square().sum(axes).clamp(min=1e-300)
    shape = (1, -1, 1, 1)
    left = float((made - factors.view(shape) * exact).square().mean().sqrt())
    if left < size / 10:
        yield (
            f"Each channel is about the truth times a factor of its own, "
            f"{_range(factors)}, which leaves "
            f"{left / size:.2%} of the difference."
        )
    offsets = error.mean(axes)
    left = float((error - offsets.view(shape)).square().mean().sqrt())
    if left < size / 10:
        yield (
            f"Each channel is about the truth plus an offset of its own, "
            f"{_range(offsets)}, which leaves "
            f"{left / size:.2%} of the difference."
        )


def _range(values: Tensor) -> str:
    """The smallest and the largest of some numbers, which do not read as one where they are two."""
    return " to ".join(told_apart(float(values.min()), float(values.max())))


def _of_values(exact: Tensor, made: Tensor, differs: Tensor) -> Iterator[str]:
    """Which true values the differences go with."""
    if bool(differs.all()):
        return
    low, high = float(exact[differs].min()), float(exact[differs].max())
    held = exact[~differs]
    if high <= 0 < float(held.max()):
        yield f"Only values whose truth is negative differ ({low:.4g} to {high:.4g})."
    elif low >= 0 > float(held.min()):
        yield f"Only values whose truth is positive differ ({low:.4g} to {high:.4g})."
    for bound, above, word in (
        (float(made.max()), True, "above"),
        (float(made.min()), False, "below"),
    ):
        beyond = exact > bound if above else exact < bound
        reached = made[differs] == bound
        if bool(reached.all()) and bool((differs & ~beyond).sum() == 0):
            yield f"Where the truth is {word} {bound:.6g} the candidate is {bound:.6g}."
    zero = made[differs] == 0
    if bool(zero.all()):
        yield "Where it differs the candidate is zero."


def _where(differs: Tensor) -> Iterator[str]:
    """Which images, channels, rows and columns hold differences, and which do not."""
    images, channels = differs.shape[:2]
    for axis, name in ((0, "images"), (1, "channels")):
        held = _along(differs, axis)
        count = int(held.sum())
        if count < len(held):
            total = images if axis == 0 else channels
            yield f"Only {count} of {total} {name} differ: {_listed(held)}."
    rows, columns = _along(differs, 2), _along(differs, 3)
    border = _border(differs)
    if border:
        yield border
        return
    for held, name in ((rows, "rows"), (columns, "columns")):
        count = int(held.sum())
        if count == len(held) or len(held) < 3:
            continue
        for parity, word in ((0, "even"), (1, "odd")):
            if count > 1 and count == len(held[parity::2]) == int(held[parity::2].sum()):
                yield f"Only {word} {name} differ."
                break
        else:
            yield f"Only {count} of {len(held)} {name} differ: {_listed(held)}."


def _border(differs: Tensor) -> str:
    """A sentence where all differences lie within some pixels of an edge."""
    height, width = differs.shape[2:]
    plane = differs.any(1).any(0)
    depths: dict[str, Tensor] = {
        "first row": torch.arange(height).view(-1, 1).expand(height, width),
        "last row": torch.arange(height).flip(0).view(-1, 1).expand(height, width),
        "first column": torch.arange(width).view(1, -1).expand(height, width),
        "last column": torch.arange(width).flip(0).view(1, -1).expand(height, width),
    }
    edges = {name: depth.to(plane.device) for name, depth in depths.items()}
    for depth in range(1, 4):
        if 2 * depth >= min(height, width):
            break
        near = {name: distance < depth for name, distance in edges.items()}
        outside = plane & ~torch.stack(list(near.values())).any(0)
        if bool(outside.any()):
            continue
        # An edge counts where something differs on it that no other edge accounts for.
        held = []
        for name, inside in near.items():
            others = torch.stack([mask for other, mask in near.items() if other != name]).any(0)
            if bool((plane & inside & ~others).any()):
                held.append(name)
        if not held:
            return "Only the corners differ, the rest is right."
        what = " and ".join(held) if len(held) < 4 else "the whole border"
        if depth > 1:
            what += f" ({depth} pixels deep)"
        return f"Only the border differs: {what}; the interior is right."
    return ""


def _grid(exact: Tensor, made: Tensor) -> Iterator[str]:
    """Whether all values are numbers of a type of lower precision, as the true ones are not."""
    for dtype in (torch.bfloat16, torch.float16):
        if bool((made.to(dtype).double() == made).all()):
            if float((exact.to(dtype).double() == exact).double().mean()) < 0.5:
                yield f"Every value is a number of {str(dtype).removeprefix('torch.')}."
            return


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
        yield f"It looks like noise of relative size 2^{math.log2(share):.1f}, spread over all."


def _along(mask: Tensor, axis: int) -> Tensor:
    """Where along one axis anything is set."""
    return mask.transpose(0, axis).flatten(1).any(1)


def _listed(mask: Tensor) -> str:
    """The set indices of a vector, as ranges."""
    indices = [int(i) for i in mask.nonzero().flatten()]
    ranges: list[tuple[int, int]] = []
    for index in indices:
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1] = (ranges[-1][0], index)
        else:
            ranges.append((index, index))
    texts = [f"{a}" if a == b else f"{a} to {b}" for a, b in ranges]
    more = f" and {len(texts) - _FEW} more" if len(texts) > _FEW else ""
    return ", ".join(texts[:_FEW]) + more
