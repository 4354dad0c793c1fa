"""Where TensorFlow 2's object checkpoints keep the parameters: by path through Google's objects.

A path such as ``backbone/_blocks/0/_bn1/beta`` names the attributes and list positions that lead
from Google's Keras network (``EfficientDetNet``) to a variable. It does not depend on what else the
process has built, as variables' names do: a second model's stem is called ``stem_1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType

from converter.mappings.official import Pair, iterate_pairs
from efficientdet_spec import EfficientDetConfig

ROOTS = frozenset({"backbone", "fpn_cells", "class_net", "box_net"})
"""Attributes that the network has in any configuration, and by which it is known."""

_BACKBONE = MappingProxyType(
    {
        "stem_conv": "_stem/_conv_stem",
        "stem_bn": "_stem/_bn",
        "expand_conv": "_expand_conv",
        "expand_bn": "_bn0",
        "depthwise_conv": "_depthwise_conv",
        "depthwise_bn": "_bn1",
        "se.reduce_conv": "_se/_se_reduce",
        "se.expand_conv": "_se/_se_expand",
        "project_conv": "_project_conv",
        "project_bn": "_bn2",
    }
)
"""Layers of the stem and of a block: ours and Google's attribute. A block without an expansion has
no ``_bn0``, but keeps the names of the others."""

_HEADS = MappingProxyType(
    {"class_head": ("class_net", "classes"), "box_head": ("box_net", "boxes")}
)
"""Each head of ours: Google's attribute, and that of its last convolution."""

_RESAMPLED = MappingProxyType({"conv": "conv2d", "bn": "bn"})
_COMBINED = MappingProxyType({"conv": "conv_op", "bn": "bn"})

HEAD = "backbone/_head"
"""Where the backbone keeps the layers for ImageNet, which the detector does not run."""

_OTHERS = frozenset(
    {
        *("resample_layers", "cells", "fnodes", "op_after_combine", "conv_ops", "bns"),
        *("_blocks", "kernel", "depthwise_kernel", "pointwise_kernel", "bias"),
        *("gamma", "beta", "moving_mean", "moving_variance"),
    }
)
_COUNTED = re.compile(r"[0-9]+|WSM(_[0-9]+)?")

_FIRST_EXTRA_LEVEL = 6
"""The level of ``resample_layers/0``: Google's network counts from here whatever its levels are."""


def iterate_object_pairs(config: EfficientDetConfig) -> Iterator[Pair]:
    """Every pair of the model, as the official mapping has it, with paths for variables' names.

    Args:
        config: The model.
    """
    for pair in iterate_pairs(config):
        paths = tuple(_path(config, pair.parameter, variable) for variable in pair.variables)
        yield replace(pair, variables=paths)


def object_paths(config: EfficientDetConfig, part: str = "") -> Mapping[str, str]:
    """The path of every variable, with the variable's official name.

    Args:
        config: The model.
        part: What the names of the parameters begin with whose variables are wanted.
    """
    return {
        path: variable
        for theirs, ours in zip(iterate_object_pairs(config), iterate_pairs(config), strict=True)
        if ours.parameter.startswith(part)
        for path, variable in zip(theirs.variables, ours.variables, strict=True)
    }


@cache
def _parts() -> frozenset[str]:
    layers = (*_BACKBONE.values(), *_RESAMPLED.values(), *_COMBINED.values())
    heads = (part for head in _HEADS.values() for part in head)
    return ROOTS | _OTHERS | {part for layer in layers for part in layer.split("/")} | {*heads}


def is_part(name: str) -> bool:
    """Whether some model has a path with this part.

    Google's objects hold a variable under several paths, of which the others are no model's: a
    layer lists its variables a second time, and a SavedModel a third.

    Args:
        name: An attribute or a position.
    """
    return name in _parts() or _COUNTED.fullmatch(name) is not None


def _path(config: EfficientDetConfig, parameter: str, variable: str) -> str:
    """The path of one variable: its layer's, which ours tells, and its own name within that."""
    part, _, rest = parameter.partition(".")
    if part == "backbone":
        layer = f"backbone/{_in_backbone(rest)}"
    elif part == "fpn":
        layer = _in_fpn(rest)
    else:
        layer = _in_head(config, part, rest)
    return f"{layer}/{variable.rsplit('/', 1)[-1]}"


def _in_backbone(parameter: str) -> str:
    layer = parameter.rsplit(".", 1)[0]
    if not layer.startswith("blocks."):
        return _BACKBONE[layer]
    _, index, layer = layer.split(".", 2)
    return f"_blocks/{index}/{_BACKBONE[layer]}"


def _in_fpn(parameter: str) -> str:
    first, *parts = parameter.split(".")
    if first.startswith("resample_p"):
        index = int(first.removeprefix("resample_p")) - _FIRST_EXTRA_LEVEL
        return f"resample_layers/{index}/{_RESAMPLED[parts[0]]}"
    cell, _, node, kind, *parts = parts
    at = f"fpn_cells/cells/{cell}/fnodes/{node}"
    if kind == "weights":
        return at
    if kind == "resamples":
        return f"{at}/resample_layers/{parts[0]}/{_RESAMPLED[parts[1]]}"
    return f"{at}/op_after_combine/{_COMBINED[kind]}"


def _in_head(config: EfficientDetConfig, part: str, parameter: str) -> str:
    head, last = _HEADS[part]
    kind, *parts = parameter.split(".")
    if kind == "predict":
        return f"{head}/{last}"
    if kind == "convs":
        return f"{head}/conv_ops/{parts[0]}"
    level = int(parts[1].removeprefix("P"))
    return f"{head}/bns/{parts[0]}/{config.levels.index(level)}"
