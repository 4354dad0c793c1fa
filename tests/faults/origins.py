"""Faults in where parameters were taken from."""

from collections.abc import Callable

import torch
from faults.fault import (
    Context,
    Fault,
    any_model,
    at,
    each_counts,
    fields,
    fusions,
    named,
    places,
)
from faults.weights import fusion_weights, replaced, swap
from torch import Tensor, nn

from torch_model import EfficientDet


def swap_gamma_and_variance(bn: nn.Module) -> None:
    """Exchange a batch norm's scale and its variance."""
    swap(bn.weight, bn.running_var)


def swap_mean_and_beta(bn: nn.Module) -> None:
    """Exchange a batch norm's mean and its offset."""
    swap(bn.running_mean, bn.bias)


def draw_anew(conv: nn.Module) -> None:
    """Initialise a convolution as if nothing had been loaded into it."""
    generator = torch.Generator().manual_seed(0)
    conv.weight.data.copy_(0.1 * torch.randn(conv.weight.shape, generator=generator))


def initialise(bn: nn.Module) -> None:
    """Leave a batch norm as it was made."""
    bn.reset_parameters()


def copied(
    key: str, title: str, *pairs: tuple[str, str], applies: Callable[..., bool] = any_model
) -> Fault:
    """A fault that gives layers the values of others; each pair is (layer, other layer)."""

    def inject(model: EfficientDet, context: Context) -> None:
        sources = [model.get_submodule(places(model, [source])[0]) for _, source in pairs]
        # All are read before any is written, so that two may exchange their values.
        values = [
            {name: value.clone() for name, value in source.state_dict().items()}
            for source in sources
        ]
        for (target, _), value in zip(pairs, values, strict=True):
            model.get_submodule(places(model, [target])[0]).load_state_dict(value)

    nodes = named(*(target for target, _ in pairs))
    slugs = frozenset({"parameters-of-other-node", "kernel-of-other-node"})
    return Fault(key, title, inject, nodes, slugs, applies=applies)


def one_norm_for_all_levels(head: str) -> Fault:
    """A fault that gives each level's batch norm the values of the lowest level's."""
    template = f"{head}.bns.0.P{{low}}"

    def others(model: EfficientDet, context: Context) -> frozenset[str]:
        return frozenset(places(model, [f"{head}.bns.0.P?"])) - set(places(model, [template]))

    def inject(model: EfficientDet, context: Context) -> None:
        values = model.get_submodule(places(model, [template])[0]).state_dict()
        for name in others(model, context):
            model.get_submodule(name).load_state_dict(values)

    return Fault(
        f"batch-norm-shared/{head}",
        "One batch norm's values at all levels of a head",
        inject,
        others,
        frozenset({"parameters-of-other-node", "kernel-of-other-node"}),
    )


def levels_reversed() -> Fault:
    """A fault that takes the levels' batch norms from the coarsest level on."""

    def nodes(model: EfficientDet, context: Context) -> frozenset[str]:
        levels = context.config.levels
        pairs = zip(levels, reversed(levels), strict=True)
        # An odd number of levels has one in the middle that stays.
        return frozenset(f"class_head.bns.0.P{level}" for level, other in pairs if level != other)

    def inject(model: EfficientDet, context: Context) -> None:
        norms = dict(model.class_head.bns[0].items())
        values = {
            name: {key: value.clone() for key, value in norm.state_dict().items()}
            for name, norm in norms.items()
        }
        for target, source in zip(norms, reversed(norms), strict=True):
            norms[target].load_state_dict(values[source])

    return Fault(
        "batch-norm-levels-reversed/class-head",
        "A head's batch norms are in the order of the levels from the coarsest on",
        inject,
        nodes,
        frozenset({"parameters-of-other-node", "kernel-of-other-node"}),
    )


def raw(*endings: str) -> Callable[[EfficientDet, Context], dict[str, Tensor]]:
    """The raw values of the parameters whose names, with the model's words, end so."""

    def values(model: EfficientDet, context: Context) -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(array.copy())
            for name, array in context.raw.items()
            if name.endswith(tuple(ending.format(**fields(model.config)) for ending in endings))
        }

    return values


