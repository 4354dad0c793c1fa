"""Every node of a comparison, enumerated from the configuration in the order of computation.

A node is one layer's output. It is called by the path of the module of ``torch_model`` that makes
it; where levels share a module the level follows, as in ``class_head.convs.0.depthwise@P4``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol

from efficientdet_spec.backbones import BlockSpec
from efficientdet_spec.models import EfficientDetConfig, iterate_cells
from efficientdet_spec.operations import Activation, NodeKind

IMAGES = "images"
"""Stands among a node's inputs for the network's own."""


class Part(str, Enum):
    """The parts of the network; the value is what people read."""

    BACKBONE = "backbone"
    BIFPN = "BiFPN"
    CLASS_HEAD = "class head"
    BOX_HEAD = "box head"


@dataclass(frozen=True)
class Node:
    """One node and its place in the network.

    Attributes:
        name: Path of the module that makes it, with ``@P<level>`` where levels share the module.
        kind: What it computes.
        inputs: Names of the nodes that it reads, in the order in which the module takes them;
            :data:`IMAGES` for the network's own input.
        part: The part of the network.
        level: Feature level that it is at; of a block, extra level or BiFPN node the level that
            all its nodes lead to.
        block: Index of the backbone's block; None in the stem and in other parts.
        cell: Index of the BiFPN cell; None in other parts and where an extra level is made.
        index: Index of the BiFPN node within its cell, as in ``cell_nodes``; None elsewhere.
        repeat: Index of the head's repeat; None for the prediction and in other parts.
        activation: Of an activation which one it is; None for other kinds.
        is_output: Whether it is one of the network's outputs.
    """

    name: str
    kind: NodeKind
    inputs: tuple[str, ...]
    part: Part
    level: int
    block: int | None = None
    cell: int | None = None
    index: int | None = None
    repeat: int | None = None
    activation: Activation | None = None
    is_output: bool = False


def iterate_nodes(
    config: EfficientDetConfig, size: tuple[int, int] | None = None
) -> Iterator[Node]:
    """Every node of a model in the order of computation.

    Args:
        config: The model.
        size: Height and width of the images in pixels; the model's own by default. It matters
            only for images so small that levels have one pixel: such levels need no pool and no
            up-sampling between them.

    Raises:
        InputError: The model cannot process this size.
    """
    sizes = config.feature_sizes(*(size or config.image_size))
    features = yield from _backbone(config)
    features = yield from _bifpn(config, features, sizes)
    yield from _head(config, features, "class_head", Part.CLASS_HEAD)
    yield from _head(config, features, "box_head", Part.BOX_HEAD)


class _Make(Protocol):
    """Makes a node of one place in the network."""

    def __call__(
        self,
        name: str,
        kind: NodeKind,
        inputs: tuple[str, ...],
        *,
        activation: Activation | None = None,
    ) -> Node: ...


_Steps = Generator[Node, None, str]
"""Yields nodes, and returns the name of the last tensor."""


def _chain(
    make: _Make, config: EfficientDetConfig, source: str, *steps: tuple[str, NodeKind]
) -> _Steps:
    """Nodes each of which reads the one before it."""
    for name, kind in steps:
        activation = config.activation if kind is NodeKind.ACTIVATION else None
        yield make(name, kind, (source,), activation=activation)
        source = name
    return source


def _backbone(config: EfficientDetConfig) -> Generator[Node, None, dict[int, str]]:
    """The stem and the blocks; returns the name of each level's feature."""
    spec = config.backbone
    x = yield from _chain(
        partial(Node, part=Part.BACKBONE, level=1),
        config,
        IMAGES,
        ("backbone.stem_conv", NodeKind.CONV),
        ("backbone.stem_bn", NodeKind.BATCH_NORM),
        ("backbone.stem_act", NodeKind.ACTIVATION),
    )
    last = spec.feature_blocks()
    features = {}
    for index, block in enumerate(spec.blocks):
        level = next(level for level, end in last.items() if index <= end)
        make = partial(Node, part=Part.BACKBONE, level=level, block=index)
        x = yield from _block(make, config, block, f"backbone.blocks.{index}", x)
        features[level] = x
    return features


def _block(
    make: _Make, config: EfficientDetConfig, block: BlockSpec, path: str, shortcut: str
) -> _Steps:
    x = shortcut
    if block.expansion != 1:
        x = yield from _chain(
            make,
            config,
            x,
            (f"{path}.expand_conv", NodeKind.CONV),
            (f"{path}.expand_bn", NodeKind.BATCH_NORM),
            (f"{path}.expand_act", NodeKind.ACTIVATION),
        )
    x = yield from _chain(
        make,
        config,
        x,
        (f"{path}.depthwise_conv", NodeKind.DEPTHWISE),
        (f"{path}.depthwise_bn", NodeKind.BATCH_NORM),
        (f"{path}.depthwise_act", NodeKind.ACTIVATION),
    )
    if block.has_squeeze_excite:
        gate = yield from _chain(
            make,
            config,
            x,
            (f"{path}.se.pool", NodeKind.MEAN),
            (f"{path}.se.reduce_conv", NodeKind.CONV),
            (f"{path}.se.act", NodeKind.ACTIVATION),
            (f"{path}.se.expand_conv", NodeKind.CONV),
            (f"{path}.se.gate", NodeKind.GATE),
        )
        yield make(f"{path}.se.scale", NodeKind.SCALE, (x, gate))
        x = f"{path}.se.scale"
    x = yield from _chain(
        make,
        config,
        x,
        (f"{path}.project_conv", NodeKind.CONV),
        (f"{path}.project_bn", NodeKind.BATCH_NORM),
    )
    if block.has_residual:
        yield make(f"{path}.residual", NodeKind.ADD, (x, shortcut))
        x = f"{path}.residual"
    return x


