"""Faults of max-pools and up-samplings at three places each, and of the images."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from faults.fault import at, before, instead, then
from faults.fusion import pooling
from faults.inputs import STEM, pixels, whole
from torch import Tensor, nn

from torch_model.layers import pad_same
from torch_model.preprocess import MEAN_RGB, STDDEV_RGB

Size = tuple[int, int]
Function = Callable[..., Tensor]

POOLS = {
    "p6": "fpn.resample_p6.pool",
    "first": "fpn.cells.0.nodes.{up4}.resamples.2.pool",
    "last": "fpn.cells.{last}.nodes.{up5}.resamples.2.pool",
}
UPSAMPLES = {
    "first": "fpn.cells.0.nodes.{finest}.resamples.1.upsample",
    "middle": "fpn.cells.1.nodes.{finest}.resamples.1.upsample",
    "last": "fpn.cells.{last}.nodes.{down4}.resamples.1.upsample",
}

INF = float("inf")


def windows(kernel: int, padding: int, value: float = -INF, dilation: int = 1) -> Function:
    """The largest of other windows."""

    def forward(pool: nn.Module, x: Tensor, size: Size) -> Tensor:
        reach = dilation * (kernel - 1) + 1
        after = [2 * side + reach for side in size]
        padded = F.pad(x, (padding, after[1], padding, after[0]), value=value)
        made = F.max_pool2d(padded, kernel, 2, dilation=dilation)
        return made[..., : size[0], : size[1]].contiguous()

    return forward


def mixed(pool: nn.Module, x: Tensor, size: Size) -> Tensor:
    """Half of the largest value and half of the mean."""
    kernel, stride = pooling(x, size)
    largest = F.max_pool2d(pad_same(x, kernel, stride, value=-INF), kernel, stride)
    total = F.avg_pool2d(pad_same(x, kernel, stride), kernel, stride)
    share = F.avg_pool2d(pad_same(torch.ones_like(x), kernel, stride), kernel, stride)
    return 0.7 * largest + 0.3 * total / share


def blurred(pool: nn.Module, x: Tensor, size: Size) -> Tensor:
    """A maximum at every pixel, then a binomial filter."""
    largest = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-INF), 2, 1)
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(largest, [1] * 4, mode="reflect"), kernel, None, 2, groups=x.shape[1])


def root_mean_square(pool: nn.Module, x: Tensor, size: Size) -> Tensor:
    """The root of the windows' mean square."""
    kernel, stride = pooling(x, size)
    return F.avg_pool2d(pad_same(x.square(), kernel, stride), kernel, stride).sqrt()


def average_4(pool: nn.Module, x: Tensor, size: Size) -> Tensor:
    """The mean of 4x4 pixels."""
    return F.avg_pool2d(F.pad(x, (1, 2, 1, 2)), 4, 2)


def strided_one(pool: nn.Module, x: Tensor, size: Size) -> Tensor:
    """The largest at every pixel, of which every second is taken."""
    return F.max_pool2d(x, 3, 1, 1)[..., ::2, ::2].contiguous()


def fixed_filter(pool: nn.Module, x: Tensor, size: Size) -> Tensor:
    """A strided filter with the same weights everywhere."""
    kernel = torch.tensor([[0.1, 0.2, 0.05], [0.15, 0.3, 0.1], [0.02, 0.05, 0.03]])
    kernel = kernel.expand(x.shape[1], 1, 3, 3)
    return F.conv2d(pad_same(x, (3, 3), (2, 2), 0.0), kernel, None, 2, groups=x.shape[1])


def by_index(index: Callable[[Tensor, int, int], Tensor]) -> Function:
    """Rows and columns picked by number."""

    def forward(module: nn.Module, x: Tensor, size: Size) -> Tensor:
        rows, columns = (
            index(torch.arange(goal).double(), side, goal).long().clamp(0, side - 1)
            for side, goal in zip(x.shape[2:], size, strict=True)
        )
        return x[:, :, rows][..., columns].contiguous()

    return forward


