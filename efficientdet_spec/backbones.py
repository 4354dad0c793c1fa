"""What the backbones are: EfficientNets and their lite form, without their classification heads.

Sources: EfficientNet (Tan, Le; ICML 2019, arXiv 1905.11946) and the official code, google/automl
``efficientdet/backbone`` (``efficientnet_builder.py``, ``efficientnet_lite_builder.py``,
``efficientnet_model.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from efficientdet_spec.errors import InputError

SQUEEZE_RATIO = 0.25
"""Width of a squeeze-excite bottleneck relative to its block's *input* channels."""

CHANNEL_DIVISOR = 8
"""Scaled channels are rounded to a multiple of this (official ``depth_divisor``)."""

_MOST_REPEATS = 256
_MOST_CHANNELS = 16_384
_MOST_STAGES = 64


@dataclass(frozen=True)
class BlockSpec:
    """One mobile inverted bottleneck (MBConv) block of the backbone.

    Attributes:
        input_channels: Channels of the block's input.
        output_channels: Channels of the block's output.
        kernel: Height and width of the depthwise kernel, in pixels.
        stride: Stride of the depthwise convolution.
        expansion: Ratio of the expanded to the input channels; 1 means no expansion convolution.
        squeeze_ratio: Width of the squeeze-excite bottleneck relative to ``input_channels``; None
            where the block has no squeeze-excite.
        has_skip: Whether the input is added to the output where both have one shape.
    """

    input_channels: int
    output_channels: int
    kernel: int
    stride: int
    expansion: int
    squeeze_ratio: float | None = SQUEEZE_RATIO
    has_skip: bool = True

    @property
    def expanded_channels(self) -> int:
        """Channels of the depthwise convolution."""
        return self.input_channels * self.expansion

    @property
    def has_squeeze_excite(self) -> bool:
        """Whether the depthwise convolution's features are gated."""
        return self.squeeze_ratio is not None

    @property
    def squeeze_channels(self) -> int:
        """Channels of the squeeze-excite bottleneck; 0 where there is none."""
        if self.squeeze_ratio is None:
            return 0
        return max(1, int(self.input_channels * self.squeeze_ratio))

    @property
    def has_residual(self) -> bool:
        """Whether the block's input is added to its output."""
        same = self.stride == 1 and self.input_channels == self.output_channels
        return self.has_skip and same


@dataclass(frozen=True)
class StageSpec:
    """A row of the EfficientNet paper's table 1, before scaling (official ``BlockArgs``).

    Attributes:
        repeats: Number of blocks.
        kernel: Height and width of the depthwise kernels.
        stride: Of the first block; the others have 1.
        expansion: As in :class:`BlockSpec`.
        input_channels: Channels of the first block's input.
        output_channels: Channels of every block's output.
        squeeze_ratio: As in :class:`BlockSpec`.
        has_skip: As in :class:`BlockSpec`.
    """

    repeats: int
    kernel: int
    stride: int
    expansion: int
    input_channels: int
    output_channels: int
    squeeze_ratio: float | None = SQUEEZE_RATIO
    has_skip: bool = True

    def __post_init__(self) -> None:
        """Check that the stage can be built.

        Raises:
            InputError: A value is impossible; the message names it.
        """
        for name, low, high in (
            ("repeats", 1, _MOST_REPEATS),
            ("kernel", 1, 15),
            ("stride", 1, 2),
            ("expansion", 1, 64),
            ("input_channels", 1, _MOST_CHANNELS),
            ("output_channels", 1, _MOST_CHANNELS),
        ):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise InputError(
                    f"A stage of the backbone has {name} {value!r:.60}; give a whole number from "
                    f"{low} to {high}."
                )
        ratio = self.squeeze_ratio
        if ratio is not None and not (type(ratio) in (int, float) and 0 < ratio <= 1):
            raise InputError(
                f"A stage of the backbone has squeeze_ratio {ratio!r:.60}; give a number above 0, "
                f"at most 1, or none for a stage without squeeze-excite."
            )
        if type(self.has_skip) is not bool:
            raise InputError(
                f"A stage of the backbone has has_skip {self.has_skip!r:.60}; give true or false."
            )


def _stage(
    repeats: int, kernel: int, stride: int, expansion: int, inputs: int, outputs: int
) -> StageSpec:
    return StageSpec(repeats, kernel, stride, expansion, inputs, outputs)


EFFICIENTNET_STAGES = (
    _stage(1, 3, 1, 1, 32, 16),
    _stage(2, 3, 2, 6, 16, 24),
    _stage(2, 5, 2, 6, 24, 40),
    _stage(3, 3, 2, 6, 40, 80),
    _stage(3, 5, 1, 6, 80, 112),
    _stage(4, 5, 2, 6, 112, 192),
    _stage(1, 3, 1, 6, 192, 320),
)
"""Of every EfficientNet, before scaling: repeats, kernel, stride, expansion, channels in and out
(paper, table 1; official ``_DEFAULT_BLOCKS_ARGS``)."""

