"""Anchor boxes: the boxes that predictions are relative to. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, EfficientDetConfig, InputError

SQRT_ASPECTS = tuple((np.sqrt(ratio), 1.0 / np.sqrt(ratio)) for ratio in (1.0, 2.0, 0.5))
"""(width, height) factors of aspects 1, 2 and 1/2, equal in area (official, since 2020-09)."""

PAIR_ASPECTS = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
"""(width, height) factors with which the coco2 models were trained (official, until 2020-09)."""


def make_anchors(
    config: EfficientDetConfig,
    height: int,
    width: int,
    aspects: Sequence[tuple[float, float]] = SQRT_ASPECTS,
) -> NDArray[np.float32]:
    """All anchors for an input of this size, in the order of the network's outputs.

    An anchor's side is ``anchor_scale * stride * 2**(octave / num_scales) * factor``; strides are
    ratios of input to feature size, so they need not be whole. Everything is computed in double
    precision and rounded once.

    Args:
        config: The model.
        height: Height of the input in pixels.
        width: Width of the input in pixels.
        aspects: (width, height) factor of each aspect.

    Returns:
        [A, 4] as [y1, x1, y2, x2] in pixels: levels from the finest, each row by row, at each
        place octave scales and within these aspects.

    Raises:
        InputError: The model has another number of aspects, or cannot process this size.
    """
    if len(aspects) != config.num_aspects:
        raise InputError(
            f"{config.name} has {config.num_aspects} anchor aspects, but {len(aspects)} are given; "
            f"give the (width, height) factors with which it was trained.",
            Cause.MODEL,
        )
    levels = []
    for rows, columns in config.feature_sizes(height, width).values():
        stride_y, stride_x = height / rows, width / columns
        halves = []
        for octave in range(config.num_scales):
            grown = 2 ** (octave / config.num_scales)
            base_x = config.anchor_scale * stride_x * grown
            base_y = config.anchor_scale * stride_y * grown
            halves += [(base_y * tall / 2.0, base_x * wide / 2.0) for wide, tall in aspects]
        size = np.array(halves)
        boxes = np.empty((rows, columns, len(size), 4))
        y = _centres(rows, stride_y)[:, None, None]
        x = _centres(columns, stride_x)[None, :, None]
        boxes[..., 0] = y - size[:, 0]
        boxes[..., 1] = x - size[:, 1]
        boxes[..., 2] = y + size[:, 0]
        boxes[..., 3] = x + size[:, 1]
        levels.append(boxes.reshape(-1, 4).astype(np.float32))
    return np.concatenate(levels)


def _centres(count: int, stride: float) -> NDArray[np.float64]:
    """Centres of a feature's pixels, rounded as ``numpy.arange(stride / 2, size, stride)`` does.

    NumPy takes the step from the first two values, whose difference may be off by a rounding.
    """
    start = stride / 2
    return start + np.arange(count) * ((start + stride) - start)