def _bifpn(
    config: EfficientDetConfig,
    backbone: Mapping[int, str],
    sizes: Mapping[int, tuple[int, int]],
) -> Generator[Node, None, dict[int, str]]:
    """The extra levels and the cells; returns the name of each level's feature."""
    channels = config.feature_channels()
    features = {level: backbone[level] for level in channels}
    for level in config.extra_levels():
        make = partial(Node, part=Part.BIFPN, level=level)
        convolved = channels.get(level - 1, config.fpn_channels) != config.fpn_channels
        features[level] = yield from _resample(
            make,
            config,
            f"fpn.resample_p{level}",
            features[level - 1],
            convolved=convolved,
            sizes=(sizes[level - 1], sizes[level]),
        )
    for cell, specs in iterate_cells(config):
        made = [features[level] for level in config.levels]
        for spec in specs:
            make = partial(Node, part=Part.BIFPN, level=spec.level, cell=cell, index=spec.index)
            path = f"fpn.cells.{cell}.nodes.{spec.index}"
            inputs = []
            for position, item in enumerate(spec.inputs):
                resampled = yield from _resample(
                    make,
                    config,
                    f"{path}.resamples.{position}",
                    made[item.source],
                    convolved=item.input_channels != config.fpn_channels,
                    sizes=(sizes[item.source_level], sizes[spec.level]),
                )
                inputs.append(resampled)
            yield make(f"{path}.fuse", NodeKind.FUSE, tuple(inputs))
            act = (f"{path}.act", NodeKind.ACTIVATION)
            steps = [*_convolution(config, f"{path}.conv"), (f"{path}.bn", NodeKind.BATCH_NORM)]
            steps = [*steps, act] if config.conv_bn_act else [act, *steps]
            x = yield from _chain(make, config, f"{path}.fuse", *steps)
            made.append(x)
            features[spec.level] = x
    return features


def _resample(
    make: _Make,
    config: EfficientDetConfig,
    path: str,
    source: str,
    *,
    convolved: bool,
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> _Steps:
    """How a feature is brought to other channels and from one size to another."""
    steps = []
    if convolved:
        steps.append((f"{path}.conv", NodeKind.CONV))
        if config.resample_bn:
            steps.append((f"{path}.bn", NodeKind.BATCH_NORM))
    before, after = sizes
    if before[0] > after[0] and before[1] > after[1]:
        pool = (f"{path}.pool", NodeKind.POOL)
        steps = [pool, *steps] if config.conv_after_downsample else [*steps, pool]
    elif before != after:
        steps.append((f"{path}.upsample", NodeKind.UPSAMPLE))
    return (yield from _chain(make, config, source, *steps))


def _convolution(
    config: EfficientDetConfig, path: str, suffix: str = ""
) -> list[tuple[str, NodeKind]]:
    """The nodes of a 3x3 convolution of BiFPN or heads, which may be separable."""
    if not config.separable_conv:
        return [(f"{path}{suffix}", NodeKind.CONV)]
    return [
        (f"{path}.depthwise{suffix}", NodeKind.DEPTHWISE),
        (f"{path}.pointwise{suffix}", NodeKind.CONV),
    ]


def _head(
    config: EfficientDetConfig, features: Mapping[int, str], path: str, part: Part
) -> Iterator[Node]:
    for level in config.levels:
        x = features[level]
        for repeat in range(config.head_repeats):
            make = partial(Node, part=part, level=level, repeat=repeat)
            shortcut = x
            x = yield from _chain(
                make,
                config,
                x,
                *_convolution(config, f"{path}.convs.{repeat}", f"@P{level}"),
                (f"{path}.bns.{repeat}.P{level}", NodeKind.BATCH_NORM),
                (f"{path}.acts.{repeat}@P{level}", NodeKind.ACTIVATION),
            )
            if repeat and config.head_survival_probability is not None:
                residual = f"{path}.residuals.{repeat - 1}@P{level}"
                yield make(residual, NodeKind.ADD, (x, shortcut))
                x = residual
        make = partial(Node, part=part, level=level)
        *before, (name, kind) = _convolution(config, f"{path}.predict", f"@P{level}")
        x = yield from _chain(make, config, x, *before)
        yield Node(name, kind, (x,), part, level, is_output=True)
