"""``--form``: which form of the converted model runs, and that results say so."""

import json

import cv2
import pytest
from made_images import waves

import compare


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in (3, 7, 9):
        cv2.imwrite(str(folder / f"{number}.png"), waves(96, 128, number))
    entries = [{"id": n, "file_name": f"{n}.png", "width": 128, "height": 96} for n in (3, 7, 9)]
    categories = [{"id": number, "name": str(number)} for number in range(1, 8)]
    box = {"id": 1, "image_id": 3, "category_id": 1, "bbox": [5, 5, 40, 30], "iscrowd": 0}
    values = {"images": entries, "categories": categories, "annotations": [box]}
    (folder / "a.json").write_text(json.dumps(values))
    return folder


def run(*words):
    return compare.main([str(word) for word in words])


def coco(checkpoint, images, out, *options):
    where = ["--images", images, "--annotations", images / "a.json", "--out", out]
    code = run("coco", checkpoint, *where, "--threads", 1, "--batch-size", 2, *options)
    return code, json.loads((out / "coco.json").read_text())


def test_coco_with_the_optimised_form(tiny_checkpoint, images, tmp_path, capsys):
    code, result = coco(tiny_checkpoint, images, tmp_path, "--form", "optimized")
    assert code == 0 and result["environment"]["form"] == "optimized"
    assert "computes in the form optimized, not layer by layer" in capsys.readouterr().out
    code, result = coco(tiny_checkpoint, images, tmp_path / "eager")
    assert code == 0 and result["environment"]["form"] == "eager"
    assert "layer by layer" not in capsys.readouterr().out
    # What was detected in one form is not taken for what the other detects.
    code, _ = coco(tiny_checkpoint, images, tmp_path)
    assert code == 2 and "another run: form was optimized" in capsys.readouterr().err


def test_workers_compute_in_the_form_that_is_asked_for(tiny_checkpoint, images, tmp_path):
    options = ["--form", "optimized", "--framework", "torch"]
    here, there = tmp_path / "here", tmp_path / "there"
    assert coco(tiny_checkpoint, images, here, *options)[0] == 0
    assert coco(tiny_checkpoint, images, there, *options, "--workers", 1)[0] == 0
    one, other = ((at / "detections_torch.json").read_text() for at in (here, there))
    assert one == other


def test_detect_with_the_optimised_form(tiny_checkpoint, images, tmp_path):
    options = ["--out", tmp_path, "--form", "optimized", "--threads", 1]
    options += ["--min-score", 0.001]
    assert run("detect", tiny_checkpoint, images / "3.png", *options) == 0
    result = json.loads((tmp_path / "detect.json").read_text())
    assert result["environment"]["form"] == "optimized"
    assert any("form optimized" in note for note in result["notes"])


def test_nodes_of_the_optimised_form(tiny_checkpoint, tmp_path):
    path = tmp_path / "nodes.json"
    options = ["--form", "optimized", "--size", "96x128", "--json", path]
    assert run("nodes", tiny_checkpoint, *options, "--reference", "exact") == 0
    assert json.loads(path.read_text())["candidate"] == "converted on the fly, optimized"


@pytest.mark.parametrize("command", ["nodes", "coco", "detect"])
def test_a_candidate_has_a_form_of_its_own(command, tiny_checkpoint, images, tmp_path, capsys):
    port = tmp_path / "port.py"
    port.write_text("def build(model):\n    return model\n")
    options = {
        "nodes": [],
        "coco": ["--images", images, "--annotations", images / "a.json", "--out", tmp_path / "o"],
        "detect": [images / "3.png", "--out", tmp_path / "o"],
    }[command]
    words = [command, tiny_checkpoint, *options, "--form", "optimized"]
    assert run(*words, "--candidate", f"{port}:build") == 2
    assert "--candidate runs in its place; leave --form out" in capsys.readouterr().err


def test_forms_are_listed(capsys):
    assert run("nodes", "x", "--form", "fast") == 2
    error = capsys.readouterr().err
    assert "eager" in error and "optimized" in error
