"""The keys of ``effdet``, rwightman/efficientdet-pytorch: ``tf_efficientdet_d0`` to ``d7x``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace

from converter.mappings.keys import Key, Layers, Naming, has_keys_of_release, require_usual
from efficientdet_spec import TINY, BlockSpec, EfficientDetConfig, base_model, iterate_cells


def iterate_keys(config: EfficientDetConfig) -> Iterator[Key]:
    """Every key of the model, in the order of the code base's own state dict.

    Args:
        config: The model.

    Raises:
        InputError: This code base's keys are not known for the model.
    """
    require_usual(config, NAMING, also=("activation",))
    layers = Layers(config)
    yield from layers.convolution("backbone.conv_stem", "backbone.stem_conv")
    yield from layers.batch_norm("backbone.bn1", "backbone.stem_bn")
    index = 0
    for stage, length in enumerate(config.backbone.stage_lengths):
        for repeat in range(length):
            block = config.backbone.blocks[index]
            yield from _block(
                layers, f"backbone.blocks.{stage}.{repeat}", f"backbone.blocks.{index}", block
            )
            index += 1
    yield from _fpn(layers, config)
    yield from _head(layers, config, "class_net", "class_head")
    yield from _head(layers, config, "box_net", "box_head")


def _block(layers: Layers, theirs: str, ours: str, block: BlockSpec) -> Iterator[Key]:
    # Batch norms are numbered; without an expansion the projection has the expansion's name.
    if block.expansion == 1:
        depthwise_bn, project, project_bn = "bn1", "conv_pw", "bn2"
    else:
        yield from layers.convolution(f"{theirs}.conv_pw", f"{ours}.expand_conv")
        yield from layers.batch_norm(f"{theirs}.bn1", f"{ours}.expand_bn")
        depthwise_bn, project, project_bn = "bn2", "conv_pwl", "bn3"
    yield from layers.convolution(f"{theirs}.conv_dw", f"{ours}.depthwise_conv")
    yield from layers.batch_norm(f"{theirs}.{depthwise_bn}", f"{ours}.depthwise_bn")
    if block.has_squeeze_excite:
        yield from layers.convolution(f"{theirs}.se.conv_reduce", f"{ours}.se.reduce_conv")
        yield from layers.convolution(f"{theirs}.se.conv_expand", f"{ours}.se.expand_conv")
    yield from layers.convolution(f"{theirs}.{project}", f"{ours}.project_conv")
    yield from layers.batch_norm(f"{theirs}.{project_bn}", f"{ours}.project_bn")


def _fpn(layers: Layers, config: EfficientDetConfig) -> Iterator[Key]:
    provided = config.feature_channels()
    for level in config.extra_levels():
        if provided.get(level - 1, config.fpn_channels) != config.fpn_channels:
            position = config.levels.index(level)
            yield from _resample(layers, f"fpn.resample.{position}", f"fpn.resample_p{level}")
    for cell, nodes in iterate_cells(config):
        for node in nodes:
            theirs = f"fpn.cell.{cell}.fnode.{node.index}"
            ours = f"fpn.cells.{cell}.nodes.{node.index}"
            if config.fusion.is_weighted:
                yield layers.parameter(f"{theirs}.combine.edge_weights", f"{ours}.weights")
            for position, item in enumerate(node.inputs):
                if item.input_channels != config.fpn_channels:
                    # Theirs are called by the feature that is resampled, ours by their order.
                    yield from _resample(
                        layers,
                        f"{theirs}.combine.resample.{item.source}",
                        f"{ours}.resamples.{position}",
                    )
            yield from _separable(layers, f"{theirs}.after_combine.conv", f"{ours}.conv")
            yield from layers.batch_norm(f"{theirs}.after_combine.conv.bn", f"{ours}.bn")


def _resample(layers: Layers, theirs: str, ours: str) -> Iterator[Key]:
    yield from layers.convolution(f"{theirs}.conv.conv", f"{ours}.conv")
    yield from layers.batch_norm(f"{theirs}.conv.bn", f"{ours}.bn")


def _separable(layers: Layers, theirs: str, ours: str) -> Iterator[Key]:
    yield from layers.convolution(f"{theirs}.conv_dw", f"{ours}.depthwise")
    yield from layers.convolution(f"{theirs}.conv_pw", f"{ours}.pointwise")


def _level_first_keys(config: EfficientDetConfig) -> Iterator[Key]:
    """The keys after ``toggle_head_bn_level_first``: the heads' batch norms by level, then repeat.

    They have no part ``bn`` then, so that the two never have a key in common.
    """
    for key in iterate_keys(config):
        match = _HEAD_NORM.fullmatch(key.name)
        if match:
            net, repeat, level, part = match.groups()
            key = replace(key, name=f"{net}.bn_rep.{level}.{repeat}.{part}")
        yield key


_HEAD_NORM = re.compile(r"(class_net|box_net)\.bn_rep\.(\d+)\.(\d+)\.bn\.(\w+)")


def _head(layers: Layers, config: EfficientDetConfig, theirs: str, ours: str) -> Iterator[Key]:
    for repeat in range(config.head_repeats):
        yield from _separable(layers, f"{theirs}.conv_rep.{repeat}", f"{ours}.convs.{repeat}")
    for repeat in range(config.head_repeats):
        for position, level in enumerate(config.levels):
            yield from layers.batch_norm(
                f"{theirs}.bn_rep.{repeat}.{position}.bn", f"{ours}.bns.{repeat}.P{level}"
            )
    yield from _separable(layers, f"{theirs}.predict", f"{ours}.predict")


def _notes(config: EfficientDetConfig) -> tuple[str, ...]:
    """By which call the code base makes the model that takes the keys."""
    if config.name == TINY.name or not has_keys_of_release(config):
        return ()
    variant = "_ap" if config.name.endswith("-advprop") else ""
    name = f"tf_{base_model(config.name).replace('-', '_')}{variant}"
    return (f"Load it into effdet.create_model({name!r}, num_classes={config.num_classes}).",)


def _own_model(keys: Collection[str]) -> str:
    """What models of its own this code base has whose keys are alike, and these are of one."""
    biases = ("conv_pw.bias", "conv.conv.bias")
    inner = (key for key in keys if not key.startswith(("backbone.",)) and ".predict." not in key)
    if any(key.endswith(biases) for key in inner):
        return ""
    return (
        f"a model of {_PROJECT} without biases before batch norms (redundant_bias=False), as "
        f"efficientdet_d0 to d3 and efficientdet_lite0 there, which also pad otherwise than the "
        f"official networks; give one of its tf_efficientdet models"
    )


_PROJECT = "rwightman/efficientdet-pytorch"

NAMING = Naming(
    "effdet",
    _PROJECT,
    iterate_keys,
    notes=_notes,
    variants=(Naming("effdet", _PROJECT, _level_first_keys, obstacle=_own_model),),
    obstacle=_own_model,
)
