"""Detections that another program brings: taken as they are, or refused in one sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from efficientdet_spec import Cause, InputError
from parity.commands.detecting.brought_detection import _plain
from parity.detections.annotations import Annotations, CocoImage
from parity.detections.brought import MAX_DETECTIONS, _entries, read_results, rows_of_call

ANNOTATIONS = Annotations(
    Path("a.json"), [CocoImage(3, "3.jpg", 40, 30), CocoImage(5, "5.jpg", 40, 30)], {1: "one"}, None
)
GOOD = {"image_id": 3, "category_id": 1, "bbox": [1, 2.5, 3, 4], "score": 0.25}


@pytest.fixture
def read(tmp_path):
    def call(content):
        path = tmp_path / "results.json"
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        path.write_bytes(text)
        return read_results(path, ANNOTATIONS, [3, 5, 7])

    return call


def test_a_file_of_results(read):
    better = GOOD | {"score": 0.5, "category_id": 0}
    found = read([GOOD, better, GOOD | {"image_id": 7}])
    assert found[3].tolist() == [[1, 2.5, 3, 4, 0.5, 0], [1, 2.5, 3, 4, 0.25, 1]]
    assert found[5].shape == (0, 6) and set(found) == {3, 5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 4}, "image_id 4; expected an image of a.json"),
        ({"image_id": "3"}, "image_id '3'"),
        ({"image_id": True}, "image_id True"),
        ({"category_id": 1.5}, "category_id 1.5"),
        ({"category_id": 10**9}, "category_id 1000000000"),
        ({"bbox": [1, 2, 3]}, "expected \\[x, y, width, height\\] in pixels"),
        ({"bbox": [1, 2, 3, float("nan")]}, "nan"),
        ({"bbox": [1, 2, 3, 1e30]}, "1e\\+30"),
        ({"bbox": "x" * 5000}, "bbox 'xxx"),
        ({"score": 1.5}, "score 1.5; expected a number from 0 to 1"),
        ({"score": -0.1}, "score -0.1"),
        ({"score": None}, "score None"),
    ],
)
def test_entries_that_are_refused(read, change, message):
    with pytest.raises(InputError, match=message) as caught:
        read([GOOD, GOOD | change])
    assert "entry [1]" in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        ({"annotations": []}, "holds no JSON list, but dict"),
        ([], "has 0 detections, but none of the 2 images"),
        ([GOOD | {"image_id": 7}], "has 1 detections, but none of the 2 images"),
        ([7], "entry \\[0\\] has 7"),
        ([GOOD] * (MAX_DETECTIONS + 1), f"more than {MAX_DETECTIONS} detections of image 3"),
    ],
)
def test_files_that_are_refused(read, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read(content)
    assert len(str(caught.value)) < 1000


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="is no file; give a list of") as caught:
        read_results(tmp_path, ANNOTATIONS, [])
    assert caught.value.cause is Cause.FILE


# Functions


def called(found, count=2):
    return [rows.tolist() for rows in rows_of_call(found, count, "port.py:detect", lambda x: x)]


BOXES = [np.array([[1.0, 2, 4, 8], [0, 0, 2, 2]]), np.zeros((0, 4))]
SCORES, CLASSES = [np.array([0.25, 0.5]), np.zeros(0)], [[1, 2], []]
EXPECTED = [[[0, 0, 2, 2, 0.5, 2], [1, 2, 3, 6, 0.25, 1]], []]


def test_what_a_function_returns():
    assert called((BOXES, SCORES, CLASSES)) == EXPECTED
    entries = [
        {"boxes": boxes, "scores": scores, name: classes}
        for boxes, scores, classes, name in zip(
            BOXES, SCORES, CLASSES, ("labels", "classes"), strict=True
        )
    ]
    assert called(entries) == EXPECTED
    stacked = np.stack([BOXES[0]] * 2), np.stack([SCORES[0]] * 2), np.array([CLASSES[0]] * 2)
    assert called(stacked) == [EXPECTED[0]] * 2


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "returns NoneType, but detect\\(paths\\) returns"),
        ((BOXES, SCORES), "returns tuple"),
        ((BOXES[:1], SCORES, CLASSES), "1 entries, 2 entries, 2 entries\\) for 2 images"),
        ((BOXES, CLASSES, [[1], []]), "boxes \\[2, 4\\], scores \\[2\\], classes \\[1\\]"),
        ((BOXES, [[0.5, np.nan], []], CLASSES), "numbers that are not finite"),
        ((BOXES, [[0.5, 1.5], []], CLASSES), "scores that are not from 0 to 1"),
        ((BOXES, SCORES, [[1, 2.5], []]), "classes that are no whole numbers"),
        ((["a", "b"], SCORES, CLASSES), "arrays of <U1, .* not all of real numbers"),
        (([[["1"] * 4] * 2, []], SCORES, CLASSES), "not all of real numbers"),
        (([np.ones((2, 4), complex), []], SCORES, CLASSES), "arrays of complex128"),
        ((BOXES, [[True, False], []], CLASSES), "float64, bool, int64"),
        (([np.zeros((2, 5)), []], SCORES, CLASSES), "boxes \\[2, 5\\]"),
    ],
)
def test_what_is_refused(found, message):
    with pytest.raises(InputError, match=message) as caught:
        called(found)
    assert caught.value.cause is Cause.CANDIDATE and len(str(caught.value)) < 1000


def test_an_object_with_a_key_twice_is_refused(tmp_path):
    """Of two scores it would not be known which is meant."""
    path = tmp_path / "twice.json"
    path.write_text(
        '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5, "score": 0.6}]'
    )
    with pytest.raises(InputError, match="an object has a key twice"):
        _entries(path)


def test_types_of_pytorch_that_numpy_lacks_are_taken():
    value = torch.tensor([0.5, 0.25], dtype=torch.bfloat16)
    assert _plain(value).tolist() == [0.5, 0.25]
    assert _plain("no tensor") == "no tensor"
