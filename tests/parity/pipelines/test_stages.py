"""Parts of pipelines: faithful ones are the official stages, resizes are whose name they bear."""

import cv2
import numpy as np
import pytest
from made_images import waves

from efficientdet_spec import get_config
from parity.pipelines.stages import BY_SLUG, MISTAKES, anchors, resizing, suppressing, writing
from parity.pipelines.stages.pipeline import PARTS, STAGES, Pipeline, with_mistakes
from torch_model.anchors import PAIR_ASPECTS, SQRT_ASPECTS, make_anchors
from torch_model.preprocess import IMAGENET
from torch_model.profiles import PROFILES
from torch_model.surroundings import Surroundings


def test_every_mistake_is_another_choice():
    assert len(BY_SLUG) == len(MISTAKES) and {item.stage for item in MISTAKES} == set(STAGES)
    assert len({item.title for item in MISTAKES}) == len(MISTAKES)
    for mistake in MISTAKES:
        assert set(mistake.changes) <= set(PARTS)


def test_two_mistakes_in_one_part_exclude_each_other():
    hard, soft, bgr = (BY_SLUG[name] for name in ("hard-nms", "tensorflow-nms", "bgr"))
    assert hard.excludes(soft) and not hard.excludes(bgr)
    both = with_mistakes(Pipeline(), [hard, bgr, soft])
    assert (both.nms, both.colours) == ("tf-soft", "bgr")
    assert bgr.needs_network and not hard.needs_network


@pytest.mark.parametrize("profile", PROFILES.values(), ids=str)
def test_a_profile_is_a_pipeline(profile):
    found = Pipeline.of(Surroundings.of(get_config("efficientdet-d0"), profile))
    for name in ("decode", "resize", "scope", "clipping"):
        assert getattr(found, name) == profile.stages()[name]
    assert found.normalisation == IMAGENET
    assert found.aspects == (PAIR_ASPECTS if profile.aspects == "pairs" else SQRT_ASPECTS)


PIXELS = np.arange(5 * 7 * 3).reshape(5, 7, 3).astype(np.int64) ** 2 * 13 % 256
"""Of which Pillow 13.0.0 made the values below, with ``Image.resize((4, 3), ...)``."""

BILINEAR = [
    69,
    130,
    103,
    109,
    151,
    80,
    98,
    124,
    117,
    117,
    72,
    110,
    135,
    163,
    115,
    70,
    184,
    166,
    101,
    150,
    80,
    179,
    185,
    108,
    95,
    137,
    140,
    100,
    162,
    158,
    95,
    171,
    74,
    128,
    184,
    74,
]
BICUBIC = [
    66,
    132,
    104,
    110,
    154,
    72,
    95,
    123,
    120,
    118,
    66,
    112,
    144,
    165,
    116,
    61,
    190,
    174,
    102,
    148,
    69,
    190,
    192,
    112,
    95,
    134,
    141,
    99,
    162,
    163,
    93,
    171,
    68,
    132,
    189,
    73,
]


@pytest.mark.parametrize(("cubic", "expected"), [(False, BILINEAR), (True, BICUBIC)])
def test_pillows_resize_without_pillow(cubic, expected):
    found = resizing.with_pillow(PIXELS.astype(np.uint8), 3, 4, cubic=cubic)
    assert found.reshape(-1).tolist() == expected


def test_nearest_pixels():
    image = waves(23, 31)
    found = resizing.nearest(image, 11, 50, centred=False)
    assert (found == cv2.resize(image, (50, 11), interpolation=cv2.INTER_NEAREST)).all()
    assert not np.array_equal(found, resizing.nearest(image, 11, 50, centred=True))


def test_sizes_are_rounded_in_different_ways():
    sizes = {name: resizing.geometry(90, 151, (128, 128), name, "corner") for name in resizing.FITS}
    assert {name: item.scaled for name, item in sizes.items()} == {
        "truncate": (76, 128),
        "truncate-double": (76, 128),
        "truncate-longer": (76, 128),
        "round": (76, 128),
        "ceil": (77, 128),
        "stretch": (128, 128),
    }
    centred = resizing.geometry(90, 151, (128, 128), "truncate", "centre")
    assert centred.offset == (26, 0)


def test_anchors_of_a_pipeline():
    config, size = get_config("efficientdet-d0"), (128, 128)
    plain = anchors.of_pipeline(Pipeline(), config, size)
    assert (plain == make_anchors(config, *size)).all()
    pairs = anchors.of_pipeline(Pipeline(aspects=PAIR_ASPECTS), config, size)
    assert (pairs == make_anchors(config, *size, PAIR_ASPECTS)).all()
    double = anchors.of_pipeline(Pipeline(anchor_scales=(8.0,)), config, size)
    sides = (double[:, 2:] - double[:, :2]) / (plain[:, 2:] - plain[:, :2])
    assert np.allclose(sides, 2) and np.allclose(
        double[:, :2] + double[:, 2:], plain[:, :2] + plain[:, 2:]
    )
    corner = anchors.of_pipeline(Pipeline(anchor_centre="corner"), config, size)
    assert np.allclose(plain[0] - corner[0], 4)
    moved = anchors.of_pipeline(Pipeline(anchor_centre="transposed"), config, size)
    # The second place of the first row is that of the first column.
    assert np.allclose(moved[9], plain[9 * 16])


def test_categories_are_numbered_in_different_ways():
    classes, ids = np.array([0, 1, 2, 5]), [1, 3, 6]
    found = {
        name: writing.labelled(classes, name, ids).tolist()
        for name in ("plus-one", "plus-zero", "plus-two")
    }
    assert found == {"plus-one": [1, 2, 3, 6], "plus-zero": [0, 1, 2, 5], "plus-two": [2, 3, 4, 7]}
    nan = pytest.approx(np.nan, nan_ok=True)
    assert writing.labelled(classes, "contiguous-zero", ids).tolist() == [0, nan, 1, 2]
    assert writing.labelled(classes, "contiguous-one", ids).tolist() == [1, nan, 2, 3]
    assert writing.labelled(classes, "mapped", ids).tolist() == [1, 3, 6, nan]


@pytest.mark.parametrize("kind", ["soft", "hard", "linear", "diou", "tf-soft", "tf-hard", "none"])
def test_choices_that_a_suppression_does_not_read_change_nothing(kind):
    """And those that it reads change its detections, so that none is forgotten."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (80, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(10, 60, (80, 2))], 1).astype(np.float32)
    scores = np.sort(rng.uniform(0.002, 1, 80)).astype(np.float32)[::-1].copy()
    classes = rng.integers(0, 3, 80)

    def kept(pipeline):
        found = suppressing.suppressed(boxes, scores, classes, pipeline)
        return found.indices.tolist(), found.scores.tolist()

    whole = Pipeline(nms=kind)
    for name, other in {
        "iou": 0.2, "sigma": 0.1, "least": 0.3, "last_pixel": False, "scope": "global",
    }.items():  # fmt: skip
        changed = whole.changed({name: other})
        reads = suppressing.acting(changed) != suppressing.acting(whole)
        assert reads is (kept(changed) != kept(whole)), name