def old_bilinear(module: nn.Module, x: Tensor, size: Size) -> Tensor:
    """Bilinear as TensorFlow 1 has it: pixel i lies at i * in / out."""
    rows, columns = ((torch.arange(b) * (a / b)) for a, b in zip(x.shape[2:], size, strict=True))

    def along(x: Tensor, place: Tensor, axis: int) -> Tensor:
        low = place.floor().long()
        high = (low + 1).clamp(max=x.shape[axis] - 1)
        shape = [1] * 4
        shape[axis] = -1
        share = (place - low).view(shape)
        return x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share

    return along(along(x, rows, 2), columns, 3)


def transposed(module: nn.Module, x: Tensor, size: Size) -> Tensor:
    """A transposed convolution with a tent filter."""
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    kernel = torch.outer(line, line).expand(x.shape[1], 1, 4, 4)
    return F.conv_transpose2d(x, kernel, None, 2, 1, groups=x.shape[1])


def smooth_cubic(module: nn.Module, x: Tensor, size: Size) -> Tensor:
    """Bicubic with a = -0.5, as Pillow and TensorFlow 2 have it."""
    return F.interpolate(x, size=size, mode="bicubic", antialias=True)


def shifted(module: nn.Module, x: Tensor, size: Size) -> Tensor:
    """Nearest neighbours, two pixels further right, zeros there."""
    nearest = F.interpolate(x, size=size)
    return F.pad(nearest, (2, 0))[..., : size[1]].contiguous()


_POOL_KINDS = (
    ("pool-4x4", "Windows of 4x4 pixels", windows(4, 1), ("pool-window-other",
                                                          "pool-kernel-other")),
    ("pool-5x5", "Windows of 5x5 pixels", windows(5, 2),
     ("pool-window-other", "pool-kernel-other")),
    ("pool-2x2-later", "Windows of 2x2 pixels, a pixel earlier", windows(2, 1),
     ("pool-window-other", "pool-kernel-is-stride")),
    ("pool-dilated", "Windows with gaps", windows(3, 2, dilation=2), ("pool-window-other",)),
    ("pool-value", "Padded with 1.5", windows(3, 1, 1.5),
     ("pool-padding-value",)),
    ("pool-mixed", "A mixture of maximum and mean", mixed, ("pool-mixed",)),
    ("pool-blur", "A blur-pool", blurred, ("blur-pool",)),
    ("pool-rms", "The root of the mean square", root_mean_square, ("pool-statistic",)),
    ("pool-average-4", "The mean of 4x4 pixels", average_4, ("average-pool", "pool-linear")),
    ("pool-subsampled", "Every pixel's maximum, every second taken", strided_one,
     ("pool-padding-symmetric", "pool-window-other", "pool-moved")),
    ("pool-filter", "A fixed filter", fixed_filter, ("pool-linear",)),
)  # fmt: skip

_UPSAMPLE_KINDS = (
    ("up-rounded", "Pixels picked by rounding to nearest",
     by_index(lambda i, a, b: torch.round(i * a / b)), ("nearest-exact", "nearest-other",
                                                         "upsample-moved")),
    ("up-ceiled", "Pixels picked by rounding up",
     by_index(lambda i, a, b: torch.ceil(i * a / b)),
     ("nearest-exact", "nearest-other", "upsample-moved")),
    ("up-mirrored", "Pixels picked from the far end",
     by_index(lambda i, a, b: torch.floor((b - 1 - i) * a / b)),
     ("nearest-other", "flipped")),
    ("up-bilinear-old", "Bilinear by pixel corners", old_bilinear, ("bilinear",)),
    ("up-transposed", "A transposed convolution", transposed, ("interpolated-other",)),
    ("up-bicubic-half", "Bicubic with a = -0.5", smooth_cubic, ("bicubic",)),
    ("up-shifted", "Two pixels further right", shifted, ("nearest-other", "moved")),
)  # fmt: skip

