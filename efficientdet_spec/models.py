"""What the EfficientDet models are: configurations, backbone blocks and BiFPN wiring.

Sources: EfficientDet (Tan, Pang, Le; CVPR 2020, arXiv 1911.09070), EfficientNet (Tan, Le;
ICML 2019, arXiv 1905.11946) and the official code, google/automl ``efficientdet/``
(``hparams_config.py``, ``backbone/efficientnet_builder.py``, ``tf2/fpn_configs.py``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

from efficientdet_spec.errors import Cause, InputError, did_you_mean, plain_name
from efficientdet_spec.operations import Activation, Fusion

SQUEEZE_RATIO = 0.25
"""Width of a squeeze-excite bottleneck relative to its block's *input* channels."""

MAX_SIDE = 8192
"""Longest side of an input in pixels; far above any model's native size."""

DEFAULT_NUM_CLASSES = 90
"""COCO's category ids are used directly: class index + 1 = category id, gaps included."""


@dataclass(frozen=True)
class BlockSpec:
    """One mobile inverted bottleneck (MBConv) block of the backbone.

    Attributes:
        input_channels: Channels of the block's input.
        output_channels: Channels of the block's output.
        kernel: Height and width of the depthwise kernel, in pixels.
        stride: Stride of the depthwise convolution.
        expansion: Ratio of the expanded to the input channels; 1 means no expansion convolution.
    """

    input_channels: int
    output_channels: int
    kernel: int
    stride: int
    expansion: int

    @property
    def expanded_channels(self) -> int:
        """Channels of the depthwise convolution."""
        return self.input_channels * self.expansion

    @property
    def squeeze_channels(self) -> int:
        """Channels of the squeeze-excite bottleneck."""
        return max(1, int(self.input_channels * SQUEEZE_RATIO))

    @property
    def has_residual(self) -> bool:
        """Whether the block's input is added to its output."""
        return self.stride == 1 and self.input_channels == self.output_channels


