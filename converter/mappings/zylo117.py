"""The keys of zylo117/Yet-Another-EfficientDet-Pytorch: D0 to D7x."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from converter.mappings.keys import Key, Layers, Naming, has_keys_of_release, require_usual
from efficientdet_spec import (
    OFFICIAL_MODELS,
    BlockSpec,
    Cause,
    EfficientDetConfig,
    Fusion,
    InputError,
    NodeSpec,
    base_model,
    iterate_cells,
)

_BACKBONE = "backbone_net.model"
_WEIGHTED_LEVEL = 7
"""Highest level for whose BiFPN nodes the code makes fusion weights, whether they are read or not.
"""


def iterate_keys(config: EfficientDetConfig) -> Iterator[Key]:
    """Every key of the model, in the order of the code base's own state dict.

    Args:
        config: The model.

    Raises:
        InputError: The code base cannot build such a model.
    """
    _require_buildable(config)
    layers = Layers(config)
    for cell, nodes in iterate_cells(config):
        yield from _cell(layers, config, cell, nodes)
    yield from _head(layers, config, "regressor", "box_head")
    yield from _head(layers, config, "classifier", "class_head")
    yield from layers.convolution(f"{_BACKBONE}._conv_stem.conv", "backbone.stem_conv")
    yield from layers.batch_norm(f"{_BACKBONE}._bn0", "backbone.stem_bn")
    for index, block in enumerate(config.backbone.blocks):
        yield from _block(layers, f"{_BACKBONE}._blocks.{index}", f"backbone.blocks.{index}", block)


def _require_buildable(config: EfficientDetConfig) -> None:
    """Refuse what this code base has no class for: levels, fusions and channels are fixed in it.

    Raises:
        InputError: Says what.
    """
    require_usual(config, NAMING)
    highest = (7, 8) if config.fusion is Fusion.SUM else (7,)
    obstacle = ""
    if config.min_level != 3 or config.max_level not in highest:
        obstacle = f"levels {config.min_level} to {config.max_level} and its fusion"
    elif sorted(config.feature_channels()) != [3, 4, 5]:
        obstacle = "another number of levels from the backbone"
    elif config.fpn_channels in config.feature_channels().values():
        obstacle = "a backbone feature that has the BiFPN's channels already"
    if obstacle:
        raise InputError(
            f"{config.name} has {obstacle}, which {NAMING.project} cannot build; give a model "
            f"like D0 to D7x.",
            Cause.MODEL,
        )


def _block(layers: Layers, theirs: str, ours: str, block: BlockSpec) -> Iterator[Key]:
    if block.expansion != 1:
        yield from layers.convolution(f"{theirs}._expand_conv.conv", f"{ours}.expand_conv")
        yield from layers.batch_norm(f"{theirs}._bn0", f"{ours}.expand_bn")
    yield from layers.convolution(f"{theirs}._depthwise_conv.conv", f"{ours}.depthwise_conv")
    yield from layers.batch_norm(f"{theirs}._bn1", f"{ours}.depthwise_bn")
    yield from layers.convolution(f"{theirs}._se_reduce.conv", f"{ours}.se.reduce_conv")
    yield from layers.convolution(f"{theirs}._se_expand.conv", f"{ours}.se.expand_conv")
    yield from layers.convolution(f"{theirs}._project_conv.conv", f"{ours}.project_conv")
    yield from layers.batch_norm(f"{theirs}._bn2", f"{ours}.project_bn")


def _lateral(layers: Layers, theirs: str, ours: str) -> Iterator[Key]:
    yield from layers.convolution(f"{theirs}.0.conv", f"{ours}.conv")
    yield from layers.batch_norm(f"{theirs}.1", f"{ours}.bn")


def _cell(
    layers: Layers, config: EfficientDetConfig, cell: int, nodes: Sequence[NodeSpec]
) -> Iterator[Key]:
    weighted = [node for node in nodes if _has_weights(config, node)]
    for node in weighted:
        weights = f"bifpn.{cell}.p{node.level}_w{2 if _leads_up(config, node) else 1}"
        if config.fusion is not Fusion.SUM:
            yield layers.parameter(weights, f"{_ours(cell, node)}.weights")
        else:
            # Made for every model, read by those with attention only; 1 is what they begin with.
            shape = (2,) if node.level == _WEIGHTED_LEVEL else (len(node.inputs),)
            yield Key(weights, shape, None, np.ones(shape, np.float32))
    for node in (*weighted, *(node for node in nodes if node not in weighted)):
        way = "down" if _leads_up(config, node) else "up"
        theirs = f"bifpn.{cell}.conv{node.level}_{way}"
        yield from _separable(layers, theirs, f"{_ours(cell, node)}.conv")
        yield from layers.batch_norm(f"{theirs}.bn", f"{_ours(cell, node)}.bn")
    yield from _laterals(layers, config, cell, nodes, upwards=False)
    if cell == 0:
        yield from _lateral(layers, "bifpn.0.p5_to_p6", "fpn.resample_p6")
    yield from _laterals(layers, config, cell, nodes, upwards=True)


def _leads_up(config: EfficientDetConfig, node: NodeSpec) -> bool:
    """Whether a node is of the second pass, which leads to higher levels by down-sampling."""
    return node.index >= len(config.levels) - 1


def _has_weights(config: EfficientDetConfig, node: NodeSpec) -> bool:
    """Whether fusion weights are made for a node; convolutions of the others are made last."""
    highest = _WEIGHTED_LEVEL if _leads_up(config, node) else _WEIGHTED_LEVEL - 1
    return node.level <= highest


def _ours(cell: int, node: NodeSpec) -> str:
    return f"fpn.cells.{cell}.nodes.{node.index}"


def _laterals(
    layers: Layers,
    config: EfficientDetConfig,
    cell: int,
    nodes: Sequence[NodeSpec],
    *,
    upwards: bool,
) -> Iterator[Key]:
    """The convolutions before the nodes of one pass, for features of the backbone."""
    for node in nodes:
        for position, item in enumerate(node.inputs):
            if _leads_up(config, node) is upwards and item.input_channels != config.fpn_channels:
                again = "_2" if upwards else ""
                theirs = f"bifpn.{cell}.p{item.source_level}_down_channel{again}"
                yield from _lateral(layers, theirs, f"{_ours(cell, node)}.resamples.{position}")


def _separable(layers: Layers, theirs: str, ours: str) -> Iterator[Key]:
    yield from layers.convolution(f"{theirs}.depthwise_conv.conv", f"{ours}.depthwise")
    yield from layers.convolution(f"{theirs}.pointwise_conv.conv", f"{ours}.pointwise")


def _head(layers: Layers, config: EfficientDetConfig, theirs: str, ours: str) -> Iterator[Key]:
    for repeat in range(config.head_repeats):
        yield from _separable(layers, f"{theirs}.conv_list.{repeat}", f"{ours}.convs.{repeat}")
    for position, level in enumerate(config.levels):
        for repeat in range(config.head_repeats):
            yield from layers.batch_norm(
                f"{theirs}.bn_list.{position}.{repeat}", f"{ours}.bns.{repeat}.P{level}"
            )
    yield from _separable(layers, f"{theirs}.header", f"{ours}.predict")


def _notes(config: EfficientDetConfig) -> tuple[str, ...]:
    """By which call the code base makes the model that takes the keys, and what it does else."""
    pools = (
        f"It is loaded exactly, but {NAMING.project} computes another network: its max-pools pad "
        f"with zeros, and the official ones ignore what is outside.",
    )
    name = base_model(config.name)
    if name not in OFFICIAL_MODELS or not has_keys_of_release(config):
        return pools
    number, classes = OFFICIAL_MODELS.index(name), config.num_classes
    call = f"EfficientDetBackbone(compound_coef={number}, num_classes={classes})"
    return (f"Load it into {call}.", *pools)


NAMING = Naming("zylo117", "zylo117/Yet-Another-EfficientDet-Pytorch", iterate_keys, notes=_notes)
