"""Settings that a node is made with, held against those of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from efficientdet_spec import NodeKind, same_padding
from parity.lockstep.pairing import Pairing
from parity.sides.pytorch import FaithfulReferee

_WORDS = {
    NodeKind.CONV: "convolution",
    NodeKind.DEPTHWISE: "convolution",
    NodeKind.BATCH_NORM: "batch norm",
    NodeKind.POOL: "max-pool",
    NodeKind.UPSAMPLE: "up-sampling",
    NodeKind.MEAN: "mean",
}

_SIDES = {"padding": " (left, right, above, below)"}
"""What the numbers of a setting are, where that is not plain."""

_NEAR = 1e-9
"""Relative difference of two ways of writing one number."""


def settings_apart(pairing: Pairing, node: str) -> list[str]:
    """Sentences on the settings with which a candidate makes a node, where they are others.

    Args:
        pairing: What is compared.
        node: The node; those before it that do not show themselves are told of too.
    """
    referee = pairing.referee
    assert isinstance(referee, FaithfulReferee)
    told = []
    for name, settings in pairing.candidate.settings(node).items():
        apart = in_words(settings, due(referee, name))
        if apart:
            where = "" if name == node else f"{name}: "
            told.append(f"{where}its {_WORDS[referee.kinds[name]]} has {apart}")
    return told


def due(referee: FaithfulReferee, node: str) -> dict[str, Any]:
    """The settings that the model has at a node, in the same words as those of a candidate.

    Args:
        referee: The model.
        node: The node.
    """
    kind = referee.kinds[node]
    module: Any = referee.calls[node].module
    if kind is NodeKind.BATCH_NORM:
        return {"eps": float(module.eps), "training": False}
    if kind is NodeKind.UPSAMPLE:
        return {"mode": "nearest"}
    if kind is NodeKind.MEAN:
        return {"axes": ("height", "width")}
    if kind not in _WORDS:
        return {}
    sizes = referee.inputs_of[node][1:3]
    if kind is NodeKind.POOL:
        goals = referee.shapes[node][1:3]
        steps = [-(-size // goal) for size, goal in zip(sizes, goals, strict=True)]
        kernel = [step + 1 for step in steps]
        more: dict[str, Any] = {"padded with": float("-inf")}
    else:
        steps, kernel = [int(step) for step in module.stride], list(module.weight.shape[2:])
        more = {"groups": int(module.groups), "transposed": False, "padded with": 0.0}
    (top, bottom), (left, right) = (
        same_padding(size, k, step) for size, k, step in zip(sizes, kernel, steps, strict=True)
    )
    return {
        "kernel": tuple(kernel),
        "stride": tuple(steps),
        "dilation": (1, 1),
        "padding": (left, right, top, bottom),
        **more,
    }


def in_words(settings: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The settings that are not as they should be; empty where all are.

    Args:
        settings: A candidate's.
        expected: The model's.
    """
    return ", ".join(
        f"{name} {_shown(settings[name])} instead of {_shown(value)}{_SIDES.get(name, '')}"
        for name, value in expected.items()
        if name in settings and not _same(settings[name], value) and _acts(name, settings)
    )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or abs(one - other) <= _NEAR * abs(other)
    return bool(one == other)


def _acts(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a setting makes any difference: nothing is padded with anything without padding."""
    return name != "padded with" or any(settings.get("padding", ()))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, tuple):
        return str(value)
    if len(value) == 2 and all(isinstance(item, int) for item in value):
        return str(value[0]) if value[0] == value[1] else f"{value[0]}x{value[1]}"
    return " and ".join(value) if isinstance(value[0], str) else str(value)
