"""Explanations on photographs with the trained D0, where the material is at hand."""

import json

import pytest

import compare

IDS = "5001,20992,25603"


@pytest.fixture
def coco(test_data, tmp_path):
    tiny, prefix = test_data / "coco_tiny", test_data / "checkpoints" / "efficientdet-d0"
    if not tiny.is_dir() or not prefix.exists():
        pytest.skip("the trained D0 or its images are not in the folder of test data")

    def call(change=None):
        path = tiny / "official_detections_numpy_soft_nms.json"
        wanted = {int(number) for number in IDS.split(",")}
        entries = [item for item in json.loads(path.read_text()) if item["image_id"] in wanted]
        if change is not None:
            entries = [change(dict(item)) for item in entries]
        brought = tmp_path / "results.json"
        brought.write_text(json.dumps(entries))
        arguments = ["coco", prefix, "--images", tiny / "val2017", "--image-ids", IDS]
        arguments += ["--annotations", tiny / "instances_val2017.json", "--out", tmp_path / "out"]
        arguments += ["--detections", brought, "--framework", "candidate", "--threads", 1]
        assert compare.main([str(item) for item in arguments]) == 0
        return json.loads((tmp_path / "out" / "coco.json").read_text())["explanation"]

    return call


def test_googles_own_detections_have_no_mistake(coco):
    """They are TensorFlow's; the pipeline that they are compared with is PyTorch's."""
    found = coco()
    assert found["complete"] and not found["steps"] and found["boxes"] == 300


@pytest.mark.heavy
def test_a_mistake_in_googles_own_detections_is_named(coco):
    def shifted(item):
        x, y, w, h = item["bbox"]
        return item | {"bbox": [x + w / 2, y + h / 2, w, h], "category_id": item["category_id"] - 1}

    found = coco(shifted)
    slugs = {step["mistake"]["slug"] for step in found["steps"]}
    assert slugs == {"written-centre", "zero-based"} and found["complete"]
