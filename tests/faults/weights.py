"""Faults in the layout of parameters, and the ways in which faults alter parameters."""

from collections.abc import Callable

import torch
from faults.fault import (
    Context,
    Fault,
    Names,
    at,
    named,
    with_attention,
)
from torch import Tensor, nn

from torch_model import EfficientDet


def owner(parameter: str) -> str:
    """The node that a parameter belongs to."""
    module, _, last = parameter.rpartition(".")
    return f"{module}.fuse" if last == "weights" else module


def set_weight(function: Callable[[Tensor], Tensor]) -> Callable[[nn.Module], None]:
    """Makes a module's weight that function of it."""

    def change(module: nn.Module) -> None:
        module.weight.data.copy_(function(module.weight.data.clone()))

    return change


def swap(first: Tensor, second: Tensor) -> None:
    """Exchange the values of two tensors."""
    kept = first.data.clone()
    first.data.copy_(second.data)
    second.data.copy_(kept)


def replaced(
    key: str,
    title: str,
    new: Callable[[EfficientDet, Context], dict[str, Tensor]],
    *slugs: str,
) -> Fault:
    """A fault that gives parameters new values; the nodes are those that it changes."""

    def changed(model: EfficientDet, context: Context) -> dict[str, Tensor]:
        own = model.state_dict()
        values = new(model, context)
        return {name: value for name, value in values.items() if not torch.equal(value, own[name])}

    def inject(model: EfficientDet, context: Context) -> None:
        model.load_state_dict(changed(model, context), strict=False)

    def nodes(model: EfficientDet, context: Context) -> frozenset[str]:
        return frozenset(owner(name) for name in changed(model, context))

    def in_proportion(model: EfficientDet, context: Context) -> frozenset[str]:
        # Attention to a single input divides its weight by itself, whatever it is.
        return frozenset(
            owner(name)
            for name, value in changed(model, context).items()
            if name.endswith(".weights") and (value > 0).sum() < 2
        )

    return Fault(
        key,
        title,
        inject,
        lambda model, context: nodes(model, context) - in_proportion(model, context),
        frozenset(slugs),
        knock_on=in_proportion,
    )


def fusion_weights(
    key: str, title: str, function: Callable[[Tensor], Tensor], where: Names, *slugs: str
) -> Fault:
    """A fault that makes a fusion's weights that function of them."""

    def inject(model: EfficientDet, context: Context) -> None:
        for name in where(model, context):
            weights = model.get_submodule(name.removesuffix(".fuse")).weights
            weights.data.copy_(function(weights.data.clone()))

    return Fault(key, title, inject, where, frozenset(slugs), applies=with_attention)


def transposed(weight: Tensor) -> Tensor:
    """A kernel with height and width exchanged."""
    return weight.transpose(2, 3)


def turned(weight: Tensor) -> Tensor:
    """A kernel turned by half a turn, as a true convolution would need it."""
    return weight.flip(2, 3)


def in_out(weight: Tensor) -> Tensor:
    """A kernel with inputs and outputs exchanged."""
    return weight.transpose(0, 1)


def reshaped(weight: Tensor) -> Tensor:
    """A kernel whose numbers lie as in TensorFlow, but are read in PyTorch's order."""
    depthwise = weight.shape[1] == 1
    return weight.permute((2, 3, 0, 1) if depthwise else (2, 3, 1, 0)).reshape(weight.shape)


def squeeze_expand_swapped(where: str) -> Fault:
    """A fault that exchanges the two convolutions of a block's squeeze-excite."""
    nodes = named(
        f"backbone.blocks.{{{where}}}.se.reduce_conv", f"backbone.blocks.{{{where}}}.se.expand_conv"
    )

    def inject(model: EfficientDet, context: Context) -> None:
        expand, reduce = (model.get_submodule(name) for name in sorted(nodes(model, context)))
        swap(reduce.weight, expand.weight.data.transpose(0, 1))

    return Fault(
        f"squeeze-expand-swapped/{where}",
        "The two convolutions of squeeze-excite have each other's kernels",
        inject,
        nodes,
        frozenset({"se-swapped"}),
    )


DEPTHWISE_PLACES = {
    "early": "backbone.blocks.{early}.depthwise_conv",
    "late": "backbone.blocks.{late}.depthwise_conv",
    "fpn-first": "fpn.cells.0.nodes.{up4}.conv.depthwise",
    "fpn-last": "fpn.cells.{last}.nodes.{up5}.conv.depthwise",
    "box-head": "box_head.convs.0.depthwise",
    "class-predict": "class_head.predict.depthwise",
}

LAYOUT = (
    *(
        at(
            f"kernel-transposed/{where}",
            "Depthwise kernel with height and width exchanged",
            set_weight(transposed),
            place,
            "kernel-transposed",
        )
        for where, place in DEPTHWISE_PLACES.items()
    ),
    at(
        "kernel-transposed/stem",
        "Stem's kernel with height and width exchanged",
        set_weight(transposed),
        "backbone.stem_conv",
        "kernel-transposed",
    ),
    at(
        "kernel-transposed/backbone",
        "Every depthwise kernel of the backbone with height and width exchanged",
        set_weight(transposed),
        "backbone.blocks.*.depthwise_conv",
        "kernel-transposed",
    ),
    *(
        at(
            f"kernel-flipped/{where}",
            "Kernel turned by half a turn",
            set_weight(turned),
            place,
            "kernel-flipped",
        )
        for where, place in {
            "stem": "backbone.stem_conv",
            "mid": "backbone.blocks.{mid}.depthwise_conv",
            "class-head": "class_head.convs.0.depthwise",
        }.items()
    ),
    *(
        at(
            f"kernel-in-out/{where}",
            "Pointwise kernel with inputs and outputs exchanged",
            set_weight(in_out),
            place,
            "kernel-in-out",
        )
        for where, place in {
            "fpn-first": "fpn.cells.0.nodes.{up4}.conv.pointwise",
            "fpn-last": "fpn.cells.{last}.nodes.{top}.conv.pointwise",
            "class-head": "class_head.convs.{repeat}.pointwise",
        }.items()
    ),
    *(
        at(
            f"kernel-reshaped/{where}",
            "Kernel reshaped from TensorFlow's layout rather than transposed",
            set_weight(reshaped),
            place,
            "kernel-reshaped",
            # Of a square 1x1 kernel both are the same.
            *(["kernel-in-out"] if where == "mid" else []),
        )
        for where, place in {
            "stem": "backbone.stem_conv",
            "mid": "backbone.blocks.{mid}.project_conv",
            "late": "backbone.blocks.{late}.depthwise_conv",
            "box-predict": "box_head.predict.pointwise",
        }.items()
    ),
    squeeze_expand_swapped("early"),
    squeeze_expand_swapped("late"),
)
"""Right numbers in wrong places of a kernel."""