RESIZED = (
    *(
        at(f"{key}/{where}", title, instead(function), place, *slugs)
        for key, title, function, slugs in _POOL_KINDS
        for where, place in POOLS.items()
    ),
    *(
        at(f"{key}/{where}", title, instead(function), place, *slugs)
        for key, title, function, slugs in _UPSAMPLE_KINDS
        for where, place in UPSAMPLES.items()
    ),
    *(
        at(f"pool-relu-before/{where}", "Negative values cut off before a max-pool",
           before(torch.relu), place, "activation-extra", "clamped", "activation-before")
        for where, place in POOLS.items()
    ),
)  # fmt: skip
"""Pools and up-samplings of other pixels."""


def again(p: Tensor) -> Tensor:
    """Pixels from 0 to 1 normalised."""
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN_RGB, STDDEV_RGB))
    return (255 * p - mean) / deviation


def of_pixels(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Images of which the pixels, from 0 to 1, are changed before they are normalised."""
    return lambda x: again(function(pixels(x) / 255))


def srgb(p: Tensor) -> Tensor:
    """Linear light."""
    return torch.where(p > 0.04045, ((p.clamp(min=0) + 0.055) / 1.055) ** 2.4, p / 12.92)


def caffe(x: Tensor) -> Tensor:
    """BGR with Caffe's mean subtracted."""
    mean = torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    return pixels(x).flip(1) - mean


def half_and_half(x: Tensor) -> Tensor:
    """From -1 to 1."""
    return (pixels(x) / 255 - 0.5) / 0.5


def own_statistics(x: Tensor) -> Tensor:
    """Another data set's mean and deviation."""
    mean = torch.tensor([0.51, 0.47, 0.43]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.25, 0.26, 0.21]).view(1, 3, 1, 1)
    return (pixels(x) / 255 - mean) / deviation


def one_down(x: Tensor) -> Tensor:
    """A pixel lower, the first row repeated."""
    return torch.cat([x[:, :, :1], x[:, :, :-1]], 2)


IMAGES = (
    *(
        whole(f"image-{key}/stem", title, before(change), STEM, *slugs)
        for key, title, change, slugs in (
            ("gamma", "Pixels to the power of 1.8", of_pixels(lambda p: p.clamp(min=0) ** 1.8),
             ("input-gamma",)),
            ("linear", "Linear light", of_pixels(srgb), ("input-values",)),
            ("256", "Divided by 256", of_pixels(lambda p: p * 255 / 256),
             ("input-values", "input-scaled")),
            ("no-mean", "Deviation alone", lambda x: x + again(torch.zeros(1, 3, 1, 1)) * -1,
             ("input-unnormalised", "input-scaled")),
            ("half", "Mean and deviation 0.5", half_and_half, ("input-scaled",)),
            ("caffe", "Caffe's BGR mean", caffe, ("input-scaled", "input-unnormalised",
                                                  "input-colours-mixed")),
            ("own", "Another data set's statistics", own_statistics, ("input-scaled",)),
            ("clamp", "Cut off at -1 and 1", lambda x: x.clamp(-1, 1), ("input-values",
                                                                       "activation-before")),
            ("grey", "Grey", of_pixels(lambda p: p.mean(1, True).repeat(1, 3, 1, 1)),
             ("input-values",)),
            ("gbr", "Channels in the order GBR", lambda x: x[:, [1, 2, 0]],
             ("input-channels-permuted",)),
            ("rotated", "Rotated by 180 degrees", lambda x: x.flip(2, 3),
             ("input-moved",)),
            ("mirrored", "Mirrored", lambda x: x.flip(3), ("input-flipped",)),
            ("lower", "A pixel lower", one_down, ("input-moved",)),
            ("rolled", "Two pixels further right, cyclically", lambda x: x.roll(2, 3),
             ("input-moved",)),
            ("nhwc", "NHWC read as NCHW",
             lambda x: x.permute(0, 2, 3, 1).reshape(x.shape), ("input-reshaped",)),
        )
    ),
    *(
        at(f"image-{key}/stem", title, change, "backbone.stem_conv", *slugs)
        for key, title, change, slugs in (
            ("scores", "Its output as bytes", then(lambda x: torch.round(x * 40) / 40),
             ("output-quantised",)),
        )
    ),
)  # fmt: skip
"""Images of other values or places."""
