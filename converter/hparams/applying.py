"""From official hyperparameters to a configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from converter.hparams.labels import read_labels
from converter.hparams.stages import read_stages
from efficientdet_spec import (
    MAX_SIDE,
    OFFICIAL_KEYS,
    Activation,
    Cause,
    EfficientDetConfig,
    Fusion,
    InputError,
    did_you_mean,
    field_of,
)
from efficientdet_spec.suppression import Suppression
from efficientdet_spec.wiring import WIRINGS, Wiring

SIZES = "in --hparams and config.yaml a text is WxH, while --size is HxW"
"""What every message on image sizes says."""

_ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        **{activation.value: activation for activation in Activation},
        "silu": Activation.SWISH,
        "swish_native": Activation.SWISH,
    }
)


def apply(base: EfficientDetConfig, values: Mapping[str, Any]) -> EfficientDetConfig:
    """A model with other hyperparameters.

    Args:
        base: The model, whose values stay where nothing is said.
        values: By official key, with the official meaning; of what is not honoured nothing is
            looked at, and ``name`` is what ``base`` was chosen by.

    Raises:
        InputError: A value is impossible; the message has its official key.
    """
    changes: dict[str, Any] = {
        field_of(key): read(values[key]) for key, read in _READ.items() if key in values
    }
    if "nms_configs" in values:
        changes["suppression"] = _suppression(base.suppression, values["nms_configs"])
    try:
        # Wirings depend on the levels.
        levels = range(
            changes.get("min_level", base.min_level),
            changes.get("max_level", base.max_level) + 1,
        )
        if "fpn_name" in values:
            changes["fpn_nodes"] = _wiring(values["fpn_name"], levels)
        if values.get("fpn_config") is not None:
            changes["fpn_nodes"], changes["fusion"] = _own_wiring(values["fpn_config"])
        return replace(base, **changes)
    except InputError as error:
        raise InputError(_officially(str(error)), error.cause) from None


def _officially(message: str) -> str:
    """A message on a field of a configuration, under the field's official name."""
    for name, key in OFFICIAL_KEYS.items():
        message = re.sub(rf"\b{name} (?=is |has )", f"{key} ", message)
    return message


def _wrong(key: str, value: Any, wanted: str) -> InputError:
    return InputError(f"{key} is {value!r:.80}; give {wanted}.", Cause.OPTION)


def _whole(key: str) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int:
            raise _wrong(key, value, "a whole number")
        return value

    return read


def _flag(key: str) -> Callable[[Any], bool]:
    def read(value: Any) -> bool:
        # The official code takes any text for true.
        if type(value) not in (bool, int) or value not in (0, 1):
            raise _wrong(key, value, "true or false")
        return bool(value)

    return read


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _colours(key: str) -> Callable[[Any], tuple[float, ...]]:
    def read(value: Any) -> tuple[float, ...]:
        listed = [value] if _is_number(value) else value
        whole = isinstance(listed, list | tuple) and all(map(_is_number, listed))
        if not whole or len(listed) not in (1, 3):
            raise _wrong(key, value, "one number, or three for red, green and blue")
        numbers = tuple(map(float, listed))
        return numbers * 3 if len(numbers) == 1 else numbers

    return read


def _anchor_scale(value: Any) -> float | tuple[float, ...]:
    if _is_number(value):
        return float(value)
    if not isinstance(value, list | tuple) or not all(map(_is_number, value)):
        raise _wrong("anchor_scale", value, "a number, or one for each level, as in 1*2*3*4*5")
    return tuple(map(float, value))


def _aspect_ratios(value: Any) -> tuple[Any, ...]:
    def is_pair(item: Any) -> bool:
        listed = isinstance(item, list | tuple) and len(item) == 2
        return listed and all(map(_is_number, item))

    listed = isinstance(value, list | tuple)
    if not listed or not all(_is_number(item) or is_pair(item) for item in value):
        raise _wrong(
            "aspect_ratios",
            value,
            "a list, as in 1.0*2.0*0.5, [1.0] for one, or [[1.4,0.7],[1.0,1.0]] for pairs of "
            "factors of width and height",
        )
    return tuple(float(item) if _is_number(item) else tuple(map(float, item)) for item in value)


