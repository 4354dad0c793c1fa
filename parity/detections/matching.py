"""Which detection of one side is which of the other, how far apart the two are, and why.

How far rounding may move a box: it is decoded from a code ``t`` and an anchor of side ``a``. Its
centre is ``c + t a``, its side ``exp(t) a``. Where two networks' codes differ by at most ``d``,
the centre moves by at most ``d a`` and the side by ``exp(t) a (exp(d) - 1)``, to first order ``d``
times the side itself, so that an edge moves by at most ``d (a + side / 2)``. A fixed number of
pixels is no measure: an untrained network predicts boxes of 15,000 pixels, which rounding may move
by several, and a box thinner than a pixel may leave its old place while nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.detections.rows import Rows
from parity.results.records.coco import MatchingResult
from parity.results.records.detections import ImageMatching

MIN_IOU = 0.5
"""Boxes that overlap less are not the same detection; the least IoU that COCO takes for a hit."""

CODE_LIMIT = 0.5 / 800
"""How far the codes of two faithful networks may differ: a box as large as a picture of 800 pixels
then changes by half a pixel, which cannot be seen. Roundings alone make less (docs/coco.md)."""

SCORE_LIMIT = 5e-4
"""How far scores of the same detection may differ: a tenth of what two decimals show. Roundings
alone make less (docs/coco.md)."""

MAX_DETECTIONS = 100
"""Detections of an image (official ``max_output_size``); what is behind them is cut off."""

SCORE_THRESHOLD = 0.001
"""Soft NMS drops what falls below (official ``score_thresh``)."""

SOFT_SIGMA = 0.5
"""Width of the Gaussian by which soft NMS lowers the scores of boxes that overlap (official)."""

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
        apart: [P, 2] of these pairs, those that differ by more than rounding may explain.
        reference_unexplained: Of ``reference_only``, the rows whose absence on the other side is
            explained neither by its cut nor by its threshold nor by a tie.
        candidate_unexplained: The same of ``candidate_only``.
        ties: Detections that differ and are known to be ties; see :mod:`parity.detections.ties`.
    """

    image_id: int
    pairs: NDArray[np.int64]
    reference_only: NDArray[np.int64]
    candidate_only: NDArray[np.int64]
    score: float
    box: float
    rank_flips: int
    apart: NDArray[np.int64]
    reference_unexplained: NDArray[np.int64]
    candidate_unexplained: NDArray[np.int64]
    ties: int = 0

    @property
    def unexplained(self) -> int:
        """Detections that differ from the other side's, or are missing there, without a reason."""
        lone = len(self.reference_unexplained) + len(self.candidate_unexplained)
        return len(self.apart) + lone

    @property
    def unmatched(self) -> int:
        """Detections without a partner, on either side."""
        return len(self.reference_only) + len(self.candidate_only)

    def result(self) -> ImageMatching:
        """What is written of it."""
        return ImageMatching(
            image_id=self.image_id,
            matched=len(self.pairs),
            reference_only=len(self.reference_only),
            candidate_only=len(self.candidate_only),
            largest_score_difference=self.score,
            largest_box_difference_pixels=self.box,
            rank_flips=self.rank_flips,
            apart=len(self.apart),
            reference_unexplained=len(self.reference_unexplained),
            candidate_unexplained=len(self.candidate_unexplained),
            ties=self.ties,
        )


@dataclass(frozen=True)
class Matching:
    """The two sides' detections of all images.

    Attributes:
        images: Of each image.
    """

    images: Sequence[ImageMatch]

    @property
    def unexplained(self) -> int:
        """Detections of all images that differ or are missing without a reason."""
        return sum(item.unexplained for item in self.images)

    @property
    def worst(self) -> list[ImageMatch]:
        """The images that differ most: by what is unexplained, lone detections, box, score."""
        differing = [item for item in self.images if item.unmatched or item.box or item.score]
        differing.sort(
            key=lambda item: (
                -item.unexplained,
                -item.unmatched,
                -item.box,
                -item.score,
                item.image_id,
            )
        )
        return differing[:WORST_IMAGES]

    def result(self) -> MatchingResult:
        """What is written of it."""
        images = self.images
        return MatchingResult(
            min_iou=MIN_IOU,
            code_limit=CODE_LIMIT,
            score_limit=SCORE_LIMIT,
            matched=sum(len(item.pairs) for item in images),
            reference_only=sum(len(item.reference_only) for item in images),
            candidate_only=sum(len(item.candidate_only) for item in images),
            largest_score_difference=max((item.score for item in images), default=0.0),
            largest_box_difference_pixels=max((item.box for item in images), default=0.0),
            rank_flips=sum(item.rank_flips for item in images),
            apart=sum(len(item.apart) for item in images),
            reference_unexplained=sum(len(item.reference_unexplained) for item in images),
            candidate_unexplained=sum(len(item.candidate_unexplained) for item in images),
            ties=sum(item.ties for item in images),
            worst_images=[item.result() for item in self.worst],
        )


def match(
    reference: Mapping[int, Rows],
    candidate: Mapping[int, Rows],
    anchors: Mapping[int, float] | None = None,
) -> Matching:
    """Match the detections of every image that both sides have, by rising id.

    Args:
        reference: Detections by image.
        candidate: The same of the other side.
        anchors: For each image the longest side of an anchor in the image's pixels; None: 0.
    """
    shared = sorted(reference.keys() & candidate.keys())
    longest = anchors or {}
    return Matching(
        [
            match_image(number, reference[number], candidate[number], longest.get(number, 0.0))
            for number in shared
        ]
    )