ORIGIN = (
    *(
        at(
            f"gamma-variance-swapped/{where}",
            "Batch norm's scale and variance exchanged",
            swap_gamma_and_variance,
            place,
            "parameters-exchanged",
        )
        for where, place in {
            "stem": "backbone.stem_bn",
            "late": "backbone.blocks.{late}.depthwise_bn",
            "fpn": "fpn.cells.{last}.nodes.{up4}.bn",
        }.items()
    ),
    *(
        at(
            f"mean-beta-swapped/{where}",
            "Batch norm's mean and offset exchanged",
            swap_mean_and_beta,
            place,
            "parameters-exchanged",
        )
        for where, place in {
            "early": "backbone.blocks.{early}.project_bn",
            "resample": "fpn.cells.0.nodes.{up4}.resamples.0.bn",
            "box-head": "box_head.bns.{repeat}.P{high}",
        }.items()
    ),
    copied(
        "batch-norm-of-other-level/class-head",
        "One level of the class head has its neighbour's batch norm",
        ("class_head.bns.{repeat}.P5", "class_head.bns.{repeat}.P4"),
    ),
    copied(
        "batch-norm-of-other-level/box-head",
        "The lowest level of the box head has the highest level's batch norm",
        ("box_head.bns.0.P{low}", "box_head.bns.0.P{high}"),
    ),
    levels_reversed(),
    one_norm_for_all_levels("class_head"),
    one_norm_for_all_levels("box_head"),
    copied(
        "batch-norms-swapped/mid",
        "Two batch norms of a block have each other's values",
        ("backbone.blocks.{mid}.expand_bn", "backbone.blocks.{mid}.depthwise_bn"),
        ("backbone.blocks.{mid}.depthwise_bn", "backbone.blocks.{mid}.expand_bn"),
    ),
    copied(
        "head-conv-of-other-repeat/class-head",
        "The class head's last convolution has the first one's parameters",
        ("class_head.convs.{repeat}.depthwise", "class_head.convs.0.depthwise"),
        ("class_head.convs.{repeat}.pointwise", "class_head.convs.0.pointwise"),
    ),
    copied(
        "head-conv-of-other-head/box-head",
        "The box head's first convolution has the class head's parameters",
        ("box_head.convs.0.depthwise", "class_head.convs.0.depthwise"),
        ("box_head.convs.0.pointwise", "class_head.convs.0.pointwise"),
    ),
    copied(
        "fpn-node-of-other-cell/last",
        "A node of the last BiFPN cell has the first cell's convolution",
        ("fpn.cells.{last}.nodes.{up4}.conv.depthwise", "fpn.cells.0.nodes.{up4}.conv.depthwise"),
        ("fpn.cells.{last}.nodes.{up4}.conv.pointwise", "fpn.cells.0.nodes.{up4}.conv.pointwise"),
    ),
    copied(
        "down-channelled-once/p4-values",
        "P4's second way into the first cell has the first one's parameters",
        ("fpn.cells.0.nodes.{up4}.resamples.0.conv", "fpn.cells.0.nodes.{down4}.resamples.0.conv"),
        ("fpn.cells.0.nodes.{up4}.resamples.0.bn", "fpn.cells.0.nodes.{down4}.resamples.0.bn"),
    ),
    copied(
        "down-channelled-once/p5-values",
        "P5's first way into the first cell has the second one's parameters",
        ("fpn.cells.0.nodes.{down5}.resamples.0.conv", "fpn.cells.0.nodes.{up5}.resamples.0.conv"),
        ("fpn.cells.0.nodes.{down5}.resamples.0.bn", "fpn.cells.0.nodes.{up5}.resamples.0.bn"),
    ),
    replaced(
        "raw/one-kernel",
        "One kernel is the raw value rather than the moving average",
        raw("backbone.blocks.{mid}.expand_conv.weight"),
        "parameters-raw",
    ),
    replaced(
        "raw/one-batch-norm",
        "One batch norm has raw values",
        raw(*(f"class_head.bns.0.P{{low}}.{name}" for name in ("weight", "bias"))),
        "parameters-raw",
    ),
    replaced(
        "raw/statistics",
        "Every batch norm has raw statistics",
        raw(".running_mean", ".running_var"),
        "parameters-raw",
    ),
    replaced(
        "raw/all", "All values are raw rather than moving averages", raw(""), "parameters-raw"
    ),
    at(
        "not-loaded/batch-norm",
        "A batch norm keeps its initial values",
        initialise,
        "backbone.blocks.{mid}.depthwise_bn",
        "parameters-ones",
    ),
    at(
        "not-loaded/kernel",
        "A kernel keeps its initial values",
        draw_anew,
        "fpn.cells.{last}.nodes.{up5}.conv.pointwise",
        "parameters-different",
    ),
    fusion_weights(
        "not-loaded/fusion-weights",
        "A fusion keeps its initial weights of one",
        torch.ones_like,
        fusions(each_counts, 0),
        "fast-attention-of-ones",
    ),
)
"""Right parameters from another place."""
