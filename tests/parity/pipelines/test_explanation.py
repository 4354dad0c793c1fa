"""Explanations of another program's boxes: its mistakes are named, and nothing else."""

from contextlib import contextmanager
from dataclasses import replace

import cv2
import numpy as np
import other_pipeline
import pytest
from made_images import waves

from efficientdet_spec import get_config
from parity.commands.detecting.other_stages import decode, torch_resizes
from parity.detections.annotations import CocoImage
from parity.pipelines import equality, search
from parity.pipelines.explanation import explain
from parity.pipelines.running import Found, Runner, Tools
from parity.pipelines.stages import MISTAKES
from parity.pipelines.stages.pipeline import Pipeline
from parity.pipelines.text import explanation_text
from torch_model.profiles import OFFICIAL
from torch_model.surroundings import Surroundings

SIDE = 128
FAITHFUL = Pipeline()
THIRTY = Pipeline(limit=30)
"""As faithful, and fewer boxes of an image: nothing is sought as long as what nothing explains."""
SIZES = {1: (90, 150), 2: (200, 121), 3: (61, 64)}
CONFIG = get_config("efficientdet-d0").with_classes(20)
NETWORKS = {
    "faithful": other_pipeline.network(CONFIG),
    "zero-padded-pool": other_pipeline.network(CONFIG, 2),
}
IMAGES = [CocoImage(number, f"{number}.jpg", w, h) for number, (h, w) in SIZES.items()]
FEW = IMAGES[:2]
"""As many as it takes to tell one image's boxes from another's; each more costs a whole search."""
NAMES = {image.id: image.file_name for image in IMAGES}


@contextmanager
def in_silence(title, unit):
    yield lambda done, total: None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    for number, (height, width) in SIZES.items():
        assert cv2.imwrite(
            str(path / f"{number}.jpg"), waves(height, width, seed=number)[..., ::-1]
        )
    return path


def port(folder, wrong, networks=NETWORKS, images=IMAGES):
    """What the other program finds."""
    return {
        image.id: other_pipeline.detect(folder / image.file_name, wrong, networks, CONFIG, SIDE)
        for image in images
    }


@pytest.fixture(scope="module")
def runner(folder):
    tools = Tools(decode, torch_resizes(), NETWORKS)
    return Runner(tools, CONFIG, (SIDE, SIDE), folder, other_pipeline.CATEGORIES)


@pytest.fixture
def explained(runner):
    def call(rows, faithful=FAITHFUL, networks=frozenset(NETWORKS)):
        images = [image for image in IMAGES if image.id in rows]
        return explain(runner, faithful, rows, images, (SIDE, SIDE), networks, in_silence)

    return call


def named(explanation):
    return {step.mistake.slug for step in explanation.steps}


def test_a_faithful_program_is_not_accused(explained, folder):
    found = explained(port(folder, ()))
    assert found.complete and not found.steps and found.start == found.all_boxes == 300
    assert not found.differs
    text = explanation_text(found, NAMES)
    assert "all 300 boxes equal the faithful pipeline's; no mistake is named" in text


@pytest.mark.parametrize(
    "wrong",
    [
        ("bgr",),
        pytest.param(("pair-anchors",), marks=pytest.mark.heavy),
        pytest.param(("normalise-half",), marks=pytest.mark.heavy),
        pytest.param(("normalise-levels",), marks=pytest.mark.heavy),
        pytest.param(("written-xyxy",), marks=pytest.mark.heavy),
        pytest.param(("contiguous-zero",), marks=pytest.mark.heavy),
        ("hard-nms", "zero-based"),
        pytest.param(("opencv-decode", "centred", "written-normalised"), marks=pytest.mark.heavy),
        pytest.param(("resize-first", "plain-hard-nms", "clip-first"), marks=pytest.mark.heavy),
        pytest.param(
            ("zero-padded-pool", "corner-anchors", "scale-per-axis"), marks=pytest.mark.heavy
        ),
    ],
    ids=lambda wrong: "+".join(wrong),
)
def test_mistakes_are_named(explained, folder, wrong):
    """None of the code that makes them here has a line in common with what finds them."""
    found = explained(port(folder, wrong))
    assert named(found) == set(wrong) and found.complete, explanation_text(found, NAMES)
    assert not any(step.alternatives for step in found.steps)
    # Equal boxes are not what it wrote, whatever its AP is.
    assert found.differs
    assert all(step.only_with > 0 for step in found.steps)
    assert found.steps[-1].equal == found.boxes > found.start
    result = found.result(NAMES)
    assert result.complete and len(result.steps) == len(wrong) and not result.worst_images


