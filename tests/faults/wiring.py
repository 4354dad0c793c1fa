"""Faults in what is connected with what."""

from __future__ import annotations

from collections.abc import Callable

from faults.connections import (
    ActivationFirstInHead,
    ActivationFirstInStem,
    BatchNormAfterPool,
    EarlierShortcut,
    FirstNodeOfEachLevel,
    GivenShortcut,
    OwnConvolutionAtHighestLevel,
    OwnShortcut,
    PointwiseFirst,
    PoolFirst,
)
from faults.fault import Context, Fault, Names, any_model, each_counts, fields, named, no_nodes
from torch import nn

from efficientdet_spec import EfficientDetConfig
from torch_model import EfficientDet


def rewired(
    key: str,
    title: str,
    change: Callable[[EfficientDet], None],
    nodes: Names,
    *slugs: str,
    knock_on: Names = no_nodes,
    visible: bool = True,
    applies: Callable[[EfficientDetConfig], bool] = any_model,
) -> Fault:
    """A fault that changes a model's connections."""
    return Fault(
        key=key,
        title=title,
        inject=lambda model, context: change(model),
        nodes=nodes,
        slugs=frozenset(slugs),
        visible=visible,
        knock_on=knock_on,
        applies=applies,
    )


def as_class(name: str, kind: type[nn.Module]) -> Callable[[EfficientDet], None]:
    """Makes a module forward as a class of the same parts does; a name as in a place."""

    def change(model: EfficientDet) -> None:
        model.get_submodule(name.format(**fields(model.config))).__class__ = kind

    return change


def features_of_block_before(model: EfficientDet) -> None:
    """Take P4 from the block before the last one of its level."""
    levels = model.backbone.level_of_block
    block = next(index for index, level in levels.items() if level == 4)
    model.backbone.level_of_block = {
        index - (index == block): level for index, level in levels.items()
    }


def has_same_block_before_p4(config: EfficientDetConfig) -> bool:
    """Whether the last two blocks of P4 give outputs of one shape."""
    block = config.backbone.feature_blocks()[4]
    return config.backbone.blocks[block].has_residual


def without_residual(where: str) -> Callable[[EfficientDet], None]:
    """Leave a block's input out of its output."""

    def change(model: EfficientDet) -> None:
        block = model.backbone.blocks[fields(model.config)[where]]
        block.has_residual = False
        del block.residual

    return change


def readers_of_level(model: EfficientDet, level: int) -> set[str]:
    """The convolutions that read one of the backbone's features."""
    config = model.config
    found = {
        f"fpn.cells.0.nodes.{node.index}.resamples.{position}.conv"
        for node in config.cell_nodes(0)
        for position, item in enumerate(node.inputs)
        if item.source == level - config.min_level
    }
    if level + 1 in config.extra_levels():
        found.add(f"fpn.resample_p{level + 1}.conv")
    return found


def readers_of_block(where: str) -> Names:
    """The nodes that read a block's output."""

    def nodes(model: EfficientDet, context: Context) -> frozenset[str]:
        block = fields(context.config)[where]
        found = set()
        if block + 1 < len(model.backbone.blocks):
            found.add(f"backbone.blocks.{block + 1}.expand_conv")
            if model.backbone.blocks[block + 1].has_residual:
                found.add(f"backbone.blocks.{block + 1}.residual")
        level = model.backbone.level_of_block.get(block)
        return frozenset(found | (readers_of_level(model, level) if level else set()))

    return nodes


def readers_of_cell(cell: int) -> Names:
    """The fusions and convolutions that read a cell's outputs at levels with two nodes."""

    def nodes(model: EfficientDet, context: Context) -> frozenset[str]:
        number = cell % context.config.fpn_cells
        if number == context.config.fpn_cells - 1:
            return frozenset({"class_head.convs.0.depthwise", "box_head.convs.0.depthwise"})
        inner = range(1, len(context.config.levels) - 1)
        return frozenset(
            f"fpn.cells.{number + 1}.nodes.{node.index}.fuse"
            for node in context.config.cell_nodes(number + 1)
            if any(item.source in inner for item in node.inputs)
        )

    return nodes


