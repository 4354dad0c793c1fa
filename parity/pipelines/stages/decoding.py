"""From a file to pixels: which decoder, and which order of the channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.pipelines.pipeline import Mistake

MISTAKES = (
    Mistake(
        "opencv-decode",
        "JPEG decoded with the accurate DCT, as OpenCV and Pillow do",
        "decode",
        {"decode": "accurate-dct"},
    ),
    Mistake(
        "tensorflow-decode-mistake",
        "JPEG decoded with the fast DCT, as TensorFlow does",
        "decode",
        {"decode": "fast-dct"},
    ),
    Mistake("bgr", "BGR instead of RGB", "preprocess", {"colours": "bgr"}),
)


def ordered(image: NDArray[np.uint8], colours: str) -> NDArray[np.uint8]:
    """The channels in the order in which the network is given them.

    Args:
        image: [h, w, 3] in RGB order.
        colours: ``rgb`` or ``bgr``.
    """
    return image if colours == "rgb" else np.ascontiguousarray(image[..., ::-1])