def match_image(image_id: int, reference: Rows, candidate: Rows, anchor: float = 0.0) -> ImageMatch:
    """Match the detections of one image.

    Of all pairs of one category that overlap by at least :data:`MIN_IOU`, or whose edges are no
    further apart than rounding moves them, the one that is closest is taken first; between equals
    the one of closest scores.

    Args:
        image_id: The image.
        reference: Detections of one side.
        candidate: Those of the other.
        anchor: Longest side of an anchor in the image's pixels: how much of a box's place may be
            owed to its anchor, which a detection does not tell.
    """
    closeness = _closeness(reference, candidate, anchor)
    rows, columns = np.nonzero(closeness >= MIN_IOU)
    off = np.abs(reference[rows, 4] - candidate[columns, 4])
    order = np.lexsort((columns, rows, off, -closeness[rows, columns]))
    free_rows = np.ones(len(reference), bool)
    free_columns = np.ones(len(candidate), bool)
    pairs = []
    for place in order:
        row, column = rows[place], columns[place]
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            pairs.append((row, column))
    matched = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    lone, other_lone = np.flatnonzero(free_rows), np.flatnonzero(free_columns)
    one, other = reference[matched[:, 0]], candidate[matched[:, 1]]
    apart = matched[_apart(one, other, anchor)]
    changed = np.concatenate([lone, apart[:, 0]]), np.concatenate([other_lone, apart[:, 1]])
    return ImageMatch(
        image_id=image_id,
        pairs=matched,
        reference_only=lone,
        candidate_only=other_lone,
        score=float(np.abs(one[:, 4] - other[:, 4]).max(initial=0.0)),
        box=float(np.abs(edges(one) - edges(other)).max(initial=0.0)),
        rank_flips=_inversions(matched[:, 1]),
        apart=apart,
        reference_unexplained=_unexplained(lone, reference, candidate, changed[1]),
        candidate_unexplained=_unexplained(other_lone, candidate, reference, changed[0]),
    )


def allowance(one: Rows, other: Rows, anchor: float) -> NDArray[np.float64]:
    """[..., 4] how many pixels rounding may move each edge of boxes; the module says why.

    Args:
        one: [..., 6] detections.
        other: [..., 6] the same of the other side.
        anchor: Longest side of an anchor in the image's pixels.
    """
    sides = np.maximum(one[..., 2:4], other[..., 2:4])
    reach = CODE_LIMIT * (anchor + sides / 2)
    result: NDArray[np.float64] = np.concatenate([reach, reach], axis=-1)
    return result


def _closeness(reference: Rows, candidate: Rows, anchor: float) -> NDArray[np.float64]:
    """[K, L] intersection over union, or from 1 to 0.5 for boxes within the allowance."""
    distance = np.abs(edges(reference)[:, None] - edges(candidate)[None])
    most = allowance(reference[:, None], candidate[None], anchor)
    part = np.full(distance.shape, np.inf)
    np.divide(distance, most, out=part, where=most > 0)
    part[distance == 0] = 0.0
    near = 1 - (1 - MIN_IOU) * part.max(axis=-1, initial=0.0)
    closeness: NDArray[np.float64] = np.maximum(iou(reference, candidate), near)
    closeness[reference[:, None, 5] != candidate[None, :, 5]] = 0.0
    return closeness


def _apart(one: Rows, other: Rows, anchor: float) -> NDArray[np.bool_]:
    """[M] pairs whose boxes or scores differ by more than rounding and ties explain."""
    moved = (np.abs(edges(one) - edges(other)) > allowance(one, other, anchor)).any(axis=1)
    rescored = np.abs(one[:, 4] - other[:, 4]) > SCORE_LIMIT
    result: NDArray[np.bool_] = moved | (rescored & ~_swapped(one, other))
    return result


def _swapped(one: Rows, other: Rows) -> NDArray[np.bool_]:
    """[M] pairs that have changed scores with another pair.

    Of two overlapping boxes of equal scores soft NMS takes either first, and lowers the other.
    """
    alike = one[:, None, 5] == one[None, :, 5]
    touching = iou(one, one) > 0
    crossed = np.abs(one[:, None, 4] - other[None, :, 4]) <= SCORE_LIMIT
    found = alike & touching & crossed & crossed.T
    np.fill_diagonal(found, False)
    result: NDArray[np.bool_] = found.any(axis=1)
    return result


def _unexplained(
    lone: NDArray[np.int64], side: Rows, other: Rows, changed: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Those of the lone rows that the other side should have had.

    Args:
        lone: Rows without a partner.
        side: Detections of their side.
        other: Those of the other.
        changed: Rows of the other that have no partner or one that differs.
    """
    cut = other[:, 4].min() if len(other) >= MAX_DETECTIONS else SCORE_THRESHOLD
    rows, rivals = side[lone], other[changed]
    # Where a rival of equal score has been taken first, the score would have been lowered.
    overlap = iou(rows, rivals)
    tied = (np.abs(rows[:, None, 4] - rivals[None, :, 4]) <= SCORE_LIMIT) & (overlap > 0)
    tied &= rows[:, None, 5] == rivals[None, :, 5]
    lowered = rows[:, None, 4] * np.where(tied, np.exp(-(overlap**2) / SOFT_SIGMA), 1.0)
    expected = np.minimum(lowered.min(axis=1, initial=np.inf), rows[:, 4])
    result: NDArray[np.int64] = lone[expected > cut + SCORE_LIMIT]
    return result


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