def cell_class(cell: int) -> Callable[[EfficientDet], None]:
    """Makes a cell return each level's first node."""

    def change(model: EfficientDet) -> None:
        model.fpn.cells[cell].__class__ = FirstNodeOfEachLevel

    return change


def earlier_shortcut(model: EfficientDet) -> None:
    """Give the last residual block the shortcut of the one before."""
    model.backbone.__class__ = EarlierShortcut
    model.backbone.blocks[fields(model.config)["residual_late"]].__class__ = GivenShortcut


def has_residual_blocks_in_a_row(config: EfficientDetConfig) -> bool:
    """Whether the last residual block follows another one."""
    return config.backbone.blocks[fields(config)["residual_late"] - 1].has_residual


def without_squeeze_excite(model: EfficientDet) -> None:
    """Leave out a block's squeeze-excite."""
    model.backbone.blocks[fields(model.config)["mid"]].se = nn.Identity()


def one_repeat_fewer(model: EfficientDet) -> None:
    """Leave out the class head's last repeat."""
    head = model.class_head
    head.convs, head.bns, head.acts = head.convs[:-1], head.bns[:-1], head.acts[:-1]


def one_cell_fewer(model: EfficientDet) -> None:
    """Leave out the last BiFPN cell."""
    model.fpn.cells = model.fpn.cells[:-1]


def reuse_resample(model: EfficientDet) -> None:
    """Use one module for both of P4's ways into the first cell."""
    words = fields(model.config)
    nodes = model.fpn.cells[0].nodes
    nodes[words["up4"]].resamples[0] = nodes[words["down4"]].resamples[0]


def share_norm(model: EfficientDet) -> None:
    """Use one batch norm for two neighbouring levels."""
    bns = model.class_head.bns[0]
    bns["P5"] = bns["P4"]


def joins_three(model: EfficientDet, context: Context) -> frozenset[str]:
    """The last fusion of three inputs that all count."""
    found = [
        f"fpn.cells.{cell}.nodes.{index}.fuse"
        for cell, nodes in enumerate(model.fpn.cells)
        for index, node in enumerate(nodes.nodes)
        if len(node.sources) == 3 and (node.weights is None or each_counts(node.weights))
    ]
    return frozenset(found[-1:])


def lose_middle_feature(model: EfficientDet, context: Context) -> None:
    """Give a node on the way up the cell's input twice, and not what the way down made of it."""
    for name in joins_three(model, context):
        node = model.get_submodule(name.removesuffix(".fuse"))
        node.sources = (node.sources[0], node.sources[0], node.sources[2])


READERS_OF_P6 = named(
    "fpn.resample_p7.pool", "fpn.cells.0.nodes.{down6}.fuse", "fpn.cells.0.nodes.{up6}.fuse"
)

ORDER = (
    rewired(
        "batch-norm-after-pool/p6",
        "Batch norm behind the pool: the same output as long as no scale is negative",
        as_class("fpn.resample_p6", BatchNormAfterPool),
        named("fpn.resample_p6.bn", "fpn.resample_p6.pool"),
        "input-from-other-node",
        knock_on=READERS_OF_P6,
        visible=False,
    ),
    rewired(
        "pool-before-convolution/p6",
        "Pool before the down-channelling convolution",
        as_class("fpn.resample_p6", PoolFirst),
        named("fpn.resample_p6.*"),
        "input-from-other-node",
        knock_on=READERS_OF_P6,
    ),
    rewired(
        "pointwise-first/fpn",
        "A separable convolution that begins with its pointwise part",
        as_class("fpn.cells.{last}.nodes.{up4}.conv", PointwiseFirst),
        named("fpn.cells.{last}.nodes.{up4}.conv.*"),
        "input-from-other-node",
        knock_on=named("fpn.cells.{last}.nodes.{up4}.bn"),
    ),
    rewired(
        "activation-first/stem",
        "Activation before batch norm",
        as_class("backbone", ActivationFirstInStem),
        named("backbone.stem_bn", "backbone.stem_act"),
        "input-from-other-node",
        knock_on=named("backbone.blocks.0.*"),
    ),
    rewired(
        "activation-first/box-head",
        "Activation before batch norm in every repeat",
        as_class("box_head", ActivationFirstInHead),
        named("box_head.bns.*", "box_head.acts.*"),
        "input-from-other-node",
        knock_on=named("box_head.convs.*", "box_head.predict.*"),
    ),
)
"""The right layers one after another in a wrong order."""

