"""Faults of convolutions at three places each: early, in the neck and in a head."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from faults.fault import at, before, instead, then
from torch import Tensor, nn

from torch_model.layers import pad_same

DEPTHWISE = {
    "early": "backbone.blocks.{residual}.depthwise_conv",
    "neck": "fpn.cells.0.nodes.{finest}.conv.depthwise",
    "head": "class_head.convs.0.depthwise",
}
STRIDED = {
    "early": "backbone.blocks.{strided}.depthwise_conv",
    "late": "backbone.blocks.{strided_late}.depthwise_conv",
}
POINTWISE = {
    "early": "backbone.blocks.{early}.project_conv",
    "neck": "fpn.cells.0.nodes.{finest}.conv.pointwise",
    "head": "box_head.convs.0.pointwise",
}

Function = Callable[..., Tensor]


def conv(module: nn.Module, x: Tensor, weight: Tensor | None = None, **other: object) -> Tensor:
    """The layer's convolution of what is padded already."""
    own = {"stride": module.stride, "groups": module.groups} | other
    return F.conv2d(x, module.weight if weight is None else weight, module.bias, **own)


def by_numpy(mode: str, axes: str = "hw", **options: object) -> Function:
    """Padding as NumPy does it, along some axes; along the others by zeros."""

    def forward(module: nn.Module, x: Tensor) -> Tensor:
        import numpy as np

        half = module.kernel_size[0] // 2
        rows = (half, half) if "h" in axes else (0, 0)
        columns = (half, half) if "w" in axes else (0, 0)
        widths = ((0, 0), (0, 0), rows, columns)
        extended = torch.from_numpy(np.pad(x.numpy(), widths, mode, **options))
        left = [half - columns[0]] * 2 + [half - rows[0]] * 2
        return conv(module, F.pad(extended, left))

    return forward


