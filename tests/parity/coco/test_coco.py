"""COCO annotations, metrics, resampling and the whole of ``compare.py coco`` on a tiny data set."""

import errno
import importlib.util
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from exif import with_exif
from handmade import written
from made_images import waves

import compare
from efficientdet_spec import InputError
from parity.coco.bootstrap import ap_difference, weighted_ap
from parity.coco.metrics import METRICS, evaluate
from parity.coco.names import category_names
from parity.detections.annotations import choose, read_annotations
from parity.detections.matching import SCORE_LIMIT
from parity.detections.rows import as_rows, results_json, told_of_repeats
from parity.detections.shard_files import ShardFolder
from parity.settings.coco import FRAMEWORKS

ROOT = Path(compare.__file__).resolve().parent
INSTALLED = importlib.util.find_spec("tensorflow") is not None
needs_tensorflow = pytest.mark.skipif(not INSTALLED, reason="TensorFlow is not installed")

CLASSES = 90
SIZES = {3: (90, 150), 7: (128, 128), 9: (60, 40), 12: (1, 1)}


def annotated(images=SIZES):
    """A data set's annotations; image 9 has none."""
    boxes = [
        (number, category, [5.0, 4.0, width / 2, height / 3])
        for number, (height, width) in images.items()
        for category in (1, 3)
        if number != 9
    ]
    return {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
            for number, (height, width) in images.items()
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
        "annotations": [
            {
                "id": place,
                "image_id": image,
                "category_id": category,
                "bbox": bbox,
                "area": bbox[2] * bbox[3],
                "iscrowd": 0,
            }
            for place, (image, category, bbox) in enumerate(boxes)
        ],
    }


def write(path, values):
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path


