"""TensorFlow's stages follow the model: Google's values under every hyperparameter."""

from dataclasses import replace

import hparam_cases as golden
import numpy as np
import pytest
import tensorflow as tf

from reference_tf import detection

OFFICIAL = detection.OFFICIAL_STAGES
STAGES = {
    "global": {"selection": "model", "nms": "exported", "scope": "global", "clipping": "input"},
    "per_class": {"selection": "model", "nms": "model"},
    "numpy": {"selection": "model", "nms": "model"},
}


@pytest.mark.parametrize("name", sorted(golden.ANCHORS.keys() - set(golden.UNBUILT)))
def test_official_anchors_bit_for_bit(name):
    case = golden.ANCHORS[name]
    config, size = golden.anchor_config(case)
    anchors = detection.make_anchors(config, *size)
    assert len(anchors) == case["rows"]
    assert (anchors[case["idx"]] == np.array(case["val"], np.float32)).all()
    assert anchors.sum(0, dtype=np.float64).tolist() == case["sums"]


@pytest.mark.parametrize("name", golden.PREPROCESSING)
def test_official_pixels_bit_for_bit(name):
    case = golden.PREPROCESSING[name]
    config, image = golden.pixel_config(case), tf.constant(golden.picture(case))
    pixels, scale = detection.preprocess(image, config, case["size"])
    assert golden.same_pixels(pixels.numpy()[0], scale.numpy(), case)
    exported = {**OFFICIAL, "normalisation": "exported"}
    pixels, scale = detection.preprocess(image, config, case["size"], exported)
    assert golden.same_pixels(pixels.numpy()[0], scale.numpy(), case) is not config.scale_range


CASES = sorted(name for name, case in golden.POSTPROCESSING["cases"].items() if "error" not in case)


@pytest.mark.parametrize("name", CASES)
def test_official_detections(name):
    case, path = golden.POSTPROCESSING["cases"][name], name.rpartition("/")[2]
    own = golden.suppression(case["hparams"], path)
    config = replace(golden.suppression_config(), suppression=own)
    logits, codes, size = golden.outputs()
    shapes = config.feature_sizes(*size).values()
    classes, boxes = (
        [tf.constant(x.reshape(1, h, w, -1)) for x, (h, w) in zip(levels, shapes, strict=True)]
        for levels in (logits, codes)
    )
    scale = tf.constant(golden.POSTPROCESSING["image_scale"], tf.float32)
    stages = {**OFFICIAL, **STAGES[path]}
    found = detection.postprocess(classes, boxes, config, size, scale, stages)
    assert len(found.scores) == case["valid"]
    rows = np.array(case["rows"]).reshape(-1, 6)
    at = case["places"]
    assert (found.classes.numpy()[at] + 1 == rows[:, 5]).all()
    # The same operations, but for fused multiplications that a build may use or not.
    np.testing.assert_allclose(found.boxes.numpy()[at], rows[:, :4], rtol=0, atol=2e-4)
    np.testing.assert_allclose(found.scores.numpy()[at], rows[:, 4], rtol=0, atol=2e-7)
    assert found.scores.numpy().sum(dtype=np.float64) == pytest.approx(case["score_sum"], abs=1e-5)
