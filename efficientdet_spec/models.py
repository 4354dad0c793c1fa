"""What the EfficientDet models are: every hyperparameter that changes what they compute.

Sources: EfficientDet (Tan, Pang, Le; CVPR 2020, arXiv 1911.09070) and the official code,
google/automl ``efficientdet/hparams_config.py``, whose names are given where they are others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from efficientdet_spec.backbones import BackboneSpec, StageSpec, get_backbone
from efficientdet_spec.errors import Cause, InputError
from efficientdet_spec.findings import listed
from efficientdet_spec.operations import Activation, Fusion
from efficientdet_spec.suppression import Suppression
from efficientdet_spec.wiring import NodeSpec, ResampleSpec, Wiring, bifpn, check_wiring

MAX_SIDE = 8192
"""Longest side of an input in pixels; far above any model's native size."""

DEFAULT_NUM_CLASSES = 90
"""COCO's category ids are used directly: class index + 1 = category id, gaps included."""

MEAN_RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)
"""Subtracted from the grey levels of red, green and blue (official ``mean_rgb``)."""

STDDEV_RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)
"""What the differences are divided by (official ``stddev_rgb``)."""

ASPECT_RATIOS = (1.0, 2.0, 0.5)
"""Width to height of the anchors (official ``aspect_ratios``, since September 2020)."""

Aspect = float | tuple[float, float]
"""An anchor's width to height, or both factors of its side."""

CONFIG_FILE = "config.yaml"
"""What the official training scripts call the file of hyperparameters beside checkpoints."""

MOST_LABELS = 100_000
"""Entries that a label map may have."""


_RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "fpn_channels": (1, 4096),
        "fpn_cells": (1, 64),
        "head_repeats": (1, 64),
        "min_level": (1, 12),
        "max_level": (2, 12),
        "num_scales": (1, 100),
        "num_classes": (1, 100_000),
    }
)
"""What a configuration may hold: far beyond any real model, but nothing that exhausts memory."""


