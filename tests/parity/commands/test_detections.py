"""``coco --detections``: another program's detections, as a file or as a function."""

import json

import cv2
import pytest
from made_images import waves

import compare

SIZES = {3: (90, 150), 7: (128, 128), 9: (200, 120)}

FUNCTION = """
import json
from pathlib import Path

FOUND = json.loads((Path(__file__).parent / "own.json").read_text())

def detect(paths):
    boxes, scores, classes = [], [], []
    for path in paths:
        own = [item for item in FOUND if item["image_id"] == int(Path(path).stem)]
        corners = [item["bbox"] for item in own]
        boxes.append([[x, y, x + w, y + h] for x, y, w, h in corners])
        scores.append([item["score"] for item in own])
        classes.append([item["category_id"] for item in own])
    return boxes, scores, classes

def wrong(paths):
    return [1 / 0 for path in paths]
"""


@pytest.fixture(scope="module")
def dataset(tiny_checkpoint, tmp_path_factory):
    """Images, what the faithful pipeline finds in them, and a function that finds the same."""
    folder = tmp_path_factory.mktemp("dataset")
    for number, (height, width) in SIZES.items():
        assert cv2.imwrite(str(folder / f"{number}.jpg"), waves(height, width, number)[..., ::-1])
    values = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": w, "height": h}
            for number, (h, w) in SIZES.items()
        ],
        "categories": [{"id": number, "name": str(number)} for number in range(1, 8)],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 1, "bbox": [5, 5, 40, 30], "iscrowd": 0}
        ],
    }
    (folder / "a.json").write_text(json.dumps(values))
    arguments = ["coco", tiny_checkpoint, "--images", folder, "--annotations", folder / "a.json"]
    arguments += ["--threads", 1, "--out"]
    own = [*arguments, folder / "faithful", "--framework", "torch"]
    assert compare.main([str(item) for item in own]) == 0
    text = (folder / "faithful" / "detections_torch.json").read_text()
    (folder / "own.json").write_text(text)
    (folder / "port.py").write_text(FUNCTION)
    return folder, arguments


@pytest.fixture
def coco(dataset, tmp_path):
    def call(detections, *options):
        arguments = [*dataset[1], tmp_path / "out", "--framework", "candidate"]
        arguments += ["--detections", detections, *options]
        code = compare.main([str(item) for item in arguments])
        path = tmp_path / "out" / "coco.json"
        return code, json.loads(path.read_text()) if path.exists() else {}

    return call


@pytest.mark.parametrize("detections", ["own.json", "port.py:detect"])
def test_faithful_detections_are_equal(coco, dataset, capsys, detections):
    code, result = coco(dataset[0] / detections)
    found = result["explanation"]
    assert code == 0 and found["complete"] and not found["steps"] and found["boxes"] == 300
    assert result["candidate"].endswith(detections)
    assert "all 300 boxes equal the faithful pipeline's" in capsys.readouterr().out


def test_mistakes_are_named(coco, dataset, tmp_path, capsys):
    """Corners written as sides, and classes from 0."""
    entries = json.loads((dataset[0] / "own.json").read_text())
    for item in entries:
        x, y, w, h = item["bbox"]
        item["bbox"], item["category_id"] = [x, y, x + w, y + h], item["category_id"] - 1
    path = tmp_path / "results.json"
    path.write_text(json.dumps(entries))
    _, result = coco(path)
    steps = result["explanation"]["steps"]
    assert {step["mistake"]["slug"] for step in steps} == {"written-xyxy", "zero-based"}
    assert result["explanation"]["complete"] and steps[-1]["equal"] == 300
    out = capsys.readouterr().out
    assert "boxes written as x1, y1, x2, y2 instead of x, y, width, height" in out
    assert "nothing is left unexplained" in out


def test_no_explanation(coco, dataset):
    code, result = coco(dataset[0] / "own.json", "--no-explanation")
    assert code == 0 and result["explanation"] is None


@pytest.mark.parametrize(
    ("detections", "options", "message"),
    [
        ("none.json", (), "is no file; give a JSON file"),
        ("port.py", (), "it is not said which of its functions detects"),
        ("port.py:nothing", (), "has no function 'nothing'"),
        ("a.json", (), "holds no JSON list, but dict"),
        ("own.json", ("--stage-swap",), "leave --stage-swap or these out"),
        ("own.json", ("--candidate", "x.pth"), "--candidate and --detections are both given"),
    ],
)
def test_what_is_refused(coco, dataset, capsys, detections, options, message):
    code, result = coco(dataset[0] / detections, *options)
    assert code == 2 and result["schema"] == "efficientdet-parity/failure"
    said = capsys.readouterr().err
    assert message in " ".join(said.split()) and len(said) < 1500


def test_a_function_that_fails(coco, dataset):
    """Nothing was compared, and the first reason says why."""
    code, result = coco(dataset[0] / "port.py:wrong")
    told = str(result)
    assert code == 2 and "ZeroDivisionError" in told and "port.py:18" in told
    assert "So it does on all 3 images." in told
