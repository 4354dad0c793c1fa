"""Tensors in nested lists, tuples and mappings, and which of them can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch._C import DisableTorchFunctionSubclass

_TYPES = frozenset(
    getattr(torch, name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("bfloat16", "float16", "float32", "float64", "complex64", "complex128"),
    )
    if hasattr(torch, name)
)
"""Types of numbers that can be calculated with."""


_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers by size in bytes."""


def flatten(values: Any) -> list[Tensor]:
    """The tensors in nested lists, tuples and mappings, in order."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, (list, tuple)):
        return []
    return [tensor for item in values for tensor in flatten(item)]


def mapped(values: Any, change: Callable[[Any], Any]) -> Any:
    """Nested values with something else in the place of each that is no list, tuple or mapping.

    Args:
        values: Lists, tuples, named ones included, and mappings of whatever there is.
        change: What takes a value's place.
    """
    if isinstance(values, dict):
        return {name: mapped(value, change) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return _like(values, (mapped(value, change) for value in values))
    return change(values)


def _like(values: Any, items: Iterable[Any]) -> Any:
    """A list or tuple of other items, of the type of another where that can be made of items."""
    plain = list(items)
    try:
        return values._make(plain) if hasattr(values, "_make") else type(values)(plain)
    except Exception:
        # A type of the user's own may be made in any way.
        return plain if isinstance(values, list) else tuple(plain)


def copies(values: Any) -> Any:
    """Nested values with copies of their tensors, but of those that cannot be looked at."""

    def copied(value: Any) -> Any:
        return value.clone() if isinstance(value, Tensor) and not unreadable(value) else value

    return mapped(values, copied)


def unreadable(tensor: Tensor) -> str | None:
    """What sort of tensor this is, where nothing can be calculated with its values.

    Args:
        tensor: Of any sort.

    Returns:
        The sort, to follow "a tensor that is"; None where it is a plain one.
    """
    with DisableTorchFunctionSubclass():
        if tensor.is_nested:
            return "nested"
        if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
            return f"a {type(tensor).__name__}"
        if tensor.layout is not torch.strided:
            return str(tensor.layout).removeprefix("torch.")
        if tensor.is_meta:
            return "meta"
        if tensor.is_quantized:
            return "quantized"
        if tensor.dtype not in _TYPES:
            return f"of type {str(tensor.dtype).removeprefix('torch.')}"
    return None


def bits(tensor: Tensor) -> Tensor:
    """A tensor's elements as whole numbers of their size, which share its memory.

    Args:
        tensor: Of real numbers, with memory that can be looked at.
    """
    return plain(tensor).detach().view(_WHOLE[tensor.element_size()])


def plain(tensor: Tensor) -> Tensor:
    """A tensor that can be looked at as one without what its own class makes of operations."""
    if type(tensor) is Tensor:
        return tensor
    with DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)
