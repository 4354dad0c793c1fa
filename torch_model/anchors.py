"""Anchor boxes: the boxes that predictions are relative to. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import ASPECT_RATIOS, Cause, EfficientDetConfig, InputError
from efficientdet_spec.models import Aspect

Factors = tuple[float, float]
"""What an anchor's side is multiplied with to be its width and its height."""


def aspect_factors(aspects: Sequence[Aspect]) -> tuple[Factors, ...]:
    """(width, height) factors of aspects, as the official code has them since September 2020.

    Args:
        aspects: Ratios of width to height, whose anchors are equal in area, or pairs of factors,
            which are taken as they are (official ``aspect_ratios``).
    """
    factors = []
    for aspect in aspects:
        if isinstance(aspect, tuple):
            wide, tall = aspect
        else:
            wide = float(np.sqrt(aspect))
            tall = 1.0 / wide
        factors.append((float(wide), float(tall)))
    return tuple(factors)


SQRT_ASPECTS = aspect_factors(ASPECT_RATIOS)
"""(width, height) factors of aspects 1, 2 and 1/2, equal in area (official, since 2020-09)."""

PAIR_ASPECTS: tuple[Factors, ...] = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
"""(width, height) factors with which the coco2 models were trained (official, until 2020-09)."""

Kind = tuple[float, float, float]
"""One of the anchors of a place: growth of its side over the scale, factors of width and height."""


def anchor_kinds(num_scales: int, aspects: Sequence[Factors]) -> tuple[Kind, ...]:
    """The anchors of a place in the order of the outputs: scales, and within them aspects.

    Args:
        num_scales: Sizes into which an octave is divided.
        aspects: (width, height) factor of each aspect.
    """
    growths = [2 ** (octave / float(num_scales)) for octave in range(num_scales)]
    return tuple((grown, wide, tall) for grown in growths for wide, tall in aspects)


def make_anchors(
    config: EfficientDetConfig,
    height: int,
    width: int,
    aspects: Sequence[Factors] | None = None,
) -> NDArray[np.float32]:
    """All anchors for an input of this size, in the order of the network's outputs.

    An anchor's side is ``anchor_scale * stride * 2**(octave / num_scales) * factor``.

    Args:
        config: The model.
        height: Height of the input in pixels.
        width: Width of the input in pixels.
        aspects: (width, height) factor of each aspect; None: the model's own.

    Returns:
        As :func:`place_anchors`.

    Raises:
        InputError: The model has another number of aspects, or cannot process this size.
    """
    if aspects is None:
        aspects = aspect_factors(config.aspect_ratios)
    if len(aspects) != config.num_aspects:
        raise InputError(
            f"{config.name} has {config.num_aspects} anchor aspects, but {len(aspects)} are given; "
            f"give the (width, height) factors with which it was trained.",
            Cause.MODEL,
        )
    return place_anchors(config, height, width, anchor_kinds(config.num_scales, aspects))


def place_anchors(
    config: EfficientDetConfig, height: int, width: int, kinds: Sequence[Kind]
) -> NDArray[np.float32]:
    """Anchors of these kinds at each place of each of the model's levels.

    Strides are ratios of input to feature size, so they need not be whole. Everything is computed
    in double precision and rounded once.

    Args:
        config: The model, of which levels and ``anchor_scale`` are used.
        height: Height of the input in pixels.
        width: Width of the input in pixels.
        kinds: The anchors of a place.

    Returns:
        [A, 4] as [y1, x1, y2, x2] in pixels: levels from the finest, each row by row.

    Raises:
        InputError: The model cannot process this size.
    """
    levels = []
    sizes = config.feature_sizes(height, width).values()
    for (rows, columns), scale in zip(sizes, config.anchor_scales, strict=True):
        stride_y, stride_x = height / rows, width / columns
        halves = [
            (scale * stride_y * grown * tall / 2.0, scale * stride_x * grown * wide / 2.0)
            for grown, wide, tall in kinds
        ]
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
