"""Pictures: three panels, and in the third only what differs."""

import importlib.util

import cv2
import numpy as np
import pytest
from handmade import written
from made_images import waves

import compare
from efficientdet_spec import InputError
from parity.detections import drawing
from parity.detections.drawing import differing, label_of, side_by_side, write_png
from parity.detections.matching import match_image
from parity.settings.coco import FRAMEWORKS

INSTALLED = importlib.util.find_spec("tensorflow") is not None
needs_tensorflow = pytest.mark.skipif(not INSTALLED, reason="TensorFlow is not installed")

NAMES = {1: "person", 2: "Ärmel"}
ONE = [10, 30, 100, 50, 0.9, 1]
FAINT = [150, 30, 40, 40, 0.1, 2]
TENSORFLOW, TORCH = (255, 140, 0), (0, 130, 255)


def rows(*entries):
    return np.array(entries, float).reshape(-1, 6)


def panels(picture):
    return np.split(picture, 3, axis=1)


def lone(one, other, min_score, anchor=0.0):
    """How many detections of each side differ visibly."""
    found = match_image(0, one, other, anchor)
    return [len(side) for side in differing(found, one, other, min_score)]


def has(panel, colour):
    return bool((panel == colour).all(axis=-1).any())


def test_equal_sides_leave_the_third_panel_empty():
    image = np.zeros((120, 220, 3), np.uint8)
    left, middle, right = panels(side_by_side(image, rows(ONE), rows(ONE), NAMES))
    # As wide as the longest title.
    assert left.shape == (144, 380, 3)
    assert has(left, TENSORFLOW) and has(middle, TORCH)
    assert not right[24:].any()
    assert not image.any()


def test_a_difference_is_in_the_third_panel():
    image = np.zeros((120, 220, 3), np.uint8)
    _, _, right = panels(side_by_side(image, rows(ONE), rows([60, 30, 100, 50, 0.9, 1]), NAMES))
    assert has(right, TENSORFLOW) and has(right, TORCH)
    _, _, right = panels(side_by_side(image, rows(), rows(ONE), NAMES))
    assert not has(right, TENSORFLOW) and has(right, TORCH)


@pytest.mark.parametrize(
    ("other", "count"),
    [
        ([10.4, 30, 100, 50, 0.9, 1], 0),
        ([10, 30, 100.4, 50, 0.9, 1], 0),
        ([11, 30, 100, 50, 0.9, 1], 1),
        ([10, 30, 101, 50, 0.9, 1], 1),
        ([10, 30, 100, 50, 0.899, 1], 0),
        ([10, 30, 100, 50, 0.88, 1], 1),
        ([10, 30, 100, 50, 0.9, 2], 1),
    ],
)
def test_what_differs_visibly(other, count):
    assert lone(rows(ONE), rows(other), 0.3) == [count, count]


def test_a_large_box_may_move_by_more_pixels():
    """An error of the code moves an edge by its multiple of the box; of 1.5e4 pixels that is 4."""
    huge, moved = [-7e3, 10, 1.5e4, 40, 0.9, 1], [-7004, 10, 1.5e4, 40, 0.9, 1]
    assert lone(rows(huge), rows(moved), 0.3) == [0, 0]
    assert lone(rows(huge), rows([-7010, *huge[1:]]), 0.3) == [1, 1]
    assert lone(rows(ONE), rows([14, *ONE[1:]]), 0.3) == [1, 1]


def test_low_scores_are_left_out():
    assert lone(rows(ONE, FAINT), rows(ONE), 0.3) == [0, 0]
    assert lone(rows(ONE, FAINT), rows(ONE), 0.05) == [1, 0]
    # Just below on one side is no difference.
    one, other = rows([*ONE[:4], 0.3001, 1]), rows([*ONE[:4], 0.2999, 1])
    assert lone(one, other, 0.3) == [0, 0]


def test_any_size_of_image_and_any_box():
    wild = rows([-1e9, -1e9, 1e10, 1e10, 0.9, 1], [5, 5, 0, 0, 0.5, 77])
    for shape in ((1, 1), (1, 900), (900, 1), (2000, 1000)):
        picture = side_by_side(np.zeros((*shape, 3), np.uint8), wild, rows(), NAMES)
        assert picture.shape[1] % 3 == 0 and max(picture.shape) <= 3 * 800
        assert min(panels(picture)[0].shape[:2]) >= 24


CROWD = [[20 + 6 * place, 40 + 3 * place, 160, 90, 0.99 - 0.01 * place, 1] for place in range(9)]


def test_labels_do_not_overlap(monkeypatch):
    """Each place that is found is free of all the earlier ones, near the image's edges too."""
    found = []
    original = drawing.free_place

    def watched(taken, box, size):
        place = original(taken, box, size)
        if place is not None:
            (x, y), (wide, tall) = place, size
            assert not taken[y : y + tall, x : x + wide].any()
            assert 0 <= x <= taken.shape[1] - wide and 0 <= y <= taken.shape[0] - tall
            found.append(place)
        return place

    monkeypatch.setattr(drawing, "free_place", watched)
    edges = [[-30, -20, 60, 50, 0.8, 2], [350, 180, 90, 90, 0.8, 2], [350, 181, 90, 90, 0.7, 2]]
    side_by_side(np.zeros((200, 400, 3), np.uint8), rows(*CROWD, *edges), rows(), NAMES)
    assert len(found) >= len(CROWD) + len(edges)