D0 = get_config("efficientdet-d0")
OTHERS = {
    "lite": get_config("efficientdet-lite0"),
    "advprop": replace(D0, mean_rgb=(0.0,) * 3, stddev_rgb=(1.0,) * 3, scale_range=True),
    "own anchors": replace(
        D0, anchor_scale=(1.5, 2.0, 2.5, 3.0, 3.5), aspect_ratios=(1.0, 1.3, 0.6)
    ),
    "four sizes": replace(D0, num_scales=4),
}
"""Models of which a program takes another's values."""


# Of each model one value of another stays in the suite, and one faithful program; the heavy ones
# take another value of the same kinds.
@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        ("lite", ()),
        ("lite", ("normalise-imagenet",)),
        pytest.param("lite", ("anchor-scale-4",), marks=pytest.mark.heavy),
        pytest.param("lite", ("normalise-advprop", "pair-anchors"), marks=pytest.mark.heavy),
        pytest.param("advprop", (), marks=pytest.mark.heavy),
        pytest.param("advprop", ("normalise-imagenet",), marks=pytest.mark.heavy),
        ("advprop", ("pad-zero-last",)),
        pytest.param("advprop", ("normalise-levels",), marks=pytest.mark.heavy),
        pytest.param("advprop", ("normalise-lite", "zero-based"), marks=pytest.mark.heavy),
        pytest.param("own anchors", (), marks=pytest.mark.heavy),
        pytest.param("own anchors", ("sqrt-anchors",), marks=pytest.mark.heavy),
        ("own anchors", ("anchor-scale-4",)),
        pytest.param("own anchors", ("swapped-own-anchors",), marks=pytest.mark.heavy),
        pytest.param("four sizes", (), marks=pytest.mark.heavy),
        ("four sizes", ("anchor-octave-3",)),
        pytest.param("four sizes", ("anchor-sizes-5",), marks=pytest.mark.heavy),
    ],
    ids=str,
)
def test_values_of_another_model_are_named(folder, model, wrong):
    """And a program that has the model's own is not accused."""
    config = OTHERS[model].with_classes(20)
    networks = {"faithful": other_pipeline.network(config, blank=-9.0)}
    rows = {
        image.id: other_pipeline.detect(folder / image.file_name, wrong, networks, config, SIDE)
        for image in IMAGES
    }
    tools = Tools(decode, torch_resizes(), networks)
    runner = Runner(tools, config, (SIDE, SIDE), folder, other_pipeline.CATEGORIES)
    faithful = Pipeline.of(Surroundings.of(config, OFFICIAL))
    found = explain(runner, faithful, rows, IMAGES, (SIDE, SIDE), {"faithful"}, in_silence)
    assert named(found) == set(wrong) and found.complete, explanation_text(found, NAMES)
    assert found.differs == bool(wrong)
    assert not any(step.alternatives for step in found.steps)


def test_numbers_that_no_list_has_are_read_off_the_boxes(explained, folder):
    """A least score between two of the list, an overlap, and a number of boxes."""
    faithful = port(folder, (), images=FEW)
    least = float(np.quantile(np.concatenate([rows[:, 4] for rows in faithful.values()]), 0.8))
    found = explained(port(folder, {f"threshold-{least:.6f}"}, images=FEW))
    assert named(found) == {"threshold-other"} and found.complete
    assert "score threshold near 0.61" in explanation_text(found, NAMES)
    found = explained(port(folder, {"hard-nms", "iou-0.35", "best-37"}, images=FEW))
    # Of two overlaps that these images do not tell apart both are told.
    told = {item.slug for step in found.steps for item in (step.mistake, *step.alternatives)}
    assert {"hard-nms", "iou-0.35", "best-other"} <= told and found.complete
    assert len(found.steps) == 3
    assert "at most 37 boxes of an image" in explanation_text(found, NAMES)


def test_the_profile_says_what_is_faithful(explained, folder):
    rows = port(folder, {"hard-nms"}, images=FEW)
    assert not named(explained(rows, Pipeline(nms="hard")))
    rows = port(folder, (), images=FEW)
    assert named(explained(rows, Pipeline(nms="hard"))) == {"numpy-soft-nms"}


@pytest.mark.heavy
def test_mistakes_that_do_the_same_are_both_told(explained, folder):
    """Any number of boxes, where no image has more than 100 that are above the threshold."""
    found = explained(port(folder, {"class-agnostic", "plain-hard-nms", "best-1000"}))
    (limit,) = (step for step in found.steps if step.mistake.slug.startswith("best-"))
    others = [item.slug for item in limit.alternatives]
    assert found.complete and "best-10000" in {limit.mistake.slug, *others} and others
    assert "these images do not tell them apart" in explanation_text(found, NAMES)