def _image_size(value: Any) -> tuple[int, int]:
    """(height, width) in pixels, as the official ``utils.parse_image_size``."""
    size: tuple[Any, ...] = ()
    if type(value) is int:
        size = (value, value)
    elif isinstance(value, str) and (match := re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", value)):
        size = (int(match[2]), int(match[1]))
    elif isinstance(value, tuple | list) and len(value) == 2:
        size = tuple(value)
    if not (size and all(type(side) is int and 1 <= side <= MAX_SIDE for side in size)):
        raise _wrong(
            "image_size",
            value,
            f"one whole number for a square, a text WIDTHxHEIGHT, or in YAML a list [height, "
            f"width], of 1 to {MAX_SIDE} pixels ({SIZES})",
        )
    return size[0], size[1]


def _survival(value: Any) -> float | None:
    # As officially, 0 is none.
    if value is None or (_is_number(value) and value == 0):
        return None
    if not _is_number(value) or not 0 < value <= 1:
        raise _wrong("survival_prob", value, "a number above 0, at most 1, or None for none")
    return float(value)


def _activation(value: Any) -> Activation:
    if not isinstance(value, str) or value not in _ACTIVATIONS:
        meant = did_you_mean(value, _ACTIVATIONS) if isinstance(value, str) else ""
        raise _wrong(
            "act_type",
            value,
            f"one of {', '.join(_ACTIVATIONS)}{meant}; what others compute is not known here",
        )
    return _ACTIVATIONS[value]


def _fusion(value: Any, key: str = "fpn_weight_method") -> Fusion:
    if value is None or value == "":
        return Fusion.FAST_ATTENTION
    known = [fusion.value for fusion in Fusion]
    if value not in known:
        meant = did_you_mean(value, known) if isinstance(value, str) else ""
        raise _wrong(key, value, f"one of {', '.join(known)}{meant}")
    return Fusion(value)


def _backbone(value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong("backbone_name", value, "a name such as efficientnet-b0")
    return value


def _wiring(value: Any, levels: range) -> Wiring | None:
    if not value:
        return None
    if not isinstance(value, str) or value not in WIRINGS:
        meant = did_you_mean(value, WIRINGS) if isinstance(value, str) else ""
        raise _wrong("fpn_name", value, f"one of {', '.join(WIRINGS)}{meant}")
    wired = WIRINGS[value](levels)
    return None if wired == WIRINGS["bifpn"](levels) else wired


def _own_wiring(value: Any) -> tuple[Wiring, Fusion]:
    """The nodes of a cell, and how they join features."""
    known = {"nodes", "weight_method"}
    if not isinstance(value, Mapping) or not {"nodes"} <= set(value) <= known:
        raise _wrong("fpn_config", value, "nodes and weight_method")
    if not value.get("weight_method"):
        raise _wrong("fpn_config", value, "its weight_method too, such as fastattn")
    nodes = value["nodes"]
    wired = []
    for index, node in enumerate(nodes if isinstance(nodes, list | tuple) else [None]):
        sources = node.get("inputs_offsets") if isinstance(node, Mapping) else None
        named = isinstance(node, Mapping) and {"feat_level"} <= set(node) <= {
            "feat_level",
            "inputs_offsets",
            "weight_method",
        }
        if not named or not isinstance(sources, list | tuple):
            raise InputError(
                f"Node {index} of fpn_config is {node!r:.80}; give each node its feat_level and "
                f"inputs_offsets, as in {{feat_level: 6, inputs_offsets: [3, 4]}}.",
                Cause.OPTION,
            )
        wired.append((node["feat_level"], tuple(sources)))
    # An own method of a node is officially not looked at.
    return tuple(wired), _fusion(value["weight_method"], "fpn_config.weight_method")


def _suppression(base: Suppression, value: Any) -> Suppression:
    known = [item.name for item in fields(Suppression)]
    if not isinstance(value, Mapping):
        raise _wrong("nms_configs", value, f"a mapping of {', '.join(known)}")
    for name in value:
        if name not in known:
            meant = did_you_mean(str(name), known)
            raise InputError(
                f"nms_configs has {str(name)!r:.60}{meant}; give {', '.join(known)}.", Cause.OPTION
            )
    # As officially, no method is the hard one.
    changes = {**value, "method": value["method"] or "hard"} if "method" in value else value
    return replace(base, **changes)


_READ: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "image_size": _image_size,
        "num_classes": _whole("num_classes"),
        "label_map": read_labels,
        "anchor_scale": _anchor_scale,
        "aspect_ratios": _aspect_ratios,
        "num_scales": _whole("num_scales"),
        "min_level": _whole("min_level"),
        "max_level": _whole("max_level"),
        "act_type": _activation,
        "fpn_weight_method": _fusion,
        "fpn_cell_repeats": _whole("fpn_cell_repeats"),
        "fpn_num_filters": _whole("fpn_num_filters"),
        "box_class_repeats": _whole("box_class_repeats"),
        "separable_conv": _flag("separable_conv"),
        "conv_after_downsample": _flag("conv_after_downsample"),
        "conv_bn_act_pattern": _flag("conv_bn_act_pattern"),
        "apply_bn_for_resampling": _flag("apply_bn_for_resampling"),
        "survival_prob": _survival,
        "mean_rgb": _colours("mean_rgb"),
        "stddev_rgb": _colours("stddev_rgb"),
        "scale_range": _flag("scale_range"),
        "backbone_name": _backbone,
        "backbone_config": read_stages,
    }
)
"""How each value is read that stands for itself."""