SOURCES = (
    rewired(
        "features-of-other-block/p4",
        "P4 from the block before the last of its level",
        features_of_block_before,
        lambda model, context: frozenset(readers_of_level(model, 4)),
        "input-from-other-node",
        applies=has_same_block_before_p4,
    ),
    *(
        rewired(
            f"first-node-of-level/{where}",
            "A BiFPN cell returns each level's first node rather than its last",
            cell_class(cell),
            readers_of_cell(cell),
            "input-from-other-node",
        )
        for where, cell in {"first-cell": 0, "last-cell": -1}.items()
    ),
    Fault(
        "middle-feature-lost/last",
        "A node on the way up gets the cell's input twice",
        lose_middle_feature,
        joins_three,
        frozenset({"input-from-other-node"}),
    ),
    rewired(
        "shortcut-of-earlier-block/late",
        "A block adds the input of the block before",
        earlier_shortcut,
        named("backbone.blocks.{residual_late}.residual"),
        "input-from-other-node",
        applies=has_residual_blocks_in_a_row,
    ),
    rewired(
        "shortcut-of-branch/early",
        "A block adds its own branch twice and its input never",
        as_class("backbone.blocks.{residual}", OwnShortcut),
        named("backbone.blocks.{residual}.residual"),
        "input-from-other-node",
    ),
)
"""A layer that reads another's output."""

SHARING = (
    rewired(
        "down-channelled-once/p4-module",
        "One module for both of P4's ways into the first cell",
        reuse_resample,
        named("fpn.cells.0.nodes.{up4}.resamples.0.conv", "fpn.cells.0.nodes.{up4}.resamples.0.bn"),
        "parameters-of-other-node",
        "kernel-of-other-node",
        "left-out",
        knock_on=named(
            "fpn.cells.0.nodes.{down4}.resamples.0.conv",
            "fpn.cells.0.nodes.{down4}.resamples.0.bn",
            "fpn.cells.0.nodes.{up4}.fuse",
        ),
    ),
    rewired(
        "batch-norm-shared/module",
        "One batch-norm module for two levels of the class head",
        share_norm,
        named("class_head.bns.0.P5"),
        "parameters-of-other-node",
        "kernel-of-other-node",
        "left-out",
        knock_on=named("class_head.bns.0.P4", "class_head.acts.0"),
    ),
    rewired(
        "head-conv-not-shared/class-head",
        "The highest level has a convolution of its own",
        as_class("class_head", OwnConvolutionAtHighestLevel),
        named("class_head.convs.{repeat}.*"),
        "parameters-of-other-node",
        "kernel-of-other-node",
    ),
)
"""One layer where there should be several, and the reverse."""

MISSING = (
    *(
        rewired(
            f"residual-missing/{where}",
            "A block's input is not added",
            without_residual(block),
            named(f"backbone.blocks.{{{block}}}.residual"),
            "left-out",
            knock_on=readers_of_block(block),
        )
        for where, block in {"early": "residual", "late": "residual_late"}.items()
    ),
    rewired(
        "squeeze-excite-missing/mid",
        "A block without squeeze-excite",
        without_squeeze_excite,
        named("backbone.blocks.{mid}.se.*"),
        "left-out",
        knock_on=named("backbone.blocks.{mid}.project_conv"),
    ),
    rewired(
        "head-repeat-missing/class-head",
        "The class head has one repeat fewer",
        one_repeat_fewer,
        named(
            "class_head.convs.{repeat}.*", "class_head.bns.{repeat}.*", "class_head.acts.{repeat}"
        ),
        "left-out",
        knock_on=named("class_head.predict.depthwise"),
    ),
    rewired(
        "fpn-cell-missing/last",
        "The BiFPN has one cell fewer",
        one_cell_fewer,
        named("fpn.cells.{last}.*"),
        "left-out",
        knock_on=named("class_head.convs.0.depthwise", "box_head.convs.0.depthwise"),
    ),
)
"""Whole parts that are not there."""
