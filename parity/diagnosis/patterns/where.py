"""Where in a tensor differences are: which images, channels, rows, columns and positions."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_FEW = 6
"""Indices, or ranges of them, that a sentence lists. Of more nothing is said that is no rule."""

_SINGLE = 3
"""Values that are named one by one."""


def where(differs: Tensor) -> Iterator[str]:
    """Which images, channels, rows and columns hold differences, and which do not."""
    names = (("image", differs.shape[0]), ("channel", differs.shape[1]))
    for axis, (name, total) in enumerate(names):
        held = _along(differs, axis)
        if int(held.sum()) < total:
            yield from _listing(held, name, bool(_fills(differs, axis)))
    border = _border(differs)
    if border:
        yield border
        return
    told = False
    for axis, name in ((2, "row"), (3, "column")):
        held = _along(differs, axis)
        if int(held.sum()) < len(held) and len(held) >= 3:
            sentences = list(_listing(held, name, _fills(differs, axis)))
            told |= bool(sentences)
            yield from sentences
    if not told:
        yield from _lines(differs)


def singles(exact: Tensor, made: Tensor, differs: Tensor) -> str | None:
    """The values that differ, where they are a few; None otherwise."""
    places = differs.nonzero().tolist()
    if not places or len(places) > _SINGLE or len(places) == differs.numel():
        return None
    told = [
        f"{place} [n, c, y, x] ({float(made[tuple(place)]):.6g} instead of "
        f"{float(exact[tuple(place)]):.6g})"
        for place in places
    ]
    number = "1 value differs" if len(places) == 1 else f"{len(places)} values differ"
    return f"Only {number}, at {', '.join(told)}."


def _fills(differs: Tensor, axis: int) -> bool:
    """Whether of each index at which anything differs most does."""
    shares = differs.transpose(0, axis).flatten(1).double().mean(1)
    held = shares > 0
    return float(shares[held].min()) > 0.5 if bool(held.any()) else False


def _listing(held: Tensor, name: str, full: bool) -> Iterator[str]:
    """A sentence on which indices along an axis hold differences."""
    count, total = int(held.sum()), len(held)
    if not count:
        return
    indices = held.nonzero().flatten().tolist()
    listed = _listed(held)
    if name in ("row", "column") and count > 1:
        for parity, word in ((0, "even"), (1, "odd")):
            if count == len(held[parity::2]) == int(held[parity::2].sum()):
                yield f"Only {word} {name}s differ."
                return
    step = indices[1] - indices[0] if count > 2 else 0
    if step > 1 and indices == list(range(indices[0], total, step)) and indices[0] < step:
        what = _ordinal(step)
        first = f"the first of them {indices[0]}: {count} of {total}"
        yield f"Only every {what} {name} differs, {first}."
        return
    solid = indices == list(range(indices[0], indices[-1] + 1))
    if solid and count > 1 and name != "image" and indices[-1] == total - 1:
        yield f"Only {count} of {total} {name}s differ: {listed}, all from {indices[0]} on."
    elif solid and count > 1 and name == "channel" and indices[0] == 0:
        yield f"Only {count} of {total} {name}s differ: {listed}, the first ones."
    elif solid and count <= 2 and name in ("row", "column") and 2 < indices[0] < total - 3:
        yield f"Only {count} of {total} {name}s differ: {listed}, as at a seam."
    elif _ranges(held) <= _FEW or full:
        yield f"Only {count} of {total} {name}s differ: {listed}."


def _lines(differs: Tensor) -> Iterator[str]:
    """A chequered pattern, or the lines between tiles."""
    plane = differs.any(1).any(0)
    height, width = plane.shape
    if bool(plane.all()) or not bool(plane.any()) or min(height, width) < 4:
        return
    rows = torch.arange(height, device=plane.device).view(-1, 1)
    columns = torch.arange(width, device=plane.device).view(1, -1)
    for parity in (0, 1):
        if bool((plane == ((rows + columns) % 2 == parity)).all()):
            yield "Only every second position differs, as on a chessboard."
            return
    for step in range(3, min(height, width) // 2 + 1):
        for first in (0, step - 1):
            lines = (rows % step == first) | (columns % step == first)
            if bool((plane == lines).all()):
                lines_of = f"{_ordinal(step)} row and column"
                yield f"Only every {lines_of} differs, as at the edges of tiles."
                return


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


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


def _along(mask: Tensor, axis: int) -> Tensor:
    """Where along one axis anything is set."""
    return mask.transpose(0, axis).flatten(1).any(1)


def _ranges(mask: Tensor) -> int:
    padded = torch.cat([mask.new_zeros(1), mask])
    return int((padded[1:] & ~padded[:-1]).sum())


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


def constant_channels(made: Tensor) -> str | None:
    """A sentence on channels that have one value alone; None where there are none."""
    spread = made.amax((2, 3)) - made.amin((2, 3))
    flat = (spread == 0).all(0)
    count = int(flat.sum())
    if not count or made.shape[2] * made.shape[3] == 1:
        return None
    zero = int(((made == 0).all(3).all(2).all(0)).sum())
    return (
        f"{count} of {made.shape[1]} channels are constant ({_listed(flat)}), {zero} of them zero."
    )
