"""Two faults in one layer, and faults in two layers that follow each other."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch.nn.functional as F
from faults.fault import Fault, at, instead, then
from faults.modules import padded, set_epsilon
from faults.weights import set_weight, transposed
from torch import Tensor, nn

Change = Callable[[nn.Module], None]


def pairs(first: Iterable[str], second: Iterable[str]) -> list[str]:
    """The names of two faults together, in either order."""
    second = list(second)
    return [name for a in first for b in second for name in (f"{a}+{b}", f"{b}+{a}")]


def in_turn(*changes: Change) -> Change:
    """Changes a layer several times."""

    def change(module: nn.Module) -> None:
        for item in changes:
            item(module)

    return change


def without_bias(conv: nn.Module, x: Tensor) -> Tensor:
    """SAME padding of stride 1, and no bias."""
    pads = tuple(size // 2 for size in conv.kernel_size)
    return F.conv2d(x, conv.weight, None, 1, pads, 1, conv.groups)


def without_beta(bn: nn.Module, x: Tensor) -> Tensor:
    """Another epsilon, and no offset."""
    return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, None, eps=1e-5)


def reversed_channels(x: Tensor) -> Tensor:
    """Channels from the last to the first."""
    return x.flip(1)


def mirrored(conv: nn.Module, x: Tensor) -> Tensor:
    """Mirrors the image at its border."""
    return padded(conv, x, mode="reflect")


def pool_of_zeros(pool: nn.Module, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Pads with zeros before the window, as a plain layer does."""
    return F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2)


MIRRORED = "padding-reflect"
ORDERS = ("channels-reversed", "kernel-reversed")
"""Of a convolution without a bias the two are one."""

IN_ONE = (
    *(
        at(
            f"two/padding-and-kernel/{where}",
            "Mirrored border, and the kernel transposed",
            in_turn(set_weight(transposed), instead(mirrored)),
            place,
            *pairs([MIRRORED], ["kernel-transposed"]),
        )
        for where, place in {
            "early": "backbone.blocks.{early}.depthwise_conv",
            "neck": "fpn.cells.{last}.nodes.{up4}.conv.depthwise",
            "head": "class_head.convs.0.depthwise",
        }.items()
    ),
    *(
        at(
            f"two/padding-and-order/{where}",
            "Mirrored border, and the channels in reverse order",
            in_turn(instead(mirrored), then(reversed_channels)),
            place,
            *pairs([MIRRORED], ORDERS),
        )
        for where, place in {
            "early": "backbone.blocks.{early}.depthwise_conv",
            "neck": "fpn.cells.{last}.nodes.{up4}.conv.depthwise",
            "head": "box_head.convs.0.depthwise",
        }.items()
    ),
    *(
        at(
            f"two/epsilon-and-beta/{where}",
            "Batch norm's epsilon is 1e-05, and its beta is missing",
            instead(without_beta),
            place,
            *pairs(["epsilon"], ["beta-missing"]),
            # Where variances are large an epsilon forgotten in folding is the same.
            "fold-error",
        )
        for where, place in {
            "early": "backbone.blocks.{early}.depthwise_bn",
            "neck": "fpn.cells.{last}.nodes.{up4}.bn",
            "head": "class_head.bns.0.P{low}",
        }.items()
    ),
    *(
        at(
            f"two/relu6-and-order/{where}",
            "ReLU6 for swish, and the channels in reverse order",
            in_turn(instead(lambda module, x: F.relu6(x)), then(reversed_channels)),
            place,
            *pairs(["relu6", "relu"], ORDERS),
        )
        for where, place in {
            "early": "backbone.blocks.{early}.expand_act",
            "neck": "fpn.cells.{last}.nodes.{up4}.act",
            "head": "class_head.acts.0",
        }.items()
    ),
    *(
        at(
            f"two/bias-and-order/{where}",
            "No bias, and the channels in reverse order",
            in_turn(instead(without_bias), then(reversed_channels)),
            place,
            *pairs(["bias-missing"], ORDERS),
        )
        for where, place in {
            "early": "backbone.blocks.{early}.se.expand_conv",
            "head": "class_head.predict.pointwise",
        }.items()
    ),
    at(
        "two/pool-and-order/neck",
        "Max-pool padded by zeros, and the channels in reverse order",
        in_turn(instead(pool_of_zeros), then(reversed_channels)),
        "fpn.cells.0.nodes.{up4}.resamples.2.pool",
        *pairs(["pool-zero-padding"], ORDERS),
    ),
)
"""Two faults in one layer."""


def _two(first: Fault, second: Fault, key: str, title: str) -> Fault:
    """Both of two faults."""

    def inject(model, context):
        first.inject(model, context)
        second.inject(model, context)

    return replace(
        first,
        key=key,
        title=title,
        inject=inject,
        nodes=lambda model, context: first.nodes(model, context) | second.nodes(model, context),
        slugs=first.slugs | second.slugs,
        each=(first.slugs, second.slugs),
    )


IN_NEIGHBOURS = tuple(
    _two(
        at("", "", set_weight(transposed), conv, "kernel-transposed"),
        at("", "", set_epsilon(1e-5), bn, "epsilon"),
        f"neighbours/kernel-and-epsilon/{where}",
        "A kernel transposed, and epsilon 1e-05 in the batch norm behind it",
    )
    for where, conv, bn in (
        ("early", "backbone.blocks.{early}.depthwise_conv", "backbone.blocks.{early}.depthwise_bn"),
        (
            "late",
            "backbone.blocks.{late}.depthwise_conv",
            "backbone.blocks.{late}.depthwise_bn",
        ),
    )
) + tuple(
    _two(
        at("", "", set_weight(transposed), f"{path}.depthwise", "kernel-transposed"),
        at("", "", then(reversed_channels), f"{path}.pointwise", *ORDERS),
        f"neighbours/kernel-and-order/{where}",
        "A kernel transposed, and the channels of the pointwise convolution behind it reversed",
    )
    for where, path in (
        ("neck", "fpn.cells.{last}.nodes.{up4}.conv"),
        ("head", "class_head.convs.0"),
    )
)
"""Faults in two layers that follow each other; both are to be named."""
