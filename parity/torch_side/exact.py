"""Exact values: what a node would give on its inputs if its arithmetic had no roundings.

Computed in float64, whose own roundings are 2**29 times smaller than those of float32. Large
tensors are worked through in slabs of rows, so that float64 copies of inputs stay small.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from efficientdet_spec import NodeKind
from parity.stream import Array
from parity.torch_side.hooks import same

_SLAB = 1 << 22
"""Elements of the output that are computed together."""

_ROWWISE = (
    NodeKind.BATCH_NORM,
    NodeKind.ACTIVATION,
    NodeKind.GATE,
    NodeKind.SCALE,
    NodeKind.ADD,
    NodeKind.FUSE,
)
_SELECTIONS = (NodeKind.POOL, NodeKind.UPSAMPLE)


def in_double(
    module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any] | None = None
) -> Any:
    """A module's output with its inputs, parameters and buffers in float64."""
    state = {
        # A counter of batches would count this one.
        name: tensor.double() if tensor.is_floating_point() else tensor.clone()
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]
    }
    keywords = {name: as_double(value) for name, value in (named or {}).items()}
    return functional_call(module, state, as_double(inputs), keywords)


def as_double(values: Any) -> Any:
    """Nested values with their floating-point tensors in float64."""
    if isinstance(values, Tensor):
        return values.double() if values.is_floating_point() else values
    if isinstance(values, (list, tuple)):
        return type(values)(as_double(item) for item in values)
    return values


