"""A convolution or a max-pool computed tile by tile, with too little of the neighbours known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import (
    ALL,
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    Operation,
    Site,
    counted,
    fitted,
    with_these,
)
from parity.faults.basics.fault import CONVOLUTIONS, kernel_of, with_numbers
from parity.faults.basics.operations import (
    Sides,
    convolution,
    extended,
    of_plane,
    padded_by,
    same_pads,
    strides,
)

_KINDS = CONVOLUTIONS | {NodeKind.POOL}

_MODES = ("zeros", "replicate", "reflect", "symmetric", "circular")
"""What a tile is padded with."""

_PADDED = {
    "zeros": "zeros",
    "replicate": "the tile's border",
    "reflect": "the tile's reflection",
    "symmetric": "the tile's reflection with its border",
    "circular": "the tile's opposite side",
    "-inf": "-inf",
}

_SIZES = (4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96, 128, 192, 256)
"""Sides of tiles, in pixels of the output."""

_LOOKED_AT = 12
"""Channels in which seams are looked for."""

_CLEAR = 0.5
"""Share of a row's places that differ where a seam runs along it."""


@dataclass(frozen=True)
class Window:
    """How far an operation looks.

    Attributes:
        kernel: Its height and width.
        stride: Its stride.
        first: Pixels of padding above and left of the whole map.
        size: Height and width of the output.
    """

    kernel: Sides
    stride: Sides
    first: Sides
    size: Sides


_Seams = tuple[tuple[int, ...], tuple[int, ...]]
"""The rows and the columns of the output with which a tile begins, but for the first."""

_Rule = Callable[[Sides], _Seams]
"""The seams of an output of some size."""


def _wide(site: Site) -> bool:
    if site.kind is NodeKind.POOL:
        return True
    return max(kernel_of(site).shape[2:]) > 1


