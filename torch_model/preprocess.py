"""From an RGB image to the network's input, as the official evaluation does it. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MEAN_RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)
"""Mean of ImageNet's pixels, in grey levels (official ``hparams_config.py``)."""

STDDEV_RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)
"""Standard deviation of ImageNet's pixels, in grey levels (official ``hparams_config.py``)."""

FloatImage = NDArray[np.float32]


def normalise(image: NDArray[np.uint8]) -> FloatImage:
    """[H, W, 3] grey levels to float32 with about zero mean and unit deviation."""
    mean = np.asarray(MEAN_RGB, np.float32)
    return (image.astype(np.float32) - mean) / np.asarray(STDDEV_RGB, np.float32)


def _taps(size: int, target: int) -> tuple[NDArray[Any], NDArray[Any], FloatImage]:
    """Lower and upper source index and the weight of the upper one, for each target index."""
    scale = np.float32(size) / np.float32(target)
    centre = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(centre)
    lower = np.clip(floor, 0, size - 1).astype(np.int64)
    upper = np.clip(np.ceil(centre), 0, size - 1).astype(np.int64)
    return lower, upper, centre - floor


def resize_bilinear(image: FloatImage, height: int, width: int) -> FloatImage:
    """[h, w, C] to [height, width, C], bilinear with half-pixel centres and no antialiasing.

    Corners are interpolated along x first, then along y, all in float32, as TensorFlow does.
    """
    top, bottom, dy = _taps(image.shape[0], height)
    left, right, dx = _taps(image.shape[1], width)
    dx = dx[None, :, None]
    rows = image[:, left] + (image[:, right] - image[:, left]) * dx
    return rows[top] + (rows[bottom] - rows[top]) * dy[:, None, None]


def preprocess(image: NDArray[np.uint8], height: int, width: int) -> FloatImage:
    """An RGB image to the network's input: normalised, scaled to fit, padded with zeros.

    Args:
        image: [h, w, 3] RGB grey levels.
        height: Height of the input in pixels.
        width: Width of the input in pixels.

    Returns:
        [height, width, 3]; the image keeps its aspect and lies in the top left corner.
    """
    h, w = image.shape[:2]
    scale = min(np.float32(height) / np.float32(h), np.float32(width) / np.float32(w))
    scaled = (max(int(np.float32(h) * scale), 1), max(int(np.float32(w) * scale), 1))
    resized = resize_bilinear(normalise(image), *scaled)
    return np.pad(resized, ((0, height - scaled[0]), (0, width - scaled[1]), (0, 0)))
