"""How an image is scaled to the input: interpolation, size, and where in the input it lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, InputError
from parity.pipelines.stages.pipeline import Mistake
from torch_model.preprocess import fit, resize_bilinear

Array = NDArray[Any]
Resize = Callable[[Array, int, int], Array]
"""[h, w, 3] to [height, width, 3]."""


@dataclass(frozen=True)
class Geometry:
    """How an image lies in the network's input, in pixels of the input.

    Attributes:
        scale: (y, x) factor from pixels of the image to those of the input that the pipeline
            has planned; the size that it was rounded to may say a little else.
        scaled: (height, width) of the scaled image.
        offset: (y, x) of its upper left corner.
        image: (height, width) of the image in its own pixels.
    """

    scale: tuple[np.float32, np.float32]
    scaled: tuple[int, int]
    offset: tuple[int, int]
    image: tuple[int, int]


def with_opencv(image: Array, height: int, width: int, *, kind: str = "LINEAR") -> Array:
    """By OpenCV's interpolation of this name; keeps the type."""
    import cv2

    interpolation = getattr(cv2, f"INTER_{kind}")
    resized: Array = cv2.resize(image, (width, height), interpolation=interpolation)
    return resized


_PRECISION = 22
"""Bits behind the point of Pillow's weights for pixels of 8 bits (32 - 8 - 2)."""


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.clip(1 - np.abs(x), 0, None)
    return result


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x, a = np.abs(x), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=64)
def _pillow_weights(size: int, target: int, cubic: bool) -> NDArray[np.float64]:
    """[target, size] of whole numbers, in units of 2**-22."""
    scale = size / target
    stretch = max(scale, 1.0)
    reach = (2.0 if cubic else 1.0) * stretch
    weights = np.zeros((target, size))
    for place in range(target):
        centre = (place + 0.5) * scale
        low, high = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), size)
        places = np.arange(low, high, dtype=np.float64)
        taps = (_cubic if cubic else _triangle)((places - centre + 0.5) / stretch)
        taps = taps * (1.0 / taps.sum()) * 2**_PRECISION
        weights[place, low:high] = np.trunc(taps + np.copysign(0.5, taps))
    return weights


def with_pillow(image: Array, height: int, width: int, *, cubic: bool = False) -> Array:
    """Pillow's antialiased resize of 8-bit pixels, bit for bit, without Pillow.

    Each pass, first along x, sums whole numbers and rounds to a grey level. The sums stay below
    2**53, so that they are exact here in any order.

    Args:
        image: [h, w, 3] uint8.
        height: In pixels.
        width: In pixels.
        cubic: Bicubic instead of bilinear.
    """
    levels = image.astype(np.float64)
    if width != image.shape[1]:
        across = _pillow_weights(image.shape[1], width, cubic)
        levels = _grey(np.einsum("hwc,mw->hmc", levels, across, optimize=True))
    if height != image.shape[0]:
        levels = _grey(np.tensordot(_pillow_weights(image.shape[0], height, cubic), levels, 1))
    return levels.astype(np.uint8)


