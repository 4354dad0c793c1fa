"""Input images: generated ones, files, and what is no image."""

import numpy as np
import pytest
from made_images import waves

from efficientdet_spec import InputError
from parity.detections.images import (
    high_amplitude,
    image_files,
    photograph_like,
    told_of_hidden,
)
from torch_model.preprocess import normalise, preprocess, resize_bilinear

GENERATED = [photograph_like, high_amplitude]


@pytest.mark.parametrize("size", [(96, 128), (51, 65), (1, 3), (130, 1)])
@pytest.mark.parametrize("generate", GENERATED)
def test_generated_images_are_reproducible_and_of_any_size(generate, size):
    image = generate(*size)
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    assert (image == generate(*size, seed=0)).all()


@pytest.mark.parametrize("size", [(96, 128), (51, 65)])
@pytest.mark.parametrize("generate", GENERATED)
def test_each_seed_gives_another_image(generate, size):
    images = [generate(*size, seed) for seed in range(4)]
    for number, image in enumerate(images):
        for other in images[:number]:
            assert (image != other).mean() > 0.3


@pytest.mark.parametrize("size", [(96, 128), (51, 65)])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("generate", GENERATED)
def test_no_two_channels_are_alike(generate, seed, size):
    # A network that swaps two of them must show it.
    image = generate(*size, seed)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (image[..., one] != image[..., other]).mean() > 0.1


@pytest.mark.parametrize("size", [(96, 128), (51, 65)])
@pytest.mark.parametrize("seed", range(3))
def test_high_amplitude_means_extremes_in_every_channel(seed, size):
    image = high_amplitude(*size, seed)
    for channel in range(3):
        values, counts = np.unique(image[..., channel], return_counts=True)
        assert values.tolist() == [0, 255]
        assert counts.min() > 0.1 * counts.sum()


def test_a_photograph_like_image_has_areas_and_edges_and_all_levels():
    image = photograph_like(256, 256).astype(float)
    assert all(len(np.unique(image[..., channel])) > 250 for channel in range(3))
    steps = np.abs(np.diff(image, axis=1)).ravel()
    # Most neighbours are alike and some are not, which the deviation alone does not say: of
    # normally distributed steps of this deviation only 0.3 % would be three times as large.
    assert np.median(steps) < 0.5 * steps.std()
    assert (steps > 3 * steps.std()).mean() > 0.01


def spectral_slope(image):
    """The exponent of the frequency in an image's power spectrum, a mean over its channels.

    From 4 periods an image up to 0.4 periods a pixel, under a Hann window, which keeps the border
    from adding an edge of its own.
    """
    height, width, channels = image.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    edges = np.geomspace(4 / min(height, width), 0.4, 9)
    bands = list(zip(edges[:-1], edges[1:], strict=True))
    slopes = []
    for channel in range(channels):
        plane = image[..., channel].astype(float)
        power = np.abs(np.fft.fft2((plane - plane.mean()) * window)) ** 2
        powers = [power[(low <= frequency) & (frequency < high)].mean() for low, high in bands]
        centres = [np.sqrt(low * high) for low, high in bands]
        slopes.append(np.polyfit(np.log(centres), np.log(powers), 1)[0])
    return np.mean(slopes)


@pytest.mark.parametrize("seed", range(3))
def test_a_photograph_like_image_has_the_spectrum_of_photographs(seed):
    """Power falls with the frequency squared, as in natural scenes (Field, JOSA A 4, 1987).

    Measured at this size: -1.9 to -2.0 for the image; -2.0 to -3.3 for twelve photographs of COCO,
    which the decoder of JPEG smooths. White noise has 0, and what is smoothed over a few pixels
    falls faster than any photograph: the limits lie between.
    """
    rng = np.random.default_rng(seed)
    image = photograph_like(256, 256, seed)
    assert -2.6 < spectral_slope(image) < -1.6
    noise = rng.integers(0, 256, image.shape).astype(np.uint8)
    assert abs(spectral_slope(noise)) < 0.3
    smooth = np.mean([np.roll(image, (y, x), (0, 1)) for y in range(9) for x in range(9)], axis=0)
    assert spectral_slope(smooth) < -3


def test_preprocessing_equals_tensorflows_bit_for_bit():
    tf = pytest.importorskip("tensorflow")
    image = waves(123, 77)
    for height, width in ((256, 256), (64, 200), (50, 31)):
        scale = min(np.float32(height) / np.float32(123), np.float32(width) / np.float32(77))
        size = (int(np.float32(123) * scale), int(np.float32(77) * scale))
        expected = tf.image.resize(normalise(image), size, antialias=False).numpy()
        assert (resize_bilinear(normalise(image), *size) == expected).all()
        padded = preprocess(image, height, width)
        assert padded.shape == (height, width, 3)
        assert (padded[: size[0], : size[1]] == expected).all()
        assert not padded[size[0] :].any() and not padded[:, size[1] :].any()


def test_official_preprocessing_is_reproduced(test_data):
    golden = np.load(test_data / "golden" / "pre_post.npz")
    cases = sorted(name[:-4] for name in golden.files if name.startswith("pre") and "_hws" in name)
    assert cases
    for number, case in enumerate(cases):
        height, width, size = golden[f"{case}_hws"]
        y, x = np.mgrid[0:height, 0:width]
        base = 127 + 80 * np.sin(x / 17 + number) + 40 * np.cos(y / 9)
        noise = np.random.default_rng(number).normal(0, 25, (height, width, 3))
        image = np.clip(base[..., None] + noise, 0, 255).astype(np.uint8)
        result = preprocess(image, size, size).reshape(-1)
        values = next(name for name in golden.files if name.startswith(f"{case}_val"))
        assert (result[golden[f"{case}_idx"]] == golden[values]).all()


def test_a_folder_means_its_images(tmp_path):
    for name in ["b.JPG", "a.png", "c.jpeg", "d.bmp", "notes.txt", "e.gif", "ü.jpg"]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "f.png").mkdir()
    found = [path.name for path in image_files(tmp_path)]
    assert found == ["a.png", "b.JPG", "c.jpeg", "d.bmp", "ü.jpg"]


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match="has no image, only 1 other"):
        image_files(tmp_path)
    with pytest.raises(InputError, match="missing cannot be read"):
        image_files(tmp_path / "missing")


def test_hidden_files_are_no_images(tmp_path):
    """macOS leaves ``._photo.jpg`` beside ``photo.jpg``, and Windows ``Thumbs.db``."""
    (tmp_path / "photo.JPG").touch()
    assert told_of_hidden([tmp_path]) == []
    for name in ("._photo.jpg", ".hidden.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / name).touch()
    (tmp_path / "__MACOSX.jpg").mkdir()
    assert image_files(tmp_path) == [tmp_path / "photo.JPG"]
    (told,) = told_of_hidden([tmp_path])
    assert told.startswith(f"{tmp_path}: 2 hidden files that are called like an image")
    (tmp_path / "photo.JPG").unlink()
    with pytest.raises(InputError, match="has no image, only 6 other entries"):
        image_files(tmp_path)
