"""In which ways a tensor can hold the elements of a node: any order of axes, joined or split."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from parity.process.arrays import Array

_MOST = 6
"""Layouts of one shape that are looked at; sizes that are equal fit in many ways."""

USUAL = (0, 3, 1, 2)
"""PyTorch's order of the axes N, H, W, C."""

_USUAL = (USUAL, (0, 1, 2, 3))
"""The usual orders of the axes N, H, W, C in memory."""

_ORDERS = (*_USUAL, *itertools.permutations(range(4)))


@dataclass(frozen=True)
class Layout:
    """How a tensor holds the elements of a node.

    Attributes:
        order: The axes N, H, W, C of the node as they follow each other in the tensor.
        shape: The tensor's: these axes, some of them joined or split.
        node: NHWC shape of the node.
        channels: For each of the node's channels its place among the tensor's; None where they
            have one order.
    """

    order: tuple[int, ...]
    shape: tuple[int, ...]
    node: tuple[int, int, int, int]
    channels: tuple[int, ...] | None = None

    @property
    def apart(self) -> tuple[int, ...]:
        """The tensor's shape once each of the node's axes is one of its own, in :attr:`order`."""
        return tuple(self.node[axis] for axis in self.order)

    def to(self, axes: Sequence[int]) -> tuple[int, ...]:
        """The permutation of :attr:`order` that gives some other order of the node's axes."""
        return tuple(self.order.index(axis) for axis in axes)

    def index(self, positions: Array) -> tuple[Array, ...]:
        """Where elements of the node are in the tensor.

        Args:
            positions: [count, 4] of N, H, W, C.
        """
        if not self.shape:
            return ()
        if self.channels is not None:
            placed = np.array(self.channels)[positions[:, 3]]
            positions = np.column_stack([positions[:, :3], placed])
        flat = np.ravel_multi_index(tuple(positions[:, axis] for axis in self.order), self.apart)
        return tuple(np.unravel_index(flat, self.shape))


@lru_cache(maxsize=4096)
def layouts(shape: tuple[int, ...], node: tuple[int, int, int, int]) -> tuple[Layout, ...]:
    """The ways in which a tensor of some shape can hold a node's elements; the usual ones first.

    Args:
        shape: The tensor's.
        node: NHWC.
    """
    if math.prod(shape) != math.prod(node):
        return ()
    return tuple(itertools.islice(_found(shape, node), _MOST))


def _found(shape: tuple[int, ...], node: tuple[int, int, int, int]) -> Iterator[Layout]:
    seen = set()
    for order in _ORDERS:
        # Axes of one element may stand anywhere.
        held = tuple(axis for axis in order if node[axis] > 1)
        if held in seen:
            continue
        ends, of_tensor = (
            _ends(node[axis] for axis in held),
            _ends(size for size in shape if size > 1),
        )
        joined = of_tensor <= ends
        # Split axes say little; they are looked for in the usual orders only.
        split = len(shape) > len(node) and order in _USUAL
        if joined or (split and _follow(sorted(ends | of_tensor))):
            seen.add(held)
            yield Layout(order, shape, node)


def _ends(sizes: Iterator[int]) -> set[int]:
    """How many elements there are up to the end of each axis, the slowest axis first."""
    return set(itertools.accumulate(sizes, lambda one, other: one * other))


def _follow(ends: list[int]) -> bool:
    """Whether axes can end at all of these: each is a multiple of the one before."""
    return all(after % before == 0 for before, after in itertools.pairwise(ends))
