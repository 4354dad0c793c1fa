"""Faults in what a convolution or a batch norm computes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from faults.fault import at, instead, left_out, then
from torch import Tensor, nn

from efficientdet_spec import BATCH_NORM_DECAY
from torch_model.layers import Conv2d, same_padding


def convolution(conv: Conv2d, x: Tensor, **other: object) -> Tensor:
    """The layer's convolution with the padding and stride that are given."""
    arguments = {"stride": conv.stride, "groups": conv.groups, **other}
    return F.conv2d(x, conv.weight, conv.bias, **arguments)


def symmetric(conv: Conv2d, x: Tensor) -> Tensor:
    """Pads as much before as after, as PyTorch's own layer does."""
    return convolution(conv, x, padding=tuple(size // 2 for size in conv.kernel_size))


def padded(conv: Conv2d, x: Tensor, mode: str = "constant", before: bool = False) -> Tensor:
    """Pads to SAME size, but with other values or with the odd pixel before the image."""
    pads = []
    for axis in (1, 0):
        pad = same_padding(x.shape[2 + axis], conv.kernel_size[axis], conv.stride[axis])
        pads += reversed(pad) if before else pad
    return convolution(conv, F.pad(x, pads, mode=mode))


def pads_before(conv: Conv2d, x: Tensor) -> Tensor:
    """The odd pixel of padding before the image rather than after it."""
    return padded(conv, x, before=True)


def reflects(conv: Conv2d, x: Tensor) -> Tensor:
    """Mirrors the image at its border."""
    return padded(conv, x, mode="reflect")


def replicates(conv: Conv2d, x: Tensor) -> Tensor:
    """Repeats the pixels of the image's border."""
    return padded(conv, x, mode="replicate")


def dilated(conv: Conv2d, x: Tensor) -> Tensor:
    """Spreads the taps of the kernel by two."""
    return convolution(conv, x, padding=tuple(size - 1 for size in conv.kernel_size), dilation=2)


def set_stride(stride: int) -> Callable[[nn.Module], None]:
    """Gives a convolution another stride."""

    def change(conv: nn.Module) -> None:
        conv.stride = (stride, stride)

    return change


def exchange_stride(conv: nn.Module) -> None:
    """Gives a convolution of stride 2 the stride 1 and the reverse."""
    conv.stride = (3 - conv.stride[0],) * 2


def set_epsilon(epsilon: float) -> Callable[[nn.Module], None]:
    """Gives a batch norm another epsilon."""

    def change(bn: nn.Module) -> None:
        bn.eps = epsilon

    return change


def copy_momentum(bn: nn.Module) -> None:
    """Takes TensorFlow's momentum for PyTorch's."""
    bn.momentum = BATCH_NORM_DECAY


def forget_evaluation(bn: nn.Module) -> None:
    """Leaves a batch norm in training mode."""
    bn.train()


NORMS = ("backbone.*bn", "fpn.*bn", "class_head.bns.*", "box_head.bns.*")

CONVOLUTIONS = (
    *(
        at(
            f"padding-symmetric/{where}",
            "Symmetric padding at stride 2",
            instead(symmetric),
            place,
            # On an even side the two give the same output.
            "padding-symmetric",
            "padding-before",
        )
        for where, place in {
            "stem": "backbone.stem_conv",
            "first-strided": "backbone.blocks.{strided}.depthwise_conv",
            "last-strided": "backbone.blocks.{strided_late}.depthwise_conv",
        }.items()
    ),
    at(
        "padding-before/last-strided",
        "The odd pixel of padding before the image",
        instead(pads_before),
        "backbone.blocks.{strided_late}.depthwise_conv",
        "padding-before",
        "padding-symmetric",
    ),
    at(
        "padding-reflect/stem",
        "Image mirrored at its border",
        instead(reflects),
        "backbone.stem_conv",
        "padding-reflect",
    ),
    at(
        "padding-replicate/class-head",
        "Border pixels repeated",
        instead(replicates),
        "class_head.convs.0.depthwise",
        "padding-replicate",
    ),
    at(
        "stride-other/last-strided",
        "Stride 1 for 2: every coarser level has another size",
        set_stride(1),
        "backbone.blocks.{strided_late}.depthwise_conv",
        "stride-other",
        knock_on=("*",),
    ),
    at(
        "stride-moved/expansion",
        "A block's stride in its expansion rather than its depthwise convolution",
        exchange_stride,
        (
            "backbone.blocks.{strided}.expand_conv",
            "backbone.blocks.{strided}.depthwise_conv",
        ),
        "stride-moved",
        "stride-other",
        knock_on=("backbone.blocks.{strided}.expand_bn", "backbone.blocks.{strided}.expand_act"),
    ),
    at(
        "stride-moved/projection",
        "A block's stride in its projection rather than its depthwise convolution",
        exchange_stride,
        (
            "backbone.blocks.{strided_late}.depthwise_conv",
            "backbone.blocks.{strided_late}.project_conv",
        ),
        "stride-moved",
        "stride-other",
        knock_on=(
            "backbone.blocks.{strided_late}.depthwise_bn",
            "backbone.blocks.{strided_late}.depthwise_act",
            "backbone.blocks.{strided_late}.se.pool",
            "backbone.blocks.{strided_late}.se.scale",
        ),
    ),
    *(
        at(f"dilation/{where}", "Dilation of 2", instead(dilated), place, "dilation")
        for where, place in {
            "mid": "backbone.blocks.{residual}.depthwise_conv",
            "box-head": "box_head.convs.{repeat}.depthwise",
        }.items()
    ),
)
"""Padding, stride, dilation."""

BATCH_NORMS = (
    *(
        at(
            f"epsilon-{epsilon:.0e}/{where}".replace("e-0", "e-"),
            f"Batch norm's epsilon is {epsilon:g}",
            set_epsilon(epsilon),
            place,
            "epsilon",
        )
        for where, epsilon, place in (
            ("mid", 1e-5, "backbone.blocks.{mid}.depthwise_bn"),
            ("backbone", 1e-5, "backbone.*bn"),
            ("all", 1e-5, NORMS),
            ("fpn-node", 1e-4, "fpn.cells.{last}.nodes.{up4}.bn"),
            ("neck-and-heads", 1e-4, NORMS[1:]),
            ("class-level", 1e-4, "class_head.bns.0.P{low}"),
        )
    ),
    *(
        at(
            f"momentum/{where}",
            "Batch norm's momentum copied from TensorFlow",
            copy_momentum,
            place,
            "momentum",
            visible=False,
        )
        for where, place in {"one": "backbone.blocks.{late}.expand_bn", "all": NORMS}.items()
    ),
    *(
        left_out(f"batch-norm-missing/{where}", "A batch norm is left out", place, *readers)
        for where, (place, *readers) in {
            "stem": ("backbone.stem_bn", "backbone.stem_act"),
            "mid": (
                "backbone.blocks.{mid}.depthwise_bn",
                "backbone.blocks.{mid}.depthwise_act",
            ),
            "down-channel": (
                "fpn.cells.0.nodes.{up4}.resamples.0.bn",
                "fpn.cells.0.nodes.{up4}.fuse",
            ),
            "resample-p6": ("fpn.resample_p6.bn", "fpn.resample_p6.pool"),
            "box-head": ("box_head.bns.0.P4", "box_head.acts.0"),
        }.items()
    ),
    *(
        at(
            f"batch-statistics/{where}",
            "Batch norm in training mode",
            forget_evaluation,
            place,
            "batch-statistics",
            "training-mode",
        )
        for where, place in {
            "mid": "backbone.blocks.{mid}.project_bn",
            "backbone": "backbone.*bn",
            "fpn-node": "fpn.cells.0.nodes.{finest}.bn",
        }.items()
    ),
    *(
        at(
            f"activation-extra/{where}",
            "An activation after a layer that has none",
            then(F.silu),
            place,
            "activation-extra",
        )
        for where, place in {
            "project": "backbone.blocks.{mid}.project_bn",
            "fpn-node": "fpn.cells.{last}.nodes.{up4}.bn",
            "separable": "class_head.convs.0.depthwise",
        }.items()
    ),
    at(
        "activation-extra/sigmoid-on-scores",
        "Class logits passed through a sigmoid",
        then(torch.sigmoid),
        "class_head.predict.pointwise",
        "activation-extra",
    ),
)
"""Epsilon, momentum, statistics; layers that should not be there."""
