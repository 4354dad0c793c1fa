"""Non-maximum suppression (NMS): the official kinds, each with exactly its arithmetic. NumPy only.

Boxes suppress others of their class; equal classes for all make any of them class-agnostic. Only
the best ``limit`` over all classes are wanted, and a score never grows, so all classes advance
together, best first, and none further than needed. All arithmetic is float32.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
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

LINEAR_IOU = 0.3
"""Intersection over union above which linear soft NMS lowers a score (official default)."""


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


class _Columns:
    """Boxes by column, with their areas.

    Args:
        boxes: [N, 4] as [y1, x1, y2, x2].
        inclusive: Areas and intersections count the last pixel too (+1).
    """

    def __init__(self, boxes: Floats, inclusive: bool) -> None:
        self.y1, self.x1, self.y2, self.x2 = np.ascontiguousarray(boxes.T)
        self.last = np.float32(inclusive)
        self.area = (self.x2 - self.x1 + self.last) * (self.y2 - self.y1 + self.last)

    def overlap(self, box: int, others: slice) -> Floats:
        """Intersection over union of one box with others; zero where both are empty."""
        width = np.minimum(self.x2[box], self.x2[others])
        width -= np.maximum(self.x1[box], self.x1[others])
        width += self.last
        np.maximum(width, 0, out=width)
        height = np.minimum(self.y2[box], self.y2[others])
        height -= np.maximum(self.y1[box], self.y1[others])
        height += self.last
        np.maximum(height, 0, out=height)
        width *= height
        union = self.area[box] + self.area[others]
        union -= width
        if not self.last:
            # Only the +1 keeps boxes without area from dividing zero by zero.
            union[union == 0] = 1
        width /= union
        return width

    def distance(self, box: int, others: slice) -> Floats:
        """Square of the distance of two boxes' centres over that of the diagonal around both."""
        centre_x, centre_y = (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2
        wide = np.minimum(self.x1[box], self.x1[others]) - np.maximum(self.x2[box], self.x2[others])
        tall = np.minimum(self.y1[box], self.y1[others]) - np.maximum(self.y2[box], self.y2[others])
        apart_x = centre_x[box] - centre_x[others]
        apart_y = centre_y[box] - centre_y[others]
        # The official constant, which keeps points from dividing by zero.
        apart: Floats = (apart_x**2 + apart_y**2) / (wide**2 + tall**2 + np.float32(1e-10))
        return apart

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
    inclusive: bool = True,
    linear_iou: float | None = None,
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
        inclusive: Areas count the last pixel (+1), as the official ones do.
        linear_iou: Where given, scores are lowered by ``1 - IoU`` instead, and that only where the
            IoU is above it.
    """
    order = np.argsort(classes, kind="stable")
    sorted_classes = classes[order]
    starts = np.flatnonzero(np.diff(sorted_classes, prepend=sorted_classes[:1] - 1))
    ends = np.append(starts[1:], len(order))
    # For each place the class's number; for each class the first place that is left.
    member = np.repeat(np.arange(len(starts)), ends - starts)
    front = starts.tolist()
    begun = [False] * len(front)
    boxes_by_place = _Columns(boxes[order], inclusive)
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
        if linear_iou is None:
            weight *= weight
            weight /= divisor
            np.exp(weight, out=weight)
        else:
            weight = np.where(weight > np.float32(linear_iou), 1 - weight, np.float32(1))
        left[rest] *= weight
        front[group], begun[group] = first + 1, True
    return _kept(indices, kept_scores)


def hard_nms(
    boxes: Floats,
    scores: Floats,
    classes: Integers,
    *,
    iou_threshold: float = HARD_IOU,
    limit: int = MAX_DETECTIONS,
    inclusive: bool = True,
    distance: bool = False,
) -> Kept:
    """The official NumPy hard NMS: a box drops those that overlap it by more than the threshold.

    Of equal scores in a class the last comes first, between classes the lower class.

    Args:
        boxes: [N, 4] as [y1, x1, y2, x2] in pixels.
        scores: [N].
        classes: [N].
        iou_threshold: Overlap that is still allowed.
        limit: Most boxes to keep.
        inclusive: Areas count the last pixel (+1), as the official ones do.
        distance: Whether the distance of the centres is taken off the overlap (``diou``).
    """
    order = np.lexsort((-np.arange(len(scores)), classes, -scores))
    by_place = _Columns(boxes[order], inclusive)
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
            if distance:
                overlap -= by_place.distance(place, rest)
            dropped = ~(overlap <= np.float32(iou_threshold))
            alive[rest] &= ~(dropped & (sorted_classes[rest] == sorted_classes[place]))
    return Kept(order[places], scores[order[places]])


class _PlainBoxes:
    """Boxes whose overlaps are computed as TensorFlow's op does it.

    Args:
        boxes: [N, 4] as [y1, x1, y2, x2] or with corners swapped.
    """

    def __init__(self, boxes: Floats) -> None:
        corners = np.ascontiguousarray(boxes.T).reshape(2, 2, -1)
        self.low, self.high = corners.min(0), corners.max(0)
        sides = self.high - self.low
        self.area = sides[0] * sides[1]
        self.empty = self.area <= 0
        self.any_empty = bool(self.empty.any())

    def overlap(self, box: int, others: slice) -> Floats:
        """Intersection over union of one box with others; zero where a box is empty."""
        sides = np.minimum(self.high[:, box, None], self.high[:, others])
        sides -= np.maximum(self.low[:, box, None], self.low[:, others])
        np.maximum(sides, 0, out=sides)
        shared: Floats = sides[0] * sides[1]
        union = self.area[box] + self.area[others]
        union -= shared
        shared /= union
        if self.any_empty:
            shared[self.empty[others] | self.empty[box]] = 0
        return shared


_SLACK = np.float32(1e-4)
"""More than float32 products of the same factors in two orders differ by, relatively."""


class _ClassQueue:
    """The candidates of one class in TensorFlow's priority queue.

    The op lowers a score only when its candidate is at the head, by the boxes taken since it was
    there before, latest first. All candidates that come to the head before the next box is taken
    are lowered together; which these are is known from about where their scores are going.

    Args:
        scores: [n], in the order of the candidates' indices; changed.
        weigh: Factors [n] by which the box at a place lowers all of the class.
        least: Only scores above it are kept.
        soft: Whether a score that is lowered stays in the queue.
    """

    def __init__(
        self, scores: Floats, weigh: Callable[[int], Floats], least: np.float32, soft: bool
    ) -> None:
        self._scores = scores
        self._weigh = weigh
        self._least = least
        self._soft = soft
        self._rows: list[Floats] = []
        # Scores once all boxes taken have lowered them, but for rounding.
        self._final = scores
        # How many boxes each score has been lowered by.
        self._seen: Integers = np.zeros(0, np.int64)

    def take(self, place: int) -> None:
        """Take a box out and let it lower the others from now on."""
        row = self._weigh(place)
        self._scores[place] = -np.inf
        if not self._soft:
            self._scores[row != 1] = -np.inf
            return
        if not self._rows:
            self._final = self._scores.copy()
            self._seen = np.zeros(len(self._scores), np.int64)
        self._rows.append(row)
        self._final[place] = -np.inf
        self._final *= row

    def head(self) -> tuple[int, np.float32] | None:
        """Place and score of the next box to take; None where no score is above the least."""
        best = int(self._scores.argmax())
        if self._rows and self._seen[best] < len(self._rows):
            best = self._lower()
        score: np.float32 = self._scores[best]
        return (best, score) if score > self._least else None

    def _lower(self) -> int:
        """Lower what comes to the head before the next box to take; the place of that box."""
        reached = np.fmax.reduce(self._final)
        places = np.flatnonzero(self._scores >= reached - abs(reached) * _SLACK)
        if not len(places):
            # No weight is a number, so that every score is lost.
            self._scores[:] = -np.inf
            return 0
        before, seen, count = self._scores[places], self._seen[places], len(self._rows)
        since = np.arange(count - 1, seen.min() - 1, -1)
        factors = np.stack([before, *(self._rows[number][places] for number in since)])
        factors[1:][since[:, None] < seen] = 1
        lowered = np.multiply.accumulate(factors)[-1]
        highest = np.fmax.reduce(lowered)
        best = int(places[(lowered == highest).argmax()])
        looked_at = (before > highest) | ((before == highest) & (places <= best))
        lowered[~(lowered > self._least)] = -np.inf
        self._scores[places[looked_at]] = lowered[looked_at]
        self._seen[places[looked_at]] = count
        return best


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
    # Class after class, each in the order of the indices.
    members = np.flatnonzero(scores > np.float32(score_threshold))
    order = members[np.argsort(classes[members], kind="stable")]
    labels = classes[order]
    starts = np.flatnonzero(np.diff(labels, prepend=labels[:1] - 1)).tolist()
    geometry = _PlainBoxes(boxes[order])
    soft = soft_sigma > 0
    scale = np.float32(-0.5) / np.float32(soft_sigma) if soft else np.float32(0)

    def weigh(those: slice, place: int) -> Floats:
        overlap = geometry.overlap(those.start + place, those)
        if not soft:
            return (overlap <= np.float32(iou_threshold)).astype(np.float32)
        # The C library's float32 exponential is rounded correctly but for one in some hundreds;
        # NumPy's own is not.
        return np.exp((scale * overlap * overlap).astype(np.float64)).astype(np.float32)

    left = scores[order].astype(np.float32)
    queues: list[_ClassQueue] = []
    heads: list[tuple[float, int, int]] = []

    def push(number: int) -> None:
        if found := queues[number].head():
            heapq.heappush(heads, (-float(found[1]), number, found[0]))

    for number, (start, end) in enumerate(pairwise([*starts, len(order)])):
        those = slice(start, end)
        least = np.float32(score_threshold)
        queues.append(_ClassQueue(left[those], partial(weigh, those), least, soft))
        push(number)
    indices: list[int] = []
    kept_scores: list[float] = []
    with np.errstate(divide="ignore", invalid="ignore"):
        while heads and len(indices) < limit:
            negative, number, place = heapq.heappop(heads)
            indices.append(order[starts[number] + place])
            kept_scores.append(-negative)
            if len(indices) < limit:
                queues[number].take(place)
                push(number)
    return _kept(indices, kept_scores)