@dataclass(frozen=True)
class EfficientDetConfig:
    """Everything that defines one EfficientDet model.

    Attributes:
        name: Official name such as ``efficientdet-d0``.
        backbone_name: Name of the backbone, one of ``BACKBONES``.
        image_size: Native input (height, width), in pixels.
        fpn_channels: Channels of the BiFPN and the heads (official ``fpn_num_filters``).
        fpn_cells: Number of BiFPN cells (``fpn_cell_repeats``).
        head_repeats: Convolutions in each head before the prediction (``box_class_repeats``).
        fusion: How BiFPN nodes combine their inputs (``fpn_weight_method``).
        min_level: Lowest feature level (stride ``2**min_level``).
        max_level: Highest feature level.
        anchor_scale: Anchor size at octave 0, in strides; one for all levels, or one for each.
        num_scales: Anchor octave scales for each location.
        aspect_ratios: Of each anchor aspect the ratio of width to height, or the factors of width
            and height.
        num_classes: Classes predicted for each anchor.
        head_survival_probability: When set, head repeats after the first add a residual, also
            at inference, whose branch is dropped in training with one minus this probability
            (``survival_prob``).
        activation: The function behind the batch norms, in squeeze-excites and in BiFPN nodes
            (``act_type``).
        fpn_nodes: How the nodes of each cell are wired; None: as a BiFPN (``fpn_name``,
            ``fpn_config``).
        separable_conv: Whether BiFPN nodes and heads have depthwise separable convolutions, or
            else whole ones.
        conv_after_downsample: Whether a feature's 1x1 convolution follows its max-pool, or else
            precedes it.
        conv_bn_act: Whether a BiFPN node's activation follows its batch norm, and its convolution
            has no bias; or else the activation precedes the convolution
            (``conv_bn_act_pattern``).
        resample_bn: Whether a batch norm follows the 1x1 convolutions
            (``apply_bn_for_resampling``).
        backbone_stages: Stages of the backbone before scaling in place of its own
            (``backbone_config``).
        mean_rgb: See :data:`MEAN_RGB`.
        stddev_rgb: See :data:`STDDEV_RGB`.
        scale_range: Whether grey levels become -1..1 in place of the normalisation, as of AdvProp.
        suppression: What becomes of overlapping boxes (``nms_configs``).
        label_map: (class id, name) of each class, ids as in COCO's annotations: index + 1; empty
            where that is not known.
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
    anchor_scale: float | tuple[float, ...] = 4.0
    num_scales: int = 3
    aspect_ratios: tuple[Aspect, ...] = ASPECT_RATIOS
    num_classes: int = DEFAULT_NUM_CLASSES
    head_survival_probability: float | None = None
    activation: Activation = Activation.SWISH
    fpn_nodes: Wiring | None = None
    separable_conv: bool = True
    conv_after_downsample: bool = False
    conv_bn_act: bool = False
    resample_bn: bool = True
    backbone_stages: tuple[StageSpec, ...] | None = None
    mean_rgb: tuple[float, float, float] = MEAN_RGB
    stddev_rgb: tuple[float, float, float] = STDDEV_RGB
    scale_range: bool = False
    suppression: Suppression = Suppression()
    label_map: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        """Check that the values can be built.

        Raises:
            InputError: A value is impossible; the message names it.
        """
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            # bool is an int, but True cells is a mistake.
            if type(value) is not int or not low <= value <= high:
                raise InputError(
                    f"{self.name}: {name} is {value!r:.80}; give a whole number from {low} to "
                    f"{high}."
                )
        texts = (self.name, self.backbone_name)
        if not all(isinstance(text, str) for text in texts) or len(self.image_size) != 2:
            raise InputError(f"{self.name!r}: a name is no text or image_size no (height, width).")
        if not all(type(side) is int and 1 <= side <= MAX_SIDE for side in self.image_size):
            raise InputError(
                f"{self.name}: image_size is {self.image_size!r:.80}; give two whole numbers from "
                f"1 to {MAX_SIDE}."
            )
        for name, (sound, wanted) in _SOUND.items():
            value = getattr(self, name)
            if not sound(value):
                raise InputError(f"{self.name}: {name} is {value!r:.80}; give {wanted}.")
        scales = self.anchor_scale
        if isinstance(scales, tuple) and len(scales) != self.max_level - self.min_level + 1:
            raise InputError(
                f"{self.name}: anchor_scale has {len(scales)} numbers; give one, or one for each "
                f"of the levels {self.min_level} to {self.max_level}."
            )
        reachable = self.backbone.feature_blocks()
        if not self.min_level < self.max_level or self.min_level not in reachable:
            raise InputError(
                f"{self.name}: levels {self.min_level}..{self.max_level} cannot be built; "
                f"choose a lowest level from {sorted(reachable)} and a higher highest level."
            )
        if self.fpn_nodes is not None:
            check_wiring(self.fpn_nodes, self.levels)

    @property
    def backbone(self) -> BackboneSpec:
        """The backbone's specification.

        Raises:
            InputError: There is no backbone of this name.
        """
        try:
            return get_backbone(self.backbone_name, self.backbone_stages)
        except InputError as error:
            raise InputError(f"{self.name}: {error}", error.cause) from None

    @property
    def levels(self) -> range:
        """Feature levels, lowest (finest) first."""
        return range(self.min_level, self.max_level + 1)

    @property
    def num_anchors(self) -> int:
        """Anchors at each location of each level."""
        return self.num_scales * self.num_aspects

    @property
    def num_aspects(self) -> int:
        """Anchor aspects at each location."""
        return len(self.aspect_ratios)

    @property
    def anchor_scales(self) -> tuple[float, ...]:
        """Anchor size at octave 0 of each level, in strides."""
        scale = self.anchor_scale
        return scale if isinstance(scale, tuple) else (scale,) * len(self.levels)

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

        In the first cell the backbone's features still have their own channels.
        """
        provided = self.feature_channels() if cell == 0 else {}
        levels = list(self.levels)
        channels = [provided.get(level, self.fpn_channels) for level in levels]
        nodes = []
        for index, (level, sources) in enumerate(self.fpn_nodes or bifpn(self.levels)):
            inputs = tuple(ResampleSpec(i, levels[i], channels[i]) for i in sources)
            nodes.append(NodeSpec(index, level, inputs))
            levels.append(level)
            channels.append(self.fpn_channels)
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

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON-able values.

        What older versions do not know is left out where it means what they take for granted, so
        that they can read this.
        """
        values = asdict(self)
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in _GRANTED and value == _GRANTED[item.name]:
                del values[item.name]
            else:
                values[item.name] = _plain(values[item.name])
        return {**values, "num_aspects": self.num_aspects}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EfficientDetConfig:
        """The configuration from :meth:`to_dict`'s values.

        Raises:
            InputError: A key is missing or unknown, or a value has the wrong type.
        """
        expected = {item.name for item in fields(cls)} | {"num_aspects"}
        values = {**{name: _plain(value) for name, value in _GRANTED.items()}, **values}
        if set(values) != expected:
            lacks = listed(sorted(expected - values.keys())) or "nothing"
            others = listed(sorted(map(str, values.keys() - expected))) or "nothing"
            raise InputError(
                f"A model configuration lacks {lacks} and has {others} that this version does not "
                f"know; convert the checkpoint again.",
                Cause.FORMAT,
            )
        aspects = values.pop("num_aspects")
        try:
            config = cls(**{name: _READ.get(name, _same)(value) for name, value in values.items()})
        except InputError:
            raise
        except (TypeError, ValueError, ArithmeticError, KeyError) as error:
            raise InputError(
                f"A model configuration cannot be read ({error}); convert the checkpoint again.",
                Cause.FORMAT,
            ) from error
        if type(aspects) is not int or aspects != config.num_aspects:
            raise InputError(
                f"A model configuration has num_aspects {aspects!r:.80}, but {config.num_aspects} "
                f"aspect_ratios; convert the checkpoint again.",
                Cause.FORMAT,
            )
        return config


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_size(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_aspect(value: Any) -> bool:
    pair = isinstance(value, tuple) and len(value) == 2 and all(map(_is_size, value))
    return pair or _is_size(value)


def _is_label(value: Any) -> bool:
    whole = isinstance(value, tuple) and len(value) == 2
    return whole and type(value[0]) is int and value[0] >= 0 and isinstance(value[1], str)


def _are(sound: Callable[[Any], bool], low: int, high: int) -> Callable[[Any], bool]:
    """Whether a value is a tuple of ``low`` to ``high`` sound ones."""

    def whole(value: Any) -> bool:
        return isinstance(value, tuple) and low <= len(value) <= high and all(map(sound, value))

    return whole


def _is_flag(value: Any) -> bool:
    return type(value) is bool


_FLAG = (_is_flag, "true or false")
_SOUND: Mapping[str, tuple[Callable[[Any], bool], str]] = MappingProxyType(
    {
        "head_survival_probability": (
            lambda value: value is None or (isinstance(value, float) and 0 < value <= 1),
            "a number in (0, 1]",
        ),
        "anchor_scale": (
            lambda value: _is_size(value) or _are(_is_size, 1, 12)(value),
            "a number above zero, or one for each level",
        ),
        "aspect_ratios": (
            _are(_is_aspect, 1, 100),
            "1 to 100 ratios of width to height, or pairs of both, above zero",
        ),
        "separable_conv": _FLAG,
        "conv_after_downsample": _FLAG,
        "conv_bn_act": _FLAG,
        "resample_bn": _FLAG,
        "scale_range": _FLAG,
        "mean_rgb": (_are(_is_number, 3, 3), "three numbers"),
        "stddev_rgb": (_are(_is_size, 3, 3), "three numbers above zero"),
        "label_map": (_are(_is_label, 0, MOST_LABELS), "pairs of a class id and a name"),
    }
)
"""What fields may hold besides :data:`_RANGES`, and how people are told."""


def _same(value: Any) -> Any:
    return value


def _frozen(value: Any) -> Any:
    """Lists, which JSON has, as tuples, at any depth."""
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    """Tuples as lists and enumerations as their values, at any depth."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Fusion | Activation):
        return value.value
    return value


