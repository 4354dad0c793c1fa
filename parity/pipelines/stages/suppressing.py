"""Non-maximum suppression, and where boxes are cut off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from parity.pipelines.stages.pipeline import Mistake, Pipeline
from parity.pipelines.stages.resizing import Geometry
from torch_model import nms

Floats = NDArray[np.float32]

IOUS = (0.2, 0.25, *(round(0.01 * step, 2) for step in range(30, 71)), 0.75, 0.8, 0.85, 0.9)
"""Overlaps above which hard NMS drops a box."""
SIGMAS = (0.25, 0.3, 0.5, 1.0)
LIMITS = (10, 20, 50, 100, 200, 300, 500, 1000, 10_000)

LEAST = {"soft": 0.001, "tf-soft": 0.001, "tf-hard": -math.inf}
"""Score below which each kind drops a box, of those that read it, where nothing else is said."""

MISTAKES = (
    *(
        Mistake(
            slug,
            title,
            "postprocess",
            {"nms": name} | ({"least": LEAST[name]} if name in LEAST else {}),
        )
        for slug, name, title in (
            ("numpy-soft-nms", "soft", "soft NMS of the official NumPy code"),
            ("hard-nms", "hard", "hard NMS, areas with +1"),
            ("plain-hard-nms", "tf-hard", "hard NMS of plain areas (TensorFlow's op, torchvision)"),
            ("tensorflow-nms", "tf-soft", "soft NMS of TensorFlow's op"),
            ("no-nms", "none", "no NMS"),
        )
    ),
    Mistake("least-0.001", "NMS drops scores below 0.001", "postprocess", {"least": 0.001}),
    Mistake("no-last-pixel", "areas in NMS without +1", "postprocess", {"last_pixel": False}),
    Mistake(
        "class-agnostic", "boxes suppress those of any class", "postprocess", {"scope": "global"}
    ),
    Mistake(
        "per-class",
        "boxes suppress only those of their class",
        "postprocess",
        {"scope": "per-class"},
    ),
    *(
        Mistake(f"iou-{iou:g}", f"NMS threshold {iou:g}", "postprocess", {"iou": iou})
        for iou in IOUS
    ),
    *(
        Mistake(f"sigma-{sigma:g}", f"soft NMS of sigma {sigma:g}", "postprocess", {"sigma": sigma})
        for sigma in SIGMAS
    ),
    *(
        Mistake(
            f"best-{limit}",
            f"at most {limit} boxes of an image" if limit < 10_000 else "any number of boxes",
            "postprocess",
            {"limit": limit},
        )
        for limit in LIMITS
    ),
    *(
        Mistake(slug, title, "postprocess", {"clipping": name})
        for slug, name, title in (
            ("no-clipping", "none", "boxes not clipped"),
            ("clip-first", "input-first", "boxes clipped to the input before NMS"),
            ("clip-first-less", "less-first", "boxes clipped to the input's last pixel before NMS"),
            ("clip-image-first", "image-first", "boxes clipped to the image before NMS"),
            ("clip-last", "input", "boxes clipped to the input after NMS"),
            ("clip-image-last", "image", "boxes clipped to the image after NMS"),
            ("clip-last-less", "less", "boxes clipped to the input's last pixel after NMS"),
        )
    ),
)


def read_off(counts: Sequence[int]) -> Iterator[Mistake]:
    """A number of boxes that several images have and none exceeds.

    Args:
        counts: How many boxes a program has found in each image.
    """
    most = max(counts, default=0)
    if most not in (0, *LIMITS) and list(counts).count(most) > 1:
        yield Mistake(
            "best-other", f"at most {most} boxes of an image", "postprocess", {"limit": most}
        )


_READ = {
    "soft": {"sigma", "least", "last_pixel", "scope"},
    "hard": {"iou", "last_pixel", "scope"},
    "linear": {"iou", "least", "last_pixel", "scope"},
    "diou": {"iou", "last_pixel", "scope"},
    "tf-soft": {"sigma", "least", "scope"},
    "tf-hard": {"iou", "least", "scope"},
    "none": set(),
}
"""Which choices each kind of suppression reads."""


def acting(pipeline: Pipeline) -> Pipeline:
    """The same pipeline, in which choices that its suppression does not read are the usual ones.

    So it is known that it does the same as another, without computing either.
    """
    unread = set().union(*_READ.values()) - _READ[pipeline.nms]
    usual = Pipeline()
    return pipeline.changed({name: getattr(usual, name) for name in unread})


def clipped(boxes: Floats, clipping: str, geometry: Geometry, size: tuple[int, int]) -> Floats:
    """Boxes [K, 4] as [y1, x1, y2, x2] in pixels of the input, cut off.

    Args:
        boxes: To cut.
        clipping: Of the pipeline, without ``-first``.
        geometry: Where the image lies.
        size: (height, width) of the input.
    """
    if clipping == "none":
        return boxes
    low = np.zeros(4, np.float32)
    high = np.array([*size, *size], np.float32)
    if clipping == "less":
        # Only right and lower edges, as the ports that do so have it.
        boxes = np.concatenate([np.maximum(boxes[:, :2], 0), boxes[:, 2:]], axis=1)
        low[2:], low[:2] = -np.inf, -np.inf
        high[:2], high[2:] = np.inf, high[2:] - 1
    if clipping == "image":
        sides = np.array(geometry.image, np.float32) * np.array(geometry.scale, np.float32)
        corner = np.array(geometry.offset, np.float32)
        low, high = np.tile(corner, 2), np.tile(corner + sides, 2)
    result: Floats = np.clip(boxes, low, high)
    return result


def suppressed(
    boxes: Floats, scores: Floats, classes: NDArray[np.int64], pipeline: Pipeline
) -> nms.Kept:
    """The pipeline's suppression.

    Args:
        boxes: [K, 4] as [y1, x1, y2, x2] in pixels of the input.
        scores: [K].
        classes: [K].
        pipeline: Decides the kind.
    """
    groups = classes if pipeline.scope == "per-class" else np.zeros_like(classes)
    kind, limit = pipeline.nms, pipeline.limit
    if kind == "none":
        best = np.argsort(-scores, kind="stable")[:limit]
        return nms.Kept(best, scores[best])
    if kind in ("soft", "linear"):
        return nms.soft_nms(
            boxes,
            scores,
            groups,
            sigma=pipeline.sigma,
            threshold=pipeline.least,
            limit=limit,
            inclusive=pipeline.last_pixel,
            linear_iou=pipeline.iou if kind == "linear" else None,
        )
    if kind in ("hard", "diou"):
        return nms.hard_nms(
            boxes,
            scores,
            groups,
            iou_threshold=pipeline.iou,
            limit=limit,
            inclusive=pipeline.last_pixel,
            distance=kind == "diou",
        )
    soft = kind == "tf-soft"
    return nms.tensorflow_nms(
        boxes,
        scores,
        groups,
        soft_sigma=pipeline.sigma / 2 if soft else 0.0,
        iou_threshold=pipeline.iou,
        score_threshold=pipeline.least,
        limit=limit,
    )