def around(*pads: int) -> Function:
    """So many zeros left, right, above and below, and as many as it takes at the end."""

    def forward(module: nn.Module, x: Tensor) -> Tensor:
        size = [-(-side // module.stride[0]) for side in x.shape[2:]]
        extended = F.pad(F.pad(x, pads), (0, 6, 0, 6))
        return conv(module, extended)[..., : size[0], : size[1]].contiguous()

    return forward


def offset_of_channels(module: nn.Module, x: Tensor) -> Tensor:
    """Each channel's border has a value of its own, as an offset added after padding gives."""
    half = module.kernel_size[0] // 2
    value = torch.sin(torch.arange(x.shape[1])).view(1, -1, 1, 1)
    return conv(module, F.pad(x - value, [half] * 4) + value)


def without_border(module: nn.Module, x: Tensor) -> Tensor:
    """No padding; the output is laid into zeros."""
    half = module.kernel_size[0] // 2
    if min(x.shape[2:]) <= 2 * half:
        return conv(module, F.pad(x, [half] * 4))
    return F.pad(conv(module, x), [half] * 4)


def without_padding_resized(module: nn.Module, x: Tensor) -> Tensor:
    """No padding; the output is interpolated to its size."""
    half = module.kernel_size[0] // 2
    if min(x.shape[2:]) <= 2 * half:
        return conv(module, F.pad(x, [half] * 4))
    return F.interpolate(conv(module, x), size=x.shape[2:], mode="bilinear")


def renormalised(module: nn.Module, x: Tensor) -> Tensor:
    """A partial convolution, as for images with holes."""
    size = module.kernel_size
    kernel = torch.ones(1, 1, *size)
    half = size[0] // 2
    valid = F.conv2d(F.pad(torch.ones_like(x[:, :1]), [half] * 4), kernel)
    bias = 0 if module.bias is None else module.bias.view(1, -1, 1, 1)
    plain = conv(module, F.pad(x, [half] * 4)) - bias
    return plain * (size[0] * size[1] / valid) + bias


def with_dilation(rows: int, columns: int) -> Function:
    """Taps further apart."""

    def forward(module: nn.Module, x: Tensor) -> Tensor:
        half = module.kernel_size[0] // 2
        padding = (half * rows, half * columns)
        return conv(module, x, padding=padding, dilation=(rows, columns))

    return forward


def all_then(pick: Callable[[Tensor], Tensor]) -> Function:
    """Computed at every pixel, then brought to half of the size."""

    def forward(module: nn.Module, x: Tensor) -> Tensor:
        half = module.kernel_size[0] // 2
        return pick(conv(module, F.pad(x, [half] * 4), stride=1))

    return forward


def tiles(rows: int, columns: int, mode: str = "constant") -> Function:
    """Each of some tiles is padded for itself."""

    def forward(module: nn.Module, x: Tensor) -> Tensor:
        half = module.kernel_size[0] // 2
        bands = []
        for band in x.chunk(rows, 2):
            parts = band.chunk(columns, 3)
            bands.append(
                torch.cat([conv(module, F.pad(part, [half] * 4, mode=mode)) for part in parts], 3)
            )
        return torch.cat(bands, 2)

    return forward


def of_kernel(function: Callable[[Tensor], Tensor]) -> Callable[[nn.Module], None]:
    """A layer that makes something of its kernel at every call."""

    def forward(module: nn.Module, x: Tensor) -> Tensor:
        weight = function(module.weight)
        kernel, stride = weight.shape[2:], module.stride
        return conv(module, pad_same(x, tuple(kernel), stride), weight)

    return instead(forward)


def centre(weight: Tensor) -> Tensor:
    """The middle 3x3 of a 5x5 kernel, or the middle value of a 3x3 one."""
    return weight[:, :, 1:-1, 1:-1]


def corner(weight: Tensor) -> Tensor:
    """The first rows and columns alone."""
    mask = torch.zeros_like(weight)
    mask[:, :, :-1, :-1] = 1
    return weight * mask


def diagonal_blocks(groups: int) -> Callable[[Tensor], Tensor]:
    """A dense kernel in groups."""

    def function(weight: Tensor) -> Tensor:
        outputs, inputs = weight.shape[:2]
        o = torch.arange(outputs)[:, None] * groups // outputs
        i = torch.arange(inputs)[None] * groups // inputs
        return weight * (o == i)[..., None, None]

    return function


def whole_numbers(bits: int, by_channel: bool) -> Callable[[Tensor], Tensor]:
    """Weights as whole numbers times a scale."""

    def function(weight: Tensor) -> Tensor:
        largest = weight.abs().flatten(1).max(1).values.view(-1, 1, 1, 1).clamp(min=1e-20)
        scale = (largest if by_channel else largest.max()) / (2 ** (bits - 1) - 1)
        return torch.round(weight / scale) * scale

    return function


def affine_numbers(weight: Tensor) -> Tensor:
    """Weights as bytes with a zero point."""
    low, high = weight.min().clamp(max=0), weight.max().clamp(min=0)
    scale = (high - low) / 255
    zero = torch.round(-low / scale)
    return (torch.clamp(torch.round(weight / scale) + zero, 0, 255) - zero) * scale


def standardised(weight: Tensor) -> Tensor:
    """Weight standardisation."""
    mean = weight.mean((1, 2, 3), keepdim=True)
    return (weight - mean) / (weight.std((1, 2, 3), keepdim=True, correction=0) ** 2 + 1e-5).sqrt()


def unit_norm(weight: Tensor) -> Tensor:
    """Weight normalisation without its factor."""
    return F.normalize(weight.flatten(1), dim=1, eps=0).view_as(weight)


def pruned(share: float) -> Callable[[Tensor], Tensor]:
    """The smallest weights zero."""

    def function(weight: Tensor) -> Tensor:
        limit = weight.abs().flatten().kthvalue(max(int(share * weight.numel()), 1)).values
        return weight * (weight.abs() > limit)

    return function


def two_of_four(weight: Tensor) -> Tensor:
    """Of every four neighbours the two smaller ones zero."""
    flat = weight[:, :, 0, 0]
    parts = flat.reshape(flat.shape[0], -1, 4)
    kept = parts.abs().argsort(-1).argsort(-1) >= 2
    return (parts * kept).reshape(weight.shape)


def truncated(rank: int) -> Callable[[Tensor], Tensor]:
    """Of its singular values the largest alone."""

    def function(weight: Tensor) -> Tensor:
        u, s, v = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
        s[rank:] = 0
        return (u @ torch.diag(s) @ v).to(weight.dtype).view_as(weight)

    return function


def separable(weight: Tensor) -> Tensor:
    """Each filter a column times a row."""
    u, s, v = torch.linalg.svd(weight.double())
    return (s[..., :1, None] * u[..., :1] * v[..., :1, :]).to(weight.dtype)


def channels(order: Callable[[int], Tensor]) -> Callable[[nn.Module], None]:
    """A layer that reads its input's channels in another order."""
    return before(lambda x: x[:, order(x.shape[1])])


def shuffle(groups: int) -> Callable[[int], Tensor]:
    """Groups and members exchanged."""
    return lambda count: torch.arange(count).reshape(groups, count // groups).T.flatten()


def blocks(count: int) -> Tensor:
    """The last quarter first."""
    index = torch.arange(count)
    return torch.cat([index[count - count // 4 :], index[: count - count // 4]])


def drawn(count: int) -> Tensor:
    """Any order."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(4))


def first_part(x: Tensor) -> Tensor:
    """The first quarter of the channels, the rest zero."""
    mask = torch.arange(x.shape[1]) < x.shape[1] // 4
    return x * mask.view(1, -1, 1, 1)


def pass_on(module: nn.Module, x: Tensor) -> Tensor:
    """Computed for the first half of the channels, the rest passed on."""
    own = type(module).__mro__[1].forward(module, x)
    half = x.shape[1] // 2
    return torch.cat([own[:, :half], x[:, half:]], 1)


def other_filters(module: nn.Module, x: Tensor) -> Tensor:
    """Each channel with the filter of the one five further on."""
    half = module.kernel_size[0] // 2
    return conv(module, F.pad(x, [half] * 4), torch.roll(module.weight, 5, 0))


def bytes_in(x: Tensor) -> Tensor:
    """Features as bytes with a zero point."""
    low, high = float(x.min().clamp(max=0)), float(x.max().clamp(min=0))
    scale = torch.tensor(high - low) / 255
    zero = torch.round(-torch.tensor(low) / scale)
    return (torch.clamp(torch.round(x / scale) + zero, 0, 255) - zero) * scale


def steps_out(x: Tensor) -> Tensor:
    """Features as 8-bit whole numbers times a round scale."""
    scale = 0.037
    return torch.clamp(torch.round(x / scale), -128, 127) * scale


def float8(x: Tensor) -> Tensor:
    """Rounded to an 8-bit float."""
    return x.to(torch.float8_e4m3fn).to(x.dtype)


_OF_DEPTHWISE = (
    ("padding-symmetric-mode", "Border mirrored with its pixels twice",
     instead(by_numpy("symmetric")), ("padding-symmetric", "padding-replicate")),
    ("padding-wrapped", "Padding from the opposite side", instead(by_numpy("wrap")),
     ("padding-circular",)),
    ("padding-reflect-wide", "Mirrored left and right only", instead(by_numpy("reflect", "w")),
     ("padding-reflect",)),
    ("padding-edge-tall", "Border repeated above and below only", instead(by_numpy("edge", "h")),
     ("padding-replicate",)),
    ("padding-value", "Padding by 0.3", instead(by_numpy("constant", constant_values=0.3)),
     ("padding-constant",)),
    ("padding-channels", "Padding by a value for each channel", instead(offset_of_channels),
     ("padding-of-channel",)),
    ("padding-none-zeros", "No padding, zeros around the output", instead(without_border),
     ("padding-none", "zeroed")),
    ("padding-none-resized", "No padding, output interpolated", instead(without_padding_resized),
     ("padding-none",)),
    ("partial-convolution", "A partial convolution", instead(renormalised), ("padding-partial",)),
    ("dilation-rows", "Taps two rows apart", instead(with_dilation(2, 1)), ("dilation",)),
    ("dilation-3", "Taps three pixels apart", instead(with_dilation(3, 3)), ("dilation",)),
    ("tiles-2x2", "Computed on four tiles", instead(tiles(2, 2)), ("tile-seams",)),
    ("tiles-strips", "Computed in two strips, their borders repeated",
     instead(tiles(2, 1, "replicate")), ("tile-seams",)),
    ("kernel-centre", "The middle of the kernel alone", of_kernel(centre), ("kernel-cropped",)),
    ("kernel-corner", "The kernel without its last row and column", of_kernel(corner),
     ("kernel-cropped",)),
    ("kernel-separable", "Separable filters", of_kernel(separable), ("kernel-separable",)),
    ("filters-moved", "Filters of other channels", instead(other_filters),
     ("kernel-permuted",)),
    ("input-drawn", "Channels read in another order", channels(drawn),
     ("input-channels-permuted",)),
    ("input-blocks", "Channels read from the last quarter on", channels(blocks),
     ("input-channels-moved",)),
    ("passed-on", "Half of the channels passed through", instead(pass_on), ("left-out-partly",)),
    ("weights-int4", "Weights of four bits", of_kernel(whole_numbers(4, True)),
     ("kernel-quantised",)),
    ("input-int8", "Features read as bytes", before(bytes_in), ("input-quantised",)),
    ("output-int8", "Features written as bytes", then(steps_out), ("output-quantised",)),
)  # fmt: skip

_OF_POINTWISE = (
    ("input-drawn", "Channels read in another order", channels(drawn),
     ("input-channels-permuted",)),
    ("input-shuffled-4", "Channels read shuffled in four groups", channels(shuffle(4)),
     ("input-channels-shuffled",)),
    ("input-blocks", "Channels read from the last quarter on", channels(blocks),
     ("input-channels-moved",)),
    ("input-part", "A quarter of the channels read", before(first_part),
     ("input-channels-left-out",)),
    ("grouped-4", "A dense convolution in four groups", of_kernel(diagonal_blocks(4)),
     ("kernel-grouped",)),
    ("weights-int8", "Weights of eight bits", of_kernel(whole_numbers(8, True)),
     ("kernel-quantised",)),
    ("weights-int4", "Weights of four bits, one scale", of_kernel(whole_numbers(4, False)),
     ("kernel-quantised",)),
    ("weights-affine", "Weights as bytes with a zero point", of_kernel(affine_numbers),
     ("kernel-quantised",)),
    ("weights-standardised", "Weight standardisation", of_kernel(standardised),
     ("kernel-standardised",)),
    ("weights-normed", "Weights divided by their norm", of_kernel(unit_norm), ("kernel-normed",)),
    ("weights-pruned", "A third of the weights zero", of_kernel(pruned(0.33)), ("kernel-pruned",)),
    ("weights-sparse", "Two of every four weights zero", of_kernel(two_of_four),
     ("kernel-sparse",)),
    ("weights-low-rank", "Weights of rank 5", of_kernel(truncated(5)), ("kernel-low-rank",)),
    ("weights-float8", "Weights of eight-bit floats", of_kernel(float8), ("reduced-precision",)),
    ("input-int8", "Features read as bytes", before(bytes_in), ("input-quantised",)),
    ("output-int8", "Features written as bytes", then(steps_out), ("output-quantised",)),
    ("input-clamped", "Features cut off at 0.8 before", before(lambda x: x.clamp(max=0.8)),
     ("input-clamped",)),
    ("output-shuffled-2", "Channels written shuffled in two groups",
     then(lambda x: x[:, shuffle(2)(x.shape[1])]), ("channels-shuffled",)),
)  # fmt: skip

_OF_STRIDED = (
    ("padding-all-before", "Two pixels of padding before, none after", instead(around(2, 0, 2, 0)),
     ("padding-symmetric", "padding-other", "stride-moved")),
    ("padding-rows-moved", "A row more above, a row less below", instead(around(0, 1, 1, 0)),
     ("padding-other", "stride-moved")),
    ("padding-columns-moved", "Two columns more on the left", instead(around(2, 0, 0, 1)),
     ("padding-other", "stride-moved")),
    ("subsampled", "Every pixel computed, every second taken",
     instead(all_then(lambda y: y[..., ::2, ::2])), ("padding-symmetric", "padding-before",
                                                     "padding-other", "stride-moved")),
    ("stride-averaged", "Every pixel computed, then averaged by twos",
     instead(all_then(lambda y: F.avg_pool2d(y, 2, 2, ceil_mode=True))), ("stride-pooled",)),
    ("stride-max", "Every pixel computed, then the largest of four",
     instead(all_then(lambda y: F.max_pool2d(y, 2, 2, ceil_mode=True))), ("stride-pooled",)),
)  # fmt: skip

UNUSUAL = (
    *(
        at(f"{key}/{where}-depthwise", title, change, place, *slugs)
        for key, title, change, slugs in _OF_DEPTHWISE
        for where, place in DEPTHWISE.items()
    ),
    *(
        at(f"{key}/{where}-pointwise", title, change, place, *slugs)
        for key, title, change, slugs in _OF_POINTWISE
        for where, place in POINTWISE.items()
    ),
    *(
        at(f"{key}/{where}-strided", title, change, place, *slugs)
        for key, title, change, slugs in _OF_STRIDED
        for where, place in STRIDED.items()
    ),
)
"""Convolutions that read, pad, take or weigh something else."""
