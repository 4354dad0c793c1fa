"""Preprocessing: Google's, bit for bit; each variant against TensorFlow; what is no image."""

from dataclasses import replace

import numpy as np
import plain_stages
import pytest
import stage_cases

from efficientdet_spec import InputError, get_config
from torch_model import preprocess as stage
from torch_model.preprocess import (
    ADVPROP,
    IMAGENET,
    normalise,
    preprocess,
    preprocess_with_scale,
    resize_bilinear,
)
from torch_model.profiles import OFFICIAL, STAGES, with_stages
from torch_model.surroundings import Surroundings


@pytest.fixture(scope="module")
def golden():
    return np.load(stage_cases.SAMPLED)


def check(golden, number):
    image, size = stage_cases.image(golden, number)
    result = preprocess_with_scale(image, size, size)
    values = result.pixels.reshape(-1)[golden[f"pre{number}_idx"]]
    assert (values == golden[f"pre{number}_val"]).all()
    assert result.scale == golden[f"pre{number}_scale"]
    assert (preprocess(image, size, size) == result.pixels).all()

    height, width, _ = golden[f"leg{number}_shape"]
    legacy = resize_bilinear(normalise(image), height, width, half_pixel=False)
    values = legacy.reshape(-1)[golden[f"leg{number}_idx"]]
    assert (values == golden[f"leg{number}_val"]).all()
    padded = preprocess_with_scale(image, size, size, half_pixel=False).pixels
    assert (padded[:height, :width] == legacy).all()
    return result.pixels, padded


@pytest.mark.parametrize("number", stage_cases.IMAGES)
def test_official_values_bit_for_bit(golden, number):
    check(golden, number)


def test_all_official_values(test_data):
    golden = np.load(test_data / "golden" / "pre_post.npz")
    for number in stage_cases.IMAGES:
        check(golden, number)


def test_the_two_resizes_differ(golden):
    half_pixel, legacy = check(golden, 0)
    assert np.abs(half_pixel - legacy).max() > 0.1


@pytest.mark.parametrize("shape", [(200, 320), (1, 1), (3, 150), (7, 5), (999, 40)])
@pytest.mark.parametrize("normalisation", STAGES["normalisation"])
@pytest.mark.parametrize("half_pixel", [False, True])
def test_every_variant_equals_tensorflows(shape, normalisation, half_pixel):
    detection = pytest.importorskip("reference_tf.detection")
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    stages = {
        "normalisation": normalisation,
        "resize": "half-pixel" if half_pixel else "legacy",
    }
    config = replace(
        get_config("d0"),
        mean_rgb=(120.5, 117.25, 1.0),
        stddev_rgb=(61.5, 3.0, 7.0),
        scale_range=True,
    )
    expected, scale = detection.preprocess(image, config, (64, 96), stages)
    how = Surroundings.of(config, with_stages(OFFICIAL, stages)).normalisation
    result = preprocess_with_scale(image, 64, 96, half_pixel=half_pixel, normalisation=how)
    assert (result.pixels == expected[0].numpy()).all()
    assert result.scale == scale.numpy()


SHAPES = [(480, 640), (65, 63), (64, 64), (300, 40), (5, 200), (129, 400), (1, 1), (257, 128)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("half_pixel", [False, True])
def test_rows_at_a_time_change_nothing(shape, half_pixel, monkeypatch):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    how = IMAGENET.mean_rgb, IMAGENET.stddev_rgb
    for height, width in ((64, 64), (97, 50)):
        expected = plain_stages.preprocess(image, height, width, half_pixel, *how)
        for rows in (1, 7, stage._ROWS_AT_A_TIME, 1000):
            monkeypatch.setattr(stage, "_ROWS_AT_A_TIME", rows)
            found = preprocess_with_scale(image, height, width, half_pixel=half_pixel).pixels
            assert found.tobytes() == expected.tobytes()


def test_resizing_takes_any_channels_and_leaves_its_input():
    image = np.random.default_rng(2).standard_normal((50, 70, 5)).astype(np.float32)
    before = image.copy()
    found = resize_bilinear(image, 33, 90)
    for channel in range(5):
        assert (
            found[..., channel]
            == resize_bilinear(image[..., channel : channel + 1], 33, 90)[..., 0]
        ).all()
    assert (image == before).all()


def test_advprop_pads_with_minus_one():
    white = np.full((2, 4, 3), 255, np.uint8)
    pixels = preprocess_with_scale(white, 4, 4, normalisation=ADVPROP).pixels
    assert (pixels[:2] == 1).all() and (pixels[2:] == -1).all()


def test_an_image_that_shrinks_to_nothing_is_refused_as_in_the_official_code():
    with pytest.raises(InputError, match="5000x1 pixels.*leaves nothing of the shorter side"):
        preprocess(np.zeros((1, 5000, 3), np.uint8), 64, 64)
    assert preprocess(np.zeros((1, 64, 3), np.uint8), 64, 64)[0].all()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(InputError, match="uint8 \\[h, w, 3\\]"):
        preprocess(image, 64, 64)
