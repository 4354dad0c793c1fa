"""Faults in the values of parameters, missing parameters and extra ones."""

from collections.abc import Callable

import torch
from faults.fault import (
    Context,
    at,
    each_counts,
    fusions,
    rounded,
)
from faults.weights import fusion_weights, replaced, set_weight, swap
from torch import Tensor, nn

from torch_model import EfficientDet


def swap_channels(module: nn.Module) -> None:
    """Exchange the first two output channels."""
    for tensor in module.state_dict().values():
        if tensor.dim():
            swap(tensor[0], tensor[1])


def negate_one(module: nn.Module) -> None:
    """Change the sign of the largest weight."""
    flat = module.weight.data
    index = torch.unravel_index(flat.abs().argmax(), flat.shape)
    flat[index] *= -1


def round_weight(dtype: torch.dtype) -> Callable[[nn.Module], None]:
    """Rounds a module's weight to a shorter type."""
    return set_weight(rounded(dtype))


def drop_bias(conv: nn.Module) -> None:
    """Leave out a convolution's bias."""
    conv.bias = None


def add_bias(value: float) -> Callable[[nn.Module], None]:
    """Give a convolution a constant bias."""

    def change(conv: nn.Module) -> None:
        conv.bias = nn.Parameter(torch.full((conv.out_channels,), value))

    return change


def add_parameter(module: nn.Module) -> None:
    """Register a parameter that nothing reads."""
    module.register_parameter("gain", nn.Parameter(torch.ones(1)))


def all_rounded(dtype: torch.dtype) -> Callable[[EfficientDet, Context], dict[str, Tensor]]:
    """All parameters and statistics, rounded to a shorter type."""
    return lambda model, context: {
        name: rounded(dtype)(value)
        for name, value in model.state_dict().items()
        if value.is_floating_point()
    }


VALUES = (
    *(
        at(
            f"sign/{where}",
            "The sign of one weight",
            negate_one,
            place,
            "parameters-different",
        )
        for where, place in {
            "stem": "backbone.stem_conv",
            "batch-norm": "backbone.blocks.{mid}.project_bn",
            "late": "backbone.blocks.{late}.depthwise_conv",
            "resample": "fpn.resample_p6.conv",
            "box-predict": "box_head.predict.pointwise",
        }.items()
    ),
    *(
        at(
            f"channels-permuted/{where}",
            "Two output channels exchanged",
            swap_channels,
            place,
            "parameters-permuted",
            "channels-permuted",
        )
        for where, place in {
            "early": "backbone.blocks.{early}.expand_conv",
            "batch-norm": "fpn.cells.0.nodes.{finest}.bn",
            "depthwise": "box_head.convs.{repeat}.depthwise",
        }.items()
    ),
    *(
        at(f"bias-missing/{where}", "A bias is left out", drop_bias, place, "bias-missing")
        for where, place in {
            "squeeze": "backbone.blocks.{late}.se.reduce_conv",
            "resample": "fpn.cells.0.nodes.{down5}.resamples.0.conv",
            "fpn": "fpn.cells.{last}.nodes.{up4}.conv.pointwise",
            "class-head": "class_head.convs.0.pointwise",
            "class-predict": "class_head.predict.pointwise",
        }.items()
    ),
    *(
        at(
            f"bias-extra/{where}",
            "A second bias inside a separable convolution",
            add_bias(0.01),
            place,
            "bias-extra",
        )
        for where, place in {
            "fpn": "fpn.cells.0.nodes.{up5}.conv.depthwise",
            "box-predict": "box_head.predict.depthwise",
        }.items()
    ),
    at(
        "bias-extra/backbone",
        "A bias in a convolution that has none",
        add_bias(0.01),
        "backbone.blocks.{mid}.expand_conv",
        "bias-extra",
    ),
    *(
        at(
            f"bias-extra-zero/{where}",
            "A second bias of zero inside a separable convolution",
            add_bias(0.0),
            place,
            "bias-extra",
            "parameter-extra",
            visible=False,
        )
        for where, place in {
            "fpn": "fpn.cells.{last}.nodes.{down4}.conv.depthwise",
            "class-head": "class_head.convs.{repeat}.depthwise",
        }.items()
    ),
    at(
        "parameter-extra/mid",
        "A parameter that nothing reads",
        add_parameter,
        "backbone.blocks.{mid}.project_conv",
        "parameter-extra",
        visible=False,
    ),
    *(
        fusion_weights(
            f"fusion-weights-permuted/{where}",
            "A fusion's weights in reverse",
            lambda weights: weights.flip(0),
            fusions(each_counts, index),
            "weights-permuted",
            "inputs-permuted",
        )
        for where, index in {"first": 0, "last": -1}.items()
    ),
    *(
        at(
            f"weights-{name}/one-kernel",
            f"One kernel rounded to {name}",
            round_weight(dtype),
            place,
            "reduced-precision",
            "parameters-rounded",
        )
        for name, dtype, place in (
            ("float16", torch.float16, "backbone.blocks.{late}.project_conv"),
            ("bfloat16", torch.bfloat16, "class_head.predict.pointwise"),
        )
    ),
    *(
        replaced(
            f"weights-{name}/all",
            f"All parameters rounded to {name}",
            all_rounded(dtype),
            "reduced-precision",
            "parameters-rounded",
        )
        for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16))
    ),
)
"""Wrong values, a missing or an extra parameter."""