def test_a_label_without_room_is_left_out():
    taken = np.ones((100, 100), bool)
    assert drawing.free_place(taken, ((10, 10), (60, 60)), (30, 12)) is None
    taken[60:, 40:] = False
    assert drawing.free_place(taken, ((10, 10), (60, 60)), (30, 12)) is None
    taken[48:, 10:] = False
    assert drawing.free_place(taken, ((10, 10), (60, 60)), (30, 12)) == (10, 51)
    assert drawing.free_place(taken, ((0, 0), (9, 9)), (101, 12)) is None


def test_titles_state_the_threshold_and_what_is_unlabelled(monkeypatch):
    titles = []
    write = cv2.putText
    monkeypatch.setattr(cv2, "putText", lambda *all: (titles.append(all[1]), write(*all))[1])
    crowd = rows(*(CROWD * 4))
    side_by_side(np.zeros((120, 220, 3), np.uint8), crowd, rows(ONE), NAMES, min_score=0.35)
    (first,) = [title for title in titles if title.startswith("TensorFlow")]
    assert first.startswith("TensorFlow: 36 with score >= 0.35, ") and "unlabelled" in first
    assert "PyTorch: 1 with score >= 0.35" in titles


def test_the_longest_title_is_whole():
    title = "TensorFlow: 100 with score >= 0.05, 100 unlabelled"
    (wide, _), _ = cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    assert wide + 6 <= drawing._TITLE


def test_labels_are_what_opencv_can_draw():
    assert label_of(1, 0.876, NAMES) == "person 0.88"
    assert label_of(2, 0.5, NAMES) == "?rmel 0.50"
    assert label_of(9, 0.5, NAMES) == "class 9 0.50"


def test_a_file_that_cannot_be_written(tmp_path):
    picture = waves(10, 20)
    write_png(tmp_path / "a.png", picture)
    assert (cv2.imread(str(tmp_path / "a.png"))[..., ::-1] == picture).all()
    with pytest.raises(InputError, match="cannot be written"):
        write_png(tmp_path / "none" / "a.png", picture)
    (tmp_path / "b.png").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_png(tmp_path / "b.png", picture)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.fixture
def detect(tiny_checkpoint, tmp_path):
    """Runs ``compare.py detect``; exit code and result."""

    def call(*arguments):
        out = tmp_path / "out"
        fixed = ["--out", out, "--threads", 1]
        code = compare.main([*map(str, ["detect", tiny_checkpoint, *arguments, *fixed])])
        path = out / "detect.json"
        return code, written(path) if path.exists() else None

    return call


@needs_tensorflow
def test_the_command_draws_each_image(detect, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "x.png"), waves(90, 150))
    (tmp_path / "a" / "notes.txt").write_text("A folder may hold other files.")
    (tmp_path / "a" / "._x.png").write_bytes(b"\0\5\x16\7")
    code, result = detect(tmp_path / "a", tmp_path / "b" / "x.png", "--min-score", 0)
    assert code == 0 and result["passes"] and result["outcome"] == "parity"
    assert result["version"] == 2 and result["compared"] == {
        "images": 2,
        "failed": 0,
        "detections": {"tensorflow": 200, "torch": 200},
        "matched": 200,
    }
    assert [item["picture"] for item in result["images"]] == ["x.png", "x_2.png"]
    assert all(len(item["detections"]["torch"]) == 100 for item in result["images"])
    assert cv2.imread(str(tmp_path / "out" / "x_2.png")).shape == (114, 1140, 3)
    (note,) = result["notes"]
    assert "1 hidden file that is called like an image, with a dot in front, left out" in note
    printed = capsys.readouterr().out
    assert "matched" in printed and note in printed


@needs_tensorflow
def test_nothing_detected_is_no_parity(detect, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "x.png"), waves(90, 150))
    code, result = detect(tmp_path / "x.png", "--min-score", 1)
    assert code == 3 and not result["passes"] and result["outcome"] == "not shown"
    assert capsys.readouterr().out.splitlines()[-1].startswith("not shown: nothing was detected")


@needs_tensorflow
def test_what_differs_visibly_is_a_difference(detect, tmp_path, monkeypatch):
    import torch_model.postprocess

    sigmoid = torch_model.postprocess.sigmoid
    monkeypatch.setattr(torch_model.postprocess, "sigmoid", lambda logits: sigmoid(logits) * 0.9)
    cv2.imwrite(str(tmp_path / "x.png"), waves(90, 150))
    code, result = detect(tmp_path / "x.png", "--min-score", 0)
    assert code == 1 and result["outcome"] == "difference"


@needs_tensorflow
def test_an_image_that_cannot_be_read_is_named(detect, tmp_path, capsys):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    cv2.imwrite(str(good), waves(90, 150))
    bad.write_bytes(b"no image")
    code, result = detect(bad, good)
    assert code == 3 and not result["passes"] and result["outcome"] == "not shown"
    assert result["compared"]["failed"] == 1 and "1 of 2 images failed" in result["sentence"]
    assert set(result["images"][0]["failures"]) == set(FRAMEWORKS)
    assert result["images"][1]["failures"] == {}
    assert f"{bad}: failed in PyTorch" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["detect.json", "good.png"]


def test_a_folder_without_images_is_refused(detect, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert detect(tmp_path / "empty") == (2, "file")
    assert f"{tmp_path / 'empty'} has no image" in capsys.readouterr().err


def test_wrong_scores_are_refused(detect, tmp_path, capsys):
    assert detect(tmp_path / "x.png", "--min-score", 2) == (2, "option")
    assert "--min-score is 2.0" in capsys.readouterr().err
