"""Preprocessing: Google's, bit for bit; each variant against TensorFlow; what is no image."""

from dataclasses import replace

import numpy as np
import pytest
import stage_cases

from efficientdet_spec import InputError, get_config
from torch_model.preprocess import (
    ADVPROP,
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
