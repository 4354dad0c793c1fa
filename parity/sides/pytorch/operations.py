"""The faithful model's layers as operations on arrays."""

from __future__ import annotations

from collections.abc import Callable
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
from parity.sides.pytorch.hooks import flatten, nchw, nhwc
from parity.sides.stream import Array


def operation_of(kind: NodeKind, module: nn.Module, arguments: tuple[Any, ...]) -> Operation:
    """What a layer of the faithful model computes.

    Args:
        kind: What that is.
        module: The layer, on the CPU.
        arguments: What it is called with; of feature maps only their number matters.
    """
    layer: Any = module
    if kind in (NodeKind.CONV, NodeKind.DEPTHWISE):
        make = Depthwise if kind is NodeKind.DEPTHWISE else Convolution
        bias = None if layer.bias is None else _array(layer.bias)
        return make(_array(layer.weight), bias, layer.stride)
    if kind is NodeKind.BATCH_NORM:
        return BatchNorm(
            _array(layer.running_mean),
            _array(layer.running_var),
            _array(layer.weight),
            _array(layer.bias),
            layer.eps,
        )
    if kind is NodeKind.FUSE:
        maps, weights = arguments
        return WeightedSum(_shares(layer.fusion, len(maps), weights))
    if kind is NodeKind.ADD:
        return WeightedSum([1.0, 1.0])
    if kind is NodeKind.POOL:
        return MaxPool(arguments[1])
    if kind is NodeKind.UPSAMPLE:
        return Upsample(arguments[1])
    if kind is NodeKind.ACTIVATION:
        return ACTIVATIONS[layer.activation]()
    plain: dict[NodeKind, Callable[[], Operation]] = {
        NodeKind.GATE: Gate,
        NodeKind.MEAN: Mean,
        NodeKind.SCALE: Scale,
    }
    return plain[kind]()


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
    """By what each feature map is multiplied, in float64 (paper, section 3.3)."""
    if fusion is Fusion.SUM or weights is None:
        return np.ones(count)
    wide = weights.detach().double()
    if fusion is Fusion.SOFTMAX_ATTENTION:
        return _array(torch.softmax(wide, dim=0))
    shares = torch.relu(wide)
    return _array(shares / (shares.sum() + FUSION_EPSILON))
