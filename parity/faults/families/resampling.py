"""What ports get wrong where features change size: in max-pool and up-sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import NodeKind
from parity.faults.basics.case import Evaluation, Operation
from parity.faults.basics.fault import Fault, Kinds, Variant, in_variants
from parity.faults.basics.operations import (
    Pads,
    Sides,
    interpolated,
    nearest,
    of_plane,
    same_max_pool,
    same_pads,
    strides,
    target,
)

_POOL = frozenset({NodeKind.POOL})
_UPSAMPLE = frozenset({NodeKind.UPSAMPLE})


@dataclass(frozen=True)
class Resampling:
    """How features are to change their size.

    Attributes:
        before: Height and width of what is given.
        size: Height and width of the result.
        stride: Of a max-pool.
        dtype: That the candidate computes in.
    """

    before: Sides
    size: Sides
    stride: Sides
    dtype: torch.dtype

    @property
    def kernel(self) -> Sides:
        """Of a max-pool."""
        return self.stride[0] + 1, self.stride[1] + 1

    def larger(self, by: int) -> Sides:
        """A larger kernel."""
        return self.kernel[0] + by, self.kernel[1] + by

    @property
    def half(self) -> Sides:
        """Symmetric padding of a max-pool, as PyTorch counts it."""
        return self.kernel[0] // 2, self.kernel[1] // 2

    @property
    def around(self) -> Pads:
        """Symmetric padding of a max-pool."""
        return self.half[1], self.half[1], self.half[0], self.half[0]

    @property
    def steps(self) -> Sides:
        """How many times an up-sampling repeats a pixel, rounded up."""
        rows, columns = (
            -(-goal // side) for goal, side in zip(self.size, self.before, strict=True)
        )
        return rows, columns


_Form = tuple[str | Callable[[Resampling], str], Callable[[Resampling, Tensor], Tensor]]
"""A form of a fault: in words, and what it makes of features."""

_Magnitude = Callable[[Resampling, Tensor], Tensor]


def _fault(
    kinds: Kinds,
    slug: str,
    title: str,
    *forms: _Form,
    averages: bool = False,
    magnitude: _Magnitude | None = None,
    alike: Iterable[str] = (),
    without: str | None = None,
) -> Fault:
    """Another change of size.

    Args:
        kinds: As for a fault.
        slug: As for a fault.
        title: As for a fault.
        forms: Its forms.
        averages: Whether each form averages, so that of magnitudes it gives its own gauge.
        magnitude: The gauge of forms that add up in another way; None where values are selected.
        alike: As for a fault.
        without: As for a fault.
    """

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        rows, columns = operation.arguments[0].shape[2:]
        before = int(rows), int(columns)
        own = Resampling(before, target(operation), strides(operation), operation.dtype)
        for words, function in forms:
            changed = partial(function, own)
            gauge = changed if averages else magnitude and partial(magnitude, own)
            said = words if isinstance(words, str) else words(own)
            yield said, of_plane(operation, changed, gauge)

    return in_variants(slug, title, kinds, variants, alike=alike, without=without)


def zero_padded_pool(own: Resampling, x: Tensor) -> Tensor:
    """A max-pool padded with zeros, which win against negative values, instead of -inf."""
    return same_max_pool(x, own.kernel, own.stride, 0.0)


def _moved_pool(by: int, own: Resampling, x: Tensor) -> Tensor:
    return F.max_pool2d(F.pad(x, (-by, by + 1, -by, by + 1), value=-np.inf), own.kernel, own.stride)


def _interpolated(mode: str, own: Resampling, x: Tensor, **options: bool) -> Tensor:
    if mode in ("nearest-exact", "area"):
        return F.interpolate(x, size=own.size, mode=mode)
    return interpolated(x, own.size, mode, own.dtype, **options)


def _subsampled(first: int, own: Resampling, x: Tensor) -> Tensor:
    return x[:, :, first :: own.stride[0], first :: own.stride[1]]


def _same_average(own: Resampling, x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, same_pads(x, own.kernel, own.stride)), own.kernel, own.stride)


def _average_inside(own: Resampling, x: Tensor) -> Tensor:
    return _same_average(own, x) / _same_average(own, torch.ones_like(x[:1, :1]))


POOL_ZERO_PADDING = _fault(
    _POOL,
    "pool-zero-padding",
    "max-pool padded with zeros instead of -inf",
    ("padded with zeros instead of -inf", zero_padded_pool),
)

_SELECTING = (
    POOL_ZERO_PADDING,
    _fault(
        _POOL,
        "pool-kernel-is-stride",
        "max-pool whose kernel is its stride",
        (
            lambda own: f"kernel {own.stride[0]} (its stride) instead of {own.kernel[0]}",
            lambda own, x: F.max_pool2d(x, own.stride, own.stride),
        ),
        (
            lambda own: f"kernel {own.stride[0]} (its stride), its size rounded up",
            lambda own, x: F.max_pool2d(x, own.stride, own.stride, ceil_mode=True),
        ),
    ),
    _fault(
        _POOL,
        "pool-padding-symmetric",
        "max-pool with symmetric padding",
        (
            "padded on every side instead of SAME",
            lambda own, x: F.max_pool2d(x, own.kernel, own.stride, own.half),
        ),
        (
            "padded with zeros on every side instead of SAME",
            lambda own, x: F.max_pool2d(F.pad(x, own.around), own.kernel, own.stride),
        ),
    ),
    _fault(
        _POOL,
        "pool-padding-none",
        "max-pool without padding",
        ("no padding", lambda own, x: F.max_pool2d(x, own.kernel, own.stride)),
        (
            "no padding, its size rounded up",
            lambda own, x: F.max_pool2d(x, own.kernel, own.stride, ceil_mode=True),
        ),
    ),
    _fault(
        _POOL,
        "pool-moved",
        "max-pool moved by a pixel",
        ("windows one pixel later", partial(_moved_pool, 1)),
        ("windows one pixel earlier", partial(_moved_pool, -1)),
    ),
    _fault(
        _POOL,
        "pool-kernel-other",
        "max-pool with a larger kernel",
        (
            lambda own: f"kernel {own.larger(1)[0]} instead of {own.kernel[0]}",
            lambda own, x: same_max_pool(x, own.larger(1), own.stride, -np.inf),
        ),
        (
            lambda own: f"kernel {own.larger(2)[0]} instead of {own.kernel[0]}",
            lambda own, x: same_max_pool(x, own.larger(2), own.stride, -np.inf),
        ),
        (
            lambda own: f"kernel {own.larger(2)[0]} with symmetric padding",
            lambda own, x: F.max_pool2d(
                x, own.larger(2), own.stride, tuple(side // 2 for side in own.larger(2))
            ),
        ),
    ),
    _fault(
        _POOL,
        "subsampled",
        "every second pixel for a max-pool",
        ("every second pixel taken, beginning with the first", partial(_subsampled, 0)),
        ("every second pixel taken, beginning with the second", partial(_subsampled, 1)),
    ),
    _fault(
        _POOL,
        "min-pool",
        "min-pool for max-pool",
        (
            "the smallest value instead of the largest",
            lambda own, x: -same_max_pool(-x, own.kernel, own.stride, -np.inf),
        ),
    ),
    _fault(
        _POOL,
        "adaptive-pool",
        "adaptive max-pool",
        ("adaptive max-pool", lambda own, x: F.adaptive_max_pool2d(x, own.size)),
        # Of an even map both are one.
        alike=("pool-kernel-is-stride",),
    ),
    _fault(
        _POOL,
        "stride-missing",
        "max-pool without its stride",
        ("stride 1", lambda own, x: F.max_pool2d(x, 3, 1, 1)),
    ),
    _fault(
        _POOL,
        "interpolated",
        "nearest neighbours for a max-pool",
        ("nearest neighbours instead of a max-pool", lambda own, x: nearest(x, own.size)),
        (
            "nearest neighbours by pixel centres instead of a max-pool",
            partial(_interpolated, "nearest-exact"),
        ),
        # Of an even map both are one.
        alike=("subsampled",),
    ),
)


_AVERAGING = (
    _fault(
        _POOL,
        "average-pool",
        "average pool for max-pool",
        ("averaged over its windows instead of the largest", _average_inside),
        ("averaged over its windows, padding counted", _same_average),
        (
            "averaged over windows of its stride",
            lambda own, x: F.avg_pool2d(x, own.stride, own.stride),
        ),
        (
            "averaged over windows of its stride, its size rounded up",
            lambda own, x: F.avg_pool2d(x, own.stride, own.stride, ceil_mode=True),
        ),
        (
            "averaged over symmetrically padded windows",
            lambda own, x: F.avg_pool2d(x, own.kernel, own.stride, own.half),
        ),
        (
            "averaged over symmetrically padded windows without the padding",
            lambda own, x: F.avg_pool2d(
                x, own.kernel, own.stride, own.half, count_include_pad=False
            ),
        ),
        averages=True,
    ),
    _fault(
        _POOL,
        "adaptive-pool",
        "adaptive average pool for max-pool",
        (
            "adaptive average pool (area)",
            lambda own, x: F.adaptive_avg_pool2d(x, own.size),
        ),
        averages=True,
        # Of an even map it is the average over windows of the stride.
        alike=("average-pool",),
    ),
    _fault(
        _POOL,
        "interpolated",
        "bilinear interpolation for a max-pool",
        ("bilinear instead of a max-pool", partial(_interpolated, "bilinear")),
        (
            "bilinear with aligned corners instead of a max-pool",
            partial(_interpolated, "bilinear", align_corners=True),
        ),
        (
            "bilinear with antialiasing instead of a max-pool",
            partial(_interpolated, "bilinear", antialias=True),
        ),
        averages=True,
        # Half-way between two pixels both are their average.
        alike=("average-pool", "adaptive-pool"),
    ),
)


def _cut(own: Resampling, x: Tensor) -> Tensor:
    return x[:, :, : own.size[0], : own.size[1]]


def _repeated(own: Resampling, x: Tensor) -> Tensor:
    return _cut(own, x.repeat_interleave(own.steps[0], 2).repeat_interleave(own.steps[1], 3))


def _zeros_between(own: Resampling, x: Tensor) -> Tensor:
    rows, columns = own.steps
    larger = x.new_zeros((*x.shape[:2], x.shape[2] * rows, x.shape[3] * columns))
    larger[:, :, ::rows, ::columns] = x
    return _cut(own, larger)


def _moved(rows: int, columns: int, own: Resampling, x: Tensor) -> Tensor:
    padded = F.pad(nearest(x, own.size), (1, 1, 1, 1), mode="replicate")
    return _cut(own, padded[:, :, 1 - rows :, 1 - columns :])


def _reach(own: Resampling, x: Tensor) -> Tensor:
    # Interpolation adds up several pixels: the largest around is on the safe side.
    return nearest(F.max_pool2d(x, 5, 1, 2), own.size)


_UPSAMPLINGS = (
    _fault(
        _UPSAMPLE,
        "nearest-exact",
        "nearest neighbours by pixel centres",
        (
            "nearest neighbours by pixel centres (nearest-exact)",
            partial(_interpolated, "nearest-exact"),
        ),
    ),
    _fault(
        _UPSAMPLE,
        "repeated",
        "pixels repeated, then cut",
        (
            lambda own: f"each pixel repeated {own.steps[0]}x{own.steps[1]} times, then cut",
            _repeated,
        ),
        without="where each level is half of the one below, it is nearest neighbours",
    ),
    _fault(
        _UPSAMPLE,
        "tiled",
        "a map repeated side by side",
        (
            "the whole map repeated side by side",
            lambda own, x: _cut(own, x.repeat(1, 1, *own.steps)),
        ),
    ),
    _fault(
        _UPSAMPLE,
        "zeros-between",
        "zeros between the pixels",
        ("zeros between the pixels instead of repeating them", _zeros_between),
    ),
    _fault(
        _UPSAMPLE,
        "upsample-moved",
        "up-sampling moved by a pixel",
        ("moved down by one pixel", partial(_moved, 1, 0)),
        ("moved right by one pixel", partial(_moved, 0, 1)),
        ("moved down and right by one pixel", partial(_moved, 1, 1)),
        ("moved up by one pixel", partial(_moved, -1, 0)),
        ("moved left by one pixel", partial(_moved, 0, -1)),
        ("moved up and left by one pixel", partial(_moved, -1, -1)),
    ),
    _fault(
        _UPSAMPLE,
        "bilinear",
        "bilinear up-sampling",
        ("bilinear instead of nearest neighbours", partial(_interpolated, "bilinear")),
        (
            "bilinear with aligned corners instead of nearest neighbours",
            partial(_interpolated, "bilinear", align_corners=True),
        ),
        magnitude=_reach,
    ),
    _fault(
        _UPSAMPLE,
        "bicubic",
        "bicubic up-sampling",
        ("bicubic instead of nearest neighbours", partial(_interpolated, "bicubic")),
        (
            "bicubic with aligned corners instead of nearest neighbours",
            partial(_interpolated, "bicubic", align_corners=True),
        ),
        magnitude=_reach,
    ),
    _fault(
        _UPSAMPLE,
        "area",
        "up-sampling by areas",
        ("averaged over areas instead of nearest neighbours", partial(_interpolated, "area")),
        # From two pixels to three both are one.
        alike=("bilinear",),
        magnitude=_reach,
    ),
)

FAULTS = (*_SELECTING, *_AVERAGING, *_UPSAMPLINGS)
"""Faults of max-pools and up-samplings, the simplest and likeliest first."""
