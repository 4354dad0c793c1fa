"""Ties that only the reference's own predictions show."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from parity.detections.matching import Matching, match_image
from parity.detections.ties import MOST_IN_IMAGE, candidates_for_ties, with_ties
from torch_model.nms import soft_nms

# Two boxes of one object with equal scores, of which the lower falls behind the cut, and others.
BOXES = np.array(
    [
        [10, 10, 100, 100],
        [22, 10, 100, 100],
        [300, 20, 60, 60],
        [500, 40, 50, 90],
    ],
    float,
)
SCORES = np.array([0.0020, 0.0020 - 1e-6, 0.6, 0.4])
NOISE = np.array([1e-6, 3e-6, -2e-6, 4e-6])


@dataclass
class Predictions:
    """What a reference predicts, with official soft NMS behind it."""

    boxes: np.ndarray
    scores: np.ndarray

    def again(self, raised, by):
        """See :class:`parity.detections.ties.Untied`."""
        scores = self.scores.copy()
        for anchor, _ in raised:
            scores[anchor] += by
        x, y, width, height = self.boxes.T
        corners = np.stack([y, x, y + height, x + width], 1).astype(np.float32)
        kept = soft_nms(corners, scores.astype(np.float32), np.zeros(len(scores), int))
        return np.column_stack(
            [self.boxes[kept.indices], kept.scores, np.ones(len(kept.scores))]
        ).astype(float)


def seen(port, gap=1e-6):
    """The match of a port's predictions with the reference's, before and after."""
    reference = Predictions(BOXES, SCORES - np.array([0, gap - 1e-6, 0, 0]))
    ours, theirs = reference.again([], 0), port.again([], 0)
    found = match_image(1, ours, theirs)
    return found, with_ties(found, ours, theirs, 0.0, reference)


def test_a_tie_that_the_reference_shows_is_explained():
    found, after = seen(Predictions(BOXES, SCORES + NOISE))
    assert found.unexplained == 1
    assert (after.unexplained, after.ties) == (0, 1)
    assert after.result().ties == 1


@pytest.mark.parametrize(
    "port",
    [
        # A box that the reference predicts nowhere.
        Predictions(BOXES + np.array([[0] * 4, [3, 0, 0, 0], [0] * 4, [0] * 4]), SCORES + NOISE),
        # A fault beside the tie.
        Predictions(BOXES + np.array([[0] * 4, [0] * 4, [0] * 4, [0, 5, 0, 0]]), SCORES + NOISE),
    ],
    ids=["box", "beside"],
)
def test_what_is_no_tie_stays_a_difference(port):
    found, after = seen(port)
    assert found.unexplained
    assert after.unexplained == found.unexplained
    assert after.ties == 0


def test_scores_further_apart_than_those_of_other_pairs_are_no_tie():
    found, after = seen(Predictions(BOXES, SCORES + NOISE), gap=1e-4)
    assert found.unexplained
    assert (after.unexplained, after.ties) == (found.unexplained, 0)


def test_ties_are_looked_for_where_little_differs():
    def images(*counts):
        return Matching([SimpleNamespace(unexplained=count) for count in counts])

    assert len(candidates_for_ties(images(0, 1, 2))) == 2
    assert not candidates_for_ties(images(0, 1, MOST_IN_IMAGE + 1))
    assert not candidates_for_ties(images(*[1] * 9))
