"""Which detections belong together, and how far apart they are."""

import numpy as np
import pytest

from parity.matching import iou, match, match_image


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
    assert match({}, {}).to_dict()["matched"] == 0


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
    values = result.to_dict()
    assert (values["matched"], values["reference_only"], values["candidate_only"]) == (4, 1, 0)
    assert values["largest_box_difference_pixels"] == 1
    assert values["worst_images"][0]["image_id"] == 3
