"""The operations of the network, each a module of its own and each with TensorFlow's semantics.

A module without children is a *node* of a comparison: it makes exactly one tensor that has a
counterpart in the TensorFlow graph. None of them writes into a tensor it was given or has
returned, since a hook may still hold it. All tensors are NCHW.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientdet_spec import (
    BATCH_NORM_DECAY,
    BATCH_NORM_EPSILON,
    FUSION_EPSILON,
    Activation,
    EfficientDetConfig,
    Fusion,
    same_padding,
)


def pad_same(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], value: float = 0.0
) -> Tensor:
    """``x`` padded along height and width so that a VALID operation gives the SAME result."""
    top, bottom = same_padding(x.shape[-2], kernel[0], stride[0])
    left, right = same_padding(x.shape[-1], kernel[1], stride[1])
    if not (top or bottom or left or right):
        return x
    return F.pad(x, (left, right, top, bottom), value=value)


class Conv2d(nn.Conv2d):
    """Convolution with SAME padding.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Height and width of the kernel, in pixels.
        stride: Stride along both axes.
        bias: Whether a bias is added.
        groups: Number of channel groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        bias: bool = True,
        groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, bias=bias, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] to [N, out_channels, ceil(H/stride), ceil(W/stride)]."""
        kernel, stride = self.kernel_size, self.stride
        pads = [
            same_padding(size, k, s)
            for size, k, s in zip(x.shape[-2:], kernel, stride, strict=True)
        ]
        if all(before == after for before, after in pads):
            # Symmetric padding is done by the convolution itself, which saves a copy.
            padding = tuple(before for before, _ in pads)
            return F.conv2d(x, self.weight, self.bias, stride, padding, groups=self.groups)
        x = pad_same(x, kernel, stride)
        return F.conv2d(x, self.weight, self.bias, stride, groups=self.groups)


class DepthwiseConv2d(Conv2d):
    """Depthwise convolution (one filter for each channel) with SAME padding and no bias."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, bias=False, groups=channels)


class SeparableConv2d(nn.Module):
    """3x3 depthwise convolution, then a pointwise one with the only bias, if any."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv2d(in_channels, 3)
        self.pointwise = Conv2d(in_channels, out_channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] to [N, out_channels, H, W]."""
        return self.pointwise(self.depthwise(x))


def make_conv(
    config: EfficientDetConfig, in_channels: int, out_channels: int, bias: bool = True
) -> nn.Module:
    """A 3x3 convolution of BiFPN or heads: separable, or whole where the model has that."""
    if config.separable_conv:
        return SeparableConv2d(in_channels, out_channels, bias)
    return Conv2d(in_channels, out_channels, 3, bias=bias)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the official epsilon and momentum."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=BATCH_NORM_EPSILON, momentum=1.0 - BATCH_NORM_DECAY)


class Swish(nn.Module):
    """``x * sigmoid(x)``."""

    activation = Activation.SWISH

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return F.silu(x)


class Relu(nn.Module):
    """``max(x, 0)``."""

    activation = Activation.RELU

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return F.relu(x)


class Relu6(nn.Module):
    """``min(max(x, 0), 6)``."""

    activation = Activation.RELU6

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return F.relu6(x)


class HardSwish(nn.Module):
    """``x * relu6(x + 3) / 6``, in TensorFlow's order."""

    activation = Activation.HARD_SWISH

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * F.relu6(x + 3) / 6


class Mish(nn.Module):
    """``x * tanh(log(1 + exp(x)))``."""

    activation = Activation.MISH

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return F.mish(x)


ACTIVATIONS: Mapping[Activation, type[nn.Module]] = MappingProxyType(
    {kind.activation: kind for kind in (Swish, Relu, Relu6, HardSwish, Mish)}
)
"""The module of each activation; it says which it is by its attribute ``activation``."""


class GlobalMean(nn.Module):
    """Mean over height and width."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, 1, 1]."""
        return x.mean((2, 3), keepdim=True)


