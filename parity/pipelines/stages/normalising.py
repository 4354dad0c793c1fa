"""From grey levels to the network's range, and what is put around the image."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.pipelines.stages.pipeline import Mistake
from torch_model.preprocess import MEAN_RGB, STDDEV_RGB

Three = tuple[float, float, float]

RANGES: Mapping[str, tuple[Three, Three]] = MappingProxyType(
    {
        "imagenet": (MEAN_RGB, STDDEV_RGB),
        "half": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
        "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
        "levels": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        "mean-only": (MEAN_RGB, (255.0, 255.0, 255.0)),
        "mean-only-levels": (MEAN_RGB, (1.0, 1.0, 1.0)),
        "reversed": (MEAN_RGB[::-1], STDDEV_RGB[::-1]),
        # The means of Caffe's models, given for BGR, of which nothing but they is subtracted.
        "caffe": ((103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
        "lite": ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
        "imagenet-levels": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    }
)
"""(mean, deviation) in grey levels, by normalisation; ``advprop`` is not of this form."""

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
"""The grey level around the image; None: 0 after normalisation."""

MISTAKES = (
    *(
        Mistake(f"normalise-{slug}", title, "preprocess", {"normalisation": slug})
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
            ("one", "padded with 1 after normalising"),
        )
    ),
)


def normalised(levels: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Grey levels of any type in the network's range, as float32; AdvProp's stay levels.

    Args:
        levels: [h, w, 3].
        name: Of :data:`RANGES`, or ``advprop``.
    """
    values = levels.astype(np.float32)
    if name == "advprop":
        return values
    mean, deviation = RANGES[name]
    result: NDArray[np.float32] = values - np.asarray(mean, np.float32)
    result /= np.asarray(deviation, np.float32)
    return result


def background(padding: str, name: str) -> NDArray[np.float32]:
    """[3] what lies around the image, in the range of :func:`normalised`.

    Args:
        padding: Of :data:`PADDINGS`, or ``minus-one`` or ``one``.
        name: The normalisation.
    """
    if padding in ("minus-one", "one"):
        value = -1.0 if padding == "minus-one" else 1.0
        return np.full(3, value, np.float32)
    level = PADDINGS[padding]
    if level is None:
        return np.zeros(3, np.float32)
    around = normalised(np.broadcast_to(np.asarray(level, np.float32), (1, 1, 3)), name)
    result: NDArray[np.float32] = around[0, 0]
    return result


def finished(pixels: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """AdvProp's shift, which comes after the padding."""
    if name != "advprop":
        return pixels
    result: NDArray[np.float32] = pixels * np.float32(2) / np.float32(255) - np.float32(1)
    return result
