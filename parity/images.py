"""Images in folders, and the one of a comparison that is given none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import InputError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")
"""Files of a folder that are taken for images, in upper or lower case."""


def image_files(folder: Path) -> list[Path]:
    """The images in a folder, by name.

    Raises:
        InputError: It cannot be read or has no image.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read ({error.strerror}); give a folder of images."
        ) from error
    found = [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not found:
        raise InputError(
            f"{folder} has no image, only {len(entries)} other entries; give a folder of JPEG, "
            f"PNG or BMP files (named {', '.join(SUFFIXES)})."
        )
    return found


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