def _grey(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.clip(
        np.floor((sums + 2 ** (_PRECISION - 1)) / 2**_PRECISION), 0, 255
    )
    return result


def nearest(image: Array, height: int, width: int, *, centred: bool) -> Array:
    """The nearest pixel.

    Args:
        image: [h, w, 3].
        height: In pixels.
        width: In pixels.
        centred: Pixels have their centres at halves (Pillow); otherwise (OpenCV, TensorFlow 1)
            output pixel i takes ``floor(i * scale)``.
    """
    half = 0.5 if centred else 0.0
    rows, columns = (
        np.minimum(((np.arange(target) + half) * (size / target)).astype(np.int64), size - 1)
        for target, size in ((height, image.shape[0]), (width, image.shape[1]))
    )
    found: Array = image[rows][:, columns]
    return found


def bilinear(image: Array, height: int, width: int, *, half_pixel: bool = True) -> Array:
    """TensorFlow's bilinear resize; of 8-bit pixels the result is rounded to grey levels."""
    values = resize_bilinear(image.astype(np.float32), height, width, half_pixel=half_pixel)
    return np.rint(values).astype(np.uint8) if image.dtype == np.uint8 else values


INJECTED = ("torch", "torch-antialias", "torch-antialias-levels", "torch-cubic")
"""Resizes of PyTorch, which whoever runs pipelines hands over."""

RESIZES: Mapping[str, Resize] = MappingProxyType(
    {
        "half-pixel": bilinear,
        "half-pixel-levels": bilinear,
        "legacy": partial(bilinear, half_pixel=False),
        "opencv": with_opencv,
        "opencv-levels": with_opencv,
        "opencv-cubic": partial(with_opencv, kind="CUBIC"),
        "opencv-cubic-levels": partial(with_opencv, kind="CUBIC"),
        "opencv-area-levels": partial(with_opencv, kind="AREA"),
        "pillow-levels": with_pillow,
        "pillow-cubic-levels": partial(with_pillow, cubic=True),
        "nearest": partial(nearest, centred=False),
        "nearest-centred": partial(nearest, centred=True),
    }
)
"""By name; those of ``-levels`` take 8-bit pixels and give such, the others normalised ones."""


def _fitted(h: int, w: int, height: int, width: int, whole: Callable[[float], float]) -> Geometry:
    """In double precision, rounded in some way."""
    scale = min(height / h, width / w)
    sides = (min(int(whole(h * scale)), height), min(int(whole(w * scale)), width))
    factor = np.float32(scale)
    return Geometry((factor, factor), sides, (0, 0), (h, w))


def _faithful(h: int, w: int, height: int, width: int) -> Geometry:
    scale, scaled = fit(h, w, height, width)
    # The official code multiplies boxes with the rounded inverse.
    return Geometry((scale, scale), scaled, (0, 0), (h, w))


def _stretched(h: int, w: int, height: int, width: int) -> Geometry:
    factors = (np.float32(height / h), np.float32(width / w))
    return Geometry(factors, (height, width), (0, 0), (h, w))


def _by_longer(h: int, w: int, height: int, width: int) -> Geometry:
    """``int(width / w * h)``: the division first, so that the truncation may lose a pixel."""
    scaled = (int(width / w * h), width) if w > h else (height, int(height / h * w))
    scale = np.float32(min(height / h, width / w))
    sides = (min(scaled[0], height), min(scaled[1], width))
    return Geometry((scale, scale), sides, (0, 0), (h, w))


FITS: Mapping[str, Callable[[int, int, int, int], Geometry]] = MappingProxyType(
    {
        "truncate": _faithful,
        "truncate-double": partial(_fitted, whole=math.floor),
        "truncate-longer": _by_longer,
        "round": partial(_fitted, whole=round),
        "ceil": partial(_fitted, whole=math.ceil),
        "stretch": _stretched,
    }
)
"""The size of the scaled image, by name."""


def geometry(h: int, w: int, size: tuple[int, int], fitting: str, placement: str) -> Geometry:
    """How an image lies in the input.

    Args:
        h: Height of the image in pixels.
        w: Width of the image in pixels.
        size: (height, width) of the input.
        fitting: Of :data:`FITS`.
        placement: ``corner`` (upper left) or ``centre``.

    Raises:
        InputError: Nothing is left of the image.
    """
    found = FITS[fitting](h, w, *size)
    if not all(found.scaled):
        raise InputError(f"An image of {w}x{h} pixels is too narrow for {size}.", Cause.OPTION)
    if placement == "corner":
        return found
    offset = ((size[0] - found.scaled[0]) // 2, (size[1] - found.scaled[1]) // 2)
    return Geometry(found.scale, found.scaled, offset, found.image)


MISTAKES = (
    *(
        Mistake(slug, title, "preprocess", {"resize": name})
        for slug, name, title in (
            ("half-pixel-resize", "half-pixel", "TensorFlow 2's resize with half pixels"),
            ("opencv-resize", "opencv", "OpenCV's resize"),
            ("torch-resize", "torch", "PyTorch's resize"),
            ("antialias", "torch-antialias", "PyTorch's antialiased resize"),
            ("legacy-resize", "legacy", "TensorFlow 1's resize, no half pixel"),
            ("resize-first", "opencv-levels", "OpenCV's resize of grey levels"),
            (
                "resize-first-rounded",
                "half-pixel-levels",
                "resize rounded to grey levels",
            ),
            ("pillow-resize", "pillow-levels", "Pillow's bilinear resize (antialiased)"),
            (
                "antialias-levels",
                "torch-antialias-levels",
                "PyTorch's antialiased resize rounded to grey levels",
            ),
            ("pillow-cubic", "pillow-cubic-levels", "Pillow's bicubic resize"),
            ("opencv-cubic", "opencv-cubic", "OpenCV's bicubic resize"),
            (
                "opencv-cubic-levels",
                "opencv-cubic-levels",
                "OpenCV's bicubic resize of grey levels",
            ),
            ("torch-cubic", "torch-cubic", "PyTorch's bicubic resize"),
            ("opencv-area", "opencv-area-levels", "OpenCV's area resize"),
            ("nearest", "nearest", "nearest pixel, as OpenCV takes it"),
            ("nearest-centred", "nearest-centred", "nearest pixel, as Pillow takes it"),
        )
    ),
    *(
        Mistake(slug, title, "preprocess", {"fit": name})
        for slug, name, title in (
            ("size-double", "truncate-double", "sizes truncated in double precision"),
            ("size-longer", "truncate-longer", "sizes truncated after dividing by the longer side"),
            ("size-rounded", "round", "sizes rounded instead of truncated"),
            ("size-ceil", "ceil", "sizes rounded up instead of truncated"),
            ("stretched", "stretch", "aspect not kept (no letterbox)"),
        )
    ),
    Mistake(
        "centred", "padded on both sides (image centred)", "preprocess", {"placement": "centre"}
    ),
)
