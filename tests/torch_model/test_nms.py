"""Each suppression equals its plain definition, and TensorFlow's op where it is one."""

import numpy as np
import plain_stages
import pytest
import stage_cases

from torch_model import nms

# Candidates, classes, clusters, ties.
CROWDS = {
    "as in an image": (5000, 90, 60, False),
    "few classes": (3000, 3, 20, False),
    "one class": (1500, 1, 15, False),
    "ties": (600, 4, 8, True),
    "ties in one class": (1200, 1, 12, True),
    "few boxes": (40, 90, 5, False),
    "one box": (1, 3, 1, False),
}


@pytest.fixture(params=CROWDS)
def crowd(request):
    count, classes, clusters, ties = CROWDS[request.param]
    return stage_cases.crowd(len(request.param), count, classes, clusters, ties)


def by_loops(loop, boxes, scores, classes):
    """A plain loop for each class, then the best of all."""
    detection = pytest.importorskip("reference_tf.detection")
    return detection._each_group(getattr(detection, loop), boxes, scores, classes)


def by_operation(boxes, scores, classes, sigma, threshold):
    tf = pytest.importorskip("tensorflow")
    indices, kept = [], []
    for group in np.unique(classes):
        members = np.flatnonzero(classes == group)
        chosen, lowered, _ = tf.raw_ops.NonMaxSuppressionV5(
            boxes=boxes[members],
            scores=scores[members],
            max_output_size=100,
            iou_threshold=0.5,
            score_threshold=threshold,
            soft_nms_sigma=sigma,
        )
        indices.append(members[chosen.numpy()])
        kept.append(lowered.numpy())
    scores = np.concatenate(kept)
    order = np.argsort(-scores, kind="stable")[:100]
    return np.concatenate(indices)[order], scores[order]


def test_soft_nms_equals_the_plain_loop_exactly(crowd):
    indices, scores = by_loops("soft_nms", *crowd)
    kept = nms.soft_nms(*crowd)
    assert (kept.indices == indices).all() and (kept.scores == scores).all()


def test_soft_nms_below_its_threshold(crowd):
    # The best of a class stays, however low it is.
    boxes, scores, classes = crowd
    scores = scores * np.float32(0.01)
    indices, lowered = by_loops("soft_nms", boxes, scores, classes)
    kept = nms.soft_nms(boxes, scores, classes)
    assert (kept.indices == indices).all() and (kept.scores == lowered).all()


def test_hard_nms_equals_the_plain_loop_exactly(crowd):
    indices, scores = by_loops("hard_nms", *crowd)
    kept = nms.hard_nms(*crowd)
    assert (kept.indices == indices).all() and (kept.scores == scores).all()


@pytest.mark.parametrize("sigma, threshold", [(0.25, 0.001), (0.0, -np.inf), (0.25, 0.05)])
def test_the_operation_is_reproduced(crowd, sigma, threshold):
    indices, scores = by_operation(*crowd, sigma, threshold)
    kept = nms.tensorflow_nms(*crowd, soft_sigma=sigma, score_threshold=threshold)
    assert (kept.indices == indices).all()
    # The exponential may be rounded otherwise once in some thousand boxes.
    np.testing.assert_allclose(kept.scores, scores, rtol=2.0**-22, atol=0)
    assert (kept.scores != scores).sum() <= 2


@pytest.mark.parametrize("sigma, threshold", [(0.25, 0.001), (0.0, -np.inf)])
def test_the_operation_is_reproduced_in_any_order(crowd, sigma, threshold):
    """Of equal scores, also of those that have been lowered, the lower index comes first."""
    shuffled = np.random.default_rng(7).permutation(len(crowd[1]))
    crowd = [values[shuffled] for values in crowd]
    indices, scores = by_operation(*crowd, sigma, threshold)
    kept = nms.tensorflow_nms(*crowd, soft_sigma=sigma, score_threshold=threshold)
    assert (kept.indices == indices).all()
    np.testing.assert_allclose(kept.scores, scores, rtol=2.0**-22, atol=0)


