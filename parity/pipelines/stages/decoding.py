"""From a file to pixels: which decoder, and which order of the channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.pipelines.stages.pipeline import Mistake

MISTAKES = (
    Mistake(
        "opencv-decode",
        "JPEG decoder of OpenCV and Pillow",
        "decode",
        {"decode": "accurate-dct"},
    ),
    Mistake(
        "fast-decode",
        "TensorFlow's JPEG decoder",
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
