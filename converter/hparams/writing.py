"""From a configuration to official hyperparameters: the way back of :mod:`.applying`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from enum import Enum
from typing import Any

from converter.hparams.applying import apply
from converter.hparams.override import parse_text
from efficientdet_spec import (
    OFFICIAL_KEYS,
    EfficientDetConfig,
    InputError,
    base_model,
    field_of,
    get_config,
)
from efficientdet_spec.backbones import StageSpec
from efficientdet_spec.wiring import WIRINGS, Wiring

LONGEST_LINE = 240
"""Letters that hyperparameters may have to be written behind an option; a file is better then."""


def official_values(config: EfficientDetConfig, stated: Collection[str] = ()) -> Mapping[str, Any]:
    """What :func:`apply` makes a model of, for a ``config.yaml`` that the official code reads too.

    That is ``name`` and every key whose value is otherwise than in the model of that name. A
    variant has the name of its model, as in its own official ``config.yaml``; what makes it the
    variant is there with its value, so that it does not depend on where the file lies. Only
    ``backbone_config`` is read by no official code, in whatever form.

    Args:
        config: The model.
        stated: Official keys that are written although their values are those of the model.

    Returns:
        Plain values by official key. ``image_size`` is a number, or a text WIDTHxHEIGHT, which is
        neither ambiguous nor special to one language.
    """
    known = _known(config.name)
    keys = {key for key in map(_key, fields(config)) if _differs(key, config, known)}
    keys |= set(stated)
    keys.discard("name")
    values: dict[str, Any] = {"name": base_model(config.name)}
    if "fpn_name" in keys and config.fpn_nodes is not None and not _wiring_name(config):
        keys -= {"fpn_name", "fpn_weight_method"}
        values["fpn_config"] = {
            "nodes": _nodes(config.fpn_nodes),
            "weight_method": config.fusion.value,
        }
    for key in map(_key, fields(config)):
        if key in keys:
            values[key] = _official(key, config, known)
    return values


def _key(item: Any) -> str:
    return OFFICIAL_KEYS.get(item.name, item.name)


def _known(name: str) -> tuple[EfficientDetConfig, ...]:
    """The models that a reader may begin with: that of the name, and the one it is a variant of."""
    try:
        return get_config(base_model(name)), get_config(name)
    except InputError:
        return ()


def _differs(key: str, config: EfficientDetConfig, known: tuple[EfficientDetConfig, ...]) -> bool:
    """Whether a value has to be written: always for a model of a name that nobody knows."""
    field = field_of(key)
    return not known or any(getattr(one, field) != getattr(config, field) for one in known)


def _official(key: str, config: EfficientDetConfig, known: tuple[EfficientDetConfig, ...]) -> Any:
    value = getattr(config, field_of(key))
    if key == "image_size":
        height, width = value
        return height if height == width else f"{width}x{height}"
    if key == "fpn_name":
        return _wiring_name(config)
    if key == "backbone_config":
        return None if value is None else {"blocks": [_block(stage) for stage in value]}
    if key == "label_map":
        return dict(value) or None
    if key == "nms_configs":
        own = asdict(value)
        changed = {
            name: part
            for name, part in own.items()
            if any(getattr(one.suppression, name) != part for one in known)
        }
        return changed or own
    if key in ("mean_rgb", "stddev_rgb") and len(set(value)) == 1:
        return value[0]
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _wiring_name(config: EfficientDetConfig) -> str | None:
    """The official name of how nodes are wired; None where they have to be listed."""
    if config.fpn_nodes is None:
        return "bifpn"
    usual = WIRINGS["bifpn"](config.levels)
    named = {name: wire(config.levels) for name, wire in WIRINGS.items()}
    # A usual cell that is listed stays listed.
    return next((name for name, nodes in named.items() if nodes == config.fpn_nodes != usual), None)


def _nodes(wiring: Wiring) -> list[dict[str, Any]]:
    return [{"feat_level": level, "inputs_offsets": list(sources)} for level, sources in wiring]


def _block(stage: StageSpec) -> dict[str, Any]:
    """A stage as the official ``BlockArgs``."""
    return {
        "kernel_size": stage.kernel,
        "num_repeat": stage.repeats,
        "input_filters": stage.input_channels,
        "output_filters": stage.output_channels,
        "expand_ratio": stage.expansion,
        "id_skip": stage.has_skip,
        "strides": [stage.stride, stage.stride],
        "se_ratio": stage.squeeze_ratio,
    }


def line_of(values: Mapping[str, Any]) -> str | None:
    """Hyperparameters as ``--hparams`` takes them; None where they belong into a file.

    Args:
        values: By official key, as of :func:`official_values`.
    """
    pairs = []
    for key, value in values.items():
        nested = value if isinstance(value, Mapping) else {"": value}
        pairs += [
            f"{key}.{name}={_text(part)}" if name else f"{key}={_text(part)}"
            for name, part in nested.items()
        ]
    line = ",".join(pairs)
    try:
        readable = len(line) <= LONGEST_LINE and parse_text(line) == values
    except InputError:
        return None
    # Quotes would end those that stand around it.
    return line if readable and "'" not in line else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and len(value) > 1 and not any(isinstance(x, list) for x in value):
        return "*".join(map(_text, value))
    # Without blanks, at which a terminal's lines are broken.
    return value if isinstance(value, str) else repr(value).replace(", ", ",")


def reads_as(values: Mapping[str, Any], config: EfficientDetConfig) -> bool:
    """Whether official hyperparameters say just what a model is.

    Args:
        values: By official key.
        config: The model.
    """
    known = _known(config.name) or (config,)
    try:
        return all(_alike(apply(one, values), config) for one in known)
    except InputError:
        return False


def _alike(one: EfficientDetConfig, other: EfficientDetConfig) -> bool:
    """Whether two models are the same but for what they are called."""
    return all(
        getattr(one, item.name) == getattr(other, item.name)
        for item in fields(one)
        if item.name != "name"
    )
