"""What ports get wrong in the global mean of squeeze-excite."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import Case, Channels, Evaluation, Hypothesis, Operation, fitted
from parity.faults.basics.fault import Fault, Variant, in_variants, with_numbers
from parity.faults.basics.operations import Change, mean, of_plane
from parity.faults.families.activations import LIKELY

_KINDS = frozenset({NodeKind.MEAN})


def _fault(slug: str, title: str, *forms: tuple[str, Change], without: str | None = None) -> Fault:
    """Something else of each channel's plane."""

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        for words, function in forms:
            yield words, of_plane(operation, function, partial(_with_mean, function))

    return in_variants(slug, title, _KINDS, variants, without=without)


def _with_mean(function: Change, x: Tensor) -> Tensor:
    return function(x).abs() + mean(x)


def _mean_of(function: Change, x: Tensor) -> Tensor:
    return mean(function(x))


def _largest(x: Tensor) -> Tensor:
    return x.amax((2, 3), True)


def _flat(x: Tensor) -> Tensor:
    return x.flatten(2)


def _of_part(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    x = operation.arguments[0]
    height, width = int(x.shape[2]), int(x.shape[3])
    regions = (
        ("the first row", x[:, :, :1]),
        ("the first column", x[..., :1]),
        ("the upper half", x[:, :, : height // 2]),
        ("the lower half", x[:, :, height // 2 :]),
        ("the left half", x[..., : width // 2]),
        ("the right half", x[..., width // 2 :]),
        ("all but the last row and column", x[:, :, :-1, :-1]),
        ("what lies inside the border", x[:, :, 1:-1, 1:-1]),
        ("every second pixel", x[:, :, ::2, ::2]),
        ("the last 7x7 pixels", x[:, :, -7:, -7:]),
        ("the first 7x7 pixels", x[:, :, :7, :7]),
    )
    for title, region in regions:
        if region.numel():
            yield f"the mean of {title} only", _region(region)


def _fitted_part(case: Case, base: Evaluation) -> Iterator[Hypothesis]:
    """The rows, the columns, the margin or the corner over which the mean is taken."""
    x, made = case.arguments[0], case.candidate.double()
    if made.shape != (*x.shape[:2], 1, 1):
        return
    # The channels that vary most over the map tell one part from another.
    telling = x.var((0, 2, 3)).argsort(descending=True)[:_CHANNELS]
    few, shown = x[:, telling], made[:, telling, 0, 0]
    sums = F.pad(few, (1, 0, 1, 0)).cumsum(2).cumsum(3)
    best: tuple[float, str, Region] | None = None
    for words, region in _regions(few):
        error = float((_mean_over(few, sums, region) - shown).abs().max())
        if best is None or error < best[0]:
            best = error, words, region
    if best is not None:
        _, words, region = best
        again = partial(_again_over, region)
        yield fitted(
            "mean-of-part", f"the mean of {words} only", case, base, again, 2, of_sizes=True
        )


Region = tuple[slice, slice]
"""Rows and columns."""

_CHANNELS = 4
"""Channels by which parts of a map are told apart."""

_LONG = 96
"""Rows or columns beyond which only parts at an edge are tried: the others are too many."""


def _regions(x: Tensor) -> Iterator[tuple[str, Region]]:
    height, width = x.shape[2:]
    everything = slice(None)
    for size, axis, what in ((height, 0, "rows"), (width, 1, "columns")):
        for first in range(size):
            for end in range(first + 1, size + 1):
                if (first, end) == (0, size) or (size > _LONG and first and end < size):
                    continue
                part = slice(first, end)
                region = (part, everything) if axis == 0 else (everything, part)
                words = f"{what} {first} to {end - 1} of {size}"
                yield words if end - first > 1 else f"{what[:-1]} {first} of {size}", region
    for margin in range(1, (min(height, width) + 1) // 2):
        inside = slice(margin, -margin)
        yield f"what is {margin} pixels or more from the border", (inside, inside)
    for rows in range(1, height):
        columns = max(1, round(rows * width / height))
        low, high = (slice(0, rows), slice(0, columns)), (slice(-rows, None), slice(-columns, None))
        yield f"the first {rows}x{columns} pixels", low
        yield f"the last {rows}x{columns} pixels", high
        yield f"the last rows, {rows}, and first columns, {columns}", (high[0], low[1])
        yield f"the first rows, {rows}, and last columns, {columns}", (low[0], high[1])
    for step in range(2, 9):
        for first in range(step):
            grid = slice(first, None, step)
            yield f"every {step}. row from {first} on", (grid, everything)
            yield f"every {step}. column from {first} on", (everything, grid)
            yield f"every {step}. row and column from {first} on", (grid, grid)


def _mean_over(x: Tensor, sums: Tensor, region: Region) -> Tensor:
    """The mean of a part, from the sums of all that is above and before each pixel."""
    (top, bottom, down), (left, right, along) = (
        part.indices(size) for part, size in zip(region, x.shape[2:], strict=True)
    )
    if down > 1 or along > 1:
        return x[:, :, region[0], region[1]].mean((2, 3))
    total = sums[..., bottom, right] - sums[..., top, right] - sums[..., bottom, left]
    return (total + sums[..., top, left]) / ((bottom - top) * (right - left))


def _again_over(region: Region, operation: Operation, base: Evaluation) -> Evaluation:
    return _region(operation.arguments[0][:, :, region[0], region[1]])


def _rows_two_on(operation: Operation, base: Evaluation) -> Evaluation | None:
    if operation.arguments[0].shape[2] < 4:
        return None
    return _again_over((slice(2, -1), slice(None)), operation, base)


def _region(region: Tensor) -> Evaluation:
    return lambda channels: (mean(region[:, channels]), mean(region[:, channels].abs()))


def _other_divisor(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    x = operation.arguments[0]
    height, width = int(x.shape[2]), int(x.shape[3])
    divisors = (
        (height, "height"), (width, "width"), (height * width - 1, "the pixels less one"),
        ((height + 1) * (width + 1), "a padded map"),
    )  # fmt: skip
    for divisor, title in divisors:
        if divisor:
            scaled = partial(_scaled_mean, height * width / divisor)
            yield f"the sum divided by {title}", of_plane(operation, scaled, scaled)


def _scaled_mean(factor: float, x: Tensor) -> Tensor:
    return factor * mean(x)


def _other_axes(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    x = operation.arguments[0]
    for axis, title in ((2, "height"), (3, "width"), (1, "channels")):
        yield f"averaged over {title} only", _over(x, (axis,))
    yield "averaged over the images too", _over(x, (0, 2, 3))
    yield (
        "its NHWC input read as NCHW",
        lambda channels: (
            mean(x.permute(0, 2, 3, 1).reshape(x.shape)[:, channels]),
            mean(x.abs().permute(0, 2, 3, 1).reshape(x.shape)[:, channels]),
        ),
    )


def _over(x: Tensor, axes: tuple[int, ...]) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = x.mean(axes, keepdim=True), x.abs().mean(axes, keepdim=True)
        if 0 in axes:
            output, gauge = (v.expand(x.shape[0], -1, -1, -1) for v in (output, gauge))
        return (output, gauge) if 1 in axes else (output[:, channels], gauge[:, channels])

    return evaluate


def _in_order(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    x = operation.arguments[0]

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        flat = _flat(x[:, channels]).cpu().numpy().astype(np.float32)
        # NumPy's cumulative sum keeps the order and the type, unlike its sum.
        total = np.cumsum(flat, axis=2, dtype=np.float32)[..., -1]
        output = torch.from_numpy(total).to(x) / flat.shape[2]
        return output[..., None, None], mean(x[:, channels].abs())

    yield "its values added one after another in single precision", evaluate


_AVERAGED_OVER_IMAGES = 3
"""The number of the form of :func:`_other_axes` that keeps the shape."""

FAULTS = (
    _fault(
        "max-pool", "a maximum for the mean", ("the largest value instead of the mean", _largest)
    ),
    _fault(
        "min-pool",
        "a minimum for the mean",
        ("the smallest value instead of the mean", lambda x: x.amin((2, 3), True)),
    ),
    _fault(
        "sum", "a sum for the mean", ("the sum instead of the mean", lambda x: x.sum((2, 3), True))
    ),
    _fault(
        "median",
        "a median for the mean",
        (
            "the lower median instead of the mean",
            lambda x: _flat(x).median(2)[0][..., None, None],
        ),
        (
            "the median instead of the mean",
            lambda x: torch.quantile(_flat(x), 0.5, 2)[..., None, None],
        ),
    ),
    _fault(
        "centre",
        "the centre for the mean",
        (
            "the centre pixel instead of the mean",
            lambda x: x[:, :, x.shape[2] // 2, x.shape[3] // 2, None, None],
        ),
    ),
    _fault(
        "corner",
        "a corner for the mean",
        ("the first pixel instead of the mean", lambda x: x[:, :, :1, :1]),
        ("the last pixel instead of the mean", lambda x: x[:, :, -1:, -1:]),
    ),
    _fault(
        "max-and-mean",
        "maximum and mean together",
        ("the average of mean and largest value", lambda x: (mean(x) + _largest(x)) / 2),
        ("the sum of mean and largest value", lambda x: mean(x) + _largest(x)),
    ),
    _fault(
        "mean-of-magnitudes",
        "the mean of the magnitudes",
        ("the mean of the magnitudes", lambda x: mean(x.abs())),
    ),
    _fault(
        "mean-of-squares",
        "the mean of the squares",
        ("the mean of the squares", lambda x: mean(x.square())),
    ),
    _fault(
        "root-mean-square",
        "the root of the mean of the squares",
        ("the root of the mean of the squares", lambda x: mean(x.square()).sqrt()),
    ),
    _fault(
        "deviation",
        "the deviation for the mean",
        (
            "the standard deviation instead of the mean",
            lambda x: x.std((2, 3), correction=0, keepdim=True),
        ),
        (
            "the variance instead of the mean",
            lambda x: x.var((2, 3), correction=0, keepdim=True),
        ),
    ),
    _fault(
        "mean-of-nonzero",
        "the mean of the values that are not zero",
        (
            "the mean of the values that are not zero",
            lambda x: x.sum((2, 3), True) / (x != 0).sum((2, 3), True),
        ),
        without="most activations give no zero, so that behind them it is the mean",
    ),
    _fault(
        "mean-activated",
        "an activation before the mean",
        *(
            (f"the mean of {title} of the values", partial(_mean_of, function))
            for title, function in LIKELY
        ),
    ),
    in_variants("mean-of-part", "the mean of a part", _KINDS, _of_part),
    with_numbers(
        "mean-of-part", "the mean of any rows or columns", _KINDS, _fitted_part, _rows_two_on
    ),
    in_variants("divisor", "another divisor of the mean", _KINDS, _other_divisor),
    in_variants(
        "mean-over-other-axes",
        "a mean over other axes",
        _KINDS,
        _other_axes,
        put_in=_AVERAGED_OVER_IMAGES,
    ),
    in_variants(
        "summed-in-order",
        "a mean in a plain order of single precision",
        _KINDS,
        _in_order,
        without="the right mean in poor arithmetic, which only maps of 100,000 pixels show",
    ),
)
"""Faults of a global mean, the simplest and likeliest first."""
