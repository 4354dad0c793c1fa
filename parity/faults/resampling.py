"""What ports get wrong where features change size: in max-pool and up-sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import same_padding
from parity.faults.case import Case, Channels, Evaluation, Hypothesis

_Change = Callable[[Tensor], Tensor]


def changed(case: Case, function: _Change, magnitude: _Change | None = None) -> Evaluation:
    """A function of each channel's plane; its gauge is its own output unless another is given."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x = case.arguments[0][:, channels]
        output = function(x)
        gauge = output.abs() if magnitude is None else magnitude(x.abs())
        # Sums over a plane may be given less than what they lose.
        return output, gauge + output.abs()

    return evaluate


def pool(case: Case) -> Evaluation:
    """The max-pool as it should be: SAME padding by -inf, kernel = stride + 1."""
    stride = _stride(case)
    return changed(case, lambda x: _max_pool(x, (stride[0] + 1, stride[1] + 1), stride))


def upsample(case: Case) -> Evaluation:
    """Nearest neighbours, as it should be."""
    size = tuple(case.arguments[1])
    return changed(case, lambda x: F.interpolate(x, size=size, mode="nearest"))


def _stride(case: Case) -> tuple[int, int]:
    x, target = case.arguments
    rows, columns = (
        (int(size) - 1) // int(goal) + 1 for size, goal in zip(x.shape[2:], target, strict=True)
    )
    return rows, columns


def _max_pool(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], value: float = -np.inf
) -> Tensor:
    top, bottom = same_padding(x.shape[2], kernel[0], stride[0])
    left, right = same_padding(x.shape[3], kernel[1], stride[1])
    return F.max_pool2d(F.pad(x, (left, right, top, bottom), value=value), kernel, stride)


