"""From outputs to detections: Google's boxes, classes and order; selection with ties; NaN."""

from functools import partial

import numpy as np
import plain_stages
import pytest
import stage_cases
import torch

from efficientdet_spec import InputError, get_config
from torch_model import nms
from torch_model import postprocess as stage
from torch_model.anchors import make_anchors
from torch_model.postprocess import (
    Detections,
    Outputs,
    decode_boxes,
    postprocess,
    select_best_class,
    select_top,
    sigmoid,
    split_outputs,
)
from torch_model.profiles import OFFICIAL, PROFILES, with_stages
from torch_model.surroundings import Surroundings

# Boxes of some hundred pixels, after a handful of float32 roundings: in units of 2**-23.
BOX_TOLERANCE = 1000 * 2.0**-23 * 2
SCORE_TOLERANCE = 4 * 2.0**-24


@pytest.fixture(scope="module")
def golden():
    return np.load(stage_cases.SAMPLED)


@pytest.fixture(scope="module", params=[0, 1])
def case(request):
    return request.param, *stage_cases.outputs(request.param)


def detections(case, changes):
    _, config, logits, codes = case
    anchors = make_anchors(config, *config.image_size)
    around = Surroundings.of(config, with_stages(OFFICIAL, changes))
    outputs = Outputs(logits, codes)
    return postprocess(outputs, anchors, config.image_size, stage_cases.IMAGE_SCALE, around)


def check(golden, case, selection, suppression, changes):
    found = detections(case, changes)
    boxes, scores, categories = stage_cases.golden_rows(golden, case[0], selection, suppression)
    assert (found.categories == categories).all()
    np.testing.assert_allclose(found.boxes, boxes, rtol=0, atol=BOX_TOLERANCE)
    np.testing.assert_allclose(found.scores, scores, rtol=0, atol=SCORE_TOLERANCE)


@pytest.mark.parametrize("selection", stage_cases.SELECTIONS)
@pytest.mark.parametrize("suppression", stage_cases.SUPPRESSIONS)
def test_official_detections(golden, case, selection, suppression):
    changes = stage_cases.SELECTIONS[selection] | stage_cases.SUPPRESSIONS[suppression]
    check(golden, case, selection, suppression, changes)


@pytest.mark.parametrize(
    "fault", [{"nms": "hard"}, {"nms": "tf-hard"}, {"aspects": "pairs"}, {"scope": "global"}]
)
def test_another_variant_is_seen(golden, case, fault):
    if "aspects" in fault:
        # Anchors come from outside: what a detector does with this stage.
        anchors = make_anchors(case[1], *case[1].image_size, ((1, 1), (1.4, 0.7), (0.7, 1.4)))
        outputs = Outputs(case[2], case[3])
        scale = stage_cases.IMAGE_SCALE
        around = Surroundings.of(case[1], OFFICIAL)
        found = postprocess(outputs, anchors, case[1].image_size, scale, around)
        boxes, _, _ = stage_cases.golden_rows(golden, case[0], "topk5000", "numpy")
        assert np.abs(found.boxes - boxes).max() > 1
    else:
        with pytest.raises(AssertionError):
            check(golden, case, "topk5000", "numpy", fault)


def test_one_pixel_less_is_seen(golden, case, monkeypatch):
    monkeypatch.setattr(nms, "soft_nms", partial(nms.soft_nms, inclusive=False))
    with pytest.raises(AssertionError):
        check(golden, case, "topk5000", "numpy", {})


def by_sorting(levels, count):
    flat = np.concatenate([level.reshape(-1) for level in levels])
    order = np.argsort(-flat, kind="stable")[:count]
    columns = levels[0].shape[1]
    return order // columns, order % columns, flat[order]


@pytest.mark.parametrize("kind", ["normal", "ties", "equal", "infinite", "one high class"])
@pytest.mark.parametrize("count", [1, 100, 5000, 10**6])
def test_the_top_are_the_first_of_a_stable_sort(kind, count):
    rng = np.random.default_rng(3)
    levels = [rng.standard_normal((rows, 7)).astype(np.float32) for rows in (5000, 800, 9)]
    if kind == "ties":
        levels = [np.round(level, 1) for level in levels]
    elif kind == "equal":
        levels = [np.zeros_like(level) for level in levels]
    elif kind == "infinite":
        levels = [np.where(level > 0, level, np.float32(-np.inf)) for level in levels]
    elif kind == "one high class":
        # What a sample can miss.
        levels[1][:, 3] += 100
    chosen = select_top(levels, count)
    anchors, classes, logits = by_sorting(levels, count)
    assert (chosen.anchors == anchors).all() and (chosen.classes == classes).all()
    assert (chosen.logits == logits).all()


def test_logits_are_compared_a_few_at_a_time(monkeypatch):
    rng = np.random.default_rng(5)
    levels = [rng.standard_normal((rows, 7)).astype(np.float32) for rows in (5000, 800, 9)]
    expected = by_sorting(levels, 500)
    monkeypatch.setattr(stage, "_AT_A_TIME", 1000)
    chosen = select_top(levels, 500)
    assert all(
        (found == wanted).all()
        for found, wanted in zip(
            (chosen.anchors, chosen.classes, chosen.logits), expected, strict=True
        )
    )
    for level, place in ((0, -1), (1, 0), (2, -1)):
        damaged = [values.copy() for values in levels]
        damaged[level].reshape(-1)[place] = np.nan
        with pytest.raises(InputError, match="NaN"):
            select_top(damaged, 500)