def test_another_network_is_not_explained_by_stages(explained, folder):
    """And what stays unexplained is counted."""
    networks = {"faithful": other_pipeline.network(CONFIG, 5)}
    found = explained(port(folder, {"best-30"}, networks, FEW), THIRTY)
    assert not found.steps and not found.complete
    assert found.unexplained == found.all_boxes and found.extra == 60
    assert "none is named" in explanation_text(found, NAMES)
    assert "UNEXPLAINED: 60 boxes" in explanation_text(found, NAMES)
    assert [item.image_id for item in found.result(NAMES).worst_images] == [1, 2]


def test_a_network_that_is_a_little_off_is_not_explained_either(explained, folder):
    def off(pixels):
        outputs = NETWORKS["faithful"](pixels)
        return type(outputs)([x * np.float32(1.003) for x in outputs.classes], outputs.boxes)

    found = explained(port(folder, (), {"faithful": off}, FEW))
    assert not found.steps and found.unexplained > 100 and found.differs


def test_a_part_that_nobody_knows_is_counted(explained, folder):
    """The known mistake is named all the same, for it makes boxes of the other images equal."""
    rows = port(folder, {"pair-anchors", "best-30"}, images=FEW)
    rows[2] = rows[2] + [3.0, 0, 0, 0, 0, 0]
    found = explained(rows, THIRTY)
    assert named(found) == {"pair-anchors"} and found.unexplained == found.extra == 30
    assert list(found.remaining) == [2]


def test_boxes_of_other_images_are_explained_by_nothing(explained, folder):
    """A mistake that leaves fewer boxes leaves fewer wrong ones, which says nothing."""
    rows = port(folder, {"best-30"}, images=FEW)
    numbers = list(rows)
    moved = dict(zip(numbers, [rows[n] for n in (*numbers[1:], numbers[0])], strict=True))
    found = explained(moved, THIRTY)
    assert not found.steps and found.differs
    assert "no known mistake makes boxes equal" in explanation_text(found, NAMES)


# Equality


def one(rows, reach=10.0):
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Found(
        table,
        np.full((len(table), 4), reach),
        lambda: Found(table, np.full((len(table), 4), reach)),
    )


def test_boxes_are_equal_within_bounds():
    box = [10.0, 20, 30, 40, 0.5, 3]
    assert len(equality.equal_pairs(one([box]), np.array([box]))) == 1
    for place, by in ((0, 1e-3), (3, 1e-3), (4, 2e-4), (5, 1)):
        other = np.array([box])
        other[0, place] += by
        assert not len(equality.equal_pairs(one([box]), other)), place
        other[0, place] -= by * (1 - 0.3)
        assert bool(len(equality.equal_pairs(one([box]), other))) == (place != 5), place


def test_pairs_are_one_to_one():
    box = [10.0, 20, 30, 40, 0.5, 3]
    assert len(equality.equal_pairs(one([box]), np.array([box, box]))) == 1


def test_a_tie_is_no_difference():
    """Either of two candidates of one score may be taken; a box that is none is a difference."""
    first, second = [10.0, 20, 30, 40, 0.5, 3], [12.0, 20, 30, 40, 0.5, 3]
    both = one([first, second])
    found = Found(both.rows[:1], both.reach[:1], lambda: both)
    agreement = equality.agreement(found, np.array([second]), 100)
    assert agreement.equal.all() and agreement.ties == 1 and not agreement.unequal
    stranger = equality.agreement(found, np.array([[14.0, 20, 30, 40, 0.5, 3]]), 100)
    assert not stranger.equal.any() and stranger.unequal == 2


def test_what_the_lists_exclude_is_not_tried():
    rows = {1: np.array([[0, 0, 1, 1, 0.07, 1]] * 120)}
    known = search.applicable(MISTAKES, Pipeline(), rows, {"faithful"})
    slugs = {item.slug for item in known}
    assert {"threshold-0.05", "best-200"} <= slugs
    assert not {"threshold-0.1", "best-100", "raw-weights", "per-class"} & slugs


def test_a_mistake_that_also_makes_equal_boxes_unequal_is_not_named():
    assert search.Gain(gained=50, lost=4, fewer=46).shows
    assert not search.Gain(gained=50, lost=20, fewer=30).shows
    assert not search.Gain(gained=0, lost=0, fewer=0).shows
    assert search.Gain(gained=50, lost=0, fewer=50, made=90, right=50).shows
    assert not search.Gain(gained=50, lost=0, fewer=50, made=190, right=50).shows


def test_a_mistake_that_takes_boxes_away_is_named_where_the_right_ones_are_left():
    assert search.Gain(gained=0, lost=0, fewer=50, kept=100, equal=99).shows
    assert not search.Gain(gained=0, lost=0, fewer=50, kept=100, equal=10).shows
