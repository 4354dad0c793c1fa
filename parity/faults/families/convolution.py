"""What ports get wrong in a convolution: its padding, stride, kernel, bias or input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from parity.faults.basics.case import ALL, Channels, Evaluation, Operation, Site, by_resemblance
from parity.faults.basics.fault import CONVOLUTIONS, Fault, Variant, in_variants
from parity.faults.basics.operations import Change, Convolution, convolution, same_pads
from parity.faults.families import activations, padding

_Forms = Callable[[Convolution], Iterable[tuple[str, Convolution]]]
"""The forms that a fault may take: in words, and the convolution that has it."""


def _anywhere(site: Site) -> bool:
    return True


def _has_bias(site: Site) -> bool:
    """Where there is none, a change of the kernel's sign is one of the output's."""
    return site.module.bias is not None


def _reads_features(site: Site) -> bool:
    """For the network's images the same faults have names of their own."""
    return not site.is_input


def _fault(
    slug: str, title: str, forms: _Forms, where: Callable[[Site], bool] = _anywhere
) -> Fault:
    """Another convolution in the place of one."""

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        yield from forms(convolution(operation))

    return in_variants(slug, title, CONVOLUTIONS, variants, where=where)


def _symmetric(own: Convolution) -> Iterator[tuple[str, Convolution]]:
    left, right, top, bottom = own.pads
    if own.symmetric != own.pads:
        # At stride 2 this is also what the odd pixel before instead of after gives.
        yield (
            f"{max(own.kernel) // 2} pixels of padding on every side instead of SAME's "
            f"{top} above, {bottom} below, {left} left and {right} right",
            replace(own, pads=own.symmetric),
        )


def _not_padded(own: Convolution) -> Iterator[tuple[str, Convolution]]:
    if any(own.pads):
        yield "no padding", replace(own, pads=(0, 0, 0, 0))


def _other_phase(own: Convolution) -> Iterator[tuple[str, Convolution]]:
    left, right, top, bottom = own.pads
    if max(own.stride) > 1:
        for down, along, where in (
            (1, 1, "rows and columns"), (1, 0, "rows"), (0, 1, "columns"),
        ):  # fmt: skip
            pads = (left - along, right + along, top - down, bottom + down)
            yield f"the stride takes the other {where}", replace(own, pads=pads)


def _other_stride(own: Convolution) -> Iterator[tuple[str, Convolution]]:
    steps = own.stride
    for stride in ((1, 1), (2, 2), (4, 4), (1, 2), (2, 1)):
        if stride != steps:
            for pads in dict.fromkeys((own.symmetric, same_pads(own.x, own.kernel, stride))):
                yield (
                    f"stride {stride[0]}x{stride[1]} instead of {steps[0]}x{steps[1]}",
                    replace(own, pads=pads, stride=stride),
                )


_DILATIONS = ((2, 2), (3, 3), (4, 4), (1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2))


