"""Input images: the built-in one, files, and what is no image."""

import numpy as np
import pytest
from made_images import built_in

from efficientdet_spec import InputError
from parity.images import image_files
from torch_model.preprocess import normalise, preprocess, resize_bilinear


def test_the_built_in_image_gives_every_part_something_to_do():
    image = built_in(96, 128)
    assert image.shape == (96, 128, 3) and image.dtype == np.uint8
    assert (image == built_in(96, 128)).all()
    assert (image != built_in(96, 128, seed=1)).any()
    assert len(np.unique(image)) > 200
    assert all(len(np.unique(image[..., channel], axis=0)) == 96 for channel in range(3))


def test_preprocessing_equals_tensorflows_bit_for_bit():
    tf = pytest.importorskip("tensorflow")
    image = built_in(123, 77)
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
