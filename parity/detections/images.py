"""Images in folders, and those of a comparison that is given none."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, InputError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")
"""Files of a folder that are taken for images, in upper or lower case."""


PHOTOGRAPH = "generated, like a photograph"
"""What results call the image of a comparison that is given none."""

_DISCS = 1500
"""Discs of a photograph-like image; enough to cover it several times at all scales."""


def image_files(folder: Path) -> list[Path]:
    """The images in a folder, by name; hidden files are none.

    Raises:
        InputError: It cannot be read or has no image.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read ({error.strerror}); give a folder of images.",
            Cause.of(error),
        ) from error
    found = [path for path in entries if _is_image(path) and not is_hidden(path)]
    if not found:
        raise InputError(
            f"{folder} has no image, only {len(entries)} other entries; give a folder of JPEG, "
            f"PNG or BMP files (named {', '.join(SUFFIXES)}).",
            Cause.FILE,
        )
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def is_hidden(path: Path) -> bool:
    """Whether a folder's listing leaves a file out.

    macOS leaves its own data of ``photo.jpg`` in ``._photo.jpg`` on other systems' disks.
    """
    return path.name.startswith(".")


def told_of_hidden(folders: Iterable[Path]) -> list[str]:
    """A sentence for each folder that has hidden files which are called like images.

    Args:
        folders: Folders that can be read.
    """
    told = []
    for folder in folders:
        if count := sum(is_hidden(path) and _is_image(path) for path in folder.iterdir()):
            files = "1 hidden file that is" if count == 1 else f"{count} hidden files that are"
            told.append(f"{folder}: {files} called like an image, with a dot in front, left out")
    return told


def photograph_like(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A reproducible [height, width, 3] RGB image with the statistics of photographs.

    Discs that cover each other, with radii distributed as ``1 / r**3``, give edges, areas and
    contrasts at all scales (the dead-leaves model: Lee, Mumford and Huang, Occlusion Models for
    Natural Images, IJCV 41, 2001). Each is shaded and has a grain of its own.

    Args:
        height: In pixels.
        width: In pixels.
        seed: Of everything random.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    side = float(max(height, width))
    pixels = np.empty((height, width, 3), np.float32)
    pixels[:] = rng.uniform(40, 216, 3)
    smallest, largest = max(2.0, side / 128), side / 2
    # The cumulative distribution of the radii, inverted; the last discs lie on top.
    share = rng.uniform(size=_DISCS)
    low, high = smallest**-2, largest**-2
    radii = np.sort((low - share * (low - high)) ** -0.5)[::-1]
    for radius in radii:
        cy, cx = rng.uniform(-radius, height + radius), rng.uniform(-radius, width + radius)
        rows = slice(max(0, int(cy - radius)), max(0, int(cy + radius) + 1))
        columns = slice(max(0, int(cx - radius)), max(0, int(cx + radius) + 1))
        dy, dx = y[rows, columns] - cy, x[rows, columns] - cx
        inside = dy * dy + dx * dx <= radius * radius
        if not inside.any():
            continue
        shade = rng.uniform(-40, 40, 2)
        tone = rng.uniform(0, 255, 3) + (shade[0] * dy + shade[1] * dx)[..., None] / radius
        grain = rng.normal(0, rng.uniform(0, 20), inside.shape)[..., None]
        pixels[rows, columns][inside] = (tone + grain)[inside]
    levels: NDArray[np.uint8] = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return levels


def high_amplitude(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A reproducible [height, width, 3] RGB image of black, white and pure colours only.

    Blocks of several sizes, each channel 0 or 255: as far as an image can drive a network.

    Args:
        height: In pixels.
        width: In pixels.
        seed: Of everything random.
    """
    rng = np.random.default_rng(seed)
    pixels = np.empty((height, width, 3), np.uint8)
    rows, columns = np.arange(height), np.arange(width)
    # Small images have small tiles: each image needs several, of different blocks.
    tile = max(8, min(64, min(height, width) // 4))
    blocks = (1, 3, 11, 43)
    choice = rng.integers(0, len(blocks), (height // tile + 1, width // tile + 1))
    chosen = choice[rows // tile][:, columns // tile]
    for number, block in enumerate(blocks):
        shape = (height // block + 1, width // block + 1, 3)
        coarse = rng.integers(0, 2, shape, np.uint8) * np.uint8(255)
        fine = coarse[rows // block][:, columns // block]
        pixels[chosen == number] = fine[chosen == number]
    return pixels
