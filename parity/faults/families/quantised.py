"""Features brought to few levels, as quantised networks have them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

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
    fitted,
    number,
)
from parity.faults.basics.fault import CONVOLUTIONS, EVERY, Variant, in_variants, with_numbers
from parity.faults.basics.operations import Change, convolution, faithful

_LEVELS = 1 << 16
"""Levels beyond which values lie on no grid that says anything."""

_ENOUGH = 64
"""Values by which a grid is found."""

_READING = CONVOLUTIONS | {
    NodeKind.BATCH_NORM, NodeKind.ACTIVATION, NodeKind.GATE, NodeKind.MEAN,
}  # fmt: skip


def quantised(x: Tensor, bits: int, symmetric: bool, axes: tuple[int, ...] | None) -> Tensor:
    """Values on a grid of equal steps that spans them, in their own type.

    Args:
        x: The values.
        bits: Of a level's number.
        symmetric: Whether zero is in the middle of the grid.
        axes: Over which one step holds; None for all.
    """
    axes = tuple(range(x.dim())) if axes is None else axes
    most = 2 ** (bits - 1) - 1
    if symmetric:
        scale = (x.abs().amax(axes, keepdim=True) / most).clamp(min=1e-30)
        made: Tensor = (x / scale).round().clamp(-most - 1, most) * scale
        return made
    low = x.amin(axes, keepdim=True).clamp(max=0)
    high = x.amax(axes, keepdim=True).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-30)
    zero = (-low / scale).round()
    made = (((x / scale).round() + zero).clamp(0, 2**bits - 1) - zero) * scale
    return made


def _inputs(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """What is read brought to a grid, the steps as quantisers choose them."""
    for bits in (8, 4, 6, 5, 7, 16):
        for symmetric, kind in ((True, "symmetric"), (False, "affine")):
            for axes, each in (
                (None, "one scale"), ((0, 2, 3), "a scale for each channel"),
                ((1, 2, 3), "a scale for each image"),
            ):  # fmt: skip
                change = partial(
                    _in_float32, partial(quantised, bits=bits, symmetric=symmetric, axes=axes)
                )
                yield (
                    f"its input quantised to {bits} bits, {kind}, {each}",
                    _reading(operation, change),
                )
                if operation.kind in CONVOLUTIONS and bits in (8, 4):
                    for weights, how in (((1, 2, 3), "for each output channel"), (None, "in all")):
                        kernel = partial(
                            _in_float32,
                            partial(quantised, bits=bits, symmetric=True, axes=weights),
                        )
                        yield (
                            f"its input and its kernel quantised to {bits} bits, the input {kind} "
                            f"with {each}, the kernel symmetric with one scale {how}",
                            _reading(operation, change, kernel),
                        )


def _in_float32(change: Change, x: Tensor) -> Tensor:
    return change(x.float()).to(x.dtype)


def _reading(operation: Operation, change: Change, kernel: Change | None = None) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        first, *others = operation.arguments
        other = replace(operation, arguments=(change(first), *others))
        if operation.kind not in CONVOLUTIONS:
            return faithful(other)(channels)
        own = convolution(other)
        return replace(own, weight=own.weight if kernel is None else kernel(own.weight))(channels)

    return evaluate


@dataclass(frozen=True)
class Grid:
    """Levels of equal distance.

    Attributes:
        step: Their distance.
        offset: One of them.
        low: The lowest.
        high: The highest.
    """

    step: float
    offset: float
    low: float
    high: float

    def nearest(self, values: Tensor) -> Tensor:
        """The level nearest to each value."""
        steps = ((values - self.offset) / self.step).round()
        return (self.offset + steps * self.step).clamp(self.low, self.high)


def _grid_of(values: Tensor, unit: float) -> Grid | None:
    """The grid that values lie on; None where there is none."""
    levels = torch.unique(values.flatten().double())
    if len(levels) < 3 or len(levels) > min(_LEVELS, values.numel() // 2):
        return None
    gaps = levels.diff()
    size = float(levels.abs().max())
    # Equal levels may differ by the rounding of a product.
    real = gaps[gaps > 64 * unit * size]
    if not len(real):
        return None
    step = float(real.min())
    # A step is known the better the further two levels are apart.
    zero = float(levels[levels.abs().argmin()])
    for _ in range(4):
        counts = ((levels - zero) / step).round()
        power = float(counts.square().sum())
        if not power:
            return None
        step = float(((levels - zero) * counts).sum()) / power
    offset = 0.0 if abs(zero) < 1e-3 * step else zero
    counts = ((levels - offset) / step).round()
    off = (levels - offset - counts * step).abs().max()
    if float(off) > 1e-3 * step + 64 * unit * size or float(counts.max() - counts.min()) > _LEVELS:
        return None
    return Grid(step, offset, float(levels[0]), float(levels[-1]))


def _outputs(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """What is written brought to a grid, whose step and ends the output shows."""
    candidate = case.candidate
    output = base(ALL)[0]
    if output.shape != candidate.shape or candidate.numel() < _ENOUGH:
        return
    if not bool(torch.isfinite(candidate).all()):
        return
    grid = _grid_of(candidate, case.unit)
    if grid is None:
        return
    levels = round((grid.high - grid.low) / grid.step) + 1
    # An end counts where something would lie beyond it.
    slack = 0.75 * grid.step
    low = grid.low if bool((output < grid.low - slack).any()) else -math.inf
    high = grid.high if bool((output > grid.high + slack).any()) else math.inf
    ends = replace(grid, low=low, high=high)
    zero = "" if grid.offset == 0 else f", of which one is {number(grid.offset)}"
    yield fitted(
        "output-quantised",
        f"its output brought to {levels} levels {grid.step:.4g} apart{zero} (from "
        f"{number(grid.low)} to {number(grid.high)}), as by quantising to "
        f"{max(levels - 1, 1).bit_length()} bits",
        case,
        base,
        lambda case, base: _on(case, base, ends),
        4,
    )


def _on(case: Case, base: Evaluation, grid: Grid) -> Evaluation:
    """The faithful output on a grid; between two levels either, as roundings decide."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(channels)
        made = grid.nearest(output)
        candidate = case.candidate[:, channels].double()
        slack = 2 * case.bound * case.unit * (gauge + case.underflow) + 1e-6 * grid.step
        # As near to the middle of two levels as roundings go.
        middle = (output - made).abs() >= grid.step / 2 - slack
        other = made + torch.where(output > made, grid.step, -grid.step)
        taken = middle & ((candidate - other).abs() < (candidate - made).abs())
        return torch.where(taken, other, made), torch.maximum(gauge, made.abs())

    return evaluate


def _in_steps(operation: Operation, base: Evaluation) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = base(ALL)
        made = quantised(output, 8, True, None)
        return made[:, channels], gauge[:, channels]

    return evaluate


FAULTS = (
    in_variants("input-quantised", "an input of eight bits", _READING, _inputs),
    with_numbers("output-quantised", "an output of eight bits", EVERY, _outputs, _in_steps),
)
"""Features of few levels."""
