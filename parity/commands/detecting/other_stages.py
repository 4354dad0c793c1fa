"""Stages as ports get them wrong, each otherwise as the official one.

A detector's own stages are in :class:`torch_model.detector.Detector`; what is here takes the
detector and differs from it in one detail.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, InputError

if TYPE_CHECKING:
    from torch_model.detector import Detector
    from torch_model.postprocess import Outputs
    from torch_model.preprocess import NetworkInput

Resize = Callable[[NDArray[Any], int, int], NDArray[Any]]
"""[h, w, 3] to [height, width, 3]."""


def decode_with_opencv(path: Path) -> NDArray[np.uint8]:
    """An image file as uint8 [h, w, 3] in RGB order, by OpenCV's decoder.

    Raises:
        InputError: The file cannot be read, or OpenCV decodes it to no image.
    """
    import cv2

    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give an image file.",
            Cause.of(error),
        ) from error
    # Annotations are of the pixels as stored, whatever orientation the camera notes.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded: Any = cv2.imdecode(data, flags)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise InputError(
            f"{path} is no image that OpenCV decodes; give a JPEG, PNG or BMP file.", Cause.FORMAT
        )
    return np.ascontiguousarray(decoded[..., ::-1])


def resize_with_opencv(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Bilinear, by OpenCV; keeps the type."""
    import cv2

    resized: NDArray[Any] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized


def resize_with_torch(
    image: NDArray[Any],
    height: int,
    width: int,
    *,
    antialias: bool = False,
    mode: str = "bilinear",
) -> NDArray[Any]:
    """With half-pixel centres, by PyTorch.

    Args:
        image: [h, w, 3] float32.
        height: In pixels.
        width: In pixels.
        antialias: Average over all pixels where the image shrinks.
        mode: ``bilinear`` or ``bicubic``.
    """
    import torch

    resized = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None],
        size=(height, width),
        mode=mode,
        align_corners=False,
        antialias=antialias,
    )
    return resized[0].permute(1, 2, 0).numpy()


def preprocess_with(
    detector: Detector, image: NDArray[np.uint8], resize: Resize, *, resize_first: bool = False
) -> NetworkInput:
    """The detector's preprocessing with another resize.

    Args:
        detector: Its profile decides the rest.
        image: [h, w, 3] in RGB order.
        resize: To take instead.
        resize_first: Resize grey levels (uint8) and normalise then.

    Raises:
        InputError: The image is so narrow that scaling leaves nothing of it.
    """
    from torch_model.preprocess import NetworkInput, fit, normalise

    height, width = detector.size
    h, w = image.shape[:2]
    advprop = detector.profile.normalisation == "advprop"
    scale, scaled = fit(h, w, height, width)
    pixels = np.zeros((height, width, 3), np.float32)
    pixels[: scaled[0], : scaled[1]] = (
        normalise(resize(image, *scaled), advprop=advprop)
        if resize_first
        else resize(normalise(image, advprop=advprop), *scaled)
    )
    if advprop:
        pixels = pixels * np.float32(2) / np.float32(255) - np.float32(1)
    return NetworkInput(pixels, np.float32(1) / scale)


def postprocess_with(
    detector: Detector,
    outputs: Outputs,
    scale: Any,
    *,
    inclusive: bool = True,
    clip_first: bool = False,
) -> tuple[Any, Any, Any]:
    """The detector's postprocessing with another detail of the suppression.

    Args:
        detector: Its profile decides the rest.
        outputs: The network's predictions.
        scale: Factor from pixels of the input to those of the image.
        inclusive: Areas count the last pixel (+1); without it the profile's NMS must be ``soft``
            or ``hard``.
        clip_first: Clip boxes to the network's input before they suppress each other.

    Returns:
        Boxes [K, 4] as [y1, x1, y2, x2] in pixels of the image, scores and classes.

    Raises:
        InputError: The predictions hold NaN.
    """
    from torch_model import nms
    from torch_model.postprocess import (
        decode_boxes,
        select_best_class,
        select_top,
        sigmoid,
        suppress,
    )

    profile = detector.profile
    select = select_top if profile.selection == "top-5000" else select_best_class
    chosen = select(outputs.classes)
    boxes = decode_boxes(outputs.box_codes[chosen.anchors], detector.anchors[chosen.anchors])
    border = np.array([*detector.size, *detector.size], np.float32)
    if clip_first:
        boxes = np.clip(boxes, np.float32(0), border)
    scores = sigmoid(chosen.logits)
    if inclusive:
        kept = suppress(boxes, scores, chosen.classes, profile)
    else:
        groups = chosen.classes if profile.scope == "per-class" else np.zeros_like(chosen.classes)
        suppression = nms.soft_nms if profile.nms == "soft" else nms.hard_nms
        kept = suppression(boxes, scores, groups, inclusive=False)
    boxes = boxes[kept.indices]
    if profile.clipping == "input":
        boxes = np.clip(boxes, np.float32(0), border)
    return boxes * scale, kept.scores, chosen.classes[kept.indices]
