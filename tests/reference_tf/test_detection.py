"""The TensorFlow side of detection: Google's values, and its own graph."""

import struct

import numpy as np
import pytest
import stage_cases
import tensorflow as tf
from made_images import waves

from efficientdet_spec import InputError, get_config
from reference_tf import detection, open_session

OFFICIAL = detection.OFFICIAL_STAGES


@pytest.fixture(scope="module")
def golden():
    return np.load(stage_cases.SAMPLED)


@pytest.mark.parametrize("name", stage_cases.MODELS)
def test_official_anchors_bit_for_bit(golden, name):
    config = get_config(name)
    anchors = detection.make_anchors(config, *config.image_size)
    assert len(anchors) == golden[f"anchors_{name}_n"]
    assert (anchors[golden[f"anchors_{name}_idx"]] == golden[f"anchors_{name}_val"]).all()


def test_anchors_of_sizes_that_no_stride_divides(golden):
    anchors = detection.make_anchors(get_config("d0"), 300, 210)
    assert (anchors[::20] == golden["anchors_300x210_d0"]).all()


@pytest.mark.parametrize("number", stage_cases.IMAGES)
def test_official_preprocessing_bit_for_bit(golden, number):
    image, size = stage_cases.image(golden, number)
    pixels, scale = detection.preprocess(tf.constant(image), get_config("d0"), (size, size))
    assert scale.numpy() == golden[f"pre{number}_scale"]
    values = pixels.numpy().reshape(-1)[golden[f"pre{number}_idx"]]
    assert (values == golden[f"pre{number}_val"]).all()
    height, width, _ = golden[f"leg{number}_shape"]
    stages = {**OFFICIAL, "resize": "legacy"}
    pixels, _ = detection.preprocess(tf.constant(image), get_config("d0"), (size, size), stages)
    values = pixels.numpy()[0, :height, :width].reshape(-1)[golden[f"leg{number}_idx"]]
    assert (values == golden[f"leg{number}_val"]).all()


def nhwc(config, levels):
    sizes = config.feature_sizes(*config.image_size).values()
    return [
        tf.constant(level.reshape(1, h, w, -1)) for level, (h, w) in zip(levels, sizes, strict=True)
    ]


@pytest.fixture(scope="module", params=[0, 1])
def case(request):
    config, logits, codes = stage_cases.outputs(request.param)
    return request.param, config, nhwc(config, logits), nhwc(config, codes)


@pytest.mark.parametrize("selection", stage_cases.SELECTIONS)
@pytest.mark.parametrize("suppression", stage_cases.SUPPRESSIONS)
def test_official_detections(golden, case, selection, suppression):
    number, config, classes, codes = case
    changes = stage_cases.SELECTIONS[selection] | stage_cases.SUPPRESSIONS[suppression]
    stages = {**OFFICIAL, **changes}
    scale = tf.constant(stage_cases.IMAGE_SCALE)
    found = detection.postprocess(classes, codes, config, config.image_size, scale, stages)
    boxes, scores, categories = stage_cases.golden_rows(golden, number, selection, suppression)
    assert (found.classes.numpy() + 1 == categories).all()
    # The same operations, but for fused multiplications that a build may use or not.
    np.testing.assert_allclose(found.boxes.numpy(), boxes, rtol=0, atol=2e-4)
    np.testing.assert_allclose(found.scores.numpy(), scores, rtol=0, atol=2e-7)


def test_a_graph_gives_what_eager_execution_gives(case):
    _, config, classes, codes = case
    image = waves(90, 150)
    for stages in (OFFICIAL, {**OFFICIAL, "nms": "tf-soft", "decode": "accurate-dct"}):
        data = tf.io.encode_jpeg(image).numpy()

        def stage(data, classes, codes, stages=stages):
            pixels, scale = detection.preprocess(
                detection.decode(data, stages), config, (64, 96), stages
            )
            size = config.image_size
            boxes = detection.postprocess(classes, codes, config, size, scale, stages)
            return pixels, boxes.boxes, boxes.scores, boxes.classes

        eager = [tensor.numpy() for tensor in stage(data, classes, codes)]
        with tf.Graph().as_default() as graph:
            encoded = tf.compat.v1.placeholder(tf.string, [])
            inputs = [[tf.constant(level.numpy()) for level in side] for side in (classes, codes)]
            outputs = stage(encoded, *inputs)
        with open_session(graph) as session:
            in_graph = session.run(outputs, {encoded: data})
        assert all((a == b).all() for a, b in zip(eager, in_graph, strict=True))


def test_hard_suppression_and_the_scope_of_it():
    boxes = tf.constant([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], tf.float32)
    candidates = detection.Boxes(boxes, tf.constant([0.9, 0.8, 0.7]), tf.constant([0, 1, 0]))
    for kind in ("hard", "tf-hard"):
        for scope, kept in (("per-class", [0.9, 0.8, 0.7]), ("global", [0.9, 0.7])):
            stages = {**OFFICIAL, "nms": kind, "scope": scope}
            found = detection.suppress(candidates, get_config("d0").with_classes(2), stages)
            assert found.scores.numpy() == pytest.approx(kept)


def test_both_sides_agree_on_every_variant():
    torch_side = pytest.importorskip("torch_model.postprocess")
    profiles = pytest.importorskip("torch_model.profiles")
    surroundings = pytest.importorskip("torch_model.surroundings")
    config, logits, codes = stage_cases.outputs(0)
    anchors = detection.make_anchors(config, *config.image_size)
    outputs = torch_side.Outputs(logits, codes)
    scale = stage_cases.IMAGE_SCALE
    for suppression in profiles.STAGES["nms"]:
        profile = profiles.with_stages(profiles.OFFICIAL, {"nms": suppression})
        around = surroundings.Surroundings.of(config, profile)
        ours = torch_side.postprocess(outputs, anchors, config.image_size, scale, around)
        theirs = detection.postprocess(
            nhwc(config, logits),
            nhwc(config, codes),
            config,
            config.image_size,
            scale,
            profile.stages(),
        )
        assert (ours.classes == theirs.classes.numpy()).all()
        np.testing.assert_allclose(ours.boxes, theirs.boxes.numpy(), rtol=0, atol=2e-4)


REFUSED = {
    "empty": (b"", r"image.jpg \(0 bytes\) is no JPEG, PNG or BMP image"),
    "text": (b"no image", r"image.jpg \(8 bytes\) is no JPEG"),
    "broken JPEG": (b"\xff\xd8\xff broken", "image.jpg is damaged .*no frame header"),
    "broken PNG": (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x05\0\0\0\x05 broken",
        "image.jpg is no image that TensorFlow decodes",
    ),
    "GIF": (b"GIF89a broken", "sequence of frames"),
    "58,900 bytes that stand for 1.4 GB": (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 22000, 22000) + bytes(58_000),
        "image.jpg is 22000x22000 pixels; give an image of at most",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_refused(tmp_path, name):
    content, message = REFUSED[name]
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        detection.read_image(path)
    with pytest.raises(InputError, match="missing.jpg cannot be read"):
        detection.read_image(tmp_path / "missing.jpg")


def test_a_file_is_read(tmp_path):
    path = tmp_path / "ü.png"
    path.write_bytes(tf.io.encode_png(waves(30, 40)).numpy())
    assert (detection.read_image(path).numpy() == waves(30, 40)).all()
