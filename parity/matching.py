"""Which detection of one side is which of the other, and how far apart the two are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.coco.detections import Rows

MIN_IOU = 0.5
"""Boxes that overlap less are not the same detection; the least IoU that COCO takes for a hit."""

WORST_IMAGES = 5
"""How many images a result names."""


@dataclass(frozen=True)
class ImageMatch:
    """The two sides' detections of one image.

    Attributes:
        image_id: The image.
        pairs: [M, 2] row of the reference and of the candidate that are the same detection.
        reference_only: Rows of the reference without a partner.
        candidate_only: Rows of the candidate without a partner.
        score: Largest difference of scores.
        box: Largest difference of a box's edge in pixels.
        rank_flips: Pairs of detections whose order by score is another.
    """

    image_id: int
    pairs: NDArray[np.int64]
    reference_only: NDArray[np.int64]
    candidate_only: NDArray[np.int64]
    score: float
    box: float
    rank_flips: int

    @property
    def unmatched(self) -> int:
        """Detections without a partner, on either side."""
        return len(self.reference_only) + len(self.candidate_only)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a result file."""
        return {
            "image_id": self.image_id,
            "matched": len(self.pairs),
            "reference_only": len(self.reference_only),
            "candidate_only": len(self.candidate_only),
            "largest_score_difference": self.score,
            "largest_box_difference_pixels": self.box,
            "rank_flips": self.rank_flips,
        }


@dataclass(frozen=True)
class Matching:
    """The two sides' detections of all images.

    Attributes:
        images: Of each image.
    """

    images: Sequence[ImageMatch]

    @property
    def worst(self) -> list[ImageMatch]:
        """The images that differ most: by lone detections, then by box, then by score."""
        differing = [item for item in self.images if item.unmatched or item.box or item.score]
        differing.sort(key=lambda item: (-item.unmatched, -item.box, -item.score, item.image_id))
        return differing[:WORST_IMAGES]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a result file."""
        return {
            "min_iou": MIN_IOU,
            "matched": sum(len(item.pairs) for item in self.images),
            "reference_only": sum(len(item.reference_only) for item in self.images),
            "candidate_only": sum(len(item.candidate_only) for item in self.images),
            "largest_score_difference": max((item.score for item in self.images), default=0.0),
            "largest_box_difference_pixels": max((item.box for item in self.images), default=0.0),
            "rank_flips": sum(item.rank_flips for item in self.images),
            "worst_images": [item.to_dict() for item in self.worst],
        }


def match(reference: Mapping[int, Rows], candidate: Mapping[int, Rows]) -> Matching:
    """Match the detections of every image that both sides have, by rising id."""
    shared = sorted(reference.keys() & candidate.keys())
    return Matching(
        [match_image(number, reference[number], candidate[number]) for number in shared]
    )


def match_image(image_id: int, reference: Rows, candidate: Rows) -> ImageMatch:
    """Match the detections of one image.

    Of all pairs of one category that overlap by at least :data:`MIN_IOU`, the one that overlaps
    most is taken first; between equals the one of closest scores.
    """
    overlap = iou(reference, candidate)
    overlap[reference[:, None, 5] != candidate[None, :, 5]] = 0.0
    rows, columns = np.nonzero(overlap >= MIN_IOU)
    apart = np.abs(reference[rows, 4] - candidate[columns, 4])
    order = np.lexsort((columns, rows, apart, -overlap[rows, columns]))
    free_rows = np.ones(len(reference), bool)
    free_columns = np.ones(len(candidate), bool)
    pairs = []
    for place in order:
        row, column = rows[place], columns[place]
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            pairs.append((row, column))
    matched = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    one, other = reference[matched[:, 0]], candidate[matched[:, 1]]
    return ImageMatch(
        image_id=image_id,
        pairs=matched,
        reference_only=np.flatnonzero(free_rows),
        candidate_only=np.flatnonzero(free_columns),
        score=float(np.abs(one[:, 4] - other[:, 4]).max(initial=0.0)),
        box=float(np.abs(edges(one) - edges(other)).max(initial=0.0)),
        rank_flips=_inversions(matched[:, 1]),
    )


def edges(rows: Rows) -> NDArray[np.float64]:
    """[K, 4] as x1, y1, x2, y2 in pixels."""
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)


def iou(reference: Rows, candidate: Rows) -> NDArray[np.float64]:
    """[K, L] intersection over union; boxes without area overlap fully with themselves only."""
    one, other = edges(reference)[:, None], edges(candidate)[None]
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=-1)
    first, second = (rows[:, 2] * rows[:, 3] for rows in (reference, candidate))
    union = first[:, None] + second[None] - shared
    result: NDArray[np.float64] = (one == other).all(axis=-1).astype(np.float64)
    np.divide(shared, union, out=result, where=union > 0)
    return result


def _inversions(ranks: NDArray[np.int64]) -> int:
    """Pairs that are out of order."""
    return int(np.triu(ranks[:, None] > ranks[None, :], 1).sum())
