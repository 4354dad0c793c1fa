"""Hyperparameters in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from efficientdet_spec import MEAN_RGB, STDDEV_RGB, EfficientDetConfig, Suppression, printable
from efficientdet_spec.wiring import qufpn

_LONGEST = 60
_IMAGENET = "ImageNet"

_ANCHORS = ("anchor_scale", "aspect_ratios", "num_scales")
_TELLING = (
    "act_type",
    "fpn_name",
    "fpn_weight_method",
    "conv_after_downsample",
    "survival_prob",
    "scale_range",
    "nms_configs",
)
"""Whose words need no key before them."""

_ORDER = (
    "act_type",
    "fpn_name",
    "fpn_weight_method",
    "conv_after_downsample",
    "anchors",
    *_ANCHORS,
    "mean/std",
    "mean_rgb",
    "stddev_rgb",
    "scale_range",
    "survival_prob",
    "image_size",
    "nms_configs",
)


def assumed_facts(config: EfficientDetConfig) -> dict[str, str]:
    """What of a model its tensors do not show, by official key.

    Args:
        config: The model.
    """
    facts = {"act_type": config.activation.value, "fpn_name": _wiring(config)}
    # Sums have no weights, which shows.
    if config.fusion.is_weighted:
        facts["fpn_weight_method"] = config.fusion.words
    order = "behind" if config.conv_after_downsample else "before"
    facts["conv_after_downsample"] = f"1x1 convolutions {order} pools"
    scales = config.anchor_scale
    facts["anchor_scale"] = _list(scales) if isinstance(scales, tuple) else str(float(scales))
    facts["aspect_ratios"] = _list(config.aspect_ratios)
    facts["num_scales"] = str(config.num_scales)
    facts["mean_rgb"] = _IMAGENET if config.mean_rgb == MEAN_RGB else _colours(config.mean_rgb)
    facts["stddev_rgb"] = (
        _IMAGENET if config.stddev_rgb == STDDEV_RGB else _colours(config.stddev_rgb)
    )
    facts["scale_range"] = "grey levels to -1..1" if config.scale_range else "no scale_range"
    survival = config.head_survival_probability
    facts["survival_prob"] = "no survival_prob" if survival is None else f"survival_prob {survival}"
    facts["image_size"] = _size(*config.image_size)
    usual = config.suppression == Suppression()
    facts["nms_configs"] = "default nms_configs" if usual else "own nms_configs"
    return facts


def _wiring(config: EfficientDetConfig) -> str:
    """How the FPN's nodes are wired, which names and shapes show in part at most."""
    if config.fpn_nodes is None:
        return "BiFPN"
    return "quad FPN" if config.fpn_nodes == qufpn(config.levels) else "own FPN nodes"


def assumed_words(facts: Mapping[str, str]) -> list[str]:
    """What is assumed, that of anchors and that of the normalisation together.

    Args:
        facts: As of :func:`assumed_facts`.
    """
    told = dict(facts)
    if all(key in told for key in _ANCHORS):
        told["anchors"] = " x ".join(told.pop(key) for key in _ANCHORS)
    if "mean_rgb" in told and told["mean_rgb"] == told.get("stddev_rgb"):
        told["mean/std"] = told.pop("mean_rgb")
        del told["stddev_rgb"]
    return [told[key] if key in _TELLING else f"{key} {told[key]}" for key in _ORDER if key in told]


def given_words(key: str, value: Any) -> str:
    """A value that was given.

    Args:
        key: Its official key.
        value: As it was read.
    """
    if key == "image_size" and isinstance(value, list | tuple) and len(value) == 2:
        return _size(*value)
    if key == "image_size" and type(value) is int:
        return _size(value, value)
    if key == "image_size" and isinstance(value, str):
        return f"{printable(value)!s:.20} (WxH)"
    if key == "label_map" and isinstance(value, Mapping):
        return f"of {len(value)} names"
    parts = {"fpn_config": ("nodes", "nodes"), "backbone_config": ("blocks", "stages")}
    if key in parts and isinstance(value, Mapping):
        name, words = parts[key]
        listed = value.get(name)
        return f"of {len(listed)} {words}" if isinstance(listed, list | tuple) else "of its own"
    if isinstance(value, Mapping):
        told = ", ".join(f"{name} {_text(item)}" for name, item in value.items())
        return f"({told})"
    return _text(value)


def _size(height: Any, width: Any) -> str:
    """As hyperparameters have it in a text, and not as ``--size`` has it."""
    return f"{_text(width)}x{_text(height)}" + (" (WxH)" if height != width else "")


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return _list(value)
    words = {True: "true", False: "false", None: "none"}
    if value is None or isinstance(value, bool):
        return words[value]
    shown = printable(value)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."


def _list(values: Any) -> str:
    shown = [_list(item) if isinstance(item, list | tuple) else _number(item) for item in values]
    more = f", ... ({len(shown)} of them)" if len(shown) > 12 else ""
    return f"({', '.join(shown[:12])}{more})"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else _text(value)


def _colours(values: tuple[float, ...]) -> str:
    return _number(values[0]) if len(set(values)) == 1 else _list(values)