@pytest.fixture
def dataset(tmp_path):
    """A folder of images and their annotation file."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, (height, width) in SIZES.items():
        image = waves(height, width, seed=number)
        assert cv2.imwrite(str(folder / f"{number}.png"), image[..., ::-1])
    return folder, write(tmp_path / "annotations.json", annotated())


def random_rows(rng, image, count=12):
    height, width = SIZES[image]
    boxes = rng.uniform(0, 1, (count, 4)) * [height / 2, width / 2, height, width]
    boxes[:, 2:] += boxes[:, :2]
    scores = np.sort(rng.uniform(0, 1, count))[::-1]
    return as_rows(boxes, scores, rng.choice([0, 2, 11], count))


def perfect(annotations):
    """Detections that are the annotations."""
    rows = {image.id: [] for image in annotations.images}
    for box in annotations.boxes:
        rows[box.image_id].append([*box.bbox, 0.9, box.category_id])
    return {number: np.array(found, float).reshape(-1, 6) for number, found in rows.items()}


# Annotation files


def test_a_file_as_it_should_be(dataset):
    found = read_annotations(dataset[1], CLASSES)
    assert [image.id for image in found.images] == sorted(SIZES)
    assert found.categories == {1: "person", 3: "car"}
    assert len(found.boxes) == 6
    assert found.boxes[0].bbox == (5.0, 4.0, 75.0, 30.0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["images"], None, "no list 'images'"),
        (["images"], [1], "no list 'images'"),
        (["images"], [], "lists no image"),
        (["categories"], [], "lists no category"),
        (["annotations"], {}, "no list 'annotations'"),
        (["images", 0, "id"], "x3", r"images\[0\] has id 'x3'"),
        (["images", 0, "id"], 3.5, "id 3.5"),
        (["images", 0, "id"], None, "id None"),
        (["images", 0, "id"], "9" * 400, "id '999"),
        (["images", 0, "id"], True, "id True"),
        (["images", 0, "id"], 2**60, "whole number"),
        (["images", 0, "id"], 7, r"images\[1\] has id 7"),
        (["images", 0, "width"], 0, "width 0"),
        (["images", 0, "file_name"], "../3.png", "below the folder of images"),
        (["images", 0, "file_name"], "/etc/passwd", "below the folder of images"),
        (["images", 0, "file_name"], "a\\..\\..\\b.png", "below the folder of images"),
        (["images", 0, "file_name"], "a/../../b.png", "below the folder of images"),
        (["images", 0, "file_name"], "\\\\server\\b.png", "below the folder of images"),
        (["images", 0, "file_name"], "a/", "below the folder of images"),
        (["images", 0, "file_name"], "http://x/a%2f..%2fb.png", "below the folder of images"),
        (["images", 0, "file_name"], "a" * 256, "below the folder of images"),
        (["images", 0, "file_name"], None, "file_name None"),
        (["images", 0, "file_name"], "C:3.png", "below the folder of images"),
        (["images", 0, "file_name"], "..", "below the folder of images"),
        (["images", 0, "file_name"], "a\x00.png", "printable"),
        (["images", 0, "file_name"], "7.png", "no other image"),
        (["categories", 0, "id"], 91, "category_id 1; expected the id of a category"),
        (["categories", 1, "id"], 1, "no other entry"),
        (["categories", 0, "name"], 5, "printable text"),
        (["annotations", 2, "image_id"], "4x", r"annotations\[2\] has image_id '4x'"),
        (["annotations", 2, "category_id"], 2, "category_id 2"),
        (["annotations", 2, "bbox"], [1, 2, 3], r"\[x, y, width, height\]"),
        (["annotations", 2, "bbox"], [1, 2, -3, 4], "bbox"),
        (["annotations", 2, "bbox"], [1, 2, 3, float("nan")], "bbox"),
        (["annotations", 2, "bbox"], [1, 2, 3, 10**400], "bbox"),
        (["annotations", 2, "bbox"], None, "bbox None"),
        (["annotations", 2, "bbox"], [], r"bbox \[\]"),
        (["annotations", 2, "bbox"], ["1", "2", "x", "4"], "bbox 'x'"),
        (["annotations", 2, "bbox"], [1, 2, True, 4], "bbox True"),
        (["annotations", 2, "area"], -1, "area -1"),
        (["annotations", 2, "area"], "many", "area 'many'"),
        (["annotations", 2, "iscrowd"], "no", "iscrowd 'no'"),
        (["annotations", 2, "iscrowd"], 2, "iscrowd 2"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, path, value, message):
    values = annotated()
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(InputError, match=message):
        read_annotations(write(tmp_path / "a.json", values), CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no JSON"), ("[1]", "no JSON object"), ("{", "no JSON"), ("[" * 10**5, "no JSON")],
)
def test_what_is_no_annotation_file(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_annotations(write(tmp_path / "a.json", text), CLASSES)


def test_what_is_not_needed_takes_no_memory(tmp_path):
    """Outlines are most of such a file, and are never read."""
    values = annotated()
    outline = [[float(number) for number in range(1000)]] * 100
    values["annotations"] = [{**item, "segmentation": outline} for item in values["annotations"]]
    values["annotations"] *= 10
    path = write(tmp_path / "a.json", values)
    size = path.stat().st_size
    tracemalloc.start()
    try:
        assert len(read_annotations(path, CLASSES).boxes) == 60
        # The text, once more the list, and little besides.
        assert tracemalloc.get_traced_memory()[1] < 2 * size + 2**20
    finally:
        tracemalloc.stop()


def test_lists_and_values_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("parity.detections.annotation_values.MAX_OBJECTS", 5)
    path = write(tmp_path / "a.json", annotated())
    with pytest.raises(InputError, match="has 6 objects in its list 'annotations'; at most 5"):
        read_annotations(path, CLASSES)
    monkeypatch.undo()
    values = annotated()
    values["annotations"][2]["bbox"] = [[]] * 1000
    with pytest.raises(
        InputError, match=r"annotations\[2\] has bbox of .* bytes; expected at most"
    ):
        read_annotations(write(path, values), CLASSES)
    path.unlink()
    path.touch()
    os.truncate(path, 2**31)
    with pytest.raises(InputError, match="cannot be read .it has 2,147,483,648 bytes, and at most"):
        read_annotations(path, CLASSES)


def test_files_that_are_not_there(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is no file"):
        read_annotations(tmp_path / "pipe", CLASSES)
    with pytest.raises(InputError, match="is no file"):
        read_annotations(tmp_path / "missing.json", CLASSES)
    with pytest.raises(InputError, match="is no file"):
        read_annotations(tmp_path, CLASSES)


def test_test_images_have_no_boxes(tmp_path):
    values = annotated()
    del values["annotations"]
    path = write(tmp_path / "a.json", values)
    with pytest.raises(InputError, match="annotations"):
        read_annotations(path, CLASSES)
    assert read_annotations(path, CLASSES, need_boxes=False).boxes is None


def test_a_choice_of_images(dataset):
    found = read_annotations(dataset[1], CLASSES)
    assert [image.id for image in choose(found, None, 2).images] == [3, 7]
    chosen = choose(found, [12, 3])
    assert [image.id for image in chosen.images] == [3, 12]
    assert {box.image_id for box in chosen.boxes} == {3, 12}
    with pytest.raises(InputError, match="no image 5"):
        choose(found, [3, 5])


# Detections


def test_rows_are_float32_and_finite():
    rows = as_rows([[1.1, 2.2, 3.3, 4.4]], [0.5], [16])
    one, two, three, four = np.float32([1.1, 2.2, 3.3, 4.4])
    assert rows.tolist() == [[two, one, four - two, three - one, 0.5, 17]]
    assert as_rows(np.zeros((0, 4)), [], []).shape == (0, 6)
    for wrong in (np.nan, np.inf):
        with pytest.raises(InputError, match="1 of 1 detections"):
            as_rows([[0, 0, wrong, 1]], [0.5], [0])


def test_results_are_read_as_they_were(tmp_path):
    rows = random_rows(np.random.default_rng(0), 3)
    read = json.loads(results_json([(3, rows)]))
    assert [entry["image_id"] for entry in read] == [3] * len(rows)
    again = [[*entry["bbox"], entry["score"], entry["category_id"]] for entry in read]
    assert (np.array(again) == rows).all()
    rounded = json.loads(results_json([(3, rows)], submission=True))
    assert all(
        value == round(value, 1) and abs(value - exact) <= 0.05 + 1e-9
        for entry, row in zip(rounded, rows, strict=True)
        for value, exact in zip(entry["bbox"], row, strict=False)
    )
    assert results_json([]) == "[]\n"


def test_detections_that_are_given_twice_are_told():
    one = np.array([[1.0, 2, 3, 4, 0.5, 7], [1, 2, 3, 4, 0.25, 7], [1, 2, 3, 4, 0.5, 8]])
    assert told_of_repeats([(3, one), (4, one), (5, one[:0])]) is None
    twice = np.concatenate([one, one[:1]])
    assert told_of_repeats([(3, one), (4, twice)]) == (
        "1 detection repeats another of the same image in class, score and corners, as if "
        "nothing had been suppressed: in image 4"
    )
    told = told_of_repeats([(3, np.concatenate([one, one])), (4, twice)])
    assert told.startswith("4 detections repeat others") and told.endswith("2 images, the first 3")


def test_the_official_names():
    names = category_names(90)
    assert len(names) == 80 and names[1] == "person" and names[90] == "toothbrush"
    assert category_names(20) == {}


# Metrics


def test_perfect_and_no_detections(dataset):
    annotations = read_annotations(dataset[1], CLASSES)
    found = perfect(annotations)
    result = evaluate(annotations, list(SIZES), found)
    # Of the objects of an image one of each category is found with one box.
    assert result.metrics["AP"] == pytest.approx(1) and result.metrics["AR1"] == pytest.approx(1)
    assert tuple(result.metrics) == METRICS
    assert result.metrics["APl"] is None
    assert result.categories == {1: pytest.approx(1), 3: pytest.approx(1)}
    nothing = evaluate(annotations, list(SIZES), dict.fromkeys(SIZES, np.zeros((0, 6))))
    assert nothing.metrics["AP"] == 0
    unknown = evaluate(annotations, [9], {9: np.zeros((0, 6))})
    assert set(unknown.metrics.values()) == {None} and unknown.curves == {}
    assert ap_difference(unknown, unknown, resamples=3) is None


def test_pycocotools_says_nothing(dataset, capsys):
    annotations = read_annotations(dataset[1], CLASSES)
    evaluate(annotations, list(SIZES), perfect(annotations))
    assert capsys.readouterr() == ("", "")


def test_the_first_annotation_may_have_id_0(dataset):
    """Pycocotools by itself would take a hit on it for a miss."""
    annotations = read_annotations(dataset[1], CLASSES)
    assert json.loads(dataset[1].read_text())["annotations"][0]["id"] == 0
    only = {number: rows[:1] for number, rows in perfect(annotations).items()}
    assert evaluate(annotations, [3], only).categories[1] == pytest.approx(1)


def crowded(rng):
    """Many images, each with objects that detections find more or less well."""
    images = {number: (200, 200) for number in range(1, 13)}
    values = annotated(images)
    detections = {}
    for number in images:
        true = [item["bbox"] for item in values["annotations"] if item["image_id"] == number]
        moved = [np.add(box, rng.normal(0, 6, 4)) for box in true * 6]
        rows = [[*np.maximum(box, 0.5), rng.uniform(), rng.choice([1, 3])] for box in moved]
        detections[number] = np.array(sorted(rows, key=lambda row: -row[4])).reshape(-1, 6)
    return values, detections


def test_weights_are_repetitions_of_images(tmp_path):
    rng = np.random.default_rng(1)
    values, detections = crowded(rng)
    annotations = read_annotations(write(tmp_path / "a.json", values), CLASSES)
    ids = list(detections)
    result = evaluate(annotations, ids, detections)
    assert 0.05 < result.metrics["AP"] < 0.95
    for name, curve in result.curves.items():
        assert len(curve) == 101 and (np.diff(curve) <= 0).all()
        assert np.mean(curve) == pytest.approx(result.metrics[name], abs=1e-12)
    plain = weighted_ap(result.rankings, np.ones(len(ids)))
    assert plain == pytest.approx(result.metrics["AP"], abs=1e-12)

    drawn = rng.integers(0, len(ids), len(ids))
    copies = {"images": [], "annotations": [], "categories": values["categories"]}
    repeated = {}
    for place, source in enumerate(drawn, 1):
        copies["images"].append({**values["images"][source], "id": place, "file_name": str(place)})
        repeated[place] = detections[ids[source]]
        copies["annotations"] += [
            {**item, "image_id": place}
            for item in values["annotations"]
            if item["image_id"] == ids[source]
        ]
    resampled = read_annotations(write(tmp_path / "b.json", copies), CLASSES)
    expected = evaluate(resampled, list(repeated), repeated).metrics["AP"]
    weights = np.bincount(drawn, minlength=len(ids)).astype(float)
    assert weighted_ap(result.rankings, weights) == pytest.approx(expected, abs=1e-12)
    assert expected != pytest.approx(plain, abs=1e-6)


def test_the_interval_of_a_difference(tmp_path):
    values, detections = crowded(np.random.default_rng(1))
    annotations = read_annotations(write(tmp_path / "a.json", values), CLASSES)
    ids = list(detections)
    one = evaluate(annotations, ids, detections)
    same = ap_difference(one, one, resamples=20)
    assert (same.low, same.high, same.resamples) == (0, 0, 20)
    worse = {number: rows + [9, 0, 0, 0, 0, 0] for number, rows in detections.items()}
    other = evaluate(annotations, ids, worse)
    interval = ap_difference(one, other, resamples=40)
    delta = other.metrics["AP"] - one.metrics["AP"]
    assert interval.low < delta < interval.high < 0
    assert interval == ap_difference(one, other, resamples=40)
    assert interval != ap_difference(one, other, resamples=40, seed=1)


# The command line


@pytest.fixture
def coco(tiny_checkpoint, dataset, tmp_path):
    """Runs ``compare.py coco`` on the tiny data set; exit code and result."""

    def call(*options, out="out", images=dataset[0], annotations=dataset[1]):
        fixed = ["--images", images, "--annotations", annotations, "--out", tmp_path / out]
        arguments = ["coco", tiny_checkpoint, *fixed, "--threads", 1, *options]
        code = compare.main([str(argument) for argument in arguments])
        path = tmp_path / out / "coco.json"
        return code, written(path) if path.exists() else None

    return call


@pytest.fixture
def findable(coco, tmp_path):
    """Annotations whose true boxes a faithful side finds: what PyTorch detects best."""
    assert coco("--framework", "torch", out="before")[0] == 0
    entries = json.loads((tmp_path / "before" / "detections_torch.json").read_text())
    values = annotated()
    found = sorted({item["category_id"] for item in entries})
    values["categories"] = [{"id": number, "name": str(number)} for number in found]
    values["annotations"] = [
        {**{name: item[name] for name in ("image_id", "category_id", "bbox")}, "id": place}
        for place, item in enumerate(entries)
        if min(item["bbox"][2:]) > 1
    ]
    return write(tmp_path / "findable.json", values)


@needs_tensorflow
def test_both_frameworks_agree(coco, findable, tmp_path, capsys):
    code, result = coco("--batch-size", "3", annotations=findable)
    output = capsys.readouterr()
    assert code == 0 and result["passes"] and result["complete"]
    assert result["outcome"] == "parity"
    assert result["schema"] == "efficientdet-parity/coco" and result["version"] == 2
    compared = result["compared"]
    assert compared["images"] == 4 and compared["matched"] == 400 and compared["true_boxes"] > 4
    assert compared["detections"] == {"tensorflow": 400, "torch": 400}
    assert "AP" in compared["metrics"]
    assert set(result["metric_deltas"]) == set(METRICS)
    assert result["matching"]["matched"] == 400
    assert result["matching"]["apart"] == result["matching"]["reference_unexplained"] == 0
    assert result["profile"]["nms"] == "evaluation"
    assert result["stages"]["nms"]["sigma"] == 0.5 and result["stages"]["anchor_scales"] == [4] * 5
    assert result["images"]["torch"] == {"all": 4, "failed": 0, "failures": []}
    assert set(result["seconds_per_image"]["tensorflow"]) == {
        "decode", "preprocess", "network", "postprocess", "wall",
    }  # fmt: skip
    assert "AP50" in output.out and "\n\nparity: all " in output.out
    for name in FRAMEWORKS:
        found = json.loads((tmp_path / "out" / f"detections_{name}.json").read_text())
        assert len(found) == 400


@needs_tensorflow
def test_another_stage_on_one_side_is_seen(coco, monkeypatch):
    """The two sides share no stage, so a fault of one shows."""
    import torch_model.postprocess

    sigmoid = torch_model.postprocess.sigmoid
    monkeypatch.setattr(torch_model.postprocess, "sigmoid", lambda logits: sigmoid(logits) * 0.9)
    code, result = coco("--image-ids", "3")
    # A tenth of the highest score, which the seeded weights make about 0.065.
    assert result["matching"]["largest_score_difference"] > 10 * SCORE_LIMIT
    # The ranking, and with it every metric, is the same.
    assert not any(result["metric_deltas"].values())
    assert code == 1 and result["outcome"] == "difference" and result["matching"]["apart"] == 100


@needs_tensorflow
@pytest.mark.parametrize(
    "boxes, told", [([], "no metric is defined"), (None, "AP is 0 on both sides")]
)
def test_where_nothing_was_found_nothing_is_shown(coco, tmp_path, capsys, boxes, told, monkeypatch):
    """Every detection agrees, but the metrics would for a model that finds nothing."""
    monkeypatch.setattr("parity.coco.report.TELLING_SPREAD", 2.0)
    values = annotated()
    values["annotations"] = values["annotations"] if boxes is None else boxes
    code, result = coco("--limit", "2", annotations=write(tmp_path / "a.json", values))
    assert code == 3 and result["outcome"] == "not shown" and not result["passes"]
    assert result["complete"] and result["compared"]["matched"] == 200
    assert result["compared"]["true_boxes"] == (4 if boxes is None else 0)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("not shown: ") and told in last


@needs_tensorflow
def test_detections_that_are_not_all_alike_show_parity_alone(coco, dataset, monkeypatch):
    """In noise their scores are far apart; those of a port that is wrong are others."""
    import torch_model.postprocess

    noise = np.random.default_rng(0).integers(0, 255, (*SIZES[3], 3), dtype=np.uint8)
    assert cv2.imwrite(str(dataset[0] / "3.png"), noise)
    options = ("--image-ids", "3", "--size", "96x128")
    code, result = coco(*options)
    assert code == 0 and result["outcome"] == "parity" and result["metrics"]["torch"]["AP"] == 0
    assert "AP is 0 on both sides, so that only the detections show it" in result["sentence"]
    monkeypatch.setattr("parity.coco.report.TELLING_SPREAD", 2.0)
    code, result = coco(*options)
    assert code == 3 and "less than the 2 from which on" in result["sentence"]
    sigmoid = torch_model.postprocess.sigmoid
    monkeypatch.setattr(torch_model.postprocess, "sigmoid", lambda logits: sigmoid(logits) * 0.99)
    assert coco(*options, out="wrong")[0] == 1


@needs_tensorflow
def test_a_metric_that_differs_fails(coco, monkeypatch):
    import parity.coco.metrics

    real, calls = parity.coco.metrics.evaluate, []

    def shifted(*arguments):
        from dataclasses import replace

        calls.append(real(*arguments))
        metrics = {**calls[-1].metrics, "AP75": 2e-4 * len(calls)}
        return replace(calls[-1], metrics=metrics)

    monkeypatch.setattr(parity.coco.metrics, "evaluate", shifted)
    code, result = coco("--limit", "1")
    assert code == 1 and result["complete"] and not result["passes"]
    assert result["metric_deltas"]["AP75"] == pytest.approx(2e-4)


@needs_tensorflow
def test_images_that_cannot_be_used_are_named(coco, dataset, tmp_path, capsys):
    folder, _ = dataset
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:60])
    (folder / "7.png").write_bytes(b"")
    (folder / "12.png").unlink()
    code, result = coco()
    output = capsys.readouterr().out
    assert code == 3 and not result["complete"] and not result["passes"]
    for framework in FRAMEWORKS:
        counts = result["images"][framework]
        assert (counts["all"], counts["failed"]) == (4, 3)
        assert [item["image_id"] for item in counts["failures"]] == [3, 7, 12]
        assert all(item["file_name"] in item["reason"] for item in counts["failures"])
    reasons = [item["reason"] for item in result["images"]["tensorflow"]["failures"]]
    assert "PNG" in reasons[0] and not any("Graph execution" in reason for reason in reasons)
    assert "3 of 4 images failed in PyTorch" in output and "incomplete" in output
    assert json.loads((tmp_path / "out" / "detections_torch.json").read_text())


@needs_tensorflow
def test_an_image_too_narrow_to_scale(coco, dataset, tmp_path):
    """Neither framework has a pixel left of it; the others are counted."""
    cv2.imwrite(str(dataset[0] / "12.png"), waves(1, 1000))
    values = annotated({**SIZES, 12: (1, 1000)})
    code, result = coco(annotations=write(tmp_path / "thin.json", values))
    failures = {name: result["images"][name]["failures"] for name in FRAMEWORKS}
    assert code == 3 and not result["complete"]
    assert "leaves nothing of the shorter side" in failures["torch"][0]["reason"]
    assert "must be positive" in failures["tensorflow"][0]["reason"]
    assert result["matching"]["matched"] == 300


@needs_tensorflow
def test_an_image_of_20000_pixels(coco, dataset, tmp_path):
    shape = (700, 20000)
    image = np.zeros((*shape, 3), np.uint8)
    image[:, ::97] = 200
    cv2.imwrite(str(dataset[0] / "12.png"), image)
    values = annotated({**SIZES, 12: shape})
    code, result = coco("--image-ids", "12", annotations=write(tmp_path / "large.json", values))
    # None of the seeded model's boxes is a true one.
    assert code == 3 and result["complete"] and result["compared"]["matched"] == 100
    assert result["matching"]["apart"] == result["matching"]["reference_unexplained"] == 0
    assert result["matching"]["largest_score_difference"] < 1e-4


def test_a_full_disk(coco, monkeypatch, tmp_path, capsys):
    real = Path.write_text

    def full(path, *arguments, **options):
        if "shards" in path.parts and "manifest" not in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    assert coco("--framework", "torch") == (2, "space")
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.tmp"))
    monkeypatch.undo()
    assert coco("--framework", "torch")[0] == 0


@needs_tensorflow
def test_no_image_can_be_used(coco, dataset, capsys):
    for path in dataset[0].iterdir():
        path.write_bytes(b"x")
    code, result = coco()
    assert code == 3 and not result["complete"]
    assert set(result["metrics"]["torch"].values()) == {None} and result["bootstrap"] is None
    assert "4 of 4 images failed" in capsys.readouterr().out


@needs_tensorflow
def test_annotations_of_other_images(coco, tmp_path):
    values = annotated()
    values["images"][0]["width"] += 1
    code, result = coco(annotations=write(tmp_path / "other.json", values))
    failure = result["images"]["torch"]["failures"][0]
    assert code == 3 and "150x90 pixels, but the annotations are for 151x90" in failure["reason"]


def test_a_photograph_that_was_annotated_upright(coco, dataset, tmp_path):
    path = dataset[0] / "3.png"
    path.write_bytes(with_exif(path.read_bytes(), 6))
    values = annotated()
    image = values["images"][0]
    assert image["file_name"] == "3.png"
    image["width"], image["height"] = image["height"], image["width"]
    annotations = write(tmp_path / "upright.json", values)
    code, result = coco("--framework", "torch", annotations=annotations)
    (failure,) = result["images"]["torch"]["failures"]
    assert code == 3 and "EXIF orientation (6)" in failure["reason"]


def test_images_in_folders_and_what_is_told_of_it(coco, dataset, tmp_path, capsys):
    """Images of one name in two folders stay apart, in files of other programs too."""
    values = annotated()
    for number, name in ((3, "one"), (7, "two")):
        (dataset[0] / name).mkdir()
        (dataset[0] / f"{number}.png").rename(dataset[0] / name / "a.png")
        (image,) = (item for item in values["images"] if item["id"] == number)
        image["file_name"] = f".\\{name}\\a.png"
    for image in values["images"]:
        image["id"] = str(image["id"])
    annotations = write(tmp_path / "folders.json", values)
    options = ("--framework", "torch", "--image-ids", "3,7")
    code, result = coco(*options, annotations=annotations)
    told = "file_name read as a path below the folder of images: 2 (the first: .\\one\\a.png)"
    assert code == 0 and told in result["notes"] and told in capsys.readouterr().out
    assert any("id written as text: 4" in note for note in result["notes"])
    found = tmp_path / "out" / "detections_torch.json"
    brought = ("--detections", found, "--framework", "candidate", "--no-explanation")
    code, again = coco(*brought, "--image-ids", "3,7", annotations=annotations, out="again")
    assert code == 0 and again["metrics"]["candidate"] == result["metrics"]["torch"]
    assert (tmp_path / "again" / "detections_candidate.json").read_bytes() == found.read_bytes()
    assert again["notes"][: len(result["notes"])] == result["notes"]


def test_categories_of_other_ids_are_those_of_their_names(coco, findable, tmp_path, monkeypatch):
    """The metrics are those of the model's own ids, and files have the ids of the annotations."""
    import parity.coco.names

    torch = ("--framework", "torch")
    _, plain = coco(*torch, annotations=findable)
    called = {1: "cat", 2: "dog", 3: "cow", 4: "fox", 5: "owl", 6: "ant", 7: "bee"}
    monkeypatch.setattr(parity.coco.names, "stated_names", lambda config: called)
    values = json.loads(findable.read_text())
    ids = {number: 50 - number for number in called}
    values["categories"] = [{"id": 0, "name": "animals"}] + [
        {"id": ids[item["id"]], "name": called[item["id"]].upper()} for item in values["categories"]
    ]
    for item in values["annotations"]:
        item["category_id"] = ids[item["category_id"]]
    annotations = write(tmp_path / "named.json", values)
    code, result = coco(*torch, annotations=annotations, out="named")
    assert code == 0 and result["metrics"] == plain["metrics"] and plain["metrics"]["torch"]["AP"]
    assert "mapped to the model's classes by name" in result["notes"][1]
    by_id = {item["id"]: item["AP"]["torch"] for item in plain["categories"]}
    assert {item["id"]: item["AP"]["torch"] for item in result["categories"]} == {
        ids[number]: value for number, value in by_id.items()
    }
    one, other = (
        json.loads((tmp_path / out / "detections_torch.json").read_text())
        for out in ("out", "named")
    )
    assert other == [
        {**item, "category_id": ids[item["category_id"]]}
        for item in one
        if item["category_id"] in by_id
    ]
    # What another program writes has the ids of the annotations too.
    brought = ("--detections", tmp_path / "named" / "detections_torch.json", "--no-explanation")
    brought += ("--framework", "candidate")
    _, again = coco(*brought, annotations=annotations, out="brought")
    assert again["metrics"]["candidate"] == plain["metrics"]["torch"]
    # With the model's own it is wrong, and that must be seen.
    brought = ("--detections", tmp_path / "out" / "detections_torch.json", *brought[2:])
    _, wrong = coco(*brought, annotations=annotations, out="wrong")
    assert wrong["metrics"]["candidate"]["AP"] == 0