def own_exact(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    """What a candidate's layer would give without roundings on what it really read.

    The layer is computed again without its hooks, which may count calls or keep outputs. Only
    where that reproduces its output bit for bit is it known to be the whole of what it did: a
    layer with state, randomness or a hook that changes its output has no exact value of its own.

    Args:
        module: The candidate's layer, whatever it is.
        inputs: What it was given, as :class:`~parity.torch_side.hooks.Inputs`.
        output: What it made of it.

    Returns:
        The exact output on the CPU; None where there is none.
    """
    read, named = _as_read(inputs)
    try:
        with torch.no_grad(), without_hooks(module):
            again = module(*copy.deepcopy(read), **copy.deepcopy(named))
            if not isinstance(again, Tensor) or not same(again, output):
                return None
            truth = in_double(module, copy.deepcopy(read), copy.deepcopy(named))
    except Exception:
        # Whatever a foreign layer raises in another type, it says nothing about its function.
        return None
    if not isinstance(truth, Tensor) or truth.shape != output.shape:
        return None
    return truth.detach().cpu()


def _as_read(inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return getattr(inputs, "read", inputs), getattr(inputs, "named", {})


@contextmanager
def without_hooks(module: nn.Module) -> Iterator[None]:
    """Within it no hook of a layer or of its parts fires."""
    names = ("_forward_hooks", "_forward_pre_hooks")
    kept = [(part, name, getattr(part, name)) for part in module.modules() for name in names]
    for part, name, _ in kept:
        setattr(part, name, OrderedDict())
    try:
        yield
    finally:
        for part, name, hooks in kept:
            setattr(part, name, hooks)


def terms(kind: NodeKind, module: nn.Module, inputs: tuple[Any, ...]) -> int:
    """Number of values that one output element sums up; 1 where it is no sum of many.

    Args:
        kind: What the faithful layer computes.
        module: The faithful layer.
        inputs: What it is given.
    """
    if kind is NodeKind.MEAN:
        return int(inputs[0].shape[2:].numel())
    if kind in (NodeKind.CONV, NodeKind.DEPTHWISE):
        conv: Any = module
        return int(conv.weight[0].numel()) + (conv.bias is not None)
    return 1


def exact(kind: NodeKind, module: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
    """The exact output of a layer of the faithful model.

    Args:
        kind: What it computes.
        module: The layer.
        inputs: What it is given.

    Returns:
        [N, C, H, W] in float64; of a selection, which has no roundings, in the inputs' type.
    """
    if kind in _SELECTIONS:
        result: Tensor = module(*inputs)
        return result
    x: Any = inputs[0][0] if kind is NodeKind.FUSE else inputs[0]
    if kind is NodeKind.MEAN:
        mean: Tensor = x.mean((2, 3), keepdim=True, dtype=torch.float64)
        return mean
    if kind is NodeKind.DEPTHWISE:
        return _depthwise(module, x)
    conv: Any = module
    pointwise = kind is NodeKind.CONV and set((*conv.kernel_size, *conv.stride)) == {1}
    if kind in _ROWWISE or pointwise:
        channels = conv.out_channels if pointwise else x.shape[1]
        return _by_rows(
            lambda rows: in_double(module, _rows(inputs, rows)),
            (x.shape[0], channels, *x.shape[2:]),
        )
    result = in_double(module, inputs)
    return result


def _by_rows(compute: Callable[[slice], Tensor], shape: tuple[int, ...]) -> Tensor:
    batch, channels, height, width = shape
    step = max(1, _SLAB // (batch * channels * width))
    if step >= height:
        return compute(slice(0, height))
    result = torch.empty(shape, dtype=torch.float64, memory_format=torch.channels_last)
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        result[:, :, rows] = compute(rows)
    return result


def _rows(values: Any, rows: slice) -> Any:
    """Nested values with these rows of their feature maps; gates and weights stay as they are."""
    if isinstance(values, Tensor):
        # A gate has one row for all of the features', whose slab starts with it.
        return values[:, :, rows] if values.dim() == 4 and values.shape[2] > 1 else values
    if isinstance(values, (list, tuple)):
        return type(values)(_rows(item, rows) for item in values)
    return values


def _depthwise(module: Any, x: Tensor) -> Tensor:
    """Depthwise convolution as a sum over the kernel's taps, which is several times faster.

    The padding is TensorFlow's SAME, as in the faithful layer: see ``tf.nn``, notes on padding.
    """
    kernel, stride = module.kernel_size, module.stride
    sizes = [-(-size // step) for size, step in zip(x.shape[2:], stride, strict=True)]
    pads = [
        max((out - 1) * step + k - size, 0)
        for out, step, k, size in zip(sizes, stride, kernel, x.shape[2:], strict=True)
    ]
    top, left = pads[0] // 2, pads[1] // 2
    padded = F.pad(x, (left, pads[1] - left, top, pads[0] - top))
    weight = module.weight.double()
    start = 0.0 if module.bias is None else module.bias.double().view(1, -1, 1, 1)

    def compute(rows: slice) -> Tensor:
        first = rows.start * stride[0]
        slab = padded[:, :, first : (rows.stop - 1) * stride[0] + kernel[0]].double()
        result = torch.zeros(
            (x.shape[0], x.shape[1], rows.stop - rows.start, sizes[1]),
            dtype=torch.float64,
        ).contiguous(memory_format=torch.channels_last)
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                tap = slab[:, :, i :: stride[0], j :: stride[1]]
                tap = tap[:, :, : result.shape[2], : sizes[1]]
                result.addcmul_(tap, weight[:, 0, i, j].view(1, -1, 1, 1))
        return result.add_(start)

    return _by_rows(compute, (x.shape[0], x.shape[1], *sizes))


def copy_in_double(module: nn.Module) -> nn.Module:
    """A layer with its parameters in float64."""
    return copy.deepcopy(module).double()


def alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two layers are of one class and their parameters have equal or transposed shapes."""
    return type(one) is type(other) and _shapes(one) == _shapes(other) != []


def _shapes(module: nn.Module) -> list[list[int]]:
    parameters = [*module.named_parameters(), *module.named_buffers()]
    return [sorted(value.shape) for name, value in parameters if name != "bias"]


def parameters_of(path: str, module: nn.Module, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """A layer's parameters out of the arrays of a whole model; empty where it has none there.

    Args:
        path: The layer's.
        module: The layer.
        arrays: By name, in PyTorch's layout.
    """
    names = [name for name, _ in [*module.named_parameters(), *module.named_buffers()]]
    return {
        name: torch.from_numpy(arrays[f"{path}.{name}"].copy())
        for name in names
        if f"{path}.{name}" in arrays
    }


def statistics(layer: Any) -> tuple[Array, Array]:
    """A batch norm's moving mean, and its deviation with epsilon, each [C] in float64."""
    mean: Array = layer.running_mean.detach().double().cpu().numpy()
    variance: Array = layer.running_var.detach().double().cpu().numpy()
    deviation: Array = np.sqrt(variance + layer.eps)
    return mean, deviation
