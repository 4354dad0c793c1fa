"""Shapes that files claim, as far as an array can have them."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDEST = 8
"""Bytes of the largest element that is read."""


def is_possible(shape: Sequence[int]) -> bool:
    """Whether NumPy can have an array of a shape, whatever of its elements' types.

    It refuses an empty array, too, whose other extents multiply past its limit.

    Args:
        shape: Extents, none negative.
    """
    return math.prod(extent or 1 for extent in shape) * WIDEST < 1 << 63