class Scale(nn.Module):
    """Multiplies features by one gate per image and channel."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """[N, C, H, W] and [N, C, 1, 1] to [N, C, H, W]."""
        return x * gate


class Add(nn.Module):
    """Sum of a block's output and its input."""

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Two tensors of one shape."""
        return x + shortcut


class SqueezeExcite(nn.Module):
    """Channel attention (Hu et al., arXiv 1709.01507)."""

    def __init__(
        self, channels: int, squeeze_channels: int, activation: Activation = Activation.SWISH
    ) -> None:
        super().__init__()
        self.pool = GlobalMean()
        self.reduce_conv = Conv2d(channels, squeeze_channels)
        self.act = ACTIVATIONS[activation]()
        self.expand_conv = Conv2d(squeeze_channels, channels)
        self.gate = nn.Sigmoid()
        self.scale = Scale()

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W], shape kept."""
        return self.scale(x, self.gates(x))

    def gates(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] to the gates [N, channels, 1, 1]."""
        return self.gate(self.expand_conv(self.act(self.reduce_conv(self.pool(x)))))


class MaxPool2d(nn.Module):
    """Max-pool with SAME padding by -inf that brings features to a given smaller size.

    Stride and kernel follow from the sizes, as in the official ``ResampleFeatureMap``:
    ``stride = (size - 1) // target + 1`` and ``kernel = stride + 1``.
    """

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """[N, C, H, W] to [N, C, *size]."""
        stride = tuple((s - 1) // t + 1 for s, t in zip(x.shape[-2:], size, strict=True))
        kernel = tuple(s + 1 for s in stride)
        before, after = zip(
            *(same_padding(*sides) for sides in zip(x.shape[-2:], kernel, stride, strict=True)),
            strict=True,
        )
        if before == after:
            return F.max_pool2d(x, kernel, stride, before)
        if not any(before) and min(stride) > 1:
            # The last windows reach over the edge, where padding would be that never wins.
            return F.max_pool2d(x, kernel, stride, ceil_mode=True)
        return F.max_pool2d(pad_same(x, kernel, stride, value=float("-inf")), kernel, stride)


class Upsample(nn.Module):
    """Nearest-neighbour up-sampling: output pixel i takes input pixel floor(i * in / out)."""

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """[N, C, H, W] to [N, C, *size]."""
        return F.interpolate(x, size=size, mode="nearest")


class Fuse(nn.Module):
    """Weighted sum of feature maps (paper, section 3.3).

    The order of operations is TensorFlow's, so that equal inputs round alike.
    """

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, features: Sequence[Tensor], weights: Tensor | None) -> Tensor:
        """``len(features)`` tensors [N, C, H, W], and their weights.

        Args:
            features: The inputs.
            weights: [len(features)], or [len(features), C] where each channel has its own; None
                for a plain sum.
        """
        if weights is None:
            terms = list(features)
        else:
            if self.fusion.is_per_channel:
                weights = weights[:, :, None, None]
            if self.fusion.is_softmax:
                shares = torch.softmax(weights, dim=0)
                terms = [x * share for x, share in zip(features, shares, strict=True)]
            else:
                shares = torch.relu(weights)
                total = shares.sum(dim=0) + FUSION_EPSILON
                terms = [x * share / total for x, share in zip(features, shares, strict=True)]
        result = terms[0] + terms[1]
        for term in terms[2:]:
            result = result + term
        return result


def drop_connect(x: Tensor, survival_probability: float) -> Tensor:
    """``x`` with each image's features kept with this probability, else zeroed, and rescaled.

    Source: Huang et al., arXiv 1603.09382; official ``utils.drop_connect``.
    """
    shape = (x.shape[0],) + (1,) * (x.dim() - 1)
    keep = torch.rand(shape, dtype=x.dtype, device=x.device) < survival_probability
    return x / survival_probability * keep