_TINY_STAGES = (
    _stage(1, 3, 1, 1, 8, 8),
    _stage(2, 3, 2, 2, 8, 8),
    _stage(1, 5, 2, 2, 8, 16),
    _stage(2, 3, 2, 2, 16, 24),
    _stage(1, 5, 2, 2, 24, 32),
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
            level += block.stride - 1
            last[level] = index
        return MappingProxyType(last)

    def block_survival(self, index: int) -> float | None:
        """Probability that block ``index`` keeps its residual branch in training."""
        if self.survival_probability is None:
            return None
        return 1.0 - (1.0 - self.survival_probability) * index / len(self.blocks)


@dataclass(frozen=True)
class _Scaling:
    """What a backbone's name stands for.

    Attributes:
        width: Factor of the channels.
        depth: Factor of the stages' repeats.
        survival_probability: See :class:`BackboneSpec`.
        is_lite: Whether neither the stem's channels nor the first and last stages' repeats are
            scaled, and no block has a squeeze-excite.
        stages: Before scaling.
    """

    width: float
    depth: float
    survival_probability: float | None
    is_lite: bool = False
    stages: tuple[StageSpec, ...] = EFFICIENTNET_STAGES


def _named(kind: str, variant: int | str, width: float, depth: float) -> tuple[str, _Scaling]:
    # The official detector trains B0 without drop-connect and the others with the
    # EfficientNet default of 0.8 (``efficientdet_keras.EfficientDetNet``).
    survival = None if (kind, variant) == ("b", 0) else 0.8
    is_lite = kind == "lite"
    return f"efficientnet-{kind}{variant}", _Scaling(width, depth, survival, is_lite)


_SCALINGS: Mapping[str, _Scaling] = MappingProxyType(
    dict(
        (
            _named("b", 0, 1.0, 1.0),
            _named("b", 1, 1.0, 1.1),
            _named("b", 2, 1.1, 1.2),
            _named("b", 3, 1.2, 1.4),
            _named("b", 4, 1.4, 1.8),
            _named("b", 5, 1.6, 2.2),
            _named("b", 6, 1.8, 2.6),
            _named("b", 7, 2.0, 3.1),
            _named("b", 8, 2.2, 3.6),
            _named("l", 2, 4.3, 5.3),
            _named("lite", 0, 1.0, 1.0),
            _named("lite", 1, 1.0, 1.1),
            _named("lite", 2, 1.1, 1.2),
            _named("lite", 3, 1.2, 1.4),
            _named("lite", 4, 1.4, 1.8),
            ("efficientnet-tiny", _Scaling(1.0, 1.0, 0.8, stages=_TINY_STAGES)),
        )
    )
)

BACKBONES: tuple[str, ...] = tuple(_SCALINGS)
"""Names of all backbones."""


def round_channels(channels: int, width: float, divisor: int = CHANNEL_DIVISOR) -> int:
    """Channels scaled by ``width`` and rounded to a multiple of ``divisor``, never down by >10 %.

    Source: official ``efficientnet_model.round_filters``.
    """
    scaled = channels * width
    rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    return int(rounded + divisor) if rounded < 0.9 * scaled else rounded


@lru_cache(maxsize=64)
def get_backbone(name: str, stages: tuple[StageSpec, ...] | None = None) -> BackboneSpec:
    """The backbone called ``name``.

    Args:
        name: One of :data:`BACKBONES`.
        stages: Before scaling, in place of its own (official ``backbone_config``).

    Raises:
        InputError: There is no such backbone, or these stages do not fit together.
    """
    scaling = _SCALINGS.get(name)
    if scaling is None:
        raise InputError(f"Unknown backbone {name!r:.80}; known are {', '.join(BACKBONES)}.")
    own = scaling.stages if stages is None else stages
    _check(own)
    stem = own[0].input_channels
    stem_channels = stem if scaling.is_lite else round_channels(stem, scaling.width)
    lengths = tuple(
        stage.repeats
        if scaling.is_lite and position in (0, len(own) - 1)
        else math.ceil(stage.repeats * scaling.depth)
        for position, stage in enumerate(own)
    )
    blocks: list[BlockSpec] = []
    for stage, length in zip(own, lengths, strict=True):
        output = round_channels(stage.output_channels, scaling.width)
        for repeat in range(length):
            blocks.append(
                BlockSpec(
                    blocks[-1].output_channels if blocks else stem_channels,
                    output,
                    stage.kernel,
                    stage.stride if repeat == 0 else 1,
                    stage.expansion,
                    None if scaling.is_lite else stage.squeeze_ratio,
                    stage.has_skip,
                )
            )
    return BackboneSpec(name, stem_channels, tuple(blocks), lengths, scaling.survival_probability)


def _check(stages: tuple[StageSpec, ...]) -> None:
    if not 1 <= len(stages) <= _MOST_STAGES:
        raise InputError(
            f"A backbone of {len(stages)} stages cannot be built; give 1 to {_MOST_STAGES}."
        )
    if stages[0].stride != 1:
        raise InputError(
            "The backbone's first stage has stride 2; give it stride 1, since the first feature "
            "level is that of the stem's stride."
        )
    for before, after in zip(stages, stages[1:], strict=False):
        if before.output_channels != after.input_channels:
            raise InputError(
                f"A stage of the backbone takes {after.input_channels} channels, but the one "
                f"before it gives {before.output_channels}; give equal numbers."
            )
