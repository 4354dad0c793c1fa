"""Which node each tensor of a running candidate comes from."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from parity.sides.pytorch.nested import bits, flatten, unreadable

_SAMPLES = 64
"""Elements by which a tensor is known again, besides the sum of all."""


class Provenance:
    """Remembers which node each tensor came from, without keeping it alive."""

    def __init__(self) -> None:
        self._nodes: dict[int, tuple[weakref.ref[Tensor], str, int]] = {}
        self._replaced: dict[tuple[Any, ...], str] = {}

    def add(self, tensor: Tensor, node: str) -> None:
        """Remember where a tensor came from."""
        self._nodes[id(tensor)] = (weakref.ref(tensor), node, _version(tensor))

    def replaced(self, own: tuple[Any, ...] | None, instead: Tensor, node: str) -> None:
        """Remember what a node made before another tensor took its place.

        Args:
            own: The :func:`fingerprint` of what it made.
            instead: What took its place.
            node: The node.
        """
        if own is not None and own != fingerprint(instead):
            self._replaced[own] = node

    def of(self, values: Any) -> tuple[str | None, ...]:
        """The node of each tensor in nested values; None for a tensor of unknown origin."""
        found = []
        for tensor in flatten(values):
            reference, node, version = self._nodes.get(id(tensor), (None, "", 0))
            known = reference is not None and reference() is tensor and _version(tensor) == version
            found.append(node if known else None)
        return tuple(found)

    def overwritten(self, values: Any) -> tuple[str, ...]:
        """The nodes of those tensors in nested values that have been written to since."""
        found = []
        for tensor in flatten(values):
            reference, node, version = self._nodes.get(id(tensor), (None, "", 0))
            if reference is not None and reference() is tensor and _version(tensor) != version:
                found.append(node)
        return tuple(found)

    def outdated(self, values: Any) -> tuple[str, ...]:
        """The nodes of those tensors that equal what a node made before it was replaced.

        Somebody has kept a copy, as a hook of the candidate's own may do.
        """
        if not self._replaced:
            return ()
        tensors = flatten(values)
        unknown = [
            tensor for tensor, node in zip(tensors, self.of(tensors), strict=True) if node is None
        ]
        found = (self._replaced.get(mark) for mark in map(fingerprint, unknown) if mark)
        return tuple(node for node in found if node is not None)


def fingerprint(tensor: Tensor) -> tuple[Any, ...] | None:
    """Shape, type, the sum of all bits and some elements; None where there is no telling.

    It is the same of every tensor with these values, however they lie in memory.
    """
    if unreadable(tensor) or tensor.is_complex() or not tensor.numel():
        return None
    with torch.no_grad():
        whole = bits(tensor)
        step = max(1, whole.numel() // _SAMPLES)
        number = torch.arange(0, whole.numel(), step, device=whole.device)
        some = whole[torch.unravel_index(number, whole.shape)]
        return (*whole.shape, tensor.dtype, int(whole.sum(dtype=torch.int64)), *some.tolist())


def _version(tensor: Tensor) -> int:
    """How often a tensor has been overwritten; inference mode does not count, which gives 0."""
    return 0 if tensor.is_inference() else tensor._version