def test_one_framework_and_a_submission(coco, dataset, tmp_path):
    values = annotated()
    del values["annotations"]
    path = write(tmp_path / "test-dev.json", values)
    options = ("--framework", "torch", "--limit", "1")
    code, result = coco(*options, "--submission", annotations=path)
    assert code == 0 and result["metrics"] == {} and result["matching"] is None
    assert result["outcome"] == "not shown" and not result["passes"]
    found = json.loads((tmp_path / "out" / "submission_torch.json").read_text())
    assert len(found) == 100 and found[0]["bbox"][0] == round(found[0]["bbox"][0], 1)
    assert not (tmp_path / "out" / "detections_tensorflow.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--profile", "best"], "official-tf-nms"),
        (["--stage", "nms"], "nms=hard"),
        (["--stage", "nms=best"], "tf-soft"),
        (["--stage", "speed=1"], "no stage 'speed'"),
        (["--image-ids", "3,x"], "list of numbers"),
        (["--image-ids", "4"], "no image 4"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--limit", "0"], "--limit is 0"),
    ],
)
def test_wrong_options(coco, capsys, tmp_path, options, message):
    code, result = coco(*options)
    assert (code, result) == (2, "option") and message in capsys.readouterr().err
    # Nothing is there but the reason.
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["coco.json"]