@pytest.mark.parametrize("few", [1, 100, 2000])
@pytest.mark.parametrize("selection", ["max-per-anchor", "model"])
@pytest.mark.parametrize("suppression", ["tf-soft", "tf-hard", "hard", "soft"])
@pytest.mark.parametrize("scope", ["global", "per-class"])
def test_few_candidates_decide_as_all_do(few, selection, suppression, scope, case, monkeypatch):
    changes = {"selection": selection, "nms": suppression, "scope": scope}
    counts = []
    suppress = stage.suppress

    def watched(boxes, *others):
        counts.append(len(boxes))
        return suppress(boxes, *others)

    monkeypatch.setattr(stage, "suppress", watched)
    monkeypatch.setattr(stage, "FEW", 10**9)
    expected = detections(case, changes)
    total = counts.pop()
    monkeypatch.setattr(stage, "FEW", few)
    found = detections(case, changes)
    for name in ("boxes", "scores", "classes"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()
    if suppression == "soft":
        assert counts == [total]
    else:
        assert counts[0] >= few and counts[0] < total
        # One candidate cannot be a hundred boxes.
        assert few > 1 or counts[1:] == [total]


def test_few_candidates_are_enough_for_photographs_of_the_profiles():
    assert stage.FEW > nms.MAX_DETECTIONS
    kinds = {name: Surroundings.of(get_config("d0"), item) for name, item in PROFILES.items()}
    every_anchor = {name for name, around in kinds.items() if not around.max_nms_inputs}
    assert every_anchor == {"hparams", "interactive"}
    assert all(stage._few_may_decide(kinds[name].suppression) for name in every_anchor)


def test_the_best_class_is_the_first_of_equal_ones():
    levels = [np.array([[1, 3, 3], [2, 2, 0]], np.float32), np.array([[0, 0, 5]], np.float32)]
    chosen = select_best_class(levels)
    assert chosen.anchors.tolist() == [0, 1, 2]
    assert chosen.classes.tolist() == [1, 0, 2]
    assert chosen.logits.tolist() == [3, 2, 5]


def test_nan_is_no_detection():
    levels = [np.full((10, 3), np.nan, np.float32)]
    with pytest.raises(InputError, match="NaN"):
        select_top(levels)


def test_a_single_nan_is_refused_in_either_selection():
    config = get_config("tiny")
    anchors = make_anchors(config, 128, 128)
    classes = np.zeros((len(anchors), 7), np.float32)
    codes = np.zeros((len(anchors), 4), np.float32)
    for damaged, kind in ((classes, "class"), (codes, "box")):
        damaged[77, 3] = np.nan
        for selection in ("top-5000", "max-per-anchor"):
            around = Surroundings.of(config, with_stages(OFFICIAL, {"selection": selection}))
            outputs = Outputs([classes], [codes])
            with pytest.raises(InputError, match=f"{kind} outputs hold NaN"):
                postprocess(outputs, anchors, (128, 128), np.float32(1), around)
        damaged[77, 3] = 0


def test_box_decoding():
    anchors = np.array([[10, 20, 30, 60]], np.float32)
    assert decode_boxes(np.zeros((1, 4), np.float32), anchors).tolist() == [[10, 20, 30, 60]]
    codes = np.array([[0.5, -0.25, np.log(2), np.log(0.5)]], np.float32)
    # The centre moves to (30, 30), the size becomes 40 by 20.
    np.testing.assert_allclose(decode_boxes(codes, anchors), [[10, 20, 50, 40]], rtol=1e-6)


def test_boxes_are_decoded_as_one_by_one_and_codes_stay():
    rng = np.random.default_rng(6)
    codes = rng.normal(0, 1, (200, 4)).astype(np.float32)
    corner = rng.uniform(-50, 500, (200, 2))
    anchors = np.hstack([corner, corner + rng.uniform(1, 300, (200, 2))]).astype(np.float32)
    expected = np.stack(
        [plain_stages.decode_box(*pair) for pair in zip(codes, anchors, strict=True)]
    )
    for given in (codes, np.asfortranarray(codes)):
        before = given.copy()
        found = decode_boxes(given, anchors)
        assert found.tobytes() == expected.tobytes() and found.flags.c_contiguous
        assert (given == before).all()


def test_extreme_values_raise_no_warning():
    assert sigmoid(np.array([-1e30, -100, 0, 100, 1e30], np.float32)).tolist()[::4] == [0, 1]
    assert np.isinf(
        decode_boxes(
            np.full((1, 4), 1e4, np.float32),
            np.ones((1, 4), np.float32) * np.array([0, 0, 1, 1], np.float32),
        )
    ).any()


def test_outputs_are_split_by_image_and_anchor():
    shapes = [(2, 4), (1, 2)]
    classes = [torch.arange(2 * 9 * 7 * h * w).reshape(2, 63, h, w).float() for h, w in shapes]
    boxes = [torch.arange(2 * 36 * h * w).reshape(2, 36, h, w).float() for h, w in shapes]
    outputs = split_outputs(classes, boxes, 7)
    assert len(outputs) == 2
    assert [level.shape for level in outputs[1].classes] == [(72, 7), (18, 7)]
    # Image 1, row 1, column 2, anchor 5, class 3.
    assert outputs[1].classes[0][(1 * 4 + 2) * 9 + 5, 3] == classes[0][1, 5 * 7 + 3, 1, 2]
    assert outputs[1].box_codes.shape == (90, 4)
    assert outputs[1].box_codes[72 + 9 + 4, 2] == boxes[1][1, 4 * 4 + 2, 0, 1]


def test_coco_entries():
    found = Detections(
        np.array([[1, 2, 5, 10]], np.float32),
        np.array([0.5], np.float32),
        np.array([17]),
        OFFICIAL,
    )
    entry = {"image_id": 9, "category_id": 18, "bbox": [2.0, 1.0, 8.0, 4.0], "score": 0.5}
    assert found.to_coco(9) == [entry]
