"""Input images for a comparison: a file, or one that needs none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import InputError

_MAX_SIDE = 30000
"""Larger images are refused before they are decoded into gigabytes."""


def built_in(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A reproducible [height, width, 3] RGB image with smooth, sharp and noisy parts.

    Every part of a network should have something to do: waves for the coarse levels, edges and
    noise for the fine ones, and no two rows, columns or channels alike.

    Args:
        height: In pixels.
        width: In pixels.
        seed: Of the noise.
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    rng = np.random.default_rng(seed)
    channels = [
        128
        + 50 * np.sin(x / (17 + 5 * k) + k) * np.cos(y / (23 - 4 * k))
        + 40 * np.sign(np.sin(x / 41 + k) * np.sin((x + 2 * y) / 67 - k))
        + rng.normal(0, 12, (height, width))
        for k in range(3)
    ]
    levels: NDArray[Any] = np.clip(np.rint(np.stack(channels, axis=-1)), 0, 255)
    return levels.astype(np.uint8)


def read_image(path: Path) -> NDArray[np.uint8]:
    """A file as a [h, w, 3] RGB image.

    Raises:
        InputError: The file is missing, is no image, or OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise InputError(
            "Reading an image file needs OpenCV; install it with "
            "pip install 'efficientdet-parity[images]', or leave --image out."
        ) from None
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give an image file."
        ) from error
    image: Any = None
    if data.size:
        try:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
    if image is None:
        raise InputError(
            f"{path} ({data.size} bytes) is no image that OpenCV decodes; give a JPEG or PNG file."
        )
    if max(image.shape) > _MAX_SIDE:
        raise InputError(
            f"{path} is {image.shape[1]}x{image.shape[0]}; at most {_MAX_SIDE} a side."
        )
    return np.ascontiguousarray(image[..., ::-1])
