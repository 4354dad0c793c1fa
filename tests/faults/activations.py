"""Faults in activations, gates, means and sums, and in the precision of any layer."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from faults.fault import at, before, instead, left_out, rounded, then
from torch import Tensor, nn

_ALIKE = {"relu": ("relu", "left-out-or-relu"), "relu6": ("relu", "relu6", "left-out-or-relu")}
"""Names that are as right: on inputs of which none is negative, or above six, these are one."""


def computes(function: Callable[[Tensor], Tensor]) -> Callable[[nn.Module], None]:
    """Makes a layer compute a function of its input alone."""
    return instead(lambda module, x: function(x))


def mean_of_rows(mean: nn.Module, x: Tensor) -> Tensor:
    """The mean over the first half of the rows."""
    return x[:, :, : -(-x.shape[2] // 2)].mean((2, 3), keepdim=True)


ACTIVATIONS = (
    *(
        left_out(f"activation-missing/{where}", "A swish is left out", place, *readers)
        for where, (place, *readers) in {
            "stem": (
                "backbone.stem_act",
                "backbone.blocks.0.*",
            ),
            "squeeze": ("backbone.blocks.{mid}.se.act", "backbone.blocks.{mid}.se.expand_conv"),
            "late": (
                "backbone.blocks.{late}.depthwise_act",
                "backbone.blocks.{late}.se.pool",
                "backbone.blocks.{late}.se.scale",
            ),
            "fpn": (
                "fpn.cells.{last}.nodes.{up4}.act",
                "fpn.cells.{last}.nodes.{up4}.conv.depthwise",
            ),
            "class-head": ("class_head.acts.{repeat}", "class_head.predict.depthwise"),
        }.items()
    ),
    *(
        at(
            f"activation-doubled/{where}",
            "A swish is applied twice",
            then(F.silu),
            place,
            "applied-twice",
            "activation-extra",
        )
        for where, place in {
            "early": "backbone.blocks.{early}.expand_act",
            "box-head": "box_head.acts.0",
        }.items()
    ),
    *(
        at(
            f"activation-{name}/{where}",
            f"{name} for swish",
            computes(function),
            place,
            # No value need be above 6, where the two are one.
            *_ALIKE.get(name, (name,)),
        )
        for name, function, where, place in (
            ("relu", F.relu, "mid", "backbone.blocks.{mid}.expand_act"),
            ("relu", F.relu, "fpn", "fpn.cells.0.nodes.{up5}.act"),
            ("relu6", F.relu6, "class-head", "class_head.acts.0"),
            ("gelu", F.gelu, "late", "backbone.blocks.{late}.depthwise_act"),
            ("hard-swish", F.hardswish, "stem", "backbone.stem_act"),
            ("hard-swish", F.hardswish, "backbone", "backbone.blocks.*_act"),
            ("relu", F.relu, "squeeze", "backbone.blocks.{early}.se.act"),
        )
    ),
    left_out(
        "gate-missing/mid",
        "A squeeze-excite without its sigmoid",
        "backbone.blocks.{mid}.se.gate",
        "backbone.blocks.{mid}.se.scale",
    ),
    *(
        at(
            f"gate-{name}/{where}",
            f"{name} for a squeeze-excite's sigmoid",
            computes(function),
            place,
            name,
        )
        for name, function, where, place in (
            ("hard-sigmoid", F.hardsigmoid, "early", "backbone.blocks.{early}.se.gate"),
            (
                "softmax",
                lambda x: torch.softmax(x, 1),
                "late",
                "backbone.blocks.{late}.se.gate",
            ),
        )
    ),
    *(
        at(
            f"mean-{name}/{where}",
            f"Squeeze-excite takes {title}",
            instead(function),
            place,
            slug,
        )
        for name, slug, title, function, where, place in (
            (
                "max",
                "max-pool",
                "the maximum for the mean",
                lambda module, x: x.amax((2, 3), keepdim=True),
                "first",
                "backbone.blocks.0.se.pool",
            ),
            (
                "of-half",
                "mean-of-part",
                "the mean over half of the image",
                mean_of_rows,
                "strided",
                "backbone.blocks.{strided}.se.pool",
            ),
        )
    ),
    at(
        "gate-added/mid",
        "Squeeze-excite adds its gate",
        instead(lambda module, x, gate: x + gate),
        "backbone.blocks.{mid}.se.scale",
        "gate-added",
    ),
    at(
        "residual-doubled/early",
        "A block's input is added twice",
        instead(lambda module, x, shortcut: x + 2 * shortcut),
        "backbone.blocks.{residual}.residual",
        "shortcut-twice",
    ),
    at(
        "residual-halved/late",
        "The mean of a block's output and input for their sum",
        instead(lambda module, x, shortcut: (x + shortcut) / 2),
        "backbone.blocks.{residual_late}.residual",
        "averaged",
    ),
    *(
        at(
            f"drop-connect/{where}",
            "A block's branch is scaled as in training with drop-connect",
            before(lambda x: x / 0.8),
            place,
            "weighted",
        )
        for where, place in {
            "late": "backbone.blocks.{residual_late}.residual",
            "backbone": "backbone.*.residual",
        }.items()
    ),
)
"""Activations, gates, means and sums."""


def stores(dtype: torch.dtype) -> Callable[[nn.Module], None]:
    """Makes a layer read and write a shorter type."""

    def change(module: nn.Module) -> None:
        before(rounded(dtype))(module)
        then(rounded(dtype))(module)

    return change


PRECISION = (
    *(
        at(
            f"scaled/{where}",
            "An output larger by a thousandth",
            then(lambda x: x * 1.001),
            place,
            "scaled",
        )
        for where, place in {
            "mid": "backbone.blocks.{mid}.project_conv",
            "batch-norm": "fpn.cells.{last}.nodes.{finest}.bn",
            "fusion": "fpn.cells.0.nodes.{up4}.fuse",
            "box-predict": "box_head.predict.pointwise",
        }.items()
    ),
    *(
        at(
            f"{name}-inside/{where}",
            f"A layer that reads and writes {name}",
            stores(dtype),
            place,
            "reduced-precision",
        )
        for name, dtype, where, place in (
            ("float16", torch.float16, "convolution", "backbone.blocks.{mid}.expand_conv"),
            ("float16", torch.float16, "mean", "backbone.blocks.{early}.se.pool"),
            ("bfloat16", torch.bfloat16, "depthwise", "box_head.predict.depthwise"),
            ("bfloat16", torch.bfloat16, "batch-norm", "fpn.cells.0.nodes.{up5}.bn"),
            ("bfloat16", torch.bfloat16, "activation", "class_head.acts.{repeat}"),
        )
    ),
)
"""Arithmetic that is nearly right."""
