"""Detections of an image as rows, and COCO's file of results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, InputError

Rows = NDArray[np.float64]
"""[K, 6] as x, y, width, height in pixels of the image, score, category id; best first."""

SUBMISSION_BOX_DIGITS = 1
"""Decimals of a box in a submission: COCO's page on result formats recommends tenths of a pixel."""

SUBMISSION_SCORE_DIGITS = 5
"""Decimals of a score in a submission; fewer would make scores equal that are not."""


def as_rows(boxes: Any, scores: Any, classes: Any) -> Rows:
    """Detections as rows.

    Sides are subtracted in float32, the type of the boxes, as the official code does, so that
    every number is a float32 whatever the framework it comes from.

    Args:
        boxes: [K, 4] as [y1, x1, y2, x2], float32.
        scores: [K].
        classes: [K] class index; the category id is one more.

    Raises:
        InputError: A number is not finite.
    """
    y1, x1, y2, x2 = np.asarray(boxes, np.float32).reshape(-1, 4).T
    with np.errstate(invalid="ignore", over="ignore"):
        columns = [x1, y1, x2 - x1, y2 - y1, np.asarray(scores, np.float32)]
    rows = np.stack([*columns, np.asarray(classes) + 1], axis=1).astype(np.float64)
    if not np.isfinite(rows).all():
        wrong = int((~np.isfinite(rows)).any(axis=1).sum())
        raise InputError(
            f"{wrong} of {len(rows)} detections hold NaN or infinity; is the model trained?",
            Cause.MODEL,
        )
    return rows


def told_of_repeats(images: Iterable[tuple[int, Rows]]) -> str | None:
    """A sentence on boxes that are given more than once; None where there are none.

    Args:
        images: Id and detections of each image.
    """
    repeated = {
        number: len(rows) - len(np.unique(rows, axis=0)) for number, rows in images if len(rows)
    }
    where = [number for number, count in repeated.items() if count]
    if not where:
        return None
    count = sum(repeated.values())
    boxes = "1 detection repeats another" if count == 1 else f"{count:,} detections repeat others"
    of = f"image {where[0]}" if len(where) == 1 else f"{len(where)} images, the first {where[0]}"
    return (
        f"{boxes} of the same image in class, score and corners, as if nothing had been "
        f"suppressed: in {of}"
    )


def results_json(images: Iterable[tuple[int, Rows]], *, submission: bool = False) -> str:
    """The text of COCO's file of results, one detection a line.

    Numbers are written with as many digits as give the same number when read, so equal
    detections make equal files and the file's AP is the one computed here.

    Args:
        images: Id and detections of each image.
        submission: Round as for COCO's evaluation server.
    """
    lines = [
        json.dumps(_result(image, row, submission), separators=(",", ":"))
        for image, rows in images
        for row in rows.tolist()
    ]
    return "[" + ",\n".join(lines) + "]\n"


def _result(image: int, row: list[float], submission: bool) -> dict[str, Any]:
    *bbox, score, category = row
    if submission:
        bbox = [round(value, SUBMISSION_BOX_DIGITS) for value in bbox]
        score = round(score, SUBMISSION_SCORE_DIGITS)
    return {"image_id": image, "category_id": int(category), "bbox": bbox, "score": score}