def pool_hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Faults of a max-pool, the simplest and likeliest first."""
    stride = _stride(case)
    kernel = (stride[0] + 1, stride[1] + 1)
    half = (kernel[0] // 2, kernel[1] // 2)
    size = (int(case.arguments[1][0]), int(case.arguments[1][1]))
    around = (half[1], half[1], half[0], half[0])

    def moved(by: int) -> _Change:
        return lambda x: F.max_pool2d(
            F.pad(x, (-by, by + 1, -by, by + 1), value=-np.inf), kernel, stride
        )

    odd = (kernel[0] + 1, kernel[1] + 1)
    wide = (kernel[0] + 2, kernel[1] + 2)
    for slug, title, function in (
        (
            "pool-zero-padding",
            "padded with zeros instead of -inf",
            lambda x: _max_pool(x, kernel, stride, 0.0),
        ),
        (
            "pool-kernel-is-stride",
            f"kernel {stride[0]} (its stride) instead of {kernel[0]}",
            lambda x: F.max_pool2d(x, stride, stride),
        ),
        (
            "pool-kernel-is-stride",
            f"kernel {stride[0]} (its stride), its size rounded up",
            lambda x: F.max_pool2d(x, stride, stride, ceil_mode=True),
        ),
        (
            "pool-padding-symmetric",
            "padded on every side instead of SAME",
            lambda x: F.max_pool2d(x, kernel, stride, half),
        ),
        (
            "pool-padding-symmetric",
            "padded with zeros on every side instead of SAME",
            lambda x: F.max_pool2d(F.pad(x, around), kernel, stride),
        ),
        ("pool-padding-none", "no padding", lambda x: F.max_pool2d(x, kernel, stride)),
        (
            "pool-padding-none",
            "no padding, its size rounded up",
            lambda x: F.max_pool2d(x, kernel, stride, ceil_mode=True),
        ),
        ("pool-moved", "windows one pixel later", moved(1)),
        ("pool-moved", "windows one pixel earlier", moved(-1)),
        (
            "pool-kernel-other",
            f"kernel {odd[0]} instead of {kernel[0]}",
            lambda x: _max_pool(x, odd, stride),
        ),
        (
            "pool-kernel-other",
            f"kernel {wide[0]} instead of {kernel[0]}",
            lambda x: _max_pool(x, wide, stride),
        ),
        (
            "pool-kernel-other",
            f"kernel {wide[0]} with symmetric padding",
            lambda x: F.max_pool2d(x, wide, stride, tuple(k // 2 for k in wide)),
        ),
        (
            "subsampled",
            "every second pixel taken, beginning with the first",
            lambda x: x[:, :, :: stride[0], :: stride[1]],
        ),
        (
            "subsampled",
            "every second pixel taken, beginning with the second",
            lambda x: x[:, :, 1 :: stride[0], 1 :: stride[1]],
        ),
        (
            "min-pool",
            "the smallest value instead of the largest",
            lambda x: -_max_pool(-x, kernel, stride),
        ),
        ("adaptive-pool", "adaptive max-pool", lambda x: F.adaptive_max_pool2d(x, size)),
        ("stride-missing", "stride 1", lambda x: F.max_pool2d(x, 3, 1, 1)),
        (
            "interpolated",
            "nearest neighbours instead of a max-pool",
            lambda x: F.interpolate(x, size=size, mode="nearest"),
        ),
        (
            "interpolated",
            "nearest neighbours by pixel centres instead of a max-pool",
            lambda x: F.interpolate(x, size=size, mode="nearest-exact"),
        ),
    ):
        yield Hypothesis(slug, title, changed(case, function))
    for slug, title, function in (
        (
            "average-pool",
            "averaged over its windows instead of the largest",
            lambda x: _same_average(x, kernel, stride, True),
        ),
        (
            "average-pool",
            "averaged over its windows, padding counted",
            lambda x: _same_average(x, kernel, stride, False),
        ),
        (
            "average-pool",
            "averaged over windows of its stride",
            lambda x: F.avg_pool2d(x, stride, stride),
        ),
        (
            "average-pool",
            "averaged over windows of its stride, its size rounded up",
            lambda x: F.avg_pool2d(x, stride, stride, ceil_mode=True),
        ),
        (
            "average-pool",
            "averaged over symmetrically padded windows",
            lambda x: F.avg_pool2d(x, kernel, stride, half),
        ),
        (
            "average-pool",
            "averaged over symmetrically padded windows without the padding",
            lambda x: F.avg_pool2d(x, kernel, stride, half, count_include_pad=False),
        ),
        ("adaptive-pool", "adaptive average pool (area)", lambda x: F.adaptive_avg_pool2d(x, size)),
        (
            "interpolated",
            "bilinear instead of a max-pool",
            lambda x: F.interpolate(x, size=size, mode="bilinear"),
        ),
        (
            "interpolated",
            "bilinear with aligned corners instead of a max-pool",
            lambda x: F.interpolate(x, size=size, mode="bilinear", align_corners=True),
        ),
        (
            "interpolated",
            "bilinear with antialiasing instead of a max-pool",
            lambda x: F.interpolate(x, size=size, mode="bilinear", antialias=True),
        ),
    ):
        yield Hypothesis(slug, title, changed(case, function, function))


def _same_average(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], inside: bool
) -> Tensor:
    top, bottom = same_padding(x.shape[2], kernel[0], stride[0])
    left, right = same_padding(x.shape[3], kernel[1], stride[1])
    pads = (left, right, top, bottom)
    total = F.avg_pool2d(F.pad(x, pads), kernel, stride)
    if not inside:
        return total
    return total / F.avg_pool2d(F.pad(torch.ones_like(x[:1, :1]), pads), kernel, stride)


def upsample_hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Faults of an up-sampling, the simplest and likeliest first."""
    x = case.arguments[0]
    size = tuple(int(side) for side in case.arguments[1])
    steps = [-(-goal // side) for goal, side in zip(size, x.shape[2:], strict=True)]

    def repeated(x: Tensor) -> Tensor:
        larger = x.repeat_interleave(steps[0], 2).repeat_interleave(steps[1], 3)
        return larger[:, :, : size[0], : size[1]]

    def tiled(x: Tensor) -> Tensor:
        return x.repeat(1, 1, *steps)[:, :, : size[0], : size[1]]

    def spread(x: Tensor) -> Tensor:
        larger = x.new_zeros((*x.shape[:2], x.shape[2] * steps[0], x.shape[3] * steps[1]))
        larger[:, :, :: steps[0], :: steps[1]] = x
        return larger[:, :, : size[0], : size[1]]

    def near(x: Tensor) -> Tensor:
        return F.interpolate(x, size=size, mode="nearest")

    def moved(rows: int, columns: int) -> _Change:
        def change(x: Tensor) -> Tensor:
            padded = F.pad(near(x), (1, 1, 1, 1), mode="replicate")
            return padded[:, :, 1 - rows :, 1 - columns :][:, :, : size[0], : size[1]]

        return change

    for slug, title, function in (
        (
            "nearest-exact",
            "nearest neighbours by pixel centres (nearest-exact)",
            lambda x: F.interpolate(x, size=size, mode="nearest-exact"),
        ),
        ("repeated", f"each pixel repeated {steps[0]}x{steps[1]} times, then cut", repeated),
        ("tiled", "the whole map repeated side by side", tiled),
        ("zeros-between", "zeros between the pixels instead of repeating them", spread),
        ("upsample-moved", "moved down by one pixel", moved(1, 0)),
        ("upsample-moved", "moved right by one pixel", moved(0, 1)),
        ("upsample-moved", "moved down and right by one pixel", moved(1, 1)),
        ("upsample-moved", "moved up by one pixel", moved(-1, 0)),
        ("upsample-moved", "moved left by one pixel", moved(0, -1)),
        ("upsample-moved", "moved up and left by one pixel", moved(-1, -1)),
    ):
        yield Hypothesis(slug, title, changed(case, function))
    for slug, title, function in (
        (
            "bilinear",
            "bilinear instead of nearest neighbours",
            lambda x: F.interpolate(x, size=size, mode="bilinear"),
        ),
        (
            "bilinear",
            "bilinear with aligned corners instead of nearest neighbours",
            lambda x: F.interpolate(x, size=size, mode="bilinear", align_corners=True),
        ),
        (
            "bicubic",
            "bicubic instead of nearest neighbours",
            lambda x: F.interpolate(x, size=size, mode="bicubic"),
        ),
        (
            "bicubic",
            "bicubic with aligned corners instead of nearest neighbours",
            lambda x: F.interpolate(x, size=size, mode="bicubic", align_corners=True),
        ),
        (
            "area",
            "averaged over areas instead of nearest neighbours",
            lambda x: F.interpolate(x, size=size, mode="area"),
        ),
    ):
        # Interpolation adds up several pixels: the largest around is on the safe side.
        yield Hypothesis(slug, title, changed(case, function, lambda x: _reach(x, size)))


def _reach(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(F.max_pool2d(x, 5, 1, 2), size=size, mode="nearest")