def _window(operation: Operation) -> Window:
    x = operation.arguments[0]
    if operation.kind is NodeKind.POOL:
        stride = strides(operation)
        kernel = (stride[0] + 1, stride[1] + 1)
    else:
        own = convolution(operation)
        stride, kernel = own.stride, own.kernel
    left, _, top, _ = same_pads(x, kernel, stride)
    rows, columns = (-(-int(side) // step) for side, step in zip(x.shape[2:], stride, strict=True))
    return Window(kernel, stride, (top, left), (rows, columns))


def _on_tiles(
    operation: Operation, rule: _Rule, halo: int, mode: str, border: str = "zeros"
) -> Evaluation:
    """The operation on tiles that know ``halo`` pixels of their neighbours."""
    window = _window(operation)
    if operation.kind is NodeKind.POOL:
        return of_plane(
            operation,
            lambda x: _joined(
                x, window, rule, halo, mode,
                lambda tile: F.max_pool2d(tile, window.kernel, window.stride),
            ),
        )  # fmt: skip
    own = convolution(operation)

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        part = own.only(channels)
        whole = partial(_joined, part.x, window, rule, halo, mode, border=border)
        return (
            whole(lambda tile: replace(part, x=tile, pads=(0, 0, 0, 0))(ALL)[0]),
            whole(lambda tile: replace(part, x=tile, pads=(0, 0, 0, 0))(ALL)[1]),
        )

    return evaluate


def _joined(
    x: Tensor,
    window: Window,
    rule: _Rule,
    halo: int,
    mode: str,
    compute: Callable[[Tensor], Tensor],
    border: str = "zeros",
) -> Tensor:
    rows, columns = rule(window.size)
    bands = []
    for first, last in _spans(rows, window.size[0]):
        band = _tile(x, 2, first, last, window, halo, mode, border)
        made = [
            compute(_tile(band, 3, left, right, window, halo, mode, border))
            for left, right in _spans(columns, window.size[1])
        ]
        bands.append(torch.cat(made, 3))
    return torch.cat(bands, 2)


def _spans(seams: tuple[int, ...], size: int) -> list[tuple[int, int]]:
    ends = [0, *seams, size]
    return list(zip(ends[:-1], ends[1:], strict=True))


def _tile(
    x: Tensor,
    axis: int,
    first: int,
    last: int,
    window: Window,
    halo: int,
    mode: str,
    border: str,
) -> Tensor:
    """What the windows of outputs ``first`` to ``last`` see along an axis."""
    place, count = axis - 2, x.shape[axis]
    step, kernel, before = window.stride[place], window.kernel[place], window.first[place]
    # Outputs first to last look at these pixels; what lies beyond the tile is not known.
    start, stop = first * step - before, (last - 1) * step - before + kernel
    low = max(0, first * step - halo) if first else 0
    high = min(count, last * step + halo) if last < window.size[place] else count
    low, high = min(low, count), max(min(high, count), 0)
    known = x.narrow(axis, low, high - low)
    above, below = low - start, stop - high
    if mode == "-inf":
        return F.pad(known, (above, below) if axis == 3 else (0, 0, above, below), value=-np.inf)
    # A tile's own border is padded as it likes; the map's border may be padded in another way.
    ends = (mode if first else border, mode if last < window.size[place] else border)
    if ends[0] == ends[1]:
        return extended(known, axis, above, below, mode if first else border)
    inner = (above if first else 0, below if last < window.size[place] else 0)
    known = extended(known, axis, *inner, mode)
    return extended(known, axis, above - inner[0], below - inner[1], border)


@dataclass(frozen=True)
class _Seen:
    """Where an output differs.

    Attributes:
        plane: Whether any channel of any image does, [H, W].
        lines: The rows and the columns more than half of which do.
    """

    plane: Tensor
    lines: tuple[frozenset[int], frozenset[int]]

    def may_be(self, window: Window, seams: _Seams, halo: int) -> bool:
        """Whether tiles with some seams would be wrong there, and nowhere else."""
        masks = []
        for axis, held in enumerate(seams):
            lost = _lacking(window, axis, held, halo)
            wrong = frozenset(lost.nonzero().flatten().tolist())
            # Beside a seam something differs, and where much differs there is a seam.
            if not self.lines[axis] <= wrong or 2 * len(self.lines[axis]) < len(wrong):
                return False
            masks.append(lost)
        beside = masks[0][:, None] | masks[1]
        return not bool(beside.all()) and not bool((self.plane & ~beside).any())


def _differing(case: Case, base: Evaluation) -> _Seen | None:
    """Where the candidate differs, if that is along rows and columns."""
    count = case.candidate.shape[1]
    channels = torch.linspace(0, count - 1, min(count, _LOOKED_AT)).long()
    output, gauge = base(channels)
    made = case.candidate[:, channels].double()
    if output.shape != made.shape:
        return None
    wrong = (made - output).abs() > case.bound * case.unit * (gauge + case.underflow)
    plane = wrong.any(1).any(0)
    rows, columns = (
        frozenset((plane.double().mean(axis) > _CLEAR).nonzero().flatten().tolist())
        for axis in (1, 0)
    )
    if not (rows or columns) or bool(plane.all()):
        return None
    return _Seen(plane, (rows, columns))


def _lacking(window: Window, axis: int, seams: tuple[int, ...], halo: int) -> Tensor:
    """Which outputs along an axis look beyond what their tile knows."""
    step, kernel, before = (v[axis] for v in (window.stride, window.kernel, window.first))
    lost = torch.zeros(window.size[axis], dtype=torch.bool)
    for first, last in _spans(seams, window.size[axis]):
        for place in range(first, last):
            start = place * step - before
            above = first > 0 and start < first * step - halo
            below = last < window.size[axis] and start + kernel > last * step + halo
            lost[place] = above or below
    return lost


def _runs(indices: frozenset[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for index in sorted(indices):
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs


def _rules(seen: _Seen, size: Sides) -> Iterator[tuple[str, _Rule, int]]:
    """Ways to cut a map of some size, and how many places each of them fits."""
    # Numbers that hold at any size come before places that hold at this one.
    for rows in _cuts(size[0]):
        for columns in _cuts(size[1]):
            yield _cut_words(rows, columns), partial(_by_rule, rows, columns), 0
    longest = max(last - first + 1 for held in seen.lines for first, last in _runs(held))
    for by in range(longest + 1):
        down, along = (
            tuple(first + by for first, _ in _runs(held) if 0 < first + by < side)
            for held, side in zip(seen.lines, size, strict=True)
        )
        yield "", partial(_fixed, (down, along)), len(down) + len(along)


_Cut = tuple[str, int]
"""``tiles`` and their number, or ``pixels`` and the side of a tile."""


def _cuts(side: int) -> list[_Cut]:
    numbers = [("tiles", number) for number in range(1, min(side, 16) + 1)]
    return numbers + [("pixels", size) for size in _SIZES if size < side]


def _seams_of(cut: _Cut, side: int) -> tuple[int, ...]:
    how, number = cut
    step = number if how == "pixels" else -(-side // number)
    return tuple(range(step, side, step))


def _by_rule(rows: _Cut, columns: _Cut, size: Sides) -> _Seams:
    return _seams_of(rows, size[0]), _seams_of(columns, size[1])


def _fixed(seams: _Seams, size: Sides) -> _Seams:
    rows, columns = (
        tuple(i for i in held if i < side) for held, side in zip(seams, size, strict=True)
    )
    return rows, columns


def _cut_words(rows: _Cut, columns: _Cut) -> str:
    if rows[0] == columns[0] == "tiles":
        return f"on {rows[1]}x{columns[1]} tiles (rows x columns)"
    down, along = (
        f"{number} {'tile' if number == 1 else 'tiles'}" if how == "tiles" else f"{number} pixels"
        for how, number in (rows, columns)
    )
    return f"on tiles ({down} down, {along} along)"


def _fitted_tiles(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    window = _window(case)
    if max(window.kernel) == 1:
        return
    if case.kind is NodeKind.POOL:
        yield from _of_border(case, base, base, window, "zeros", ("-inf", "zeros"))
        return
    own = convolution(case)
    for border in _MODES:
        # A map's own border is padded as it should be, or as every tile's.
        whole = base if border == "zeros" else padded_by(own, own.pads, (border, border))
        modes = _MODES if border == "zeros" else (border,)
        yield from _of_border(case, base, whole, window, border, modes)


def _of_border(
    case: Case,
    base: Evaluation,
    whole: Evaluation,
    window: Window,
    border: str,
    modes: tuple[str, ...],
) -> Iterator[Hypothesis]:
    """Tiles of a map whose own border is padded in some way, as ``whole`` is."""
    seen = _differing(case, whole)
    if seen is None:
        return
    tried = set()
    for words, rule, constants in _rules(seen, window.size):
        seams = rule(window.size)
        for halo in range(max(window.kernel)):
            key = (seams, halo, not words)
            if not any(seams) or key in tried:
                continue
            tried.add(key)
            if not seen.may_be(window, seams, halo):
                continue
            for mode in modes:
                known = f" that know {halo} pixels of their neighbours" if halo else ""
                yield fitted(
                    "tile-seams",
                    f"computed {words or 'on tiles'}{known}, each padded with {_PADDED[mode]}: "
                    f"wrong at the seams {_where(*seams)}",
                    case,
                    base,
                    with_these(_on_tiles, rule, halo, mode, border),
                    max(constants, 1),
                    of_sizes=True,
                )


def _where(rows: tuple[int, ...], columns: tuple[int, ...]) -> str:
    texts = [
        f"before {name}{'s' * (len(held) > 1)} {counted(list(held), 4)}"
        for held, name in ((rows, "row"), (columns, "column"))
        if held
    ]
    return " and ".join(texts)


def _four(operation: Operation, base: Evaluation) -> Evaluation | None:
    if min(_window(operation).size) < 4:
        return None
    mode = "-inf" if operation.kind is NodeKind.POOL else "zeros"
    return _on_tiles(operation, partial(_by_rule, ("tiles", 2), ("tiles", 2)), 0, mode)


FAULTS = (
    with_numbers("tile-seams", "computed on four tiles", _KINDS, _fitted_tiles, _four, where=_wide),
)
"""Seams between tiles."""