def _stages(value: Any) -> tuple[StageSpec, ...] | None:
    return None if value is None else tuple(StageSpec(**stage) for stage in value)


_READ: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "image_size": _frozen,
        "anchor_scale": _frozen,
        "aspect_ratios": _frozen,
        "fpn_nodes": _frozen,
        "mean_rgb": _frozen,
        "stddev_rgb": _frozen,
        "label_map": _frozen,
        "fusion": Fusion,
        "activation": Activation,
        "backbone_stages": _stages,
        "suppression": lambda value: (
            value if isinstance(value, Suppression) else Suppression(**value)
        ),
    }
)
"""How each field becomes what it is out of a plain value."""

_ALWAYS = frozenset(
    {
        "name",
        "backbone_name",
        "image_size",
        "fpn_channels",
        "fpn_cells",
        "head_repeats",
        "fusion",
        "min_level",
        "max_level",
        "anchor_scale",
        "num_scales",
        "num_classes",
        "head_survival_probability",
    }
)
"""Fields that every version has stored."""

_GRANTED: Mapping[str, Any] = MappingProxyType(
    {item.name: item.default for item in fields(EfficientDetConfig) if item.name not in _ALWAYS}
)
"""Fields that configurations of older versions lack, with what that means."""


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) in pixels from ``"HxW"``.

    Raises:
        InputError: The text has another form or a side is zero.
    """
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    height, width = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise InputError(
            f"{text!r:.80} is no image size; give HEIGHTxWIDTH in pixels, as in 512x640, of at "
            f"most {MAX_SIDE} a side.",
            Cause.OPTION,
        )
    return height, width


def iterate_cells(config: EfficientDetConfig) -> Iterator[tuple[int, tuple[NodeSpec, ...]]]:
    """Each BiFPN cell's index with its nodes."""
    for cell in range(config.fpn_cells):
        yield cell, config.cell_nodes(cell)
