"""Which detections belong together, and how far apart they are."""

import numpy as np
import pytest

from parity.detections.matching import MAX_DETECTIONS, iou, match, match_image


def rows(*entries):
    return np.array(entries, float).reshape(-1, 6)


ONE = [10, 20, 100, 50, 0.9, 1]
TWO = [200, 20, 40, 40, 0.5, 1]
THREE = [12, 21, 100, 50, 0.4, 3]


def test_equal_sides_match_fully():
    both = rows(ONE, TWO, THREE)
    found = match_image(4, both, both)
    assert found.pairs.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert (found.unmatched, found.score, found.box, found.rank_flips) == (0, 0, 0, 0)
    assert match({4: both}, {4: both}).worst == []


def test_differences_are_of_edges_in_pixels_and_of_scores():
    moved = rows([10, 20, 103, 50, 0.85, 1])
    found = match_image(4, rows(ONE), moved)
    assert found.box == pytest.approx(3) and found.score == pytest.approx(0.05)


def test_classes_do_not_mix():
    found = match_image(4, rows(ONE), rows([*ONE[:5], 2]))
    assert found.unmatched == 2 and len(found.pairs) == 0


def test_boxes_far_apart_do_not_match():
    found = match_image(4, rows(ONE, TWO), rows(ONE, [260, 20, 40, 40, 0.5, 1]))
    assert found.pairs.tolist() == [[0, 0]]
    assert (found.reference_only.tolist(), found.candidate_only.tolist()) == ([1], [1])


def test_of_several_the_closest_is_the_partner():
    near, nearer = [14, 20, 100, 50, 0.9, 1], [11, 20, 100, 50, 0.2, 1]
    found = match_image(4, rows(ONE, [15, 20, 100, 50, 0.3, 1]), rows(near, nearer))
    assert sorted(map(tuple, found.pairs.tolist())) == [(0, 1), (1, 0)]
    # Where boxes are equal, scores decide.
    found = match_image(4, rows(ONE), rows([*ONE[:4], 0.1, 1], [*ONE[:4], 0.88, 1]))
    assert found.pairs.tolist() == [[0, 1]]


def test_another_order_is_counted():
    found = match_image(4, rows(ONE, TWO, THREE), rows(TWO, ONE, THREE))
    assert (found.unmatched, found.rank_flips) == (0, 1)
    assert match_image(4, rows(ONE, TWO, THREE), rows(THREE, TWO, ONE)).rank_flips == 3


def test_nothing_to_match():
    none = np.zeros((0, 6))
    assert match_image(4, none, none).unmatched == 0
    assert match_image(4, none, rows(ONE)).candidate_only.tolist() == [0]
    assert match({}, {}).result().matched == 0


def test_boxes_without_area_match_themselves_only():
    flat = rows([5, 5, 0, 0, 0.5, 1], [5, 5, 0, 3, 0.5, 1])
    assert iou(flat, flat).tolist() == [[1, 0], [0, 1]]


def test_overlap_by_hand():
    overlap = iou(rows([0, 0, 10, 10, 1, 1]), rows([5, 0, 10, 10, 1, 1], [20, 20, 1, 1, 1, 1]))
    assert overlap.tolist() == [[pytest.approx(50 / 150), 0]]


def test_the_worst_images_come_first():
    moved = rows([11, 20, 100, 50, 0.9, 1])
    reference = {1: rows(ONE), 2: rows(ONE), 3: rows(ONE, TWO), 4: rows(ONE)}
    candidate = {1: rows(ONE), 2: moved, 3: rows(ONE), 4: rows([*ONE[:4], 0.8, 1])}
    result = match(reference, candidate)
    assert [item.image_id for item in result.worst] == [3, 2, 4]
    values = result.result()
    assert (values.matched, values.reference_only, values.candidate_only) == (4, 1, 0)
    assert values.largest_box_difference_pixels == 1
    assert values.worst_images[0].image_id == 3


# What rounding, ties and the cut explain, and what they do not


def full(*entries, score=0.9):
    """As many detections as there may be, far from each other and from those given."""
    rest = [
        [1e4 * place, 1e4, 10, 10, score, 9]
        for place in range(1, MAX_DETECTIONS + 1 - len(entries))
    ]
    return rows(*entries, *rest)


def unexplained(one, other, anchor=0.0):
    found = match_image(4, one, other, anchor)
    return len(found.apart), len(found.reference_unexplained), len(found.candidate_unexplained)


