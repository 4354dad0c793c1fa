"""The faithful model's layers as operations on arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from efficientdet_spec import FUSION_EPSILON, Fusion, NodeKind
from parity.judge.operations import (
    ACTIVATIONS,
    BatchNorm,
    Convolution,
    Depthwise,
    Gate,
    MaxPool,
    Mean,
    Operation,
    Scale,
    Upsample,
    WeightedSum,
)
from parity.process.arrays import Array
from parity.sides.pytorch.hooks import nchw, nhwc
from parity.sides.pytorch.nested import flatten


def operation_of(kind: NodeKind, module: nn.Module, arguments: tuple[Any, ...]) -> Operation:
    """What a layer of the faithful model computes.

    Args:
        kind: What that is.
        module: The layer, on the CPU.
        arguments: What it is called with; of feature maps only their number matters.
    """
    return _MAKERS[kind](module, arguments)


def _convolution(layer: Any, arguments: tuple[Any, ...]) -> Operation:
    return Convolution(*_kernel(layer))


def _depthwise(layer: Any, arguments: tuple[Any, ...]) -> Operation:
    return Depthwise(*_kernel(layer))


def _kernel(layer: Any) -> tuple[Array, Array | None, tuple[int, int]]:
    bias = None if layer.bias is None else _array(layer.bias)
    return _array(layer.weight), bias, layer.stride


def _batch_norm(layer: Any, arguments: tuple[Any, ...]) -> Operation:
    parameters = (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    mean, variance, gamma, beta = map(_array, parameters)
    return BatchNorm(mean, variance, gamma, beta, layer.eps)


def _fuse(layer: Any, arguments: tuple[Any, ...]) -> Operation:
    maps, weights = arguments
    return WeightedSum(_shares(layer.fusion, len(maps), weights))


_MAKERS: Mapping[NodeKind, Callable[[Any, tuple[Any, ...]], Operation]] = {
    NodeKind.CONV: _convolution,
    NodeKind.DEPTHWISE: _depthwise,
    NodeKind.BATCH_NORM: _batch_norm,
    NodeKind.ACTIVATION: lambda layer, arguments: ACTIVATIONS[layer.activation](),
    NodeKind.GATE: lambda layer, arguments: Gate(),
    NodeKind.MEAN: lambda layer, arguments: Mean(),
    NodeKind.SCALE: lambda layer, arguments: Scale(),
    NodeKind.ADD: lambda layer, arguments: WeightedSum([1.0, 1.0]),
    NodeKind.FUSE: _fuse,
    NodeKind.POOL: lambda layer, arguments: MaxPool(arguments[1]),
    NodeKind.UPSAMPLE: lambda layer, arguments: Upsample(arguments[1]),
}
"""What makes the operation of each kind, of a layer and what it is called with."""


def expected(
    kind: NodeKind, module: nn.Module, arguments: tuple[Any, ...]
) -> tuple[Tensor, Tensor]:
    """What a layer of the faithful model should make of some tensors.

    Args:
        kind: What it computes.
        module: The layer, on the CPU.
        arguments: What it is called with.

    Returns:
        The exact output and the magnitude on which its roundings act, each [N, C, H, W].
    """
    operation = operation_of(kind, module, arguments)
    truth, gauge = operation.whole(feature_maps(arguments))
    return nchw(truth), nchw(gauge)


def feature_maps(arguments: Any) -> list[Array]:
    """The feature maps among a layer's arguments, NHWC."""
    maps = [tensor for tensor in flatten(arguments) if tensor.dim() == 4]
    return [np.ascontiguousarray(nhwc(tensor)) for tensor in maps]


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array


def _shares(fusion: Fusion, count: int, weights: Tensor | None) -> Array:
    """By what each feature map is multiplied, or each of its channels; in float64.

    Source: EfficientDet (arXiv 1911.09070), section 3.3.
    """
    if fusion is Fusion.SUM or weights is None:
        return np.ones(count)
    wide = weights.detach().double()
    if fusion.is_softmax:
        return _array(torch.softmax(wide, dim=0))
    shares = torch.relu(wide)
    return _array(shares / (shares.sum(dim=0) + FUSION_EPSILON))
