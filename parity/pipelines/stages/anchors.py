"""The boxes that predictions are relative to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, EfficientDetConfig, InputError
from parity.pipelines.stages.pipeline import Mistake, Pipeline
from torch_model.anchors import PAIR_ASPECTS, SQRT_ASPECTS, Factors, place_anchors


def swapped(aspects: tuple[Factors, ...]) -> tuple[Factors, ...]:
    """The same aspects with width and height exchanged."""
    return tuple((tall, wide) for wide, tall in aspects)


ASPECTS: Mapping[str, tuple[Factors, ...]] = MappingProxyType(
    {
        "sqrt": SQRT_ASPECTS,
        "pairs": PAIR_ASPECTS,
        "sqrt-swapped": swapped(SQRT_ASPECTS),
        "pairs-swapped": swapped(PAIR_ASPECTS),
    }
)
"""(width, height) factors by name."""

SCALES = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
"""Sides of an anchor in strides that models and ports have."""

SIZES = (1, 2, 3, 4, 5)
"""Sizes of an anchor at a place that models and ports have."""

MISTAKES = (
    *(
        Mistake(slug, title, "postprocess", {"aspects": ASPECTS[name]})
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
            {"anchor_scales": (scale,)},
        )
        for scale in SCALES
    ),
    *(
        Mistake(
            f"anchor-sizes-{count}",
            f"{count} anchor sizes at a place (num_scales)",
            "postprocess",
            {"num_scales": count, "octave": count},
        )
        for count in SIZES
    ),
    *(
        Mistake(
            f"anchor-octave-{count}",
            f"anchor sizes that grow by 2**(1/{count})",
            "postprocess",
            {"octave": count},
        )
        for count in SIZES
    ),
    Mistake(
        "anchors-by-aspect",
        "a place's anchors aspect by aspect instead of scale by scale",
        "postprocess",
        {"anchor_order": "aspects"},
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


def of_model(faithful: Pipeline) -> Iterator[Mistake]:
    """Mistakes that are other numbers for each model.

    Args:
        faithful: The model's pipeline.
    """
    own = faithful.aspects
    others = [
        ("swapped-own-anchors", "the model's aspects, width and height exchanged", swapped(own)),
        (
            "rounded-anchors",
            "the model's anchor sides rounded to a tenth",
            tuple((round(wide, 1), round(tall, 1)) for wide, tall in own),
        ),
    ]
    if all(math.isclose(wide * tall, 1.0) for wide, tall in own):
        squared = tuple((wide * wide, tall * tall) for wide, tall in own)
        others.append(("unrooted-anchors", "aspect ratios without their root as sides", squared))
    for slug, title, aspects in others:
        yield Mistake(slug, title, "postprocess", {"aspects": aspects})
    if len(scales := faithful.anchor_scales) > 1:
        for index in (0, -1):
            yield Mistake(
                "first-anchor-scale" if index == 0 else "last-anchor-scale",
                f"the {'first' if index == 0 else 'last'} level's anchor scale at all levels",
                "postprocess",
                {"anchor_scales": (scales[index],)},
            )


def of_pipeline(
    pipeline: Pipeline, config: EfficientDetConfig, size: tuple[int, int]
) -> NDArray[np.float32]:
    """[A, 4] as [y1, x1, y2, x2] in pixels of the input.

    Args:
        pipeline: Decides which.
        config: The model.
        size: (height, width) of the input.

    Raises:
        InputError: There are fewer than the network predicts for.
    """
    scales = pipeline.anchor_scales
    scaled = replace(config, anchor_scale=scales[0] if len(scales) == 1 else scales)
    kinds = _kinds(pipeline)
    if len(kinds) < config.num_anchors:
        raise InputError(
            f"{len(kinds)} anchors a place are fewer than the {config.num_anchors} that "
            f"{config.name} predicts for; give as many.",
            Cause.MODEL,
        )
    boxes = place_anchors(scaled, *size, kinds)
    centre, levels = pipeline.anchor_centre, config.feature_sizes(*size).values()
    if centre == "pixel":
        boxes = boxes - np.float32(0.5)
    counts = [rows * columns * len(kinds) for rows, columns in levels]
    parts = np.split(boxes, np.cumsum(counts)[:-1])
    if centre == "corner":
        strides = [(size[0] / rows, size[1] / columns) for rows, columns in levels]
        parts = [
            part - np.array([y / 2, x / 2, y / 2, x / 2], np.float32)
            for part, (y, x) in zip(parts, strides, strict=True)
        ]
    if centre == "transposed":
        parts = [
            part.reshape(rows, columns, len(kinds), 4).swapaxes(0, 1).reshape(-1, 4)
            for part, (rows, columns) in zip(parts, levels, strict=True)
        ]
    return np.concatenate(parts)


def _kinds(pipeline: Pipeline) -> list[tuple[float, float, float]]:
    """The anchors of a place, as :func:`torch_model.anchors.anchor_kinds` has them."""
    growths = [2 ** (step / float(pipeline.octave)) for step in range(pipeline.num_scales)]
    if pipeline.anchor_order == "aspects":
        return [(grown, wide, tall) for wide, tall in pipeline.aspects for grown in growths]
    return [(grown, wide, tall) for grown in growths for wide, tall in pipeline.aspects]
