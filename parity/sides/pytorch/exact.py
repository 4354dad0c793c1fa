"""Layers in float64: what a module would give on its inputs without the roundings of float32."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from parity.process.arrays import Array
from parity.sides.pytorch.hooks import same
from parity.sides.pytorch.nested import mapped


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

    def wide(value: Any) -> Any:
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return value.double() if floating else value

    return mapped(values, wide)


def own_exact(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    """What a candidate's layer would give without roundings on what it really read.

    The layer is computed again without its hooks, which may count calls or keep outputs. Only
    where that reproduces its output bit for bit is it known to be the whole of what it did: a
    layer with state, randomness or a hook that changes its output has no exact value of its own.

    Args:
        module: The candidate's layer, whatever it is.
        inputs: What it was given, as :class:`~parity.sides.pytorch.hooks.Inputs`.
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
