"""Photographs through the trained D0 as a model of ImageNet's and of AdvProp's normalisation."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from converter.conversion import convert
from converter.fetch.cached import CheckpointFiles
from torch_model.checkpoint import from_arrays
from torch_model.decode import read_image
from torch_model.detector import Detector
from torch_model.postprocess import postprocess, split_outputs
from torch_model.profiles import OFFICIAL, with_stages

IMAGES = (5001, 20992, 25603)
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def tiny(test_data):
    folder = test_data / "coco_tiny"
    if not folder.is_dir() or not (test_data / "checkpoints" / "efficientdet-d0").is_dir():
        pytest.skip("the trained D0 or its images are not in the folder of test data")
    return folder


@pytest.fixture(scope="module")
def conversion(tiny):
    (index,) = (tiny.parent / "checkpoints" / "efficientdet-d0").glob("*.index")
    prefix = index.with_suffix("")
    return convert(CheckpointFiles(prefix, str(prefix), None))


def model(conversion, **own):
    config = replace(conversion.config, **own)
    return from_arrays(config, conversion.arrays, source="the trained D0").eval()


def by_hand(image, kind, side=512):
    """The input in double precision, with PyTorch's resize, and the factor back to the image."""
    h, w = image.shape[:2]
    scale = np.float32(side) / np.float32(max(h, w))
    height, width = int(np.float32(h) * scale), int(np.float32(w) * scale)
    levels = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    size = (height, width)
    x = torch.nn.functional.interpolate(levels, size, mode="bilinear", align_corners=False)
    x = x[0].permute(1, 2, 0).numpy()
    pixels = np.full((side, side, 3), -1.0 if kind == "advprop" else 0.0)
    own = x / 127.5 - 1 if kind == "advprop" else (x / 255 - MEAN) / DEVIATION
    pixels[:height, :width] = own
    return pixels.astype(np.float32), np.float32(1) / scale


def detect_by_hand(detector, image, kind):
    pixels, scale = by_hand(image, kind)
    with torch.inference_mode():
        levels = detector.model(torch.from_numpy(pixels)[None].permute(0, 3, 1, 2))
    (outputs,) = split_outputs(*levels, detector.model.config.num_classes)
    return postprocess(outputs, detector.anchors, detector.size, scale, detector.around)


def shared(one, other):
    """How many of both sides' detections are the same, to a hundredth of a pixel."""
    near = np.abs(one.boxes[:, None] - other.boxes[None]).max(2) < 0.01
    near &= np.abs(one.scores[:, None] - other.scores[None]) < 1e-4
    return int((near & (one.classes[:, None] == other.classes[None])).any(1).sum())


def test_each_profile_finds_what_its_normalisation_does(tiny, conversion):
    network = model(conversion)
    detectors = {
        kind: Detector(network, with_stages(OFFICIAL, {"normalisation": kind}))
        for kind in ("imagenet", "advprop")
    }
    entries = json.loads((tiny / "official_detections_numpy_soft_nms.json").read_text())
    counts = {"imagenet": 0, "advprop": 0, "both": 0, "google": 0}
    for number in IMAGES:
        image = read_image(tiny / "val2017" / f"{number:012}.jpg", fast_dct=True)
        found = {kind: next(item.detect([image])) for kind, item in detectors.items()}
        for kind, detector in detectors.items():
            counts[kind] += shared(found[kind], detect_by_hand(detector, image, kind))
        counts["both"] += shared(found["imagenet"], found["advprop"])
        boxes = np.array([item["bbox"] for item in entries if item["image_id"] == number])
        ours = found["imagenet"].coco_boxes
        near = np.abs(ours[:, None] - boxes[None]).max(2) < 0.05
        counts["google"] += int(near.any(1).sum())
    # 100 of each image; of two candidates whose scores are tied either may be taken.
    assert counts["imagenet"] >= 298 and counts["google"] >= 298
    assert counts["advprop"] >= 298
    assert counts["both"] == 0


def test_the_model_says_which(tiny, conversion):
    """Without a stage being named; and the official export ignores the range."""
    image = read_image(tiny / "val2017" / f"{IMAGES[0]:012}.jpg", fast_dct=True)
    own = {"mean_rgb": (0.0,) * 3, "stddev_rgb": (1.0,) * 3, "scale_range": True}
    as_model = Detector(model(conversion, **own))
    named = Detector(model(conversion), with_stages(OFFICIAL, {"normalisation": "advprop"}))
    found, expected = (next(item.detect([image])) for item in (as_model, named))
    assert (found.boxes == expected.boxes).all() and (found.scores == expected.scores).all()
    exported = Detector(
        model(conversion, **own), with_stages(OFFICIAL, {"normalisation": "exported"})
    )
    pixels = exported.preprocess(image).pixels
    assert pixels.max() > 200 and as_model.preprocess(image).pixels.max() <= 1
