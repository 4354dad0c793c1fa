"""From files and arrays to boxes; every stage of a profile is used."""

import cv2
import numpy as np
import pytest
import simplejpeg
import torch

from efficientdet_spec import InputError
from parity.images import built_in
from torch_model.checkpoint import load
from torch_model.detector import Detector
from torch_model.profiles import OFFICIAL, STAGES, get_profile, with_stages


@pytest.fixture(scope="module")
def model(tiny_pth):
    return load(tiny_pth)


def same(one, other):
    return one.boxes.shape == other.boxes.shape and all(
        (getattr(one, name) == getattr(other, name)).all()
        for name in ("boxes", "scores", "classes")
    )


def detect(model, profile, images, **options):
    return list(Detector(model, profile, **options).detect(images))


def test_files_bytes_and_arrays_give_the_same(model, tmp_path):
    image = built_in(90, 150)
    data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    path = tmp_path / "ü.png"
    path.write_bytes(data)
    found = detect(model, OFFICIAL, [image, data, path, str(path)])
    assert len(found) == 4 and len(found[0].scores) == 100
    assert all(same(found[0], other) for other in found[1:])
    assert (np.diff(found[0].scores) <= 0).all()


def test_images_of_a_batch_do_not_mix(model):
    images = [built_in(90, 150), built_in(200, 60, seed=3), built_in(128, 128, seed=5)]
    singly = list(Detector(model).detect(images))
    together = list(Detector(model).detect(images, batch=2))
    assert len(together) == 3
    for one, other in zip(singly, together, strict=True):
        # Batches may be summed in another order.
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    assert not same(singly[0], singly[1])


def test_boxes_are_in_pixels_of_the_original(model):
    # A factor of 2 in the image is one in the boxes where the input is the same.
    image = built_in(128, 128)
    large = np.repeat(np.repeat(image, 2, 0), 2, 1)
    small, double = detect(model, OFFICIAL, [image, large])
    assert Detector(model).preprocess(large).scale == 2
    np.testing.assert_allclose(double.boxes[:5], 2 * small.boxes[:5], rtol=0.05, atol=8)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_changes_the_result(model, stage):
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(built_in(90, 150)), 80)
    expected = detect(model, OFFICIAL, [data])[0]
    for variant in STAGES[stage]:
        if variant != OFFICIAL.stages()[stage]:
            profile = with_stages(OFFICIAL, {stage: variant})
            found = detect(model, profile, [data])[0]
            assert not same(found, expected), variant
            assert found.profile == profile


def test_clipping_ends_at_the_networks_input(model):
    image = built_in(90, 150)
    found = detect(model, get_profile("interactive"), [image])[0]
    side = 128 * np.float32(150 / 128)
    assert found.boxes.min() == 0 and found.boxes.max() <= side


def test_another_size(model):
    detector = Detector(model, size=(128, 256))
    assert detector.preprocess(built_in(50, 50)).pixels.shape == (128, 256, 3)
    assert len(list(detector.detect([built_in(50, 50)]))) == 1
    with pytest.raises(InputError, match="cannot process"):
        Detector(model, size=(16, 256))


def test_the_network_runs_where_it_is_told(model):
    assert Detector(model, device="cpu").device == torch.device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="cannot run on device 'cuda'"):
            Detector(model, device="cuda")
    with pytest.raises(InputError, match="cannot run on device 'gpu'"):
        Detector(model, device="gpu")


def test_mistakes(model, tmp_path):
    with pytest.raises(InputError, match="missing.png cannot be read"):
        detect(model, OFFICIAL, [tmp_path / "missing.png"])
    with pytest.raises(InputError, match="uint8"):
        detect(model, OFFICIAL, [np.zeros((4, 4), np.uint8)])
    with pytest.raises(InputError, match="batch of 0"):
        list(Detector(model).detect([], batch=0))
    assert detect(model, OFFICIAL, []) == []
