"""A model's hyperparameters as users write them: under official names, with official values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from types import MappingProxyType
from typing import Any

from efficientdet_spec.backbones import StageSpec
from efficientdet_spec.family import base_model
from efficientdet_spec.models import EfficientDetConfig
from efficientdet_spec.texts import printable, shortened
from efficientdet_spec.wiring import WIRINGS, Wiring, bifpn

OFFICIAL_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "fpn_channels": "fpn_num_filters",
        "fpn_cells": "fpn_cell_repeats",
        "head_repeats": "box_class_repeats",
        "fusion": "fpn_weight_method",
        "head_survival_probability": "survival_prob",
        "activation": "act_type",
        "fpn_nodes": "fpn_name",
        "conv_bn_act": "conv_bn_act_pattern",
        "resample_bn": "apply_bn_for_resampling",
        "backbone_stages": "backbone_config",
        "suppression": "nms_configs",
    }
)
"""Official names of a configuration's fields, where they are others than the fields'."""

_FIELDS: Mapping[str, str] = MappingProxyType({key: name for name, key in OFFICIAL_KEYS.items()})

_MOST_LETTERS = 200


def field_of(key: str) -> str:
    """The field of a configuration that an official hyperparameter is.

    Args:
        key: Its official name.
    """
    return _FIELDS.get(key, key)


@dataclass(frozen=True)
class Contradiction:
    """A hyperparameter in which two models differ.

    Attributes:
        key: Its official name, such as ``fpn_weight_method`` or ``nms_configs.sigma``.
        ours: The first model's value as it is written behind ``--hparams key=``, or what tells it
            from the other where it is too long to be written there.
        theirs: The second model's, likewise.
    """

    key: str
    ours: str
    theirs: str


def first_difference(ours: EfficientDetConfig, theirs: EfficientDetConfig) -> Contradiction | None:
    """The first hyperparameter in which two models differ; None where none does.

    A variant and its model with the variant's values are the same, whichever name they have;
    names of classes are no part of what a model computes, and cells of which each node is listed
    are no others than the same ones under their name.

    Args:
        ours: A model.
        theirs: Another.
    """
    for field in (item.name for item in fields(EfficientDetConfig)):
        if field == "label_map" or (field == "name" and _same_name(ours, theirs)):
            continue
        tell = _TOLD.get(field)
        if getattr(ours, field) == getattr(theirs, field):
            continue
        found = _plainly(field, ours, theirs) if tell is None else tell(ours, theirs)
        if found is not None:
            return found
    return None


def _same_name(ours: EfficientDetConfig, theirs: EfficientDetConfig) -> bool:
    return base_model(ours.name) == base_model(theirs.name)


def _plainly(field: str, ours: EfficientDetConfig, theirs: EfficientDetConfig) -> Contradiction:
    key = OFFICIAL_KEYS.get(field, field)
    return Contradiction(key, _text(getattr(ours, field)), _text(getattr(theirs, field)))


def _text(value: Any) -> str:
    """A value as ``--hparams`` takes it."""
    return shortened(_written(value), _MOST_LETTERS)


def _written(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{','.join(map(_written, value))}]"
    return printable(value) if isinstance(value, str) else repr(value)


def _size(ours: EfficientDetConfig, theirs: EfficientDetConfig) -> Contradiction:
    def words(height: int, width: int) -> str:
        return f"{width}x{height}" + (" (WxH)" if height != width else "")

    return Contradiction("image_size", words(*ours.image_size), words(*theirs.image_size))


def _suppression(ours: EfficientDetConfig, theirs: EfficientDetConfig) -> Contradiction:
    both = ours.suppression, theirs.suppression
    name = next(
        item.name
        for item in fields(both[0])
        if getattr(both[0], item.name) != getattr(both[1], item.name)
    )
    first, second = (_text(getattr(item, name)) for item in both)
    return Contradiction(f"nms_configs.{name}", first, second)


def _wiring(ours: EfficientDetConfig, theirs: EfficientDetConfig) -> Contradiction | None:
    """How nodes are wired, where the levels are the same."""
    wired = [model.fpn_nodes or bifpn(model.levels) for model in (ours, theirs)]
    if wired[0] == wired[1]:
        return None
    named = [_wiring_name(nodes, ours.levels) for nodes in wired]
    if None not in named:
        return Contradiction("fpn_name", str(named[0]), str(named[1]))

    def words(index: int) -> str:
        return named[index] or f"of {len(wired[index])} nodes"

    first, second = words(0), words(1)
    if first == second:
        number, *nodes = _unlike(wired[0], wired[1])
        first, second = (
            f"with node {number} {{feat_level: {level}, inputs_offsets: {list(sources)}}}"
            for level, sources in nodes
        )
    return Contradiction("fpn_config", first, second)


def _wiring_name(nodes: Wiring, levels: range) -> str | None:
    return next((name for name, wire in WIRINGS.items() if wire(levels) == nodes), None)


def _stages(ours: EfficientDetConfig, theirs: EfficientDetConfig) -> Contradiction:
    stages = ours.backbone_stages, theirs.backbone_stages
    first, second = ("None" if own is None else f"of {len(own)} blocks" for own in stages)
    if first == second:
        number, *unlike = _unlike(stages[0] or (), stages[1] or ())
        first, second = (f"with block {number} {_block(stage)}" for stage in unlike)
    return Contradiction("backbone_config", first, second)


def _block(stage: StageSpec) -> str:
    """A stage in the official letters."""
    ratio = stage.squeeze_ratio
    parts = (
        f"r{stage.repeats}_k{stage.kernel}_s{stage.stride}{stage.stride}_e{stage.expansion}",
        f"_i{stage.input_channels}_o{stage.output_channels}",
        "" if ratio is None else f"_se{ratio}",
        "" if stage.has_skip else "_noskip",
    )
    return "".join(parts)


def _unlike(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> tuple[int, Any, Any]:
    """Position and values of the first difference of two sequences as long as each other."""
    return next(
        (index, first, second)
        for index, (first, second) in enumerate(zip(ours, theirs, strict=True))
        if first != second
    )


_Tell = Callable[[EfficientDetConfig, EfficientDetConfig], Contradiction | None]
_TOLD: Mapping[str, _Tell] = MappingProxyType(
    {
        "image_size": _size,
        "suppression": _suppression,
        "fpn_nodes": _wiring,
        "backbone_stages": _stages,
    }
)
"""How the fields are told whose values do not stand for themselves, by their name."""
