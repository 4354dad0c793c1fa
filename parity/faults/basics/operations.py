"""The operation of each kind of node as it should be, in a form that a fault can change.

All of it works on tensors of any floating type: in float64 a hypothesis is held against a
candidate's output, in float32 the same function is put into a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import FUSION_EPSILON, Activation, Fusion, NodeKind, same_padding
from parity.faults.basics.case import ALL, Channels, Evaluation, Operation, Site

Change = Callable[[Tensor], Tensor]
"""A function of a tensor."""

Pair = Callable[[Tensor, Tensor], Tensor]
"""A function of two tensors."""

Pads = tuple[int, int, int, int]
"""Pixels added (left, right, top, bottom); negative ones are cut off."""

Sides = tuple[int, int]
"""Along height and width."""


def faithful(operation: Operation) -> Evaluation:
    """The operation as it should be."""
    makers: dict[NodeKind, Callable[[Operation], Evaluation]] = {
        NodeKind.CONV: convolution,
        NodeKind.DEPTHWISE: convolution,
        NodeKind.BATCH_NORM: batch_norm,
        NodeKind.ACTIVATION: lambda own: of_each(own, official(own)),
        NodeKind.GATE: lambda own: of_each(own, official(own)),
        NodeKind.FUSE: fusion,
        NodeKind.MEAN: lambda own: of_plane(own, mean, mean),
        NodeKind.SCALE: lambda own: of_both(own, lambda x, gate: x * gate),
        NodeKind.ADD: lambda own: of_both(own, lambda x, shortcut: x + shortcut),
        NodeKind.POOL: pool,
        NodeKind.UPSAMPLE: lambda own: of_plane(own, lambda x: nearest(x, target(own))),
    }
    return makers[operation.kind](operation)


_ACTIVATIONS: Mapping[Activation, Change] = MappingProxyType(
    {
        Activation.SWISH: F.silu,
        Activation.RELU: F.relu,
        Activation.RELU6: F.relu6,
        Activation.HARD_SWISH: F.hardswish,
        Activation.MISH: F.mish,
    }
)


def official(site: Site) -> Change:
    """What an activation or a gate of the faithful model computes of each value."""
    if site.kind is NodeKind.GATE:
        return torch.sigmoid
    layer: Any = site.module
    return _ACTIVATIONS[layer.activation]


def is_selection(site: Site) -> bool:
    """Whether an activation gives its input or a limit, as relu and relu6 do, whatever the rest."""
    return official(site) in (F.relu, F.relu6)


@dataclass(frozen=True)
class Convolution:
    """One convolution; called with output channels it gives them and their gauge.

    Attributes:
        x: Its input.
        weight: OIHW.
        bias: One value for each output channel, or None.
        stride: Along height and width.
        pads: Padding.
        groups: Number of channel groups.
        dilation: Distance of neighbouring taps, along height and width.
        modes: What padding is made of along height and along width, of :func:`extended`.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: Sides
    pads: Pads
    groups: int
    dilation: Sides = (1, 1)
    modes: tuple[str, str] = ("zeros", "zeros")

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads one input channel of its own."""
        return 1 < self.groups == self.x.shape[1] == self.weight.shape[0]

    @property
    def kernel(self) -> Sides:
        """Height and width of its kernel."""
        return self.weight.shape[2], self.weight.shape[3]

    @property
    def symmetric(self) -> Pads:
        """As many pixels on opposite sides, as PyTorch's own layer pads."""
        height, width = self.kernel
        return width // 2, width // 2, height // 2, height // 2

    def __call__(self, channels: Channels) -> tuple[Tensor, Tensor]:
        """Its output at some channels, and ``conv(|x|, |w|) + |b|``."""
        x, weight, groups = self.x, self.weight, self.groups
        bias = self.bias
        if groups == 1 or self.depthwise:
            weight = weight[channels]
            bias = None if bias is None else bias[channels]
        if self.depthwise:
            x, groups = x[:, channels], weight.shape[0]
        x = self._padded(x)
        magnitude = None if bias is None else bias.abs()
        output = self._apply(x, weight, bias, groups)
        gauge = self._apply(x.abs(), weight.abs(), magnitude, groups)
        if groups > 1 and not self.depthwise:
            return output[:, channels], gauge[:, channels]
        return output, gauge

    def _padded(self, x: Tensor) -> Tensor:
        if self.modes == ("zeros", "zeros"):
            return F.pad(x, self.pads) if any(self.pads) else x
        left, right, top, bottom = self.pads
        rows = extended(x, 2, top, bottom, self.modes[0])
        return extended(rows, 3, left, right, self.modes[1])

    def only(self, channels: Channels) -> Convolution:
        """The convolution that gives some of its output channels, for one or as many groups."""
        bias = None if self.bias is None else self.bias[channels]
        weight = self.weight[channels]
        if not self.depthwise:
            return replace(self, weight=weight, bias=bias)
        return replace(
            self, x=self.x[:, channels], weight=weight, bias=bias, groups=weight.shape[0]
        )

    @property
    def size(self) -> Sides:
        """Height and width of what it gives with SAME padding."""
        rows, columns = (
            -(-side // step) for side, step in zip(self.x.shape[2:], self.stride, strict=True)
        )
        return rows, columns

    def _apply(self, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, 0, self.dilation, groups)


def reading(own: Convolution, change: Change) -> Evaluation:
    """A convolution of something else made of its input, channel by channel.

    Only the channels that are asked for are changed, where a convolution reads no others.
    """

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        part = own.only(channels)
        return replace(part, x=change(part.x))(ALL)

    return evaluate


def same_pads(x: Tensor, kernel: Sides, stride: Sides) -> Pads:
    """TensorFlow's SAME padding of an NCHW tensor."""
    top, bottom = same_padding(x.shape[2], kernel[0], stride[0])
    left, right = same_padding(x.shape[3], kernel[1], stride[1])
    return left, right, top, bottom


def convolution(operation: Operation) -> Convolution:
    """The convolution as it should be."""
    module: Any = operation.module
    x = operation.arguments[0]
    stride = (int(module.stride[0]), int(module.stride[1]))
    weight = module.weight.detach()
    pads = same_pads(x, (weight.shape[2], weight.shape[3]), stride)
    bias = None if module.bias is None else module.bias.detach()
    return Convolution(x, weight, bias, stride, pads, int(module.groups))


@dataclass(frozen=True)
class BatchNorm:
    """One batch norm; called with channels it gives them and their gauge.

    Attributes:
        x: Its input.
        gamma: Scale of each channel.
        beta: Offset of each channel.
        mean: Mean of each channel.
        variance: Variance of each channel.
        epsilon: Added to the variance.
    """

    x: Tensor
    gamma: Tensor
    beta: Tensor
    mean: Tensor
    variance: Tensor
    epsilon: float

    def __call__(self, channels: Channels) -> tuple[Tensor, Tensor]:
        """``(x - mean) gamma / sqrt(variance + epsilon) + beta`` at some channels."""
        gamma, beta, mean, variance = (
            value[channels].view(1, -1, 1, 1)
            for value in (self.gamma, self.beta, self.mean, self.variance)
        )
        scale = gamma / torch.sqrt(variance + self.epsilon)
        x = self.x[:, channels]
        gauge = x.abs() * scale.abs() + (mean * scale).abs() + beta.abs()
        return (x - mean) * scale + beta, gauge


def batch_norm(operation: Operation) -> BatchNorm:
    """The batch norm as it should be."""
    module: Any = operation.module
    return batch_norm_of(module, operation.arguments[0], float(module.eps))


def batch_norm_of(module: Any, x: Tensor, epsilon: float) -> BatchNorm:
    """A batch norm with a layer's parameters and statistics."""
    values = (module.weight, module.bias, module.running_mean, module.running_var)
    gamma, beta, mean, variance = (value.detach().to(x.dtype) for value in values)
    return BatchNorm(x, gamma, beta, mean, variance, epsilon)


def of_each(operation: Operation, function: Change, reach: float = 0.0) -> Evaluation:
    """A function of each value of the node's first argument.

    Args:
        operation: The node.
        function: What is computed of each value.
        reach: Part of the argument's magnitude on which roundings act too: 1 for functions such
            as GELU whose small results are differences of larger terms.
    """
    # An underflowing sigmoid leaves an error times |x| in x * sigmoid(x).
    lost = max(reach, operation.underflow)

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x = operation.arguments[0][:, channels]
        output, moved = _with_conditioning(function, x)
        magnitude = torch.maximum(output.abs(), moved.abs())
        return output, magnitude + lost * x.abs() + operation.underflow

    return evaluate


def _with_conditioning(function: Change, x: Tensor) -> tuple[Tensor, Tensor]:
    """``f(x)`` and ``x f'(x)``, by which a rounding of the argument moves it."""
    with torch.enable_grad():
        argument = x.detach().requires_grad_()
        output = function(argument)
        slope: Tensor | None = None
        if output.requires_grad:
            # Of a function of each value the gradient of the sum is the slope at each.
            (slope,) = torch.autograd.grad(output.sum(), argument)
    return output.detach(), torch.zeros_like(x) if slope is None else x * slope


def of_plane(operation: Operation, function: Change, magnitude: Change | None = None) -> Evaluation:
    """A function of each channel's plane; its gauge is its own output unless another is given."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x = operation.arguments[0][:, channels]
        output = function(x)
        gauge = output.abs() if magnitude is None else magnitude(x.abs())
        # Sums over a plane may be given less than what they lose.
        return output, gauge + output.abs()

    return evaluate


def mean(x: Tensor) -> Tensor:
    """Over height and width."""
    return x.mean((2, 3), keepdim=True)


def target(operation: Operation) -> Sides:
    """The size that a max-pool or an up-sampling is to give."""
    rows, columns = operation.arguments[1]
    return int(rows), int(columns)


def strides(operation: Operation) -> Sides:
    """The stride of a max-pool, which follows from its sizes."""
    sizes = operation.arguments[0].shape[2:]
    rows, columns = (
        (int(size) - 1) // goal + 1 for size, goal in zip(sizes, target(operation), strict=True)
    )
    return rows, columns


def pool(operation: Operation) -> Evaluation:
    """The max-pool as it should be: SAME padding by -inf, kernel = stride + 1."""
    stride = strides(operation)
    kernel = (stride[0] + 1, stride[1] + 1)
    return of_plane(operation, lambda x: same_max_pool(x, kernel, stride, -np.inf))


def same_max_pool(x: Tensor, kernel: Sides, stride: Sides, value: float) -> Tensor:
    """A max-pool with SAME padding by some value."""
    return F.max_pool2d(F.pad(x, same_pads(x, kernel, stride), value=value), kernel, stride)


def nearest(x: Tensor, size: Sides) -> Tensor:
    """Nearest neighbours: pixel i takes pixel floor(i * in / out)."""
    return F.interpolate(x, size=size, mode="nearest")


def interpolated(x: Tensor, size: Sides, mode: str, dtype: torch.dtype, **options: bool) -> Tensor:
    """A map of another size, its pixels in the shares that a candidate's precision gives them.

    In float32 the place of a pixel among many is known to few digits, and neighbours may be far
    apart: the error is no rounding of the result.

    Args:
        x: [N, C, H, W].
        size: Height and width of the result.
        mode: As of ``torch.nn.functional.interpolate``; one that treats the axes alike.
        dtype: That the candidate computes in.
        options: Likewise.
    """
    # PyTorch computes places in float32 for all types that are not wider.
    wide = torch.promote_types(dtype, torch.float32)

    def shares(before: int, after: int) -> Tensor:
        each = torch.eye(before, dtype=wide)[None, None]
        return F.interpolate(each, size=(after, before), mode=mode, **options)[0, 0].to(x)

    rows, columns = (shares(*sides) for sides in zip(x.shape[2:], size, strict=True))
    return rows @ x @ columns.T


def with_settings(operation: Operation, settings: Mapping[str, Any]) -> Evaluation | None:
    """A convolution or a max-pool with other settings; None where they say too little.

    Args:
        operation: The operation.
        settings: Of :data:`parity.sides.observed.settings.Settings`.
    """
    if not {"stride", "padding", "kernel", "dilation"} <= settings.keys():
        return None
    pads, fill = settings["padding"], settings["padded with"]
    stride, dilation = settings["stride"], settings["dilation"]
    if operation.kind is NodeKind.POOL:
        return of_plane(
            operation,
            lambda x: F.max_pool2d(
                F.pad(x, pads, value=fill), settings["kernel"], stride, dilation=dilation
            ),
        )
    own = convolution(operation)
    if settings["kernel"] != tuple(own.kernel) or settings["transposed"]:
        return None
    if settings["groups"] != own.groups:
        return None
    if not isinstance(fill, str) and fill != 0:
        return None
    mode = {"reflection": "reflect", "replication": "replicate"}.get(str(fill), "zeros")
    return padded_by(replace(own, stride=stride, dilation=dilation), pads, (mode, mode))


def padded_by(own: Convolution, pads: Pads, modes: tuple[str, str]) -> Convolution:
    """A convolution with another padding.

    Args:
        own: The convolution.
        pads: How many pixels of it.
        modes: What it is made of along height and along width, of :func:`extended`.
    """
    return replace(own, pads=pads, modes=modes)


def extended(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """Features with more pixels along an axis; fewer where numbers are negative.

    Args:
        x: Features.
        axis: 2 for rows, 3 for columns.
        before: Pixels before them.
        after: Pixels after them.
        mode: ``zeros``, ``replicate`` (the border), ``reflect`` (without the border),
            ``symmetric`` (with it) or ``circular``.
    """
    count = x.shape[axis]
    index = torch.arange(-before, count + after)
    inside = (index >= 0) & (index < count)
    if mode in ("zeros", "replicate"):
        source = index.clamp(0, count - 1)
    elif mode == "circular":
        source = index % count
    else:
        # A mirror image, with or without the border twice.
        double = mode == "symmetric"
        period = max(2 * count - (0 if double else 2), 1)
        source = index % period
        source = torch.where(source < count, source, period - source - int(double))
    taken = x.index_select(axis, source.to(x.device))
    if mode != "zeros" or bool(inside.all()):
        return taken
    shape = [1] * x.dim()
    shape[axis] = -1
    return taken.masked_fill(~inside.view(shape).to(x.device), 0.0)


def of_both(operation: Operation, function: Pair) -> Evaluation:
    """A function of the node's two arguments, value by value."""

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        x, y = (argument[:, channels] for argument in operation.arguments)
        output = function(x, y)
        # Sums are judged by the magnitudes that they add up.
        return output, output.abs() + x.abs() + y.abs() if adds(function) else output.abs()

    def adds(function: Pair) -> bool:
        # A product gives nothing where one factor is zero.
        one = torch.ones((), dtype=torch.float64)
        return bool(function(one, 0 * one).abs() + function(0 * one, one).abs() > 0)

    return evaluate


def weighted(features: Sequence[Tensor], shares: Tensor) -> Evaluation:
    """``sum share_i x_i``.

    Args:
        features: The inputs.
        shares: One for each, or [len(features), C] where each of their channels has its own.
    """

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        if len(features) != len(shares):
            raise ValueError("one share for each feature")
        chosen = [x[:, channels] for x in features]
        output = torch.zeros_like(chosen[0])
        gauge = torch.zeros_like(chosen[0])
        for x, share in zip(chosen, shares, strict=True):
            if share.dim():
                share = share.view(1, -1, 1, 1)[:, channels]
            output = output + x * share
            gauge = gauge + (x * share).abs()
        return output, gauge

    return evaluate


def fast_attention(weights: Tensor, epsilon: float = FUSION_EPSILON) -> Tensor:
    """The shares of fast attention, of the whole inputs or of each of their channels."""
    kept = F.relu(weights)
    return kept / (kept.sum(0) + epsilon)


def fusion(operation: Operation) -> Evaluation:
    """The weighted sum as it should be."""
    return weighted(operation.arguments[0], shares(operation))


def shares(operation: Operation) -> Tensor:
    """The factor of each input of a fusion, or of each of its channels, as it should be."""
    features, weights = operation.arguments
    if fusion_of(operation) is Fusion.SUM or weights is None:
        return torch.ones(len(features), dtype=features[0].dtype)
    return shares_of(fusion_of(operation), weights.detach().to(features[0].dtype))


def fusion_of(site: Site) -> Fusion:
    """How a fusion of the faithful model joins its inputs."""
    module: Any = site.module
    return Fusion(module.fusion)


def shares_of(kind: Fusion, weights: Tensor) -> Tensor:
    """What attention makes of weights: the inputs' shares."""
    return torch.softmax(weights, 0) if kind.is_softmax else fast_attention(weights)
