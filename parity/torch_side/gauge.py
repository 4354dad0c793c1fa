"""The magnitudes on which the roundings of a node act."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from efficientdet_spec import NodeKind


def gauge(kind: NodeKind, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """The magnitude on which the roundings of each output element act.

    For a sum of products that is the sum of the products' magnitudes, which the module itself
    gives for the magnitudes of its inputs and parameters. A selection is judged relative to its
    output. A function ``f(x)`` of one value is too, or relative to ``x f'(x)`` where that is more:
    an exponential reduces its argument to the range that it approximates, which rounds it
    (``x * sigmoid(x)`` at -30 moves by 29 roundings of itself for one of x).

    Values below the smallest normal number may be flushed to zero, by either side, on the way in
    or out. Magnitudes are raised by :func:`_underflow` so that this counts as rounding; it
    changes nothing where values are normal.

    Args:
        kind: What the module computes.
        module: The module.
        inputs: Its inputs, of the type whose roundings are meant.
        output: Its output, possibly in a wider type.
    """
    features: Tensor = inputs[0][0] if kind is NodeKind.FUSE else inputs[0]
    if kind in (NodeKind.POOL, NodeKind.UPSAMPLE):
        return output.abs()
    if kind in (NodeKind.ACTIVATION, NodeKind.GATE):
        # An underflowing sigmoid leaves an error times |x| in x * sigmoid(x).
        raised = features.abs().clamp_(min=1.0).mul_(_underflow(features))
        made = output.to(features.dtype, copy=True)
        # Of y = x s with the sigmoid s the slope is s + y (1 - s), of s itself s (1 - s).
        gate = made if kind is NodeKind.GATE else torch.sigmoid(features)
        conditioned = (1 - gate).mul_(features)
        if kind is NodeKind.ACTIVATION:
            conditioned.add_(1)
        conditioned.mul_(made).abs_()
        return raised.add_(torch.maximum(conditioned, made.abs_()))
    if kind is NodeKind.BATCH_NORM:
        result = _batch_norm_gauge(module, _magnitude(inputs[0]))
    elif kind is NodeKind.FUSE:
        maps, weights = inputs
        # Fusion weights act through relu or softmax, which are never negative.
        result = functional_call(module, {}, ([_magnitude(x) for x in maps], weights))
    else:
        parameters = {name: value.detach().abs() for name, value in module.named_parameters()}
        result = functional_call(module, parameters, tuple(_magnitude(x) for x in inputs))
    return result.add_(_underflow(features))


def _underflow(like: Tensor) -> float:
    """The magnitude one rounding of which is the smallest normal number."""
    kind = torch.finfo(like.dtype)
    return kind.tiny / (kind.eps / 2)


def _magnitude(x: Tensor) -> Tensor:
    return x.abs().add_(_underflow(x))


def _batch_norm_gauge(module: Any, magnitude: Tensor) -> Tensor:
    """``|x s| + |mean s| + |beta|`` with ``s = gamma / sqrt(variance + epsilon)``."""
    scale = (module.weight / torch.sqrt(module.running_var + module.eps)).abs()
    offset = (module.running_mean * scale).abs() + module.bias.abs()
    shape = (1, -1, 1, 1)
    return magnitude.mul_(scale.view(shape)).add_(offset.view(shape))
