"""TensorFlow's SAME padding: how many elements there are, and how many are put around them."""

from __future__ import annotations


def same_outputs(size: int, stride: int) -> int:
    """Elements along one axis behind an operation with SAME padding: ``ceil(size / stride)``."""
    return -(-size // stride)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """SAME padding (before, after) along one axis, in elements.

    Where the total is odd the extra element goes after, so at stride 2 the padding is usually not
    symmetric (https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2).

    Args:
        size: Elements of the input.
        kernel: Elements of the window.
        stride: Elements from one window to the next.
    """
    total = max((same_outputs(size, stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
