"""From an RGB image to the network's input, as the official code does it. NumPy only.

Every value is float32 and every operation in TensorFlow's order, so that results are equal bit for
bit. Rows are computed as [h, w * 3], because NumPy is slow where the innermost axis is short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import MEAN_RGB, STDDEV_RGB, Cause, EfficientDetConfig, InputError

Three = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """How grey levels become the network's input.

    Attributes:
        mean_rgb: Subtracted, in grey levels of red, green and blue.
        stddev_rgb: Divides the difference.
        scale_range: Whether ``x * 2 / 255 - 1`` follows, after the padding, which so becomes -1.
    """

    mean_rgb: Three = MEAN_RGB
    stddev_rgb: Three = STDDEV_RGB
    scale_range: bool = False

    @classmethod
    def of(cls, config: EfficientDetConfig) -> Normalisation:
        """The model's own, as its training and the official evaluation have it."""
        return cls(config.mean_rgb, config.stddev_rgb, config.scale_range)


IMAGENET = Normalisation()
"""Mean and deviation of ImageNet's pixels: the official default."""

ADVPROP = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), scale_range=True)
"""Of the models trained with AdvProp: grey levels become -1 to 1."""

LITE = Normalisation((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
"""Of the lite models."""

FloatImage = NDArray[np.float32]

_Load = Callable[[slice, FloatImage], None]
"""Writes some rows of a source into [n, w * C]."""

_ROWS_AT_A_TIME = 32
"""Rows of the result, of which the source's and all between take some 200 kB each."""


@dataclass(frozen=True)
class NetworkInput:
    """A preprocessed image.

    Attributes:
        pixels: [height, width, 3] for the network.
        scale: Factor from pixels of the input back to pixels of the original image.
    """

    pixels: FloatImage
    scale: np.float32


@dataclass(frozen=True)
class _Taps:
    """What each target index along one axis is interpolated from: lower + (upper - lower) * share.

    Attributes:
        lower: Source index below.
        upper: Source index above.
        share: Weight of the upper one.
    """

    lower: NDArray[Any]
    upper: NDArray[Any]
    share: FloatImage

    def of_used(self) -> tuple[NDArray[Any], _Taps]:
        """The source indices that occur, and the same taps into these alone."""
        used, places = np.unique(np.concatenate([self.lower, self.upper]), return_inverse=True)
        lower, upper = np.split(places, 2)
        return used, _Taps(lower, upper, self.share)

    def of_values(self, channels: int) -> _Taps:
        """The same for values of [size * channels] instead of pixels of [size, channels]."""
        within = np.arange(channels)
        lower, upper = (
            (places[:, None] * channels + within).reshape(-1) for places in (self.lower, self.upper)
        )
        return _Taps(lower, upper, np.repeat(self.share, channels))


def normalise(image: NDArray[np.uint8], how: Normalisation = IMAGENET) -> FloatImage:
    """[H, W, 3] grey levels to float32 ``(x - mean) / deviation``.

    Args:
        image: Grey levels.
        how: Mean and deviation; its ``scale_range`` comes after the padding, and not here.
    """
    levels = np.empty(image.shape, np.float32)
    _normaliser(image, how)(slice(None), levels.reshape(image.shape[0], -1))
    return levels


def _normaliser(image: NDArray[np.uint8], how: Normalisation) -> _Load:
    """What writes rows of an image, normalised."""
    rows = image.reshape(image.shape[0], -1)
    mean = np.tile(np.asarray(how.mean_rgb, np.float32), image.shape[1])
    deviation = np.tile(np.asarray(how.stddev_rgb, np.float32), image.shape[1])

    def load(part: slice, levels: FloatImage) -> None:
        np.copyto(levels, rows[part])
        levels -= mean
        levels /= deviation

    return load


def shift_range(pixels: FloatImage) -> FloatImage:
    """``x * 2 / 255 - 1``, what ``scale_range`` means."""
    return pixels * np.float32(2) / np.float32(255) - np.float32(1)


def _taps(size: int, target: int, half_pixel: bool) -> _Taps:
    scale = np.float32(size) / np.float32(target)
    places = np.arange(target, dtype=np.float32)
    half = np.float32(0.5)
    centre = (places + half) * scale - half if half_pixel else places * scale
    floor = np.floor(centre)
    lower = np.clip(floor, 0, size - 1).astype(np.int64)
    upper = np.clip(np.ceil(centre), 0, size - 1).astype(np.int64)
    return _Taps(lower, upper, centre - floor)


def _interpolate(load: _Load, values: int, columns: _Taps, rows: _Taps, result: FloatImage) -> None:
    """Along x first, then along y, as TensorFlow does; float32 sums depend on the order.

    A few rows at a time: what is computed of them stays in the processor's cache.

    Args:
        load: Writes the source's rows.
        values: Of each of them, w * C.
        columns: Into the rows' values.
        rows: Into the source's rows; their lower and upper indices do not decrease.
        result: [height, width * C], what is written.
    """
    count, width = result.shape
    starts = range(0, count, _ROWS_AT_A_TIME)
    parts = [slice(start, min(start + _ROWS_AT_A_TIME, count)) for start in starts]
    sources = [slice(rows.lower[part.start], rows.upper[part.stop - 1] + 1) for part in parts]
    most = max((source.stop - source.start for source in sources), default=0)
    levels = np.empty((most, values), np.float32)
    beside, between = np.empty((2, most, width), np.float32)
    above, below = np.empty((2, _ROWS_AT_A_TIME, width), np.float32)
    for part, source in zip(parts, sources, strict=True):
        length = source.stop - source.start
        some, left, across = levels[:length], beside[:length], between[:length]
        load(source, some)
        # No index lies outside; "wrap" only is the fastest way to take what lies inside.
        some.take(columns.lower, 1, left, "wrap")
        some.take(columns.upper, 1, across, "wrap")
        across -= left
        across *= columns.share
        across += left
        upper, lower = above[: part.stop - part.start], below[: part.stop - part.start]
        across.take(rows.lower[part] - source.start, 0, upper, "wrap")
        across.take(rows.upper[part] - source.start, 0, lower, "wrap")
        lower -= upper
        lower *= rows.share[part, None]
        np.add(lower, upper, out=result[part])


def resize_bilinear(
    image: FloatImage, height: int, width: int, *, half_pixel: bool = True
) -> FloatImage:
    """[h, w, C] to [height, width, C], bilinear without antialiasing.

    Args:
        image: float32.
        height: In pixels.
        width: In pixels.
        half_pixel: Pixels have their centres at halves (``tf.image.resize``); otherwise output
            pixel i lies at ``i * scale`` (TensorFlow 1's ``resize_images``).
    """
    h, w, channels = image.shape
    source = image.reshape(h, -1)
    resized = np.empty((height, width * channels), np.float32)
    _interpolate(
        lambda part, levels: np.copyto(levels, source[part]),
        w * channels,
        _taps(w, width, half_pixel).of_values(channels),
        _taps(h, height, half_pixel),
        resized,
    )
    return resized.reshape(height, width, channels)


def fit(h: int, w: int, height: int, width: int) -> tuple[np.float32, tuple[int, int]]:
    """How an image is scaled to fit the network's input.

    Args:
        h: Height of the image in pixels.
        w: Width of the image in pixels.
        height: Height of the input in pixels.
        width: Width of the input in pixels.

    Returns:
        The factor from pixels of the image to those of the input, and (height, width) of the
        scaled image in pixels.

    Raises:
        InputError: The image is so narrow that nothing is left, which the official code's resize
            refuses.
    """
    scale = min(np.float32(height) / np.float32(h), np.float32(width) / np.float32(w))
    scaled = int(np.float32(h) * scale), int(np.float32(w) * scale)
    if not all(scaled):
        raise InputError(
            f"An image is {w}x{h} pixels, of which scaling to {width}x{height} leaves nothing of "
            f"the shorter side; give a less narrow image or a larger --size.",
            Cause.OPTION,
        )
    return scale, scaled


def preprocess_with_scale(
    image: NDArray[np.uint8],
    height: int,
    width: int,
    *,
    half_pixel: bool = True,
    normalisation: Normalisation = IMAGENET,
) -> NetworkInput:
    """An RGB image to the network's input: normalised, scaled to fit, padded.

    The image keeps its aspect and lies in the top left corner; the rest is zero, or -1 where
    ``scale_range`` shifts it after the padding.

    Args:
        image: [h, w, 3] RGB grey levels.
        height: Height of the input in pixels.
        width: Width of the input in pixels.
        half_pixel: As for :func:`resize_bilinear`.
        normalisation: How grey levels become the network's input.

    Raises:
        InputError: The image has another shape or type, no pixel, or is so narrow that scaling
            leaves none.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError(
            f"An image is {image.dtype} {list(image.shape)}; give uint8 [h, w, 3] in RGB order."
        )
    h, w = image.shape[:2]
    scale, scaled = fit(h, w, height, width)
    rows, columns = _taps(h, scaled[0], half_pixel), _taps(w, scaled[1], half_pixel)
    # Of a large photograph most rows and columns fall between the taps.
    if h > 2 * scaled[0]:
        used, rows = rows.of_used()
        image = image[used]
    if w > 2 * scaled[1]:
        used, columns = columns.of_used()
        image = image.take(used, 1)
    pixels = np.zeros((height, width, 3), np.float32)
    _interpolate(
        _normaliser(image, normalisation),
        3 * image.shape[1],
        columns.of_values(3),
        rows,
        pixels.reshape(height, -1)[: scaled[0], : 3 * scaled[1]],
    )
    if normalisation.scale_range:
        pixels = shift_range(pixels)
    return NetworkInput(pixels, np.float32(1) / scale)


def preprocess(image: NDArray[np.uint8], height: int, width: int) -> FloatImage:
    """The pixels of :func:`preprocess_with_scale` with its defaults: the evaluation's of D0 to D7x.

    Args:
        image: [h, w, 3] RGB grey levels.
        height: Height of the input in pixels.
        width: Width of the input in pixels.

    Returns:
        [height, width, 3]; the image keeps its aspect and lies in the top left corner.
    """
    return preprocess_with_scale(image, height, width).pixels
