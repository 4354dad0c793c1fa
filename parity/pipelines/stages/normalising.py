"""From grey levels to the network's range, and what is put around the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.pipelines.stages.pipeline import Mistake
from torch_model.preprocess import (
    ADVPROP,
    IMAGENET,
    LITE,
    FloatImage,
    Normalisation,
    Three,
    shift_range,
)

_MEAN, _DEVIATION = IMAGENET.mean_rgb, IMAGENET.stddev_rgb


def _all(level: float) -> Three:
    return level, level, level


RANGES: Mapping[str, Normalisation] = MappingProxyType(
    {
        "imagenet": IMAGENET,
        "half": Normalisation(_all(127.5), _all(127.5)),
        "unit": Normalisation(_all(0.0), _all(255.0)),
        "levels": Normalisation(_all(0.0), _all(1.0)),
        "mean-only": Normalisation(_MEAN, _all(255.0)),
        "mean-only-levels": Normalisation(_MEAN, _all(1.0)),
        "reversed": Normalisation(_MEAN[::-1], _DEVIATION[::-1]),
        # The means of Caffe's models, given for BGR, of which nothing but they is subtracted.
        "caffe": Normalisation((103.939, 116.779, 123.68), _all(1.0)),
        "lite": LITE,
        "imagenet-levels": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "advprop": ADVPROP,
    }
)
"""Mean and deviation in grey levels, by name."""

PADDINGS: Mapping[str, float | Three | None] = MappingProxyType(
    {
        "zero": None,
        "black": 0.0,
        # Rounded to whole grey levels, as a picture's background must be.
        "mean": (124.0, 116.0, 104.0),
        "114": 114.0,
        "127": 127.0,
        "128": 128.0,
        "white": 255.0,
    }
)
"""The grey level around the image; None: 0 after normalisation, before the range is shifted."""

LAST: Mapping[str, float] = MappingProxyType({"minus-one": -1.0, "zero-last": 0.0, "one": 1.0})
"""What lies around the image in the network's input itself."""

MISTAKES = (
    *(
        Mistake(f"normalise-{slug}", title, "preprocess", {"normalisation": RANGES[slug]})
        for slug, title in (
            ("imagenet", "ImageNet's mean and deviation"),
            ("half", "normalised with mean 0.5 and deviation 0.5"),
            ("unit", "pixels of 0 to 1, without mean and deviation"),
            ("levels", "grey levels, not normalised"),
            ("mean-only", "the mean subtracted, but not divided by the deviation"),
            ("mean-only-levels", "the mean subtracted from grey levels, nothing divided"),
            ("reversed", "mean and deviation in the order of BGR"),
            ("caffe", "Caffe's means subtracted from grey levels"),
            ("lite", "mean 127 and deviation 128, as the lite models have them"),
            ("imagenet-levels", "mean and deviation of 0 to 1 applied to grey levels"),
            ("advprop", "AdvProp's normalisation, padding -1"),
        )
    ),
    *(
        Mistake(f"pad-{slug}", title, "preprocess", {"padding": slug})
        for slug, title in (
            ("black", "padded with black before normalising, instead of 0 after it"),
            ("mean", "padded with the mean colour in whole grey levels"),
            ("114", "padded with grey 114"),
            ("127", "padded with grey 127"),
            ("128", "padded with grey 128"),
            ("white", "padded with white"),
            ("minus-one", "padded with -1 after normalising"),
            ("zero-last", "padded with 0 after the range was shifted (faithful: -1)"),
            ("one", "padded with 1 after normalising"),
        )
    ),
)


def _line(how: Normalisation) -> NDArray[np.float64]:
    """[2, 3] what grey levels 0 and 255 become."""
    levels = np.array([[0.0], [255.0]])
    found: NDArray[np.float64] = (levels - np.array(how.mean_rgb)) / np.array(how.stddev_rgb)
    if how.scale_range:
        found = found * 2 / 255 - 1
    return found


def does_the_same(one: Normalisation, other: Normalisation) -> bool:
    """Whether both make the same of an image, and at most of its padding something else."""
    return bool(np.allclose(_line(one), _line(other), rtol=1e-5, atol=1e-5))


def of_model(how: Normalisation) -> Iterator[Mistake]:
    """Mistakes that are other numbers for each model.

    Args:
        how: The model's normalisation.
    """
    if how.scale_range:
        yield Mistake(
            "normalise-without-range",
            "scale_range ignored, as the official export does",
            "preprocess",
            {"normalisation": replace(how, scale_range=False)},
        )


def normalised(levels: NDArray[Any], how: Normalisation) -> FloatImage:
    """Grey levels of any type in the network's range, as float32.

    Args:
        levels: [h, w, 3].
        how: The normalisation.
    """
    values = levels.astype(np.float32)
    result: FloatImage = values - np.asarray(how.mean_rgb, np.float32)
    result /= np.asarray(how.stddev_rgb, np.float32)
    return result


def shifted(pixels: FloatImage, how: Normalisation) -> FloatImage:
    """What :func:`normalised` gives with the range shifted, where the normalisation does so."""
    return shift_range(pixels) if how.scale_range else pixels


def background(padding: str, how: Normalisation) -> FloatImage:
    """[3] what lies around the image in the network's input.

    Args:
        padding: Of :data:`PADDINGS` or :data:`LAST`.
        how: The normalisation.
    """
    if padding in LAST:
        return np.full(3, LAST[padding], np.float32)
    level = PADDINGS[padding]
    if level is None:
        return shifted(np.zeros(3, np.float32), how)
    around = normalised(np.broadcast_to(np.asarray(level, np.float32), (1, 1, 3)), how)
    result: FloatImage = shifted(around, how)[0, 0]
    return result
