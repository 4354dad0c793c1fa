"""What ports get wrong in a convolution: its padding, stride, kernel, bias or input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet_spec import same_padding
from parity.faults import activations
from parity.faults.case import (
    ALL,
    Case,
    Channels,
    Evaluation,
    Hypothesis,
    by_resemblance,
)

Pads = tuple[int, int, int, int]
"""Pixels added (left, right, top, bottom); negative ones are cut off."""


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
        dilation: Distance of neighbouring taps.
        mode: What is padded with, as ``F.pad`` calls it.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    pads: Pads
    groups: int
    dilation: int = 1
    mode: str = "constant"

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads one input channel of its own."""
        return 1 < self.groups == self.x.shape[1] == self.weight.shape[0]

    def __call__(self, channels: Channels) -> tuple[Tensor, Tensor]:
        """Its output at some channels, and ``conv(|x|, |w|) + |b|``."""
        x, weight, groups = self.x, self.weight, self.groups
        bias = self.bias
        if groups == 1 or self.depthwise:
            weight = weight[channels]
            bias = None if bias is None else bias[channels]
        if self.depthwise:
            x, groups = x[:, channels], weight.shape[0]
        x = F.pad(x, self.pads, mode=self.mode) if any(self.pads) else x
        magnitude = None if bias is None else bias.abs()
        output = self._apply(x, weight, bias, groups)
        gauge = self._apply(x.abs(), weight.abs(), magnitude, groups)
        if groups > 1 and not self.depthwise:
            return output[:, channels], gauge[:, channels]
        return output, gauge

    def _apply(self, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, 0, self.dilation, groups)


