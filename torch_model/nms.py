"""Non-maximum suppression (NMS): the official kinds, each with exactly its arithmetic. NumPy only.

Boxes suppress others of their class; equal classes for all make any of them class-agnostic. Only
the best ``limit`` over all classes are wanted, and a score never grows, so all classes advance
together, best first, and none further than needed. All arithmetic is float32.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

MAX_DETECTIONS = 100
"""Boxes kept for an image (official ``max_output_size``; what COCO's AP counts)."""

SOFT_SIGMA = 0.5
"""Width of the Gaussian (Bodla et al., arXiv 1704.04503; official default)."""

SOFT_THRESHOLD = 0.001
"""Score below which soft NMS drops a box (official default)."""

HARD_IOU = 0.5
"""Intersection over union above which hard NMS drops a box (official default)."""

_CHUNK = 512
"""Candidates that :func:`tensorflow_nms` looks at together; any number gives the same result."""


@dataclass(frozen=True)
class Kept:
    """What a suppression leaves, best first.

    Attributes:
        indices: [M], into the candidates.
        scores: [M]; soft NMS has lowered some.
    """

    indices: Integers
    scores: Floats


def _kept(indices: list[int], scores: list[Any]) -> Kept:
    return Kept(np.array(indices, np.int64), np.array(scores, np.float32))


class _InclusiveBoxes:
    """Boxes by column, with areas and intersections that count the last pixel too (+1)."""

    def __init__(self, boxes: Floats) -> None:
        self.y1, self.x1, self.y2, self.x2 = np.ascontiguousarray(boxes.T)
        self.one = np.float32(1)
        self.area = (self.x2 - self.x1 + self.one) * (self.y2 - self.y1 + self.one)

    def overlap(self, box: int, others: slice) -> Floats:
        """Intersection over union of one box with others."""
        width = np.minimum(self.x2[box], self.x2[others])
        width -= np.maximum(self.x1[box], self.x1[others])
        width += self.one
        np.maximum(width, 0, out=width)
        height = np.minimum(self.y2[box], self.y2[others])
        height -= np.maximum(self.y1[box], self.y1[others])
        height += self.one
        np.maximum(height, 0, out=height)
        width *= height
        union = self.area[box] + self.area[others]
        union -= width
        width /= union
        return width

    def swap(self, one: int, other: int) -> None:
        """Let two boxes change places."""
        for column in (self.y1, self.x1, self.y2, self.x2, self.area):
            column[one], column[other] = column[other], column[one]


def soft_nms(
    boxes: Floats,
    scores: Floats,
    classes: Integers,
    *,
    sigma: float = SOFT_SIGMA,
    threshold: float = SOFT_THRESHOLD,
    limit: int = MAX_DETECTIONS,
) -> Kept:
    """The official NumPy soft NMS, which lowers scores by ``exp(-IoU**2 / sigma)``.

    It takes the best box of a class, lowers the others of the class, drops those below the
    threshold and repeats. The best box of a class is kept whatever its score. Of equal scores
    the first is taken; the box taken changes places with the first that is left, which decides
    between equal scores later. Between classes the lower one comes first.

    Args:
        boxes: [N, 4] as [y1, x1, y2, x2] in pixels.
        scores: [N].
        classes: [N].
        sigma: Width of the Gaussian.
        threshold: Scores below it are dropped.
        limit: Most boxes to keep.
    """
    order = np.argsort(classes, kind="stable")
    sorted_classes = classes[order]
    starts = np.flatnonzero(np.diff(sorted_classes, prepend=sorted_classes[:1] - 1))
    ends = np.append(starts[1:], len(order))
    # For each place the class's number; for each class the first place that is left.
    member = np.repeat(np.arange(len(starts)), ends - starts)
    front = starts.tolist()
    begun = [False] * len(front)
    boxes_by_place = _InclusiveBoxes(boxes[order])
    left = scores[order].astype(np.float32)
    divisor, least = np.float32(-sigma), np.float32(threshold)
    indices: list[int] = []
    kept_scores: list[Any] = []
    while len(indices) < limit and len(order):
        best = int(left.argmax())
        score = left[best]
        group = member[best]
        end = ends[group]
        if score == -np.inf:
            break
        if begun[group] and not score >= least:
            # All that is left of this class has been dropped.
            left[front[group] : end] = -np.inf
            continue
        first = front[group]
        while begun[group] and not left[first] >= least:
            first += 1
        indices.append(order[best])
        kept_scores.append(score)
        if best != first:
            boxes_by_place.swap(first, best)
            order[best], left[best] = order[first], left[first]
        left[front[group] : first + 1] = -np.inf
        rest = slice(first + 1, end)
        weight = boxes_by_place.overlap(first, rest)
        weight *= weight
        weight /= divisor
        left[rest] *= np.exp(weight, out=weight)
        front[group], begun[group] = first + 1, True
    return _kept(indices, kept_scores)


def hard_nms(
    boxes: Floats,
    scores: Floats,
    classes: Integers,
    *,
    iou_threshold: float = HARD_IOU,
    limit: int = MAX_DETECTIONS,
) -> Kept:
    """The official NumPy hard NMS: a box drops those that overlap it by more than the threshold.

    Areas count the last pixel (+1). Of equal scores in a class the last comes first, between
    classes the lower class.

    Args:
        boxes: [N, 4] as [y1, x1, y2, x2] in pixels.
        scores: [N].
        classes: [N].
        iou_threshold: Overlap that is still allowed.
        limit: Most boxes to keep.
    """
    order = np.lexsort((-np.arange(len(scores)), classes, -scores))
    by_place = _InclusiveBoxes(boxes[order])
    sorted_classes = classes[order]
    alive = np.ones(len(order), bool)
    places: list[int] = []
    for place in range(len(order)):
        if len(places) == limit:
            break
        if alive[place]:
            places.append(place)
            rest = slice(place + 1, None)
            overlap = by_place.overlap(place, rest)
            dropped = ~(overlap <= np.float32(iou_threshold))
            alive[rest] &= ~(dropped & (sorted_classes[rest] == sorted_classes[place]))
    return Kept(order[places], scores[order[places]])


class _Rows:
    """IoU of each box taken with the candidates looked at so far, as TensorFlow's op computes it.

    Args:
        boxes: [N, 4] as [y1, x1, y2, x2], best first.
    """

    def __init__(self, boxes: Floats) -> None:
        self.y1 = np.minimum(boxes[:, 0], boxes[:, 2])
        self.x1 = np.minimum(boxes[:, 1], boxes[:, 3])
        self.y2 = np.maximum(boxes[:, 0], boxes[:, 2])
        self.x2 = np.maximum(boxes[:, 1], boxes[:, 3])
        self.area = (self.y2 - self.y1) * (self.x2 - self.x1)

    def overlap(self, box: int, others: slice) -> Floats:
        """Intersection over union; zero where a box is empty."""
        height = np.minimum(self.y2[box], self.y2[others])
        height -= np.maximum(self.y1[box], self.y1[others])
        np.maximum(height, 0, out=height)
        width = np.minimum(self.x2[box], self.x2[others])
        width -= np.maximum(self.x1[box], self.x1[others])
        np.maximum(width, 0, out=width)
        height *= width
        union = self.area[box] + self.area[others]
        union -= height
        with np.errstate(divide="ignore", invalid="ignore"):
            height /= union
        height[(self.area[others] <= 0) | (self.area[box] <= 0)] = 0
        return height


def tensorflow_nms(
    boxes: Floats,
    scores: Floats,
    classes: Integers,
    *,
    soft_sigma: float = SOFT_SIGMA / 2,
    iou_threshold: float = HARD_IOU,
    score_threshold: float = SOFT_THRESHOLD,
    limit: int = MAX_DETECTIONS,
) -> Kept:
    """TensorFlow's op NonMaxSuppressionV5, applied to each class, and the best of all classes.

    The op keeps a priority queue (higher score first, then lower index). The candidate at its
    head is compared with the boxes taken since it was last looked at, latest first: if its score
    does not change it is taken, otherwise it goes back with the new score while that is above the
    threshold. The order of these float32 products is part of the result.

    Args:
        boxes: [N, 4] as [y1, x1, y2, x2] in pixels.
        scores: [N].
        classes: [N].
        soft_sigma: Scores are multiplied by ``exp(-IoU**2 / (2 * soft_sigma))``: half of the
            paper's sigma gives the paper's weight. 0: hard NMS.
        iou_threshold: Hard NMS drops a box that overlaps by more; soft NMS does not use it.
        score_threshold: Only scores above it are kept.
        limit: Most boxes to keep.
    """
    order = np.lexsort((np.arange(len(scores)), classes, -scores))
    least = np.float32(score_threshold)
    order = order[scores[order] > least]
    ordered = scores[order]
    labels = classes[order].tolist()
    geometry = _Rows(boxes[order])
    soft = soft_sigma > 0
    scale = np.float32(-0.5) / np.float32(soft_sigma) if soft else np.float32(0)

    def weights(box: int, others: slice) -> Floats:
        overlap = geometry.overlap(box, others)
        if not soft:
            return (overlap <= np.float32(iou_threshold)).astype(np.float32)
        # The C library's float32 exponential is rounded correctly but for one in some hundreds;
        # NumPy's own is not.
        return np.exp((scale * overlap * overlap).astype(np.float64)).astype(np.float32)

    queue: list[tuple[float, int, int]] = []
    begin = [0] * len(order)
    taken: list[int] = []
    taken_scores: list[Any] = []
    rows: list[Floats] = []
    of_class: defaultdict[int, list[int]] = defaultdict(list)  # numbers in ``taken``
    looked_at = 0
    while len(taken) < limit:
        if looked_at < len(order) and (not queue or -queue[0][0] <= ordered[looked_at]):
            # The next candidates may be the best now.
            chunk = slice(looked_at, min(looked_at + _CHUNK, len(order)))
            rows = [
                np.concatenate([row, weights(box, chunk)])
                for box, row in zip(taken, rows, strict=True)
            ]
            for place in range(chunk.start, chunk.stop):
                heapq.heappush(queue, (-float(ordered[place]), labels[place], place))
            looked_at = chunk.stop
            continue
        if not queue:
            break
        negative, label, place = heapq.heappop(queue)
        original = score = np.float32(-negative)
        suppressors = of_class[label]
        factors = [rows[number][place] for number in reversed(suppressors[begin[place] :])]
        if not soft and 0 in factors:
            continue
        for factor in factors:
            score = score * factor
            if score <= least:
                break
        begin[place] = len(suppressors)
        if score == original:
            suppressors.append(len(taken))
            taken.append(place)
            taken_scores.append(score)
            rows.append(weights(place, slice(0, looked_at)))
        elif score > least:
            heapq.heappush(queue, (-float(score), label, place))
    return _kept(order[taken].tolist(), taken_scores)
