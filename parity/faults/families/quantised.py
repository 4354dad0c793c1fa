"""Features brought to few levels, as quantised networks have them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

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
from parity.faults.basics.operations import convolution, faithful

_LEVELS = 1 << 16
"""Levels beyond which values lie on no grid that says anything."""

_ENOUGH = 64
"""Values by which a grid is found."""

_READING = CONVOLUTIONS | {
    NodeKind.BATCH_NORM, NodeKind.ACTIVATION, NodeKind.GATE, NodeKind.MEAN,
}  # fmt: skip


@dataclass(frozen=True)
class Steps:
    """Levels that a quantiser chooses for a tensor, whose steps hold over some of its axes.

    Attributes:
        scale: The distance of two levels, as large as the tensor along the other axes.
        zero: The number of the level that is zero, likewise.
        least: The lowest level's number.
        most: The highest level's.
    """

    scale: Tensor
    zero: Tensor
    least: int
    most: int

    def of(self, x: Tensor, channels: Channels = ALL) -> Tensor:
        """Some channels of the tensor at the nearest levels, in float32 as ports compute."""
        scale, zero = (v[:, channels] if v.shape[1] > 1 else v for v in (self.scale, self.zero))
        numbers = ((x.float() / scale).round() + zero).clamp(self.least, self.most)
        return ((numbers - zero) * scale).to(x.dtype)


def steps_for(x: Tensor, bits: int, symmetric: bool, axes: tuple[int, ...]) -> Steps:
    """The levels for a tensor.

    Args:
        x: It.
        bits: Of a level's number.
        symmetric: Whether zero is in the middle.
        axes: Over which one step holds.
    """
    low, high = x.amin(axes, keepdim=True).float(), x.amax(axes, keepdim=True).float()
    return _steps(low, high, bits, symmetric)


def _steps(low: Tensor, high: Tensor, bits: int, symmetric: bool) -> Steps:
    if symmetric:
        most = 2 ** (bits - 1) - 1
        scale = (torch.maximum(-low, high) / most).clamp(min=1e-30)
        return Steps(scale, torch.zeros_like(scale), -most - 1, most)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-30)
    return Steps(scale, (-low / scale).round(), 0, 2**bits - 1)


def _inputs(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    """What is read brought to a grid, the steps as quantisers choose them."""
    x = operation.arguments[0]
    kernel = convolution(operation).weight if operation.kind in CONVOLUTIONS else None
    scopes = []
    for axes, each in (
        ((0, 1, 2, 3), "one scale"), ((0, 2, 3), "a scale for each channel"),
        ((1, 2, 3), "a scale for each image"),
    ):  # fmt: skip
        ends = x.amin(axes, keepdim=True).float(), x.amax(axes, keepdim=True).float()
        scopes.append((ends, each))
    for bits in (8, 4, 6, 5, 7, 16):
        for symmetric, kind in ((True, "symmetric"), (False, "affine")):
            for (low, high), each in scopes:
                steps = _steps(low, high, bits, symmetric)
                yield (
                    f"its input quantised to {bits} bits, {kind}, {each}",
                    _reading(operation, steps, None),
                )
                if kernel is None or bits not in (8, 4):
                    continue
                for axes, how in (((1, 2, 3), "for each output channel"), ((0, 1, 2, 3), "in all")):
                    weights = steps_for(kernel, bits, True, axes)
                    yield (
                        f"its input and its kernel quantised to {bits} bits, the input {kind} "
                        f"with {each}, the kernel symmetric with one scale {how}",
                        _reading(operation, steps, weights),
                    )


def _reading(operation: Operation, steps: Steps, weights: Steps | None) -> Evaluation:
    first, *others = operation.arguments

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        if operation.kind in CONVOLUTIONS:
            own = convolution(operation)
            part = own.only(channels)
            kernel = part.weight if weights is None else weights.of(own.weight)[channels]
            read = channels if own.depthwise else ALL
            return replace(part, x=steps.of(part.x, read), weight=kernel)(ALL)
        # These look at the channels alone that they are asked for.
        x = first.clone()
        x[:, channels] = steps.of(first[:, channels], channels)
        return faithful(replace(operation, arguments=(x, *others)))(channels)

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
    flat = values.flatten()
    sample = flat[torch.linspace(0, len(flat) - 1, min(len(flat), _LEVELS)).long()]
    if len(torch.unique(sample)) > len(sample) // 2:
        return None
    levels = torch.unique(flat.double())
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
        made = steps_for(output, 8, True, (0, 1, 2, 3)).of(output)
        return made[:, channels], gauge[:, channels]

    return evaluate


FAULTS = (
    in_variants("input-quantised", "an input of eight bits", _READING, _inputs),
    with_numbers("output-quantised", "an output of eight bits", EVERY, _outputs, _in_steps),
)
"""Features of few levels."""
