"""How far errors of a node's inputs can change its output: bounds, element by element.

Where a candidate has no counterpart of a node, its next nodes work on the candidate's own
numbers, which may differ from the reference's by roundings. These bounds say by how much their
outputs may differ for that reason alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from efficientdet_spec import NodeKind

_SWISH_SLOPE = 1.0999
"""Largest slope of ``x * sigmoid(x)``, near x = 2.4 (1.09984)."""

_SIGMOID_SLOPE = 0.25
"""Largest slope of the sigmoid, at 0."""


def spread(
    kind: NodeKind, module: nn.Module, inputs: tuple[Any, ...], errors: Sequence[Tensor | None]
) -> Tensor:
    """The largest change of each output element for changes of the inputs within bounds.

    Args:
        kind: What the module computes.
        module: The layer of the faithful model.
        inputs: What it is given.
        errors: For each feature map among the inputs the largest change of each element; None
            for no change. One of them at least is given.

    Returns:
        [N, C, H, W], first order in the errors but for products, which are exact.
    """
    features = list(inputs[0]) if kind is NodeKind.FUSE else [x for x in inputs if _is_map(x)]
    bounds = [
        torch.zeros_like(x) if error is None else error.to(x.dtype)
        for x, error in zip(features, errors, strict=True)
    ]
    first = bounds[0]
    if kind is NodeKind.BATCH_NORM:
        bn: Any = module
        slope: Tensor = (bn.weight / torch.sqrt(bn.running_var + bn.eps)).abs()
        return first * slope.view(1, -1, 1, 1)
    if kind is NodeKind.ACTIVATION:
        return first * _SWISH_SLOPE
    if kind is NodeKind.GATE:
        return first * _SIGMOID_SLOPE
    if kind is NodeKind.SCALE:
        x, gate = features
        product: Tensor = first * gate.abs() + x.abs() * bounds[1] + first * bounds[1]
        return product
    if kind is NodeKind.ADD:
        return first + bounds[1]
    if kind is NodeKind.FUSE:
        # Shares are never negative, so that the fusion of bounds bounds the fusion.
        return torch.as_tensor(module(bounds, *inputs[1:]))
    if kind in (NodeKind.CONV, NodeKind.DEPTHWISE):
        # Without the bias, which does not change.
        state = {
            name: torch.zeros_like(value) if name == "bias" else value.detach().abs()
            for name, value in module.named_parameters()
        }
        return torch.as_tensor(functional_call(module, state, (first,)))
    # Means, maxima and copies change by no more than the mean, maximum and copy of the changes.
    return torch.as_tensor(module(first, *inputs[1:]))


def _is_map(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 4
