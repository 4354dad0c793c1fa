"""Non-maximum suppression (NMS): the official kinds, each with exactly its arithmetic. NumPy only.

Boxes suppress others of their class; equal classes for all make any of them class-agnostic. Only
the best ``limit`` over all classes are wanted, and a score never grows, so all classes advance
together, best first, and none further than needed. All arithmetic is float32.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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


class _Edges:
    """Boxes by edge, with their areas.

    The lower edges are negated, so that one minimum finds where boxes meet.

    Args:
        low: [2, N] as [y1, x1].
        high: [2, N] as [y2, x2].
        inclusive: Areas and intersections count the last pixel too (+1).
    """

    def __init__(self, low: Floats, high: Floats, *, inclusive: bool) -> None:
        self.last = np.float32(inclusive)
        self.edges = np.concatenate([high, -low])
        sides = high - low + self.last
        self.area: Floats = sides[1] * sides[0]

    @classmethod
    def of(cls, boxes: Floats, inclusive: bool) -> _Edges:
        """Of boxes [N, 4] as [y1, x1, y2, x2]."""
        low, high = np.ascontiguousarray(boxes.T).reshape(2, 2, -1)
        return cls(low, high, inclusive=inclusive)

    def shared(self, box: int, others: slice) -> Floats:
        """Area of the intersections of one box with others."""
        sides = _meeting(self.edges[:, box, None], self.edges[:, others])
        if self.last:
            sides += self.last
        return _product(sides)

    def overlap(self, box: int, others: slice) -> Floats:
        """Intersection over union of one box with others; zero where both are empty."""
        shared = self.shared(box, others)
        union = self.area[others] + self.area[box]
        union -= shared
        if not self.last:
            # Only the +1 keeps boxes without area from dividing zero by zero.
            union[union == 0] = 1
        shared /= union
        return shared

    def distance(self, box: int, others: slice) -> Floats:
        """Square of the distance of two boxes' centres over that of the diagonal around both."""
        high, low = self.edges.reshape(2, 2, -1)
        centre = (high - low) / 2
        wide = np.minimum(-low[:, box, None], -low[:, others])
        wide -= np.maximum(high[:, box, None], high[:, others])
        apart = centre[:, box, None] - centre[:, others]
        squares, longest = apart**2, wide**2
        # The official constant, which keeps points from dividing by zero.
        found: Floats = (squares[1] + squares[0]) / (longest[1] + longest[0] + np.float32(1e-10))
        return found

    def swap(self, one: int, other: int) -> None:
        """Let two boxes change places."""
        edges, area = self.edges, self.area
        kept = edges[:, one].copy()
        edges[:, one] = edges[:, other]
        edges[:, other] = kept
        area[one], area[other] = area[other], area[one]


def _meeting(box: Floats, others: Floats) -> Floats:
    """Sides [2, ...] of intersections, negative where there is none, of edges [4, ...]."""
    edges = np.minimum(box, others)
    sides = edges[:2]
    sides += edges[2:]
    return sides


def _product(sides: Floats) -> Floats:
    """Areas of rectangles with sides [2, ...], which are changed."""
    np.maximum(sides, 0, out=sides)
    area: Floats = sides[0]
    area *= sides[1]
    return area


def highest_first(scores: Floats) -> Integers:
    """The order that sorts [N] scores or logits, highest first, of equal ones the first."""
    if (scores[1:] <= scores[:-1]).all():
        return np.arange(len(scores))
    # As a whole number a float32 has the same order from zero on, and the reverse below; minus
    # zero becomes zero.
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.int32)
    ordered = bits ^ ((bits >> 31) & np.int32(2**31 - 1))
    # All keys are different, and NumPy is fastest with whole numbers.
    keys = (-ordered.astype(np.int64) << 32) | np.arange(len(scores))
    keys.sort()
    places: Integers = keys & (2**32 - 1)
    return places


def _class_after_class(classes: Integers) -> Integers:
    """The order that sorts by class and changes nothing within a class."""
    # Of small numbers NumPy sorts the digits.
    small = classes.astype(np.min_scalar_type(int(classes.max(initial=0))))
    return np.argsort(small, kind="stable")


