"""How far activations went, compared with what the statistics of a batch norm expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reach:
    """What a batch norm was given, in deviations: ``(x - mean) / sqrt(variance + epsilon)``.

    Attributes:
        spread: Root mean square over all elements; 1 where the input is as in training.
        largest: Largest magnitude.
    """

    spread: float
    largest: float


def reach(layer: Any, features: Tensor) -> Reach:
    """What a batch norm is given, by its own moving statistics.

    Args:
        layer: The batch norm.
        features: Its input, [N, C, H, W].
    """
    axes = (0, 2, 3)
    with torch.inference_mode():
        mean = layer.running_mean.double()
        deviation = torch.sqrt(layer.running_var.double() + layer.eps)
        low, high = torch.aminmax(features.flatten(2).transpose(0, 1).flatten(1), dim=1)
        far = torch.maximum((high - mean).abs(), (low - mean).abs()) / deviation
        variance, centre = torch.var_mean(features, axes, correction=0)
        squares = (variance.double() + (centre.double() - mean).square()) / deviation.square()
    return Reach(float(squares.mean().sqrt()), float(far.max()))
