"""Elements by which a node's tensor is known wherever it turns up."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from parity.process.arrays import Array

COUNT = 256
"""Elements of a tensor by which nodes are found. Tensors that differ in few elements look alike
here; whether a node is right is judged by all of its elements."""


@lru_cache(maxsize=4096)
def positions(node: tuple[int, int, int, int]) -> Array:
    """[count, 4] places N, H, W, C in a node's tensor, the same for equal shapes.

    Args:
        node: NHWC.
    """
    size = math.prod(node)
    seed = np.random.SeedSequence(node)
    flat = np.random.default_rng(seed).integers(0, size, min(COUNT, 4 * size))
    # The first and the last element: what pads or crops shows at the edges.
    flat[:2] = (0, size - 1)[: len(flat)]
    return np.stack(np.unravel_index(flat, node), axis=1)


def sample(array: Array) -> Array:
    """The elements of an NHWC array at its :func:`positions`, in double precision."""
    n, h, w, c = array.shape
    places = positions((n, h, w, c))
    taken: Array = array[places[:, 0], places[:, 1], places[:, 2], places[:, 3]]
    return taken.astype(np.float64)