@dataclass(frozen=True)
class _Stage:
    """A row of the EfficientNet paper's table 1, before scaling."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_EFFICIENTNET_STAGES = (
    _Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    _Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),
    _Stage(repeats=2, kernel=5, stride=2, expansion=6, channels=40),
    _Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=80),
    _Stage(repeats=3, kernel=5, stride=1, expansion=6, channels=112),
    _Stage(repeats=4, kernel=5, stride=2, expansion=6, channels=192),
    _Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),
)

_TINY_STAGES = (
    _Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=8),
    _Stage(repeats=2, kernel=3, stride=2, expansion=2, channels=8),
    _Stage(repeats=1, kernel=5, stride=2, expansion=2, channels=16),
    _Stage(repeats=2, kernel=3, stride=2, expansion=2, channels=24),
    _Stage(repeats=1, kernel=5, stride=2, expansion=2, channels=32),
)


@dataclass(frozen=True)
class BackboneSpec:
    """An EfficientNet without its classification head.

    Attributes:
        name: Official name, the first part of its variables' names.
        stem_channels: Channels of the stem convolution (3x3, stride 2).
        blocks: The MBConv blocks in order.
        stage_lengths: Number of blocks in each stage: a row of the EfficientNet paper's table 1.
        survival_probability: Probability that the last block's residual branch is kept in
            training (drop-connect); earlier blocks interpolate to 1. None: never dropped.
    """

    name: str
    stem_channels: int
    blocks: tuple[BlockSpec, ...]
    stage_lengths: tuple[int, ...]
    survival_probability: float | None = None

    def feature_blocks(self) -> Mapping[int, int]:
        """Index of the last block at each level; the level is log2 of the reduction."""
        last: dict[int, int] = {}
        level = 1
        for index, block in enumerate(self.blocks):
            level += int(math.log2(block.stride))
            last[level] = index
        return MappingProxyType(last)

    def block_survival(self, index: int) -> float | None:
        """Probability that block ``index`` keeps its residual branch in training."""
        if self.survival_probability is None:
            return None
        return 1.0 - (1.0 - self.survival_probability) * index / len(self.blocks)


def round_channels(channels: int, width: float, divisor: int = 8) -> int:
    """Channels scaled by ``width`` and rounded to a multiple of ``divisor``, never down by >10 %.

    Source: official ``efficientnet_model.round_filters``.
    """
    scaled = channels * width
    rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * scaled else rounded


def _backbone(
    name: str,
    stages: tuple[_Stage, ...],
    width: float,
    depth: float,
    stem: int,
    survival_probability: float | None,
) -> BackboneSpec:
    stem_channels = round_channels(stem, width)
    lengths = tuple(math.ceil(stage.repeats * depth) for stage in stages)
    blocks = []
    channels = stem_channels
    for stage, length in zip(stages, lengths, strict=True):
        output = round_channels(stage.channels, width)
        for repeat in range(length):
            stride = stage.stride if repeat == 0 else 1
            blocks.append(BlockSpec(channels, output, stage.kernel, stride, stage.expansion))
            channels = output
    return BackboneSpec(name, stem_channels, tuple(blocks), lengths, survival_probability)


def _efficientnet(variant: int, width: float, depth: float) -> BackboneSpec:
    # The official detector trains B0 without drop-connect and the others with the
    # EfficientNet default of 0.8 (``efficientdet_arch.build_backbone``).
    survival = None if variant == 0 else 0.8
    return _backbone(f"efficientnet-b{variant}", _EFFICIENTNET_STAGES, width, depth, 32, survival)


_BACKBONES: Mapping[str, BackboneSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            _efficientnet(0, 1.0, 1.0),
            _efficientnet(1, 1.0, 1.1),
            _efficientnet(2, 1.1, 1.2),
            _efficientnet(3, 1.2, 1.4),
            _efficientnet(4, 1.4, 1.8),
            _efficientnet(5, 1.6, 2.2),
            _efficientnet(6, 1.8, 2.6),
            _efficientnet(7, 2.0, 3.1),
            _backbone("efficientnet-tiny", _TINY_STAGES, 1.0, 1.0, 8, 0.8),
        )
    }
)


@dataclass(frozen=True)
class ResampleSpec:
    """How one input of a BiFPN node is brought to the node's level and channels.

    Attributes:
        source: Index of the input among the cell's features: first the cell's inputs
            (lowest level first), then the outputs of its nodes in order.
        source_level: Level of that feature.
        input_channels: Channels of that feature; a 1x1 convolution with batch norm is
            applied when they differ from the BiFPN's.
    """

    source: int
    source_level: int
    input_channels: int


@dataclass(frozen=True)
class NodeSpec:
    """One node of a BiFPN cell.

    Attributes:
        index: Position of the node in its cell.
        level: Feature level of its output.
        inputs: Its inputs in the order in which they are fused.
    """

    index: int
    level: int
    inputs: tuple[ResampleSpec, ...]


_RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "fpn_channels": (1, 4096),
        "fpn_cells": (1, 64),
        "head_repeats": (1, 64),
        "min_level": (1, 12),
        "max_level": (2, 12),
        "num_scales": (1, 100),
        "num_aspects": (1, 100),
        "num_classes": (1, 100_000),
    }
)
"""What a configuration may hold: far beyond any real model, but nothing that exhausts memory."""


_TAKEN_FOR_GRANTED: Mapping[str, Enum] = MappingProxyType({"activation": Activation.SWISH})
"""Fields that stored configurations of older versions lack, with what that means."""


@dataclass(frozen=True)
class EfficientDetConfig:
    """Everything that defines one EfficientDet model.

    Attributes:
        name: Official name such as ``efficientdet-d0``.
        backbone_name: Name of the backbone, a key of the backbone registry.
        image_size: Native input (height, width), in pixels.
        fpn_channels: Channels of the BiFPN and the heads.
        fpn_cells: Number of BiFPN cells.
        head_repeats: Separable convolutions in each head before the prediction.
        fusion: How BiFPN nodes combine their inputs.
        min_level: Lowest feature level (stride ``2**min_level``).
        max_level: Highest feature level.
        anchor_scale: Anchor size at octave 0, in strides.
        num_scales: Anchor octave scales for each location.
        num_aspects: Anchor aspect ratios for each location.
        num_classes: Classes predicted for each anchor.
        head_survival_probability: When set, head repeats after the first add a residual, also
            at inference, whose branch is dropped in training with one minus this probability.
        activation: The function behind the batch norms, in squeeze-excites and in BiFPN nodes.
    """

    name: str
    backbone_name: str
    image_size: tuple[int, int]
    fpn_channels: int
    fpn_cells: int
    head_repeats: int
    fusion: Fusion = Fusion.FAST_ATTENTION
    min_level: int = 3
    max_level: int = 7
    anchor_scale: float = 4.0
    num_scales: int = 3
    num_aspects: int = 3
    num_classes: int = DEFAULT_NUM_CLASSES
    head_survival_probability: float | None = None
    activation: Activation = Activation.SWISH

    def __post_init__(self) -> None:
        """Check that the values can be built.

        Raises:
            InputError: A value is impossible; the message names it.
        """
        for field, (low, high) in _RANGES.items():
            value = getattr(self, field)
            # bool is an int, but True cells is a mistake.
            if type(value) is not int or not low <= value <= high:
                raise InputError(
                    f"{self.name}: {field} is {value!r}; give a whole number from {low} to {high}."
                )
        texts = (self.name, self.backbone_name)
        if not all(isinstance(text, str) for text in texts) or len(self.image_size) != 2:
            raise InputError(f"{self.name!r}: a name is no text or image_size no (height, width).")
        if not all(type(side) is int and 1 <= side <= MAX_SIDE for side in self.image_size):
            raise InputError(
                f"{self.name}: image_size is {self.image_size!r:.80}; give two whole numbers from "
                f"1 to {MAX_SIDE}."
            )
        survival = self.head_survival_probability
        if survival is not None and not (isinstance(survival, float) and 0 < survival <= 1):
            raise InputError(
                f"{self.name}: head_survival_probability is {survival!r}; give a number in (0, 1]."
            )
        scale = self.anchor_scale
        if type(scale) not in (int, float) or not 0 < scale < math.inf:
            raise InputError(f"{self.name}: anchor_scale is {scale!r}; give a number above zero.")
        reachable = self.backbone.feature_blocks()
        if not self.min_level < self.max_level or self.min_level not in reachable:
            raise InputError(
                f"{self.name}: levels {self.min_level}..{self.max_level} cannot be built; "
                f"choose a lowest level from {sorted(reachable)} and a higher highest level."
            )

    @property
    def backbone(self) -> BackboneSpec:
        """The backbone's specification."""
        try:
            return _BACKBONES[self.backbone_name]
        except KeyError:
            raise InputError(
                f"{self.name}: unknown backbone {self.backbone_name!r}; "
                f"known are {', '.join(_BACKBONES)}."
            ) from None

    @property
    def levels(self) -> range:
        """Feature levels, lowest (finest) first."""
        return range(self.min_level, self.max_level + 1)

    @property
    def num_anchors(self) -> int:
        """Anchors at each location of each level."""
        return self.num_scales * self.num_aspects

    def feature_channels(self) -> Mapping[int, int]:
        """Channels of the backbone's feature at each level that it provides."""
        backbone = self.backbone
        return MappingProxyType(
            {
                level: backbone.blocks[block].output_channels
                for level, block in backbone.feature_blocks().items()
                if level in self.levels
            }
        )

    def extra_levels(self) -> tuple[int, ...]:
        """Levels above the backbone's, each made from the one below by down-sampling."""
        provided = self.feature_channels()
        return tuple(level for level in self.levels if level not in provided)

    def cell_nodes(self, cell: int) -> tuple[NodeSpec, ...]:
        """The nodes of BiFPN cell ``cell`` in the order in which they are computed.

        A top-down pass joins each level with the level above; a bottom-up pass then joins
        each level's features so far with the level below (paper, figure 3). In the first cell
        the backbone's features still have their own channels.
        """
        provided = self.feature_channels() if cell == 0 else {}
        feature_levels = list(self.levels)
        channels = [provided.get(level, self.fpn_channels) for level in self.levels]
        at_level = {level: [index] for index, level in enumerate(self.levels)}
        nodes: list[NodeSpec] = []

        def add(level: int, sources: list[int]) -> None:
            inputs = tuple(ResampleSpec(i, feature_levels[i], channels[i]) for i in sources)
            nodes.append(NodeSpec(len(nodes), level, inputs))
            at_level[level].append(len(feature_levels))
            feature_levels.append(level)
            channels.append(self.fpn_channels)

        for level in reversed(self.levels[:-1]):
            add(level, [at_level[level][-1], at_level[level + 1][-1]])
        for level in self.levels[1:]:
            add(level, [*at_level[level], at_level[level - 1][-1]])
        return tuple(nodes)

    def feature_sizes(self, height: int, width: int) -> Mapping[int, tuple[int, int]]:
        """(height, width) of the feature at each level for an input of this size.

        Raises:
            InputError: No such input can be processed: at some level one side has shrunk to a
                single pixel while the other still halves, where the official code refuses too.
        """
        if height < 1 or width < 1:
            raise InputError(
                f"An input of {height}x{width} pixels is empty; give HxW above zero.", Cause.OPTION
            )
        sizes = {0: (height, width)}
        for level in range(1, self.max_level + 1):
            h, w = sizes[level - 1]
            sizes[level] = ((h - 1) // 2 + 1, (w - 1) // 2 + 1)
            halved = (sizes[level][0] < h, sizes[level][1] < w)
            if level > self.min_level and halved[0] != halved[1]:
                raise InputError(
                    f"{self.name} cannot process {height}x{width} pixels: P{level - 1} is {h}x{w}, "
                    f"of which only one side can halve again; give an input whose shorter side "
                    f"is above {2 ** (self.max_level - 1)} pixels.",
                    Cause.MODEL,
                )
        return MappingProxyType({level: sizes[level] for level in self.levels})

    def with_classes(self, num_classes: int) -> EfficientDetConfig:
        """The same model for another number of classes."""
        return replace(self, num_classes=num_classes)

    def first_difference(self, other: EfficientDetConfig) -> tuple[str, Any, Any] | None:
        """The first field in which two models differ, with both values; None where none does."""
        for field in fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            if ours != theirs:
                return field.name, ours, theirs
        return None

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON-able values.

        What older versions do not know is left out where it means what they take for granted, so
        that they can read this.
        """
        values = asdict(self)
        for name, granted in _TAKEN_FOR_GRANTED.items():
            if values[name] == granted:
                del values[name]
            else:
                values[name] = values[name].value
        values["fusion"] = self.fusion.value
        values["image_size"] = list(self.image_size)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EfficientDetConfig:
        """The configuration from :meth:`to_dict`'s values.

        Raises:
            InputError: A key is missing or unknown, or a value has the wrong type.
        """
        expected = {field.name for field in fields(cls)}
        values = {**_TAKEN_FOR_GRANTED, **values}
        if set(values) != expected:
            raise InputError(
                f"A model configuration has the keys {sorted(values)}, "
                f"but this version expects {sorted(expected)}; convert the checkpoint again.",
                Cause.FORMAT,
            )
        try:
            height, width = values["image_size"]
            return cls(
                **{
                    **values,
                    "fusion": Fusion(values["fusion"]),
                    "activation": Activation(values["activation"]),
                    "image_size": (height, width),
                }
            )
        except InputError:
            raise
        except (TypeError, ValueError, ArithmeticError) as error:
            raise InputError(
                f"A model configuration cannot be read ({error}); convert the checkpoint again.",
                Cause.FORMAT,
            ) from error


def _model(
    variant: str, backbone: int, size: int, channels: int, cells: int, repeats: int, **other: Any
) -> EfficientDetConfig:
    return EfficientDetConfig(
        name=f"efficientdet-{variant}",
        backbone_name=f"efficientnet-b{backbone}",
        image_size=(size, size),
        fpn_channels=channels,
        fpn_cells=cells,
        head_repeats=repeats,
        **other,
    )


TINY = EfficientDetConfig(
    name="efficientdet-tiny",
    backbone_name="efficientnet-tiny",
    image_size=(128, 128),
    fpn_channels=16,
    fpn_cells=2,
    head_repeats=2,
    num_classes=7,
)
"""Not an official model: every mechanism of the real ones at a size for fast tests."""

MODELS: Mapping[str, EfficientDetConfig] = MappingProxyType(
    {
        config.name: config
        for config in (
            # variant, backbone, input, channels, cells, head repeats (paper, table 1)
            _model("d0", 0, 512, 64, 3, 3),
            _model("d1", 1, 640, 88, 4, 3),
            _model("d2", 2, 768, 112, 5, 3),
            _model("d3", 3, 896, 160, 6, 4),
            _model("d4", 4, 1024, 224, 7, 4),
            _model("d5", 5, 1280, 288, 7, 4),
            _model("d6", 6, 1280, 384, 8, 5, fusion=Fusion.SUM),
            _model("d7", 6, 1536, 384, 8, 5, fusion=Fusion.SUM, anchor_scale=5.0),
            _model("d7x", 7, 1536, 384, 8, 5, fusion=Fusion.SUM, max_level=8),
            TINY,
        )
    }
)
"""Every model by name: D0 to D7x, and the tiny one."""

OFFICIAL_MODELS: tuple[str, ...] = tuple(name for name in MODELS if name != TINY.name)
"""Names of the models that Google published."""


def get_config(name: str) -> EfficientDetConfig:
    """The configuration called ``name``; the prefix ``efficientdet-`` may be left out.

    Raises:
        InputError: There is no such model; the message lists those that exist.
    """
    full = name if name.startswith("efficientdet-") else f"efficientdet-{name}"
    try:
        return MODELS[full]
    except KeyError:
        raise InputError(
            f"There is no model {name!r:.80}{did_you_mean(full_name(name), MODELS)}; choose one of "
            f"{', '.join(MODELS)}.",
            Cause.OPTION,
        ) from None


def full_name(name: str) -> str:
    """A model's name as somebody may write it, in the form of the official ones.

    It is for questions (did you mean ...?), never to take one name for another.

    Args:
        name: Such as ``D0``, ``EfficientDet-D0`` or ``tf_efficientdet_d0``.
    """
    plain = plain_name(name).removeprefix("tf-").replace("efficient-det", "efficientdet")
    bare = plain.removeprefix("efficientdet").removeprefix("-")
    return f"efficientdet-{bare}"


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) in pixels from ``"HxW"``.

    Raises:
        InputError: The text has another form or a side is zero.
    """
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    height, width = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise InputError(
            f"{text!r} is no image size; give HEIGHTxWIDTH in pixels, as in 512x640, of at most "
            f"{MAX_SIDE} a side.",
            Cause.OPTION,
        )
    return height, width


def iterate_cells(config: EfficientDetConfig) -> Iterator[tuple[int, tuple[NodeSpec, ...]]]:
    """Each BiFPN cell's index with its nodes."""
    for cell in range(config.fpn_cells):
        yield cell, config.cell_nodes(cell)