def _bounds(classes: Integers) -> list[int]:
    """Where each class of a sorted list begins, and the end of the last."""
    changes = np.flatnonzero(classes[1:] != classes[:-1]) + 1
    return [0, *changes.tolist(), len(classes)] if len(classes) else [0]


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
    order = _class_after_class(classes)
    bounds = _bounds(classes[order])
    # For each place the class's number; for each class the first place that is left.
    member = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds)).tolist()
    front = bounds[:-1]
    begun = [False] * len(front)
    boxes_by_place = _Edges.of(boxes[order], inclusive)
    left = scores[order].astype(np.float32)
    divisor, least = np.float32(-sigma), np.float32(threshold)
    indices: list[int] = []
    kept_scores: list[Any] = []
    while len(indices) < limit and len(order):
        best = int(left.argmax())
        score = left[best]
        group = member[best]
        end = bounds[group + 1]
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
        if len(indices) == limit:
            break
        if best != first:
            boxes_by_place.swap(first, best)
            order[best], left[best] = order[first], left[first]
        left[front[group] : first + 1] = -np.inf
        front[group], begun[group] = first + 1, True
        if first + 1 == end:
            continue
        rest = slice(first + 1, end)
        weight = boxes_by_place.overlap(first, rest)
        if linear_iou is None:
            weight *= weight
            weight /= divisor
            np.exp(weight, out=weight)
        else:
            weight = np.where(weight > np.float32(linear_iou), 1 - weight, np.float32(1))
        left[rest] *= weight
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
    order = len(scores) - 1 - highest_first(scores[::-1])
    order = order[_class_after_class(classes[order])]
    bounds = _bounds(classes[order])
    ends = np.repeat(bounds[1:], np.diff(bounds)).tolist()
    by_place = _Edges.of(boxes[order], inclusive)
    left = scores[order].astype(np.float32)
    places: list[int] = []
    while len(places) < limit and len(order):
        best = int(left.argmax())
        if left[best] == -np.inf:
            break
        places.append(best)
        left[best] = -np.inf
        rest = slice(best + 1, ends[best])
        overlap = by_place.overlap(best, rest)
        if distance:
            overlap -= by_place.distance(best, rest)
        left[rest][~(overlap <= np.float32(iou_threshold))] = -np.inf
    return Kept(order[places], scores[order[places]])


class _PlainEdges(_Edges):
    """Boxes whose overlaps are computed as TensorFlow's op does it.

    Args:
        boxes: [N, 4] as [y1, x1, y2, x2] or with corners swapped.
    """

    def __init__(self, boxes: Floats) -> None:
        one, other = np.ascontiguousarray(boxes.T).reshape(2, 2, -1)
        super().__init__(np.minimum(one, other), np.maximum(one, other), inclusive=False)
        self.empty = self.area <= 0
        self.any_empty = bool(self.empty.any())

    def weights(
        self, weigh: Callable[[Floats], Floats], boxes: slice | list[int], others: slice
    ) -> Floats:
        """The factors [k, n] by which k boxes lower others.

        Args:
            weigh: Makes factors of intersections over unions.
            boxes: Places of the k boxes.
            others: Places of the n others.
        """
        edges = self.edges
        shared = _product(_meeting(edges[:, boxes, None], edges[:, None, others]))
        union = self.area[others] + self.area[boxes, None]
        union -= shared
        shared /= union
        if self.any_empty:
            shared[self.empty[others] | self.empty[boxes, None]] = 0
        return weigh(shared)


_SLACK = 1e-4
"""More than float32 products of the same factors in two orders differ by, relatively."""

_ROWS = 16
"""Boxes whose weights a class has memory for at first."""

_PORTION = 512
"""Candidates of a class that are lowered at first; then twice as many, and so on."""


