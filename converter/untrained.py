"""Whether the values chosen for a model look as they do before any training.

An exported file may hold each variable twice, once as its initialiser made it; and a network that
was never trained can be saved like any other. Nothing is refused for it: it is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from converter.mappings.layouts import Array

INITIAL_CLASS_BIAS = -math.log((1 - 0.01) / 0.01)
"""What the official initialiser sets the class bias to, so that each class has the probability 0.01
at first (``class_net`` of google/automl's ``efficientdet_arch.py``): -4.59511985013459."""

_INITIAL_SCALE = 1.0
_SCALE, _VARIANCE = ".weight", ".running_var"
_CLASS_BIASES = ("class_head.predict.pointwise.bias", "class_head.predict.bias")
"""The parameter of a separable convolution, and of a whole one."""


def untrained_notes(arrays: Mapping[str, Array]) -> tuple[str, ...]:
    """What looks untrained of a model's values, a sentence each; none where nothing does.

    Args:
        arrays: By parameter, of a whole model or of a part; no other than the scales of batch norms
            and the class bias is looked at.
    """
    return (*_scales(arrays), *_class_bias(arrays))


def _scales(arrays: Mapping[str, Array]) -> list[str]:
    norms = [name.removesuffix(_VARIANCE) for name in arrays if name.endswith(_VARIANCE)]
    found = [arrays[norm + _SCALE] for norm in norms if norm + _SCALE in arrays]
    if not found or not all(bool((array == _INITIAL_SCALE).all()) for array in found):
        return []
    return [
        f"The values look untrained: the scale (gamma) of every one of {len(found)} batch norms is "
        f"exactly 1, which training starts from."
    ]


def _class_bias(arrays: Mapping[str, Array]) -> list[str]:
    bias = next((arrays[name] for name in _CLASS_BIASES if name in arrays), None)
    if bias is None or not bias.size or not bool((bias == bias.flat[0]).all()):
        return []
    value = bias.flat[0]
    if np.float32(value) == np.float32(INITIAL_CLASS_BIAS):
        return [
            f"The values look untrained: all {bias.size} class biases are {value:.4f}, which "
            f"training starts from (a probability of 0.01)."
        ]
    if bias.size == 1:
        return []
    return [
        f"The values look untrained: all {bias.size} class biases are {value:.4g}, alike as no "
        f"training leaves them."
    ]
