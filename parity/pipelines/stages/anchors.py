"""The boxes that predictions are relative to."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import EfficientDetConfig
from parity.pipelines.stages.pipeline import Mistake, Pipeline
from torch_model.anchors import PAIR_ASPECTS, SQRT_ASPECTS, make_anchors

ASPECTS: Mapping[str, tuple[tuple[float, float], ...]] = MappingProxyType(
    {
        "sqrt": SQRT_ASPECTS,
        "pairs": PAIR_ASPECTS,
        "sqrt-swapped": tuple((tall, wide) for wide, tall in SQRT_ASPECTS),
        "pairs-swapped": tuple((tall, wide) for wide, tall in PAIR_ASPECTS),
    }
)
"""(width, height) factors by name."""

SCALES = (1.0, 2.0, 3.0, 4.0, 5.0, 8.0)
"""Sides of an anchor in strides that models and ports have."""

MISTAKES = (
    *(
        Mistake(slug, title, "postprocess", {"aspects": name})
        for slug, name, title in (
            ("sqrt-anchors", "sqrt", "anchors of equal area"),
            ("pair-anchors", "pairs", "anchor sides 1.4 and 0.7"),
            ("swapped-anchors", "sqrt-swapped", "anchors' width and height exchanged"),
            (
                "swapped-pair-anchors",
                "pairs-swapped",
                "anchor sides 1.4 and 0.7, width and height exchanged",
            ),
        )
    ),
    *(
        Mistake(
            f"anchor-scale-{scale:g}",
            f"anchor scale {scale:g}",
            "postprocess",
            {"anchor_scale": scale},
        )
        for scale in SCALES
    ),
    *(
        Mistake(slug, title, "postprocess", {"anchor_centre": name})
        for slug, name, title in (
            ("corner-anchors", "corner", "anchors centred on cells' corners (no half stride)"),
            ("pixel-anchors", "pixel", "anchors half a pixel up and left of the cells' centres"),
            ("transposed-anchors", "transposed", "anchors column by column instead of row by row"),
        )
    ),
)


def of_pipeline(
    pipeline: Pipeline, config: EfficientDetConfig, size: tuple[int, int]
) -> NDArray[np.float32]:
    """[A, 4] as [y1, x1, y2, x2] in pixels of the input.

    Args:
        pipeline: Decides which.
        config: The model.
        size: (height, width) of the input.
    """
    boxes = make_anchors(config, *size, ASPECTS[pipeline.aspects])
    centre, levels = pipeline.anchor_centre, config.feature_sizes(*size).values()
    scale = pipeline.anchor_scale
    if scale is not None:
        boxes = _resized(boxes, np.float32(scale / config.anchor_scale))
    if centre == "pixel":
        boxes = boxes - np.float32(0.5)
    each = config.num_anchors
    counts = [rows * columns * each for rows, columns in levels]
    parts = np.split(boxes, np.cumsum(counts)[:-1])
    if centre == "corner":
        strides = [(size[0] / rows, size[1] / columns) for rows, columns in levels]
        parts = [
            part - np.array([y / 2, x / 2, y / 2, x / 2], np.float32)
            for part, (y, x) in zip(parts, strides, strict=True)
        ]
    if centre == "transposed":
        parts = [
            part.reshape(rows, columns, each, 4).swapaxes(0, 1).reshape(-1, 4)
            for part, (rows, columns) in zip(parts, levels, strict=True)
        ]
    return np.concatenate(parts)


def _resized(boxes: NDArray[np.float32], factor: np.float32) -> NDArray[np.float32]:
    low, high = boxes[:, :2], boxes[:, 2:]
    centre, half = (low + high) / 2, (high - low) / 2 * factor
    return np.concatenate([centre - half, centre + half], axis=1)