class _ClassQueue:
    """The candidates of one class in TensorFlow's priority queue.

    The op lowers a score only when its candidate is at the head, by the boxes taken since it was
    there before, latest first. So the order of the factors depends on what was taken when; about
    where each score is going, and so which candidate comes next, does not. Only its score is
    computed as the op does it. Candidates whose scores have not been reached yet wait.

    Args:
        scores: [n], highest first, of equal ones the one of the lower index first.
        indices: [n], which decide between scores that are equal once they have been lowered.
        weigh: The factors [k, m] by which boxes at k places lower those at m places.
        least: Only scores above it are kept.
    """

    def __init__(
        self,
        scores: Floats,
        indices: Integers,
        weigh: Callable[[slice | list[int], slice], Floats],
        least: float,
    ) -> None:
        self._scores = scores
        self._indices = indices
        self._weigh = weigh
        self._least = least
        # Place and score of each box taken; by how many of them the scores have been lowered.
        self._taken: list[tuple[int, float]] = []
        self._lowered = 0
        # Scores once all boxes taken have lowered them, but for rounding; of those that wait as
        # they are.
        self._final = scores.copy()
        self._ready = min(_PORTION, len(scores))
        self._weights = np.empty((_ROWS, len(scores)), np.float32)

    def take(self, place: int, score: float) -> float:
        """Take a box out; the others are lowered when it matters.

        Returns:
            What no score that is left is above.
        """
        self._taken.append((place, score))
        self._final[place] = -np.inf
        highest = self._highest()[1]
        if self._ready < len(self._scores):
            highest = max(highest, float(self._scores[self._ready]))
        return highest + abs(highest) * _SLACK if highest > -math.inf else highest

    def head(self) -> tuple[int, float] | None:
        """Place and score of the next box to take; None where no score is above the least."""
        self._lower()
        while self._ready < len(self._scores):
            # Those that wait come after it in any case.
            reached = self._highest()[1]
            if reached - abs(reached) * _SLACK > self._scores[self._ready]:
                break
            self._more()
        best, reached = self._highest()
        if reached == -math.inf:
            return None
        (near,) = (self._final[: self._ready] >= reached - abs(reached) * _SLACK).nonzero()
        if len(near) == 1:
            score = self._score(best)
        else:
            found = [(-self._score(place), self._indices[place], place) for place in near.tolist()]
            negative, _, best = min(found)
            score = -negative
        return (best, score) if score > self._least else None

    def _highest(self) -> tuple[int, float]:
        """Place and score, but for rounding, of the highest of those that do not wait."""
        final = self._final[: self._ready]
        best = int(final.argmax())
        if math.isnan(final[best]):
            # The op drops what is no number as soon as it sees it.
            final[np.isnan(final)] = -np.inf
            best = int(final.argmax())
        return best, float(final[best])

    def _lower(self) -> None:
        """Lower the scores by the box taken last."""
        before, count = self._lowered, len(self._taken)
        if before == count:
            return
        if count > len(self._weights):
            self._weights = np.concatenate([self._weights, np.empty_like(self._weights)])
        place, _ = self._taken[-1]
        ready = slice(0, self._ready)
        row = self._weights[before, ready]
        row[:] = self._weigh(slice(place, place + 1), ready)[0]
        self._final[ready] *= row
        self._lowered = count

    def _more(self) -> None:
        """Let as many again of those that wait be lowered."""
        part = slice(self._ready, min(2 * self._ready, len(self._scores)))
        if self._taken:
            weights = self._weigh([place for place, _ in self._taken], part)
            self._weights[: len(weights), part] = weights
            self._final[part] *= weights.prod(0)
        self._ready = part.stop

    def _score(self, place: int) -> float:
        """A candidate's score, lowered when and by what the op lowers it."""
        weights = self._weights[: self._lowered, place].tolist()
        score, seen = float(self._scores[place]), 0
        for count, (other, taken) in enumerate(self._taken):
            # It was at the head when so many had been taken and this one was to be the next.
            if count > seen and (
                score > taken or (score == taken and self._indices[place] < self._indices[other])
            ):
                score, seen = _times(score, weights[seen:count]), count
        return _times(score, weights[seen:])


def _times(score: float, weights: list[float]) -> float:
    """The float32 product of a score and weights, the last first."""
    for weight in reversed(weights):
        if weight != 1:
            # A product of two float32 numbers is exact before it is rounded once.
            score = float(np.float32(score * weight))
    return score


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
    # Class after class, each as its queue is at first.
    members = np.flatnonzero(scores > np.float32(score_threshold))
    order = members[highest_first(scores[members])]
    order = order[_class_after_class(classes[order])]
    bounds = _bounds(classes[order])
    geometry = _PlainEdges(boxes[order])
    soft = soft_sigma > 0
    scale = np.float32(-0.5) / np.float32(soft_sigma) if soft else np.float32(0)
    least = float(np.float32(score_threshold))

    def factors(overlap: Floats) -> Floats:
        if not soft:
            # What is no number is out.
            return np.where(overlap <= np.float32(iou_threshold), np.float32(1), np.float32(np.nan))
        power = scale * overlap
        power *= overlap
        # The C library's float32 exponential is rounded correctly but for one in some hundreds;
        # NumPy's own is not.
        return np.exp(power, out=power, dtype=np.float64, casting="same_kind")

    def weigh(start: int, places: slice | list[int], others: slice) -> Floats:
        those = slice(start + others.start, start + others.stop)
        if isinstance(places, slice):
            boxes: slice | list[int] = slice(start + places.start, start + places.stop)
        else:
            boxes = [start + place for place in places]
        return geometry.weights(factors, boxes, those)

    left = scores[order].astype(np.float32)
    queues: dict[int, _ClassQueue] = {}
    # Of a class whose boxes have not been lowered yet there is no place.
    heads: list[tuple[float, int, int | None]] = [
        (-float(left[start]), number, 0) for number, start in enumerate(bounds[:-1])
    ]
    heapq.heapify(heads)
    indices: list[int] = []
    kept_scores: list[float] = []
    with np.errstate(divide="ignore", invalid="ignore"):
        while heads and len(indices) < limit:
            negative, number, place = heapq.heappop(heads)
            if place is None:
                if found := queues[number].head():
                    heapq.heappush(heads, (-found[1], number, found[0]))
                continue
            indices.append(order[bounds[number] + place])
            kept_scores.append(-negative)
            if number not in queues:
                those = slice(bounds[number], bounds[number + 1])
                own = partial(weigh, those.start)
                queues[number] = _ClassQueue(left[those], order[those], own, least)
            highest = queues[number].take(place, -negative)
            if highest > -np.inf:
                heapq.heappush(heads, (-highest, number, None))
    return _kept(indices, kept_scores)