def _dilated(own: Convolution) -> Iterator[tuple[str, Convolution]]:
    height, width = own.kernel
    if max(height, width) == 1:
        return
    for rows, columns in _DILATIONS:
        reach = (rows * (height - 1) + 1, columns * (width - 1) + 1)
        wide = (reach[1] // 2, reach[1] // 2, reach[0] // 2, reach[0] // 2)
        words = f"dilation {rows} instead of 1"
        if rows != columns:
            words = f"dilation {rows} along its height and {columns} along its width instead of 1"
        for pads in dict.fromkeys((same_pads(own.x, reach, own.stride), wide, own.pads)):
            yield words, replace(own, pads=pads, dilation=(rows, columns))


def _biased(slug: str, title: str, words: str, change: Callable[[Tensor], Tensor | None]) -> Fault:
    """A convolution with another bias."""

    def forms(own: Convolution) -> Iterator[tuple[str, Convolution]]:
        if own.bias is not None:
            yield words, replace(own, bias=change(own.bias))

    return _fault(slug, title, forms)


def _reshaped(axes: tuple[int, ...], weight: Tensor) -> Tensor:
    return weight.permute(axes).reshape(weight.shape)


_LAYOUTS = (
    ((2, 3, 1, 0), "HWIO"),
    ((2, 3, 0, 1), "HWOI"),
    ((0, 2, 3, 1), "OHWI"),
    ((1, 0, 2, 3), "IOHW"),
)
"""How the axes of an OIHW kernel come in other layouts."""


def _kernel(
    slug: str,
    title: str,
    *forms: tuple[str, Change],
    where: Callable[[Site], bool] = _anywhere,
    alike: Iterable[str] = (),
) -> Fault:
    """Right values of a kernel in wrong places; a port has them in its parameters."""

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        own = convolution(operation)
        for words, change in forms:
            kernel = change(own.weight)
            if kernel.shape == own.weight.shape:
                yield words, replace(own, weight=kernel)

    def put_in(module: Any) -> None:
        with torch.no_grad():
            module.weight.copy_(forms[0][1](module.weight).clone())

    def same_shape(site: Site) -> bool:
        weight: Any = site.module.weight
        return bool(forms[0][1](weight).shape == weight.shape) and where(site)

    return in_variants(
        slug, title, CONVOLUTIONS, variants, change=put_in, where=same_shape, alike=alike
    )


def _with_values(label: str) -> Fault:
    """The checkpoint's other values, such as those that are no moving averages."""

    def variants(operation: Operation, base: Evaluation) -> Iterator[Variant]:
        values = operation.alternatives.get(label)
        if not values:
            return
        own = convolution(operation)
        weight, bias = own.weight, own.bias
        other = replace(
            own,
            weight=values.get("weight", weight).to(own.x.dtype),
            bias=None if bias is None else values.get("bias", bias).to(own.x.dtype),
        )
        yield f"with its {label} parameters", other

    title = f"the checkpoint's {label} values"
    return in_variants(f"parameters-{label}", title, CONVOLUTIONS, variants)


def _siblings(operation: Operation) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Name, kernel and bias of other convolutions, likely ones first."""
    x = operation.arguments[0]
    for name in by_resemblance(operation.name, operation.siblings):
        other: Any = operation.siblings[name]
        bias = None if other.bias is None else other.bias.detach().to(x.dtype)
        yield name, other.weight.detach().to(x.dtype), bias


def _kernel_of_other(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = convolution(operation)
    for name, weight, bias in _siblings(operation):
        if weight.shape == own.weight.shape:
            taken = None if own.bias is None else bias
            yield f"with the weights of {name}", replace(own, weight=weight, bias=taken)
            if taken is not None:
                yield f"with the kernel of {name} and its own bias", replace(own, weight=weight)


def _bias_of_other(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = convolution(operation)
    for name, weight, bias in _siblings(operation):
        if weight.shape == own.weight.shape and own.bias is not None and bias is not None:
            yield f"with the bias of {name}", replace(own, bias=bias)


def _squeeze_for_expand(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = convolution(operation)
    for name, weight, _ in _siblings(operation):
        turned = weight.transpose(0, 1)
        if turned.shape == own.weight.shape != weight.shape:
            for bias in (own.bias, None):
                yield (
                    f"with the kernel of {name}, transposed (squeeze and expand exchanged)",
                    replace(own, weight=turned, bias=bias),
                )


def _of_input(slug: str, title: str, *forms: tuple[str, Change]) -> Fault:
    """A convolution of its input's values in other places."""

    def changed(own: Convolution) -> Iterator[tuple[str, Convolution]]:
        for words, change in forms:
            yield words, replace(own, x=change(own.x))

    return _fault(slug, title, changed, _reads_features)


def _groups_ignored(own: Convolution) -> Iterator[tuple[str, Convolution]]:
    if own.depthwise:
        for words, merged in (
            ("each filter applied to the sum of all channels", own.x.sum(1, True)),
            ("each filter applied to the first channel", own.x[:, :1]),
        ):
            yield words, replace(own, x=merged.expand_as(own.x))


def _input_transposed(own: Convolution) -> Iterator[tuple[str, Convolution]]:
    if own.x.shape[2] == own.x.shape[3] > 1:
        turned = replace(own, x=own.x.mT, pads=(*own.pads[2:], *own.pads[:2]))
        yield "its input with height and width exchanged", turned


def _activated(own: Convolution) -> Iterator[tuple[str, Convolution]]:
    for _, title, function in activations.ACTIVATIONS[:3]:
        yield f"{title} before it", replace(own, x=function(own.x))


def _twice(operation: Operation, base: Evaluation) -> Iterator[Variant]:
    own = convolution(operation)

    def evaluate(channels: Channels) -> tuple[Tensor, Tensor]:
        output, gauge = own(ALL)
        second, scale = replace(own, x=output)(channels)
        magnitudes = replace(own, x=gauge, weight=own.weight.abs())(channels)[1]
        return second, scale + magnitudes

    if own.x.shape[1] == len(own.weight) and max(own.stride) == 1:
        yield "applied twice", evaluate


_GEOMETRY = (
    _fault("padding-symmetric", "symmetric padding at stride 2", _symmetric),
    *padding.MODES,
    _fault("padding-none", "no padding", _not_padded),
    _fault("stride-moved", "a stride that takes the other pixels", _other_phase),
    _fault("stride-other", "another stride", _other_stride),
    _fault("dilation", "a dilated kernel", _dilated),
)

_BIASES = (
    _biased("bias-missing", "a bias left out", "without its bias", lambda bias: None),
    _biased("bias-twice", "a bias added twice", "its bias added twice", lambda bias: 2 * bias),
    _biased("bias-negated", "a bias subtracted", "its bias subtracted", lambda bias: -bias),
    _biased(
        "bias-reversed",
        "a bias in reverse order",
        "its bias in reverse order",
        lambda bias: bias.flip(0),
    ),
)

_KERNELS = (
    _kernel(
        "kernel-transposed",
        "kernel transposed",
        ("its kernel transposed (height and width)", lambda w: w.mT),
        alike=("parameter-transposed",),
    ),
    _kernel(
        "kernel-flipped",
        "kernel flipped, a true convolution",
        ("its kernel flipped (a true convolution)", lambda w: w.flip(2, 3)),
        ("its kernel's rows in reverse order", lambda w: w.flip(2)),
        ("its kernel's columns in reverse order", lambda w: w.flip(3)),
    ),
    _kernel(
        "kernel-rotated",
        "kernel rotated",
        *(
            (
                f"its kernel rotated by {90 * turns} degrees",
                partial(torch.rot90, k=turns, dims=(2, 3)),
            )
            for turns in (1, 3)
        ),
    ),
    _kernel(
        "kernel-in-out",
        "a kernel's inputs and outputs exchanged",
        ("its kernel's input and output channels exchanged", lambda w: w.transpose(0, 1)),
    ),
    _kernel(
        "kernel-reshaped",
        "kernel reshaped instead of transposed",
        *(
            (
                f"its {layout} kernel reshaped to OIHW instead of transposed",
                partial(_reshaped, axes),
            )
            for axes, layout in _LAYOUTS
        ),
        # Of a square 1x1 kernel both are the same.
        alike=("kernel-in-out",),
    ),
    _kernel(
        "kernel-negated",
        "a kernel's sign",
        ("its kernel with the other sign", lambda w: -w),
        where=_has_bias,
    ),
    _kernel(
        "kernel-zero",
        "a kernel of zeros",
        ("its kernel all zero", torch.zeros_like),
        where=_has_bias,
    ),
    _kernel(
        "kernel-reversed",
        "a kernel's output channels in reverse order",
        ("its kernel's output channels in reverse order", lambda w: w.flip(0)),
    ),
)

_OTHERS = (
    _with_values("raw"),
    _with_values("ema"),
    in_variants(
        "kernel-of-other-node", "another convolution's kernel", CONVOLUTIONS, _kernel_of_other
    ),
    in_variants("bias-of-other-node", "another convolution's bias", CONVOLUTIONS, _bias_of_other),
    in_variants("se-swapped", "squeeze and expand exchanged", CONVOLUTIONS, _squeeze_for_expand),
)

_INPUTS = (
    _of_input(
        "input-channels-reversed",
        "a convolution of reversed channels",
        ("its input's channels in reverse order", lambda x: x.flip(1)),
    ),
    _of_input(
        "input-channels-moved",
        "a convolution of channels moved by one",
        ("its input's channels moved by +1", lambda x: x.roll(1, 1)),
        ("its input's channels moved by -1", lambda x: x.roll(-1, 1)),
    ),
    _fault("groups-ignored", "a depthwise convolution of all channels", _groups_ignored),
    _of_input(
        "input-flipped",
        "a convolution of mirrored features",
        ("its input reversed along its width", lambda x: x.flip(3)),
        ("its input reversed along its height", lambda x: x.flip(2)),
    ),
    _fault("input-transposed", "a convolution of transposed features", _input_transposed),
    _of_input(
        "input-reshaped",
        "NHWC features read as NCHW",
        (
            "its NHWC input reshaped to NCHW instead of transposed",
            lambda x: x.permute(0, 2, 3, 1).reshape(x.shape),
        ),
    ),
)

FAULTS = (
    *_GEOMETRY,
    *_BIASES,
    *_KERNELS,
    *_OTHERS,
    *_INPUTS,
    activations.on_top(CONVOLUTIONS),
    _fault("activation-before", "an activation before a convolution", _activated),
    in_variants("applied-twice", "a convolution applied twice", CONVOLUTIONS, _twice),
)
"""Faults of a convolution, the simplest and likeliest first."""