def test_a_box_may_move_with_its_size_and_its_anchor():
    """By the code's error times the anchor, and half of it times the box."""
    huge = [-7e3, 10, 1.5e4, 40, 0.9, 1]
    assert unexplained(rows(huge), rows([-7004, *huge[1:]])) == (0, 0, 0)
    assert unexplained(rows(huge), rows([-7006, *huge[1:]])) == (1, 0, 0)
    assert unexplained(rows(ONE), rows([10.02, *ONE[1:]])) == (0, 0, 0)
    assert unexplained(rows(ONE), rows([10.2, *ONE[1:]])) == (1, 0, 0)
    # The same distance is nothing to a box whose anchor is large.
    assert unexplained(rows(ONE), rows([10.2, *ONE[1:]]), anchor=500) == (0, 0, 0)


def test_boxes_without_extent_find_their_partner_by_their_edges():
    thin = [50, 60, 1e-5, 900, 0.9, 1]
    moved = [50.1, 60.1, 1e-5, 900, 0.9, 1]
    found = match_image(4, rows(thin), rows(moved), 500)
    assert found.pairs.tolist() == [[0, 0]] and found.unexplained == 0
    assert match_image(4, rows(thin), rows(moved)).unmatched == 2
    assert match_image(4, rows(thin), rows([52, *thin[1:]]), 500).unmatched == 2
    # The nearest of several is the partner.
    found = match_image(4, rows(thin, moved), rows(moved, thin), 500)
    assert found.pairs.tolist() == [[0, 1], [1, 0]]


def test_scores_that_differ_are_a_difference():
    assert unexplained(rows(ONE), rows([*ONE[:4], 0.9004, 1])) == (0, 0, 0)
    assert unexplained(rows(ONE), rows([*ONE[:4], 0.899, 1])) == (1, 0, 0)


def test_what_is_behind_the_cut_is_explained():
    last = [200, 20, 40, 40, 0.3, 1]
    assert unexplained(full(last, score=0.5), full(score=0.5)) == (0, 0, 1)
    near = [200, 20, 40, 40, 0.4999, 1], [300, 20, 40, 40, 0.4998, 2]
    assert unexplained(full(near[0], score=0.5), full(near[1], score=0.5)) == (0, 0, 0)
    # A list that is not full has no cut, only a threshold.
    assert unexplained(rows(ONE, last), rows(ONE)) == (0, 1, 0)
    assert unexplained(rows(ONE, [200, 20, 40, 40, 0.0012, 1]), rows(ONE)) == (0, 0, 0)


def test_of_two_boxes_of_equal_score_either_may_come_first():
    other = [60, 20, 100, 50]
    first = rows([*ONE[:4], 0.9, 1], [*other, 0.6, 1])
    second = rows([*ONE[:4], 0.6, 1], [*other, 0.9001, 1])
    assert unexplained(first, second) == (0, 0, 0)
    # Not where the boxes do not overlap, are of two classes, or the scores are others.
    far = rows([*ONE[:4], 0.9, 1], [500, 20, 100, 50, 0.6, 1])
    assert unexplained(far, rows([*ONE[:4], 0.6, 1], [500, 20, 100, 50, 0.9, 1])) == (2, 0, 0)
    mixed = rows([*ONE[:4], 0.9, 1], [*other, 0.6, 2])
    assert unexplained(mixed, rows([*ONE[:4], 0.6, 1], [*other, 0.9, 2])) == (2, 0, 0)
    assert unexplained(first, rows([*ONE[:4], 0.6, 1], [*other, 0.8, 1])) == (2, 0, 0)


def test_a_tie_explains_what_it_puts_behind_the_cut():
    """The lowered one of two equal boxes would be behind the other side's last detection."""
    one, other = [10, 20, 100, 50, 0.52, 1], [25, 20, 100, 50, 0.52, 1]
    found = full(one, score=0.5), full([150, 20, 40, 40, 0.52, 2], score=0.5)
    assert unexplained(*found) == (0, 1, 1)
    apart = [70, 20, 100, 50, 0.52, 1]
    assert unexplained(full(one, score=0.5), full(apart, score=0.5)) == (0, 0, 0)
    # Of a high score it would still be there: the box is another one.
    high = full([*one[:4], 0.9, 1], score=0.5), full([*apart[:4], 0.9, 1], score=0.5)
    assert unexplained(*high) == (0, 1, 1)
    assert unexplained(full(one, score=0.5), full(other, score=0.5)) == (1, 0, 0)
