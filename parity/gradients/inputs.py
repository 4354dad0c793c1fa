"""What is differentiated, and where: images without ties, and a weight for every output."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, EfficientDetConfig, InputError
from parity.process.arrays import Array

PATTERN = (0.5, 1.5)
"""Magnitudes of :func:`output_patterns`: no output element counts for nothing, none for all."""

DITHER = 0.01
"""Deviation of the noise of :func:`dithered`; half a grey level of a normalised image."""


def dithered(images: Array, seed: int = 0) -> NDArray[np.float32]:
    """Images with a little seeded noise, so that no area is constant.

    Args:
        images: [N, H, W, 3], normalised.
        seed: Of the noise.
    """
    noise = np.random.default_rng(seed).standard_normal(images.shape, np.float32)
    return images.astype(np.float32) + np.float32(DITHER) * noise


def output_patterns(config: EfficientDetConfig, batch: int, height: int, width: int) -> list[Array]:
    """For each output an array of its shape (NHWC): class then box, finest level first.

    Magnitudes are between 0.5 and 1.5 with either sign, drawn with seed 0, in float32.

    Raises:
        InputError: The model cannot process this size.
    """
    rng = np.random.default_rng(0)
    sizes = config.feature_sizes(height, width)
    shapes = [
        (batch, *size, config.num_anchors * outputs)
        for outputs in (config.num_classes, 4)
        for size in sizes.values()
    ]
    return [
        (rng.uniform(*PATTERN, shape) * rng.choice((-1.0, 1.0), shape)).astype(np.float32)
        for shape in shapes
    ]


def require_positions(config: EfficientDetConfig, batch: int, height: int, width: int) -> None:
    """Make sure of more than one value for each channel at every level, as training needs.

    Args:
        config: The model.
        batch: Number of images.
        height: Of the images, in pixels.
        width: Likewise.

    Raises:
        InputError: There is a single one at the coarsest level.
    """
    level, (rows, columns) = list(config.feature_sizes(height, width).items())[-1]
    if batch * rows * columns < 2:
        raise InputError(
            f"{config.name} has a single position at P{level} for one image of {height}x{width} "
            f"pixels, of which batch norm in training takes no variance; give a size above "
            f"{2**level} pixels.",
            Cause.OPTION,
        )