def same_pads(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Pads:
    """TensorFlow's SAME padding of an NCHW tensor."""
    top, bottom = same_padding(x.shape[2], kernel[0], stride[0])
    left, right = same_padding(x.shape[3], kernel[1], stride[1])
    return left, right, top, bottom


def faithful(case: Case) -> Convolution:
    """The convolution as it should be."""
    module: Any = case.module
    x = case.arguments[0]
    stride = (int(module.stride[0]), int(module.stride[1]))
    weight = module.weight.detach()
    pads = same_pads(x, (weight.shape[2], weight.shape[3]), stride)
    bias = None if module.bias is None else module.bias.detach()
    return Convolution(x, weight, bias, stride, pads, int(module.groups))


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Faults of a convolution, the simplest and likeliest first."""
    own = faithful(case)
    yield from _geometry(own)
    yield from _parameters(case, own)
    yield from _channels(own)
    yield from activations.on_top(own)
    for _, title, function in activations.ACTIVATIONS[:3]:
        yield Hypothesis("activation-before", f"{title} before it", replace(own, x=function(own.x)))
    if case.arguments[0].shape == case.candidate.shape:
        yield Hypothesis("applied-twice", "applied twice", _twice(own))


def _twice(own: Convolution) -> Evaluation:
    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = own(ALL)
        second, scale = replace(own, x=output)(channels)
        magnitudes = replace(own, x=gauge, weight=own.weight.abs())(channels)[1]
        return second, scale + magnitudes

    return evaluate


def _geometry(own: Convolution) -> Iterator[Hypothesis]:
    height, width = own.weight.shape[2:]
    size = max(height, width)
    symmetric = (width // 2, width // 2, height // 2, height // 2)
    left, right, top, bottom = own.pads
    if symmetric != own.pads:
        # At stride 2 this is also what the odd pixel before instead of after gives.
        yield Hypothesis(
            "padding-symmetric",
            f"{size // 2} pixels of padding on every side instead of SAME's "
            f"{top} above, {bottom} below, {left} left and {right} right",
            replace(own, pads=symmetric),
        )
    if any(own.pads):
        for mode in ("reflect", "replicate", "circular"):
            for pads in (own.pads, symmetric):
                yield Hypothesis(
                    f"padding-{mode}",
                    f"padding by {mode} instead of zeros",
                    replace(own, pads=pads, mode=mode),
                )
        yield Hypothesis("padding-none", "no padding", replace(own, pads=(0, 0, 0, 0)))
    steps = own.stride
    if max(steps) > 1:
        for down, along, where in (
            (1, 1, "rows and columns"), (1, 0, "rows"), (0, 1, "columns"),
        ):  # fmt: skip
            pads = (left - along, right + along, top - down, bottom + down)
            yield Hypothesis(
                "stride-moved", f"the stride takes the other {where}", replace(own, pads=pads)
            )
    for stride in ((1, 1), (2, 2), (4, 4), (1, 2), (2, 1)):
        if stride != steps:
            for pads in dict.fromkeys((symmetric, same_pads(own.x, (height, width), stride))):
                yield Hypothesis(
                    "stride-other",
                    f"stride {stride[0]}x{stride[1]} instead of {steps[0]}x{steps[1]}",
                    replace(own, pads=pads, stride=stride),
                )
    if size > 1:
        for dilation in (2, 3):
            reach = (dilation * (height - 1) + 1, dilation * (width - 1) + 1)
            wide = (reach[1] // 2, reach[1] // 2, reach[0] // 2, reach[0] // 2)
            for pads in dict.fromkeys((same_pads(own.x, reach, steps), wide, own.pads)):
                yield Hypothesis(
                    "dilation",
                    f"dilation {dilation} instead of 1",
                    replace(own, pads=pads, dilation=dilation),
                )


def _parameters(case: Case, own: Convolution) -> Iterator[Hypothesis]:
    weight, bias = own.weight, own.bias
    if bias is not None:
        yield Hypothesis("bias-missing", "without its bias", replace(own, bias=None))
        yield Hypothesis("bias-twice", "its bias added twice", replace(own, bias=2 * bias))
        yield Hypothesis("bias-negated", "its bias subtracted", replace(own, bias=-bias))
        yield Hypothesis(
            "bias-reversed", "its bias in reverse order", replace(own, bias=bias.flip(0))
        )
    for slug, title, kernel in _kernels(weight):
        if kernel.shape == weight.shape:
            yield Hypothesis(slug, title, replace(own, weight=kernel))
    for label, values in case.alternatives.items():
        other = replace(
            own,
            weight=values.get("weight", weight).double(),
            bias=None if bias is None else values.get("bias", bias).double(),
        )
        yield Hypothesis(f"parameters-{label}", f"with its {label} parameters", other)
    yield from _siblings(case, own)


def _kernels(weight: Tensor) -> Iterator[tuple[str, str, Tensor]]:
    yield "kernel-transposed", "its kernel transposed (height and width)", weight.mT
    yield "kernel-flipped", "its kernel flipped (a true convolution)", weight.flip(2, 3)
    yield "kernel-flipped", "its kernel's rows in reverse order", weight.flip(2)
    yield "kernel-flipped", "its kernel's columns in reverse order", weight.flip(3)
    for turns in (1, 3):
        yield (
            "kernel-rotated",
            f"its kernel rotated by {90 * turns} degrees",
            weight.rot90(turns, (2, 3)),
        )
    yield (
        "kernel-in-out",
        "its kernel's input and output channels exchanged",
        weight.transpose(0, 1),
    )
    for axes, layout in (
        ((2, 3, 1, 0), "HWIO"),
        ((2, 3, 0, 1), "HWOI"),
        ((0, 2, 3, 1), "OHWI"),
        ((1, 0, 2, 3), "IOHW"),
    ):
        yield (
            "kernel-reshaped",
            f"its {layout} kernel reshaped to OIHW instead of transposed",
            weight.permute(axes).reshape(weight.shape),
        )
    yield "kernel-negated", "its kernel with the other sign", -weight
    yield "kernel-zero", "its kernel all zero", torch.zeros_like(weight)
    yield "kernel-reversed", "its kernel's output channels in reverse order", weight.flip(0)


def _siblings(case: Case, own: Convolution) -> Iterator[Hypothesis]:
    names = by_resemblance(case.name, case.siblings)
    for name in names:
        other: Any = case.siblings[name]
        weight = other.weight.detach().double()
        bias = None if own.bias is None or other.bias is None else other.bias.detach().double()
        if weight.shape == own.weight.shape:
            yield Hypothesis(
                "kernel-of-other-node",
                f"with the weights of {name}",
                replace(own, weight=weight, bias=bias),
            )
            if bias is not None:
                yield Hypothesis(
                    "kernel-of-other-node",
                    f"with the kernel of {name} and its own bias",
                    replace(own, weight=weight),
                )
                yield Hypothesis(
                    "bias-of-other-node", f"with the bias of {name}", replace(own, bias=bias)
                )
        elif weight.transpose(0, 1).shape == own.weight.shape:
            for own_bias in (own.bias, None):
                yield Hypothesis(
                    "se-swapped",
                    f"with the kernel of {name}, transposed (squeeze and expand exchanged)",
                    replace(own, weight=weight.transpose(0, 1), bias=own_bias),
                )


def _channels(own: Convolution) -> Iterator[Hypothesis]:
    x = own.x
    if x.shape[1] > 1:
        yield Hypothesis(
            "input-channels-reversed",
            "its input's channels in reverse order",
            replace(own, x=x.flip(1)),
        )
        for step in (1, -1):
            yield Hypothesis(
                "input-channels-moved",
                f"its input's channels moved by {step:+d}",
                replace(own, x=x.roll(step, 1)),
            )
    if own.depthwise:
        for slug, title, merged in (
            ("groups-ignored", "each filter applied to the sum of all channels", x.sum(1, True)),
            ("groups-ignored", "each filter applied to the first channel", x[:, :1]),
        ):
            yield Hypothesis(slug, title, replace(own, x=merged.expand_as(x)))
    for side, axis in (("width", 3), ("height", 2)):
        yield Hypothesis(
            "input-flipped", f"its input reversed along its {side}", replace(own, x=x.flip(axis))
        )
    if x.shape[2] == x.shape[3] > 1:
        yield Hypothesis(
            "input-transposed",
            "its input with height and width exchanged",
            replace(own, x=x.mT, pads=(*own.pads[2:], *own.pads[:2])),
        )
    yield Hypothesis(
        "input-reshaped",
        "its NHWC input reshaped to NCHW instead of transposed",
        replace(own, x=x.permute(0, 2, 3, 1).reshape(x.shape)),
    )
