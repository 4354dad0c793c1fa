"""COCO's metrics, by pycocotools, and what is needed to resample them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, InputError, install_command
from parity.detections.annotations import Annotations
from parity.detections.rows import Rows

METRICS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
"""COCO's twelve, in pycocotools' order: AP over IoU 0.5 to 0.95, at 0.5, at 0.75, for small, medium
and large objects; AR with 1, 10 and 100 boxes for an image, and with 100 by size."""

CURVES = {"AP": None, "AP50": 0.5, "AP75": 0.75}
"""Precision by recall: averaged over all IoU thresholds, or at one."""

_ALL_AREAS = 0


@dataclass(frozen=True)
class Ranking:
    """One category's detections over all images by falling score, and whether each is right.

    Attributes:
        images: [D] index of each detection's image.
        right: [T, D], found at each IoU threshold.
        wrong: [T, D]; what COCO ignores is neither.
        positives: [N] objects to be found in each image.
    """

    images: NDArray[np.int64]
    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    positives: NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """How good detections are.

    Attributes:
        metrics: By :data:`METRICS`; None where there is nothing of this size to be found.
        categories: AP by category id; None where there is nothing to be found.
        rankings: Of each category, over all sizes.
        images: Number of images.
        curves: By :data:`CURVES`: the precision at recall 0, 0.01 to 1, averaged over the
            categories with something to be found; its mean is the metric.
    """

    metrics: Mapping[str, float | None]
    categories: Mapping[int, float | None]
    rankings: Sequence[Ranking]
    images: int
    curves: Mapping[str, Sequence[float]]


def evaluate(
    annotations: Annotations, image_ids: Sequence[int], detections: Mapping[int, Rows]
) -> Evaluation:
    """COCO's metrics over some images.

    Args:
        annotations: With boxes.
        image_ids: The images to count.
        detections: Of each of these images.

    Raises:
        InputError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise InputError(
            f"COCO's metrics need pycocotools, which is not installed; run "
            f"{install_command('coco')}.",
            Cause.MISSING_PACKAGE,
        ) from None
    # pycocotools tells its progress on standard output, which is for results.
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = _dataset(annotations, image_ids, _true_entries(annotations, image_ids))
        found.dataset = _dataset(annotations, image_ids, _found_entries(image_ids, detections))
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, _ALL_AREAS, -1]
    return Evaluation(
        metrics=dict(zip(METRICS, map(_defined, evaluation.stats), strict=True)),
        categories={
            int(category): _mean(precision[:, :, place])
            for place, category in enumerate(evaluation.params.catIds)
        },
        rankings=_rankings(evaluation),
        images=len(evaluation.params.imgIds),
        curves=_curves(precision, evaluation.params.iouThrs),
    )


def _defined(value: Any) -> float | None:
    """COCO writes -1 where a metric has no meaning."""
    return None if value < 0 else float(value)


def _mean(values: NDArray[Any]) -> float | None:
    values = values[values > -1]
    return float(values.mean()) if values.size else None


def _curves(precision: NDArray[Any], thresholds: NDArray[Any]) -> dict[str, list[float]]:
    """Of [T, R, K] precisions; -1 where a category has nothing to be found."""
    known = precision[:, :, (precision > -1).all(axis=(0, 1))]
    if not known.shape[2]:
        return {}
    curves = {}
    for name, threshold in CURVES.items():
        rows = slice(None) if threshold is None else np.isclose(thresholds, threshold)
        curves[name] = known[rows].mean(axis=(0, 2)).tolist()
    return curves


def _dataset(
    annotations: Annotations, image_ids: Sequence[int], entries: list[dict[str, Any]]
) -> dict[str, Any]:
    # pycocotools takes an entry 0 for none, hence the numbers from 1.
    numbered = [entry | {"id": number} for number, entry in enumerate(entries, 1)]
    return {
        "images": [{"id": number} for number in image_ids],
        "categories": [{"id": number} for number in annotations.categories],
        "annotations": numbered,
    }


def _true_entries(annotations: Annotations, image_ids: Sequence[int]) -> list[dict[str, Any]]:
    counted = set(image_ids)
    return [
        {
            "image_id": box.image_id,
            "category_id": box.category_id,
            "bbox": list(box.bbox),
            "area": box.area,
            "iscrowd": int(box.crowd),
        }
        for box in annotations.boxes or ()
        if box.image_id in counted
    ]


def _found_entries(
    image_ids: Sequence[int], detections: Mapping[int, Rows]
) -> list[dict[str, Any]]:
    return [
        {
            "image_id": number,
            "category_id": int(category),
            "bbox": bbox,
            "area": bbox[2] * bbox[3],
            "iscrowd": 0,
            "score": score,
        }
        for number in image_ids
        for *bbox, score, category in detections[number].tolist()
    ]


def _rankings(evaluation: Any) -> list[Ranking]:
    """What pycocotools found for each image, in the order in which it accumulates it."""
    categories, areas, images = (
        len(evaluation.params.catIds),
        len(evaluation.params.areaRng),
        len(evaluation.params.imgIds),
    )
    rankings = []
    for category in range(categories):
        start = (category * areas + _ALL_AREAS) * images
        per_image = evaluation.evalImgs[start : start + images]
        seen = [(place, item) for place, item in enumerate(per_image) if item is not None]
        positives = np.zeros(images)
        for place, item in seen:
            positives[place] = np.count_nonzero(np.asarray(item["gtIgnore"]) == 0)
        if not positives.any():
            continue
        scores = np.concatenate([np.asarray(item["dtScores"]) for _, item in seen])
        order = np.argsort(-scores, kind="mergesort")
        matched = np.concatenate([np.asarray(item["dtMatches"]) for _, item in seen], 1) > 0
        counted = np.concatenate([np.asarray(item["dtIgnore"]) for _, item in seen], 1) == 0
        owners = np.repeat(
            [place for place, _ in seen], [len(item["dtScores"]) for _, item in seen]
        )
        rankings.append(
            Ranking(
                images=owners[order],
                right=(matched & counted)[:, order],
                wrong=(~matched & counted)[:, order],
                positives=positives,
            )
        )
    return rankings