def odd_crowd(seed):
    """Candidates in any order, with ties, empty and swapped boxes, few or one class."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 160))
    crowd = stage_cases.crowd(seed, count, 1 + seed % 5, 1 + seed % 7, bool(seed % 2))
    if seed % 3:
        order = rng.permutation(count)
        crowd = [values[order] for values in crowd]
    if seed % 4 == 0:
        crowd[0][::7, 2] = crowd[0][::7, 0]
        crowd[0][::3] = crowd[0][::3][:, [2, 3, 0, 1]]
    return crowd


@pytest.mark.parametrize("portion", [1, 3, 512])
@pytest.mark.parametrize(
    "options",
    [
        {"sigma": 0.25, "least": 0.001},
        {"sigma": 0.05, "least": 0.01},
        {"sigma": 0.0, "least": -np.inf},
        {"sigma": 0.0, "least": 0.005},
    ],
)
def test_the_operation_equals_a_plain_queue_bit_for_bit(portion, options, monkeypatch):
    monkeypatch.setattr(nms, "_PORTION", portion)
    monkeypatch.setattr(nms, "_ROWS", portion)
    for seed in range(24):
        crowd, limit = odd_crowd(seed), (100, 7)[seed % 2]
        indices, scores = plain_stages.each_class(*crowd, limit, iou_threshold=0.5, **options)
        kept = nms.tensorflow_nms(
            *crowd,
            soft_sigma=options["sigma"],
            score_threshold=options["least"],
            iou_threshold=0.5,
            limit=limit,
        )
        assert (kept.indices == indices).all()
        assert kept.scores.tobytes() == scores.tobytes()


@pytest.mark.parametrize("loop", ["soft_nms", "hard_nms"])
def test_loops_are_equal_in_any_order(loop):
    for seed in range(24):
        crowd = odd_crowd(seed)
        with np.errstate(all="ignore"):
            indices, scores = by_loops(loop, *crowd)
            kept = getattr(nms, loop)(*crowd)
        assert (kept.indices == indices).all() and kept.scores.tobytes() == scores.tobytes()


def test_scores_are_sorted_as_by_a_stable_sort():
    rng = np.random.default_rng(4)
    odd = [0.0, -0.0, np.inf, -np.inf, 1e-42, -1e-42, 3.5, -3.5, 3.5]
    for values in (rng.standard_normal(3000), rng.integers(-3, 4, 500), odd, odd[::-1], [], [1.0]):
        scores = np.array(values, np.float32)
        for given in (scores, np.sort(scores)[::-1], scores[::-1]):
            assert (nms.highest_first(given) == np.argsort(-given, kind="stable")).all()


@pytest.mark.parametrize("slack", [1e-5, 0.03, 1.0])
def test_candidates_looked_at_in_vain_change_nothing(crowd, slack, monkeypatch):
    expected = nms.tensorflow_nms(*crowd)
    monkeypatch.setattr(nms, "_SLACK", np.float32(slack))
    kept = nms.tensorflow_nms(*crowd)
    assert (kept.indices == expected.indices).all() and (kept.scores == expected.scores).all()


def test_the_kinds_are_not_equivalent():
    crowd = stage_cases.crowd(0, *CROWDS["few classes"])
    results = [
        nms.soft_nms(*crowd),
        nms.tensorflow_nms(*crowd),
        nms.hard_nms(*crowd),
        nms.tensorflow_nms(*crowd, soft_sigma=0.0, score_threshold=-np.inf),
    ]
    scores = {result.scores.tobytes() for result in results}
    assert len(scores) == len(results)


def test_equal_classes_make_it_global():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    for suppress in (nms.hard_nms, nms.soft_nms, nms.tensorflow_nms):
        apart = suppress(boxes, scores, np.array([0, 1]))
        together = suppress(boxes, scores, np.array([0, 0]))
        assert apart.scores.tolist() == scores.tolist()
        assert len(together.scores) < 2 or together.scores[1] < 0.2


def test_swapped_corners_and_empty_boxes_are_as_in_the_operation():
    boxes, scores, classes = stage_cases.crowd(5, 300, 2, 6)
    boxes[::3] = boxes[::3][:, [2, 3, 0, 1]]
    boxes[::7, 2] = boxes[::7, 0]
    indices, expected = by_operation(boxes, scores, classes, 0.25, 0.001)
    kept = nms.tensorflow_nms(boxes, scores, classes)
    assert (kept.indices == indices).all()
    np.testing.assert_allclose(kept.scores, expected, rtol=2.0**-22, atol=0)


def test_infinite_boxes_end():
    boxes, scores, classes = stage_cases.crowd(5, 50, 2, 6)
    boxes[0] = [-np.inf, -np.inf, np.inf, np.inf]
    boxes[3] = boxes[0]
    with np.errstate(invalid="ignore"):
        for suppress in (nms.hard_nms, nms.soft_nms, nms.tensorflow_nms):
            kept = suppress(boxes, scores, classes)
            assert not np.isnan(kept.scores).any() and len(kept.scores) > 1


def test_no_candidates():
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    for suppress in (nms.hard_nms, nms.soft_nms, nms.tensorflow_nms):
        kept = suppress(*nothing)
        assert kept.indices.shape == kept.scores.shape == (0,)


def test_the_limit():
    crowd = stage_cases.crowd(5, 500, 9, 40)
    for suppress in (nms.hard_nms, nms.soft_nms, nms.tensorflow_nms):
        best = suppress(*crowd, limit=20)
        more = suppress(*crowd, limit=21)
        assert len(best.indices) == 20
        assert (more.indices[:20] == best.indices).all()
