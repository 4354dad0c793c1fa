"""From box codes to boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from parity.pipelines.stages.pipeline import Mistake
from torch_model.postprocess import decode_boxes

Floats = NDArray[np.float32]

ORDERS: Mapping[str, list[int]] = MappingProxyType(
    {
        "ty,tx,th,tw": [0, 1, 2, 3],
        "tx,ty,tw,th": [1, 0, 3, 2],
        "th,tw,ty,tx": [2, 3, 0, 1],
    }
)
"""Where each of [ty, tx, th, tw] is looked for, by what the code is taken for."""

LARGEST = np.float32(math.log(1000 / 16))
"""What ports of Detectron clamp th and tw to."""

VARIANCES = np.array([0.1, 0.1, 0.2, 0.2], np.float32)
"""What SSD's and RetinaNet's codes are multiplied with."""

MISTAKES = (
    Mistake(
        "codes-xy", "box codes read as tx, ty, tw, th", "postprocess", {"code_order": "tx,ty,tw,th"}
    ),
    Mistake(
        "codes-sizes-first",
        "box codes read as th, tw, ty, tx",
        "postprocess",
        {"code_order": "th,tw,ty,tx"},
    ),
    Mistake(
        "variances",
        "box codes multiplied with variances 0.1 and 0.2",
        "postprocess",
        {"code_limits": "variances"},
    ),
    Mistake(
        "clamped-codes",
        "box codes th and tw clamped to log(1000/16)",
        "postprocess",
        {"code_limits": "clamped"},
    ),
)


def decode(codes: Floats, anchors: Floats, order: str, limits: str) -> Floats:
    """[K, 4] as [y1, x1, y2, x2] in pixels of the input.

    Args:
        codes: [K, 4] as the network gives them.
        anchors: [K, 4] as [y1, x1, y2, x2].
        order: Of :data:`ORDERS`.
        limits: ``none``, ``variances`` or ``clamped``.
    """
    codes = codes[:, ORDERS[order]]
    if limits == "variances":
        codes = codes * VARIANCES
    if limits == "clamped":
        codes = np.concatenate([codes[:, :2], np.minimum(codes[:, 2:], LARGEST)], axis=1)
    return decode_boxes(codes, anchors)
