"""Whether detections that differ are a tie of the reference's own scores.

Of two overlapping boxes of one category and equal score soft NMS takes either first and lowers the
other, perhaps below what is kept. The two lists do not show that: the box that one side has taken
is not in the other's. The reference itself can show it. Where the score of the box that the
candidate has taken is raised by no more than scores of the same detections differ by anyway, the
reference's own postprocessing must give the candidate's list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from parity.detections.matching import (
    SCORE_LIMIT,
    ImageMatch,
    Matching,
    allowance,
    edges,
    match_image,
)
from parity.detections.rows import Rows

MOST_IN_IMAGE = 6
"""Detections of an image that may be ties. A tie is rare; what differs more often is a fault."""

MOST_IMAGES = 8
"""Images on which the reference computes once more."""

_STEPS = 8
"""How often a score is raised, each time by four times as much; the last time by the limit."""


class Untied(Protocol):
    """The reference's predictions for one image, before any of them suppresses another."""

    @property
    def boxes(self) -> Rows:
        """[A, 4] as x, y, width, height in pixels of the image, one for each anchor."""

    def again(self, raised: Sequence[tuple[int, int]], by: float) -> Rows:
        """What the reference detects with some scores raised.

        Args:
            raised: Anchor and category id of each.
            by: How much is added to each of these scores.
        """


def candidates_for_ties(matching: Matching) -> list[ImageMatch]:
    """The images on which so little differs that it may be ties; none where they are many."""
    differing = [item for item in matching.images if item.unexplained]
    few = all(item.unexplained <= MOST_IN_IMAGE for item in differing)
    return differing if few and len(differing) <= MOST_IMAGES else []


def with_ties(
    found: ImageMatch, reference: Rows, candidate: Rows, anchor: float, untied: Untied
) -> ImageMatch:
    """The match of an image, with what differs explained where it is a tie.

    Args:
        found: The match.
        reference: The reference's detections.
        candidate: The candidate's.
        anchor: Longest side of an anchor in the image's pixels.
        untied: The reference's predictions.
    """
    taken = np.unique(np.concatenate([found.apart[:, 1], found.candidate_unexplained]))
    raised = _predictions(candidate[taken], untied.boxes, anchor)
    if not raised or match_image(0, untied.again([], 0.0), reference, anchor).unexplained:
        return found
    for by in _increases(found, reference, candidate):
        other = match_image(found.image_id, untied.again(raised, by), candidate, anchor)
        if not other.unexplained:
            none = np.zeros(0, np.int64)
            return replace(
                found,
                apart=np.zeros((0, 2), np.int64),
                reference_unexplained=none,
                candidate_unexplained=none,
                ties=found.unexplained,
            )
    return found


def _increases(found: ImageMatch, reference: Rows, candidate: Rows) -> Iterator[float]:
    """By how much scores are raised: at most by what those of other pairs differ by."""
    apart = {(int(row), int(column)) for row, column in found.apart}
    pairs = [pair for pair in found.pairs.tolist() if tuple(pair) not in apart]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    off = np.abs(reference[rows, 4] - candidate[columns, 4])
    # Pairs that have changed scores with one another are ties themselves.
    seen = float(off[off <= SCORE_LIMIT].max(initial=0.0))
    for step in reversed(range(_STEPS)):
        yield 2 * seen / 4**step


def _predictions(taken: Rows, boxes: NDArray[np.float64], anchor: float) -> list[tuple[int, int]]:
    """Anchor and category of the reference's prediction that each detection is.

    Returns:
        One for each; none where the reference predicts one of the boxes nowhere.
    """
    found = []
    for row in taken:
        off = np.abs(edges(boxes) - edges(row[None]))
        near = (off <= allowance(boxes, row[None], anchor)).all(axis=1)
        if not near.any():
            return []
        place = int(np.where(near, off.max(axis=1), np.inf).argmin())
        found.append((place, int(row[5])))
    return found