def test_wrong_folders(coco, tiny_checkpoint, dataset, capsys, tmp_path):
    assert coco(images=tmp_path / "nowhere")[0] == 2
    assert "none of the 4 images" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    arguments = ["coco", tiny_checkpoint, "--images", dataset[0], "--annotations", dataset[1]]
    assert compare.main([*map(str, arguments), "--out", str(tmp_path / "file")]) == 2
    assert "cannot be made a folder" in capsys.readouterr().err


def test_the_annotations_are_not_overwritten(coco, dataset, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    annotations = write(tmp_path / "out" / "coco.json", annotated())
    before = annotations.read_text()
    assert coco(annotations=annotations)[0] == 2
    assert "in use by this very run" in capsys.readouterr().err
    assert annotations.read_text() == before


@needs_tensorflow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_run_goes_on_where_another_was_killed(tiny_checkpoint, tmp_path, framework):
    """A fresh process is killed at once after its first shard; the files end up the same."""
    folder = tmp_path / "images"
    folder.mkdir()
    images = {number: (24, 40) for number in range(1, 41)}
    for number, (height, width) in images.items():
        cv2.imwrite(str(folder / f"{number}.png"), waves(height, width, seed=number))
    annotations = write(tmp_path / "a.json", annotated(images))

    def arguments(out):
        fixed = ["--images", folder, "--annotations", annotations, "--out", out]
        options = [f"--framework={framework}", "--threads=1"]
        return [*map(str, ["coco", tiny_checkpoint, *fixed]), *options]

    dying = (
        "import os, signal, sys, compare\n"
        "from parity.detections.shard_files import ShardFolder\n"
        "write = ShardFolder.write\n"
        "def last(*shard):\n"
        "    write(*shard)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "ShardFolder.write = last\n"
        "sys.exit(compare.main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", dying, *arguments(tmp_path / "killed")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert done.returncode == -9
    shards = tmp_path / "killed" / "shards" / framework
    assert [path.name for path in sorted(shards.iterdir())] == ["00000.json", "manifest.json"]
    before = (shards / "00000.json").stat().st_mtime_ns
    assert compare.main(arguments(tmp_path / "killed")) == 0
    assert (shards / "00000.json").stat().st_mtime_ns == before
    assert compare.main(arguments(tmp_path / "whole")) == 0
    name = f"detections_{framework}.json"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    results = [
        json.loads((tmp_path / out / "coco.json").read_text()) for out in ("killed", "whole")
    ]
    for result in results:
        del result["seconds_per_image"]
    assert results[0] == results[1]


def test_interruption_leaves_only_whole_files(coco, monkeypatch, tmp_path, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ShardFolder, "write", interrupted)
    assert coco("--framework", "torch") == (130, "interrupted")
    assert "interrupted" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.tmp"))
    monkeypatch.undo()
    assert coco("--framework", "torch")[0] == 0


def test_a_finished_run_computes_nothing_again(coco, monkeypatch, tmp_path):
    assert coco("--framework", "torch", "--limit", "2")[0] == 0
    before = (tmp_path / "out" / "coco.json").read_bytes()

    def never(*_):
        raise AssertionError("opened")

    monkeypatch.setattr("parity.commands.detecting.torch_detection.TorchDetecting.open", never)
    assert coco("--framework", "torch", "--limit", "2")[0] == 0
    assert (tmp_path / "out" / "coco.json").read_bytes() == before


def test_other_settings_do_not_mix(coco, capsys):
    assert coco("--framework", "torch", "--limit", "2")[0] == 0
    assert coco("--framework", "torch", "--limit", "2", "--stage", "nms=hard")[0] == 2
    assert "profile nms was evaluation, now hard" in capsys.readouterr().err


def test_trained_detections_have_the_official_ap(test_data):
    """Google's own detections on COCO images, judged here."""
    tiny = test_data / "coco_tiny"
    annotations = read_annotations(tiny / "instances_val2017.json", CLASSES)
    entries = json.loads((tiny / "official_detections_numpy_soft_nms.json").read_text())
    table = {image.id: [] for image in annotations.images}
    for item in entries:
        table[item["image_id"]].append([*item["bbox"], item["score"], item["category_id"]])
    detections = {number: np.array(rows).reshape(-1, 6) for number, rows in table.items()}
    result = evaluate(annotations, list(table), detections)
    official = json.loads((tiny / "official_stats.json").read_text())["numpy"]
    assert result.metrics == pytest.approx(official, abs=1e-9)
