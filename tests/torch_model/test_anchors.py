"""Anchors: Google's, bit for bit, and what the other aspects and sizes are."""

from dataclasses import replace

import numpy as np
import pytest
import stage_cases

from efficientdet_spec import InputError, get_config
from torch_model.anchors import PAIR_ASPECTS, SQRT_ASPECTS, make_anchors


@pytest.fixture(scope="module")
def golden():
    return np.load(stage_cases.SAMPLED)


def check(golden, name, anchors):
    assert len(anchors) == golden[f"anchors_{name}_n"]
    assert anchors.dtype == np.float32
    assert (anchors[golden[f"anchors_{name}_idx"]] == golden[f"anchors_{name}_val"]).all()
    assert (anchors.sum(0, dtype=np.float64) == golden[f"anchors_{name}_sum"]).all()


@pytest.mark.parametrize("name", stage_cases.MODELS)
def test_official_anchors_bit_for_bit(golden, name):
    config = get_config(name)
    check(golden, name, make_anchors(config, *config.image_size))


def test_another_anchor_scale_and_size(golden):
    config = replace(get_config("d0"), anchor_scale=3.0)
    check(golden, "lite0", make_anchors(config, 320, 320))


def test_all_rows_of_the_official_arrays(test_data):
    golden = np.load(test_data / "golden" / "pre_post.npz")
    for name in stage_cases.MODELS:
        config = get_config(name)
        check(golden, name, make_anchors(config, *config.image_size))
    anchors = make_anchors(get_config("d0"), 300, 210)
    assert (anchors == golden["anchors_300x210_d0"]).all()


def test_sizes_that_no_stride_divides(golden):
    anchors = make_anchors(get_config("d0"), 300, 210)
    assert (anchors[::20] == golden["anchors_300x210_d0"]).all()


def test_aspects_differ_and_are_seen(golden):
    config = get_config("d0")
    pairs = make_anchors(config, 512, 512, PAIR_ASPECTS)
    sqrt = make_anchors(config, 512, 512, SQRT_ASPECTS)
    # The first aspect is the square one, the second is wide in both.
    assert (pairs[::3] == sqrt[::3]).all()
    width, height = pairs[1, 3] - pairs[1, 1], pairs[1, 2] - pairs[1, 0]
    assert (width, height) == pytest.approx((1.4 * 32, 0.7 * 32))
    with pytest.raises(AssertionError):
        check(golden, "d0", pairs)


def test_anchors_come_in_the_order_of_the_outputs():
    config = get_config("tiny")
    sizes = config.feature_sizes(128, 256)
    anchors = make_anchors(config, 128, 256)
    assert len(anchors) == sum(h * w for h, w in sizes.values()) * config.num_anchors
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centres[0] == pytest.approx([4, 4])
    # Nine boxes share a place; the next place is one stride to the right.
    assert centres[8] == pytest.approx([4, 4])
    assert centres[9] == pytest.approx([4, 12])


def test_another_number_of_aspects_is_refused():
    with pytest.raises(InputError, match="2 anchor aspects, but 3"):
        make_anchors(replace(get_config("d0"), aspect_ratios=(1.0, 2.0)), 512, 512, PAIR_ASPECTS)
