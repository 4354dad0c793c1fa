"""In which ways a tensor can hold the elements of a node: any order of its axes, joined or not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from parity.process.arrays import Array

_MOST = 8
"""Layouts of one shape that are looked at; sizes that are equal fit in many ways."""

_ORDERS = ((0, 3, 1, 2), (0, 1, 2, 3), *itertools.permutations(range(4)))
"""Orders of the axes N, H, W, C in memory; the usual two come first."""


@dataclass(frozen=True)
class Layout:
    """How a tensor holds the elements of a node.

    Attributes:
        groups: For each axis of the tensor the axes of [N, H, W, C] that are joined in it, the
            slowest first; none for an axis of one element.
        node: NHWC shape of the node.
    """

    groups: tuple[tuple[int, ...], ...]
    node: tuple[int, int, int, int]

    @property
    def order(self) -> tuple[int, ...]:
        """The node's axes in the order of the tensor's, those of one element last."""
        held = [axis for group in self.groups for axis in group]
        return (*held, *(axis for axis in range(4) if axis not in held))

    @property
    def apart(self) -> tuple[int, ...]:
        """The tensor's shape once each of the node's axes is one of its own, in :attr:`order`."""
        return tuple(self.node[axis] for axis in self.order)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape can be laid out like this."""
        return shape == tuple(math.prod(self.node[axis] for axis in g) for g in self.groups)

    def to(self, axes: Sequence[int]) -> tuple[int, ...]:
        """The permutation of :attr:`order` that gives some other order of the node's axes."""
        return tuple(self.order.index(axis) for axis in axes)

    def index(self, positions: Array) -> tuple[Array, ...]:
        """Where elements of the node are in the tensor.

        Args:
            positions: [count, 4] of N, H, W, C.
        """
        found = []
        for group in self.groups:
            place = np.zeros(len(positions), np.int64)
            for axis in group:
                place = place * self.node[axis] + positions[:, axis]
            found.append(place)
        return tuple(found)

    @property
    def title(self) -> str:
        """In letters, such as ``N C H W`` or ``N HW C``."""
        return " ".join("".join("NHWC"[axis] for axis in group) or "1" for group in self.groups)


@lru_cache(maxsize=4096)
def layouts(shape: tuple[int, ...], node: tuple[int, int, int, int]) -> tuple[Layout, ...]:
    """The ways in which a tensor of some shape can hold a node's elements; the usual ones first.

    Args:
        shape: The tensor's.
        node: NHWC.
    """
    if math.prod(shape) != math.prod(node):
        return ()
    found = dict.fromkeys(_found(shape, node))
    return tuple(itertools.islice(found, _MOST))


def _found(shape: tuple[int, ...], node: tuple[int, int, int, int]) -> Iterator[Layout]:
    for order in _ORDERS:
        axes = [axis for axis in order if node[axis] > 1]
        groups: list[tuple[int, ...]] = []
        for size in shape:
            group: list[int] = []
            while axes and math.prod(node[axis] for axis in group) < size:
                group.append(axes.pop(0))
            if math.prod(node[axis] for axis in group) != size:
                break
            groups.append(tuple(group))
        else:
            if not axes:
                yield Layout(tuple(groups), node)
