"""Exchanged stages: each differs in its one detail, and the table shows what it does."""

import importlib.util
import json
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import stage_cases
import torch
from handmade import written
from made_images import waves

import compare
import torch_model
from converter.variables import EMA
from efficientdet_spec import InputError
from parity.coco.metrics import METRICS, evaluate
from parity.coco.report import CocoReport, SideResults
from parity.coco.swaps import MISTAKE, TENSORFLOW, Swap, judge
from parity.coco.text import coco_text
from parity.commands.detecting import swaps
from parity.commands.detecting.other_stages import decode
from parity.detections.annotations import read_annotations
from parity.detections.matching import match
from parity.detections.shard_files import ImageResult, Shard, ShardFolder
from parity.pipelines.running import prepared
from parity.pipelines.stages.pipeline import Pipeline
from parity.pipelines.stages.resizing import RESIZES
from parity.results.records.coco import ImageFailure
from parity.results.records.shared import Checkpoint
from torch_model import nms
from torch_model.detector import Detector
from torch_model.layers import MaxPool2d
from torch_model.postprocess import Outputs, postprocess
from torch_model.profiles import OFFICIAL, with_stages
from torch_model.surroundings import Surroundings

INSTALLED = importlib.util.find_spec("tensorflow") is not None
needs_tensorflow = pytest.mark.skipif(not INSTALLED, reason="TensorFlow is not installed")

accurate = partial(decode, kind="accurate-dct")

SIZES = {3: (90, 150), 7: (128, 128), 9: (200, 120)}


def entries(rows):
    return [
        {
            "id": place,
            "image_id": image,
            "category_id": category,
            "bbox": bbox,
            "area": bbox[2] * bbox[3],
            "iscrowd": 0,
        }
        for place, (image, category, bbox) in enumerate(rows, 1)
    ]


def write_annotations(path, rows, categories):
    values = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": width, "height": height}
            for number, (height, width) in SIZES.items()
        ],
        "categories": [{"id": number, "name": str(number)} for number in sorted(categories)],
        "annotations": entries(rows),
    }
    path.write_text(json.dumps(values))
    return path


@pytest.fixture(scope="module")
def dataset(tiny_checkpoint, tmp_path_factory):
    """Images, and as their annotations the best of what the faithful pipeline finds."""
    folder = tmp_path_factory.mktemp("dataset")
    for number, (height, width) in SIZES.items():
        image = waves(height, width, seed=number)
        assert cv2.imwrite(str(folder / f"{number}.jpg"), image[..., ::-1])
    annotations = write_annotations(folder / "a.json", [(3, 1, [5.0, 4.0, 75.0, 30.0])], {1})
    arguments = ["coco", tiny_checkpoint, "--images", folder, "--annotations", annotations]
    arguments += ["--out", folder / "out", "--framework", "torch", "--threads", 1]
    assert compare.main([str(argument) for argument in arguments]) == 0
    found = json.loads((folder / "out" / "detections_torch.json").read_text())
    best = [
        (entry["image_id"], entry["category_id"], entry["bbox"])
        for number in SIZES
        for entry in [item for item in found if item["image_id"] == number][:12]
    ]
    write_annotations(annotations, best, {category for _, category, _ in best})
    return folder, annotations


@pytest.fixture
def coco(tiny_checkpoint, dataset, tmp_path):
    """Runs ``compare.py coco --stage-swap``; exit code and result."""

    def call(*options, out="out", checkpoint=tiny_checkpoint, annotations=dataset[1]):
        fixed = ["--images", dataset[0], "--annotations", annotations, "--out", tmp_path / out]
        arguments = ["coco", checkpoint, *fixed, "--threads", 1, "--stage-swap", *options]
        code = compare.main([str(argument) for argument in arguments])
        path = tmp_path / out / "coco.json"
        return code, written(path) if path.exists() else None

    return call


def by_slug(result):
    return {row["slug"]: row for row in result["stage_swap"]["rows"]}


# Judging


@pytest.fixture
def annotations(tmp_path):
    rows = [(number, 1, [5.0, 5.0, 40.0, 30.0]) for number in SIZES]
    return read_annotations(write_annotations(tmp_path / "a.json", rows, {1}), 90)


def found(moved=0.0, failing=()):
    return [
        ImageResult(number, np.zeros((0, 6)), "damaged")
        if number in failing
        else ImageResult(number, np.array([[5.0 + moved, 5, 40, 30, 0.9, 1]]))
        for number in SIZES
    ]


THEIRS = Swap("theirs", "their decoder", "decode", TENSORFLOW)
WRONG = Swap("wrong", "a wrong decoder", "decode", MISTAKE)


def test_a_row_has_metrics_and_differences(annotations):
    calls = []
    swapped = {THEIRS: found(), WRONG: found(moved=5)}
    table = judge(annotations, found(), swapped, lambda *call: calls.append(call))
    same, moved = table.rows
    assert table.baseline["AP"] == pytest.approx(1) and table.images == 3 and table.complete
    assert (same.changed_images, same.matched, same.baseline_only) == (0, 3, 0)
    assert same.metrics == table.baseline and same.largest[1] == 0
    assert moved.deltas["AP"] == moved.metrics["AP"] - table.baseline["AP"] < -0.1
    assert abs(moved.largest[1]) >= abs(moved.deltas["AP"]) and moved.changed_images == 3
    assert calls == [(0, 2), (1, 2), (2, 2)]


def test_only_the_other_frameworks_stages_can_fail(annotations):
    def differing(theirs, wrong):
        table = judge(annotations, found(), {THEIRS: theirs, WRONG: wrong}, lambda *_: None)
        return [row.swap for row in table.differing(1e-4)]

    assert differing(found(), found(moved=5)) == []
    assert differing(found(moved=5), found()) == [THEIRS]


def test_images_that_fail(annotations):
    """A mistake's failure is its own; one of the frameworks' leaves the image out of all."""
    swapped = {THEIRS: found(), WRONG: found(failing=[7])}
    table = judge(annotations, found(), swapped, lambda *_: None)
    assert table.complete and table.images == 3
    assert table.rows[1].failures == {7: "damaged"} and table.rows[1].deltas["AR100"] < -0.3
    swapped = {THEIRS: found(failing=[7]), WRONG: found()}
    table = judge(annotations, found(), swapped, lambda *_: None)
    assert not table.complete and table.images == 2 and table.rows[1].deltas["AR100"] == 0
    table = judge(annotations, found(failing=SIZES), {WRONG: found()}, lambda *_: None)
    assert not table.complete and table.rows[0].largest is None
    result = table.result({number: f"{number}.jpg" for number in SIZES})
    assert result.failures[0] == ImageFailure(3, "3.jpg", "damaged")
    assert result.rows[0].AP_delta is None


def test_a_report_is_judged_by_its_stages(annotations):
    """Also where two stages' differences cancel, so that the frameworks' metrics are equal."""

    table = {item.image_id: item.rows for item in found()}
    plain, shard = evaluate(annotations, list(SIZES), table), Shard(found(), {})

    def report(theirs, wrong):
        swap = judge(annotations, found(), {THEIRS: theirs, WRONG: wrong}, lambda *_: None)
        return CocoReport(
            model="tiny",
            checkpoint=Checkpoint(source="x", fingerprint="0", weights="ema"),
            annotations="a.json",
            profile={"name": "official"},
            size=(128, 128),
            environment={},
            outcomes={name: SideResults([shard], plain) for name in ("tensorflow", "torch")},
            categories={1: "one"},
            file_names={number: f"{number}.jpg" for number in SIZES},
            matching=match(table, table),
            interval=None,
            stage_swap=swap,
        )

    assert report(found(), found(moved=5)).passes
    assert "\n\nparity: all " in coco_text(report(found(), found(moved=5)))
    assert not report(found(failing=[7]), found()).complete
    differing = report(found(moved=5), found())
    assert differing.complete and not differing.passes
    assert "with TensorFlow's decode (" in coco_text(differing)


# Mistaken stages, each otherwise as the official one


@pytest.fixture(scope="module")
def model(tiny_pth):
    return torch_model.load(tiny_pth)


@pytest.fixture(params=[{}, {"normalisation": "advprop"}, {"scope": "global", "nms": "hard"}])
def detector(model, request):
    changes = request.param | {"clipping": "input" if request.param else "none"}
    return Detector(model, with_stages(OFFICIAL, changes))


@pytest.fixture(scope="module")
def outputs(model):
    detector = Detector(model)
    return swaps.forward(detector, detector.preprocess(waves(90, 150)).pixels)


def exchanged(detector, slug):
    """The stage of a mistake."""
    return swaps._mistakes(detector, [slug])[slug]


@pytest.mark.parametrize("size", [(90, 150), (200, 120), (60, 40)])
def test_another_resize_is_the_only_difference(detector, size):
    image = waves(*size)
    official = detector.preprocess(image)
    faithful = Pipeline.of(detector.around)
    ours, place = prepared(faithful, image, detector.size, RESIZES)
    assert (ours == official.pixels).all() and np.float32(1) / place.scale[0] == official.scale

    def other(slug):
        found = exchanged(detector, slug)(None, image)
        assert found.scale == official.scale
        return np.abs(found.pixels - official.pixels).max()

    assert 0 < other("opencv-resize") < 1e-3 and 0 < other("torch-resize") < 1e-3
    shrinking = max(size) > max(detector.size)
    assert (other("antialias") > 1e-2) == shrinking
    # Half a grey level, which normalisation divides by some sixty.
    assert 1e-3 < other("resize-first") < 0.03


def test_a_narrow_image_is_refused(detector):
    with pytest.raises(InputError, match="leaves nothing"):
        exchanged(detector, "opencv-resize")(None, waves(1, 1000))


def test_another_suppression_is_the_only_difference(detector, outputs):
    scale = np.float32(1.5)
    official = postprocess(outputs, detector.anchors, detector.size, scale, detector.around)
    faithful = Pipeline.of(detector.around)
    boxes, scores, classes = swaps._postprocess_of(
        faithful, detector.size, detector.anchors, 5000, outputs, scale
    )
    assert (boxes == official.boxes).all() and (scores == official.scores).all()
    assert (classes == official.classes).all()
    for slug in ("no-last-pixel", "clip-first"):
        boxes, scores, _ = exchanged(detector, slug)(outputs, scale)
        # Hard suppression passes on the scores of the same best few.
        same = np.array_equal(scores, official.scores)
        assert not same or detector.profile.nms == "hard"
    assert boxes.min() >= 0 and (boxes[:, 2] <= np.float32(detector.size[0]) * scale).all()


@pytest.mark.parametrize("loop", ["soft_nms", "hard_nms"])
def test_areas_without_the_last_pixel(loop, monkeypatch):
    """As the reference's plain loops with its +1 taken away."""
    detection = pytest.importorskip("reference_tf.detection")

    def overlap(box, others):
        low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
        sides = np.maximum(high - low, 0)
        shared = sides[:, 1] * sides[:, 0]
        areas = [(rows[..., 3] - rows[..., 1]) * (rows[..., 2] - rows[..., 0])
                 for rows in (box, others)]  # fmt: skip
        return shared / (areas[0] + areas[1] - shared)

    crowd = stage_cases.crowd(4, 1500, 5, 20, False)
    own = getattr(nms, loop)
    kept = own(*crowd, inclusive=False)
    assert not np.array_equal(kept.scores, own(*crowd).scores)
    monkeypatch.setattr(detection, "_overlap", overlap)
    indices, scores = detection._each_group(getattr(detection, loop), *crowd)
    assert (kept.indices == indices).all() and (kept.scores == scores).all()


@pytest.mark.parametrize("suppression", [nms.soft_nms, nms.hard_nms])
def test_boxes_without_area(suppression):
    boxes = np.zeros((3, 4), np.float32)
    scores, classes = np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int64)
    kept = suppression(boxes, scores, classes, inclusive=False)
    assert kept.indices.tolist() == [0, 1, 2] and (kept.scores == scores).all()
    touching = suppression(boxes, scores, classes)
    assert len(touching.indices) == 1 or touching.scores[1] < 0.2


def test_zero_padded_pools_only_within():
    pool = MaxPool2d()
    x = -torch.ones(1, 1, 4, 4)
    with swaps.zero_padded_pools(pool):
        inside = pool(x, (2, 2))
    assert inside.flatten().tolist() == [-1, 0, 0, 0]
    assert (pool(x, (2, 2)) == -1).all()


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_the_accurate_decoder_is_opencvs(tmp_path, name):
    """Which decodes pixels as stored, whatever orientation the camera notes."""
    path = tmp_path / name
    cv2.imwrite(str(path), waves(24, 40)[..., ::-1])
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    assert (accurate(path) == cv2.imread(str(path), flags)[..., ::-1]).all()


# Which exchanges there are


def setup_of(conversion, prefix, **stages):
    around = Surroundings.of(conversion.config, with_stages(OFFICIAL, stages))
    return SimpleNamespace(conversion=conversion, prefix=prefix, weights="ema", around=around)


def slugs(setup, with_tensorflow=True):
    return {swap.slug for swap in swaps.swaps_of(setup, with_tensorflow=with_tensorflow)}


def test_what_the_profile_has_already_is_left_out(tiny_conversion, tiny_checkpoint):
    whole = {swap.slug for swap in swaps.SWAPS}
    setup = partial(setup_of, tiny_conversion, tiny_checkpoint / "model")
    assert slugs(setup()) == whole
    assert {slug for slug in whole - slugs(setup(), False)} == {
        f"tensorflow-{stage}" for stage in ("decode", "preprocess", "network", "postprocess")
    }
    assert whole - slugs(setup(nms="hard")) == {"hard-nms"}
    assert whole - slugs(setup(nms="tf-soft")) == {"tensorflow-nms", "no-last-pixel"}
    assert whole - slugs(setup(decode="accurate-dct")) == {"opencv-decode"}
    assert whole - slugs(setup(resize="legacy", aspects="pairs")) == {
        "legacy-resize", "pair-anchors",
    }  # fmt: skip
    raw = setup()
    raw.weights = "raw"
    assert whole - slugs(raw) == {"raw-weights"}


def test_a_checkpoint_without_raw_values(coco, rewrite):
    def only_averages(tensors):
        for name in [name for name in tensors if f"{name}/{EMA}" in tensors]:
            del tensors[name]

    _, result = coco("--framework", "torch", checkpoint=rewrite(only_averages))
    assert "raw-weights" not in by_slug(result) and "zero-padded-pool" in by_slug(result)


# The command line


@needs_tensorflow
def test_the_whole_table(coco, capsys):
    code, result = coco("--batch-size", "2")
    output = capsys.readouterr().out
    table, rows = result["stage_swap"], by_slug(result)
    assert code == 0 and result["passes"] and "\n\nparity: all " in output
    assert list(rows) == [swap.slug for swap in swaps.SWAPS]
    assert table["images"] == 3 and table["failures"] == []
    assert table["baseline"]["AP"] > 0.5
    assert table["baseline"] == pytest.approx(result["metrics"]["torch"], abs=1e-9)
    for row in rows.values():
        assert tuple(row["metrics"]) == METRICS and row["images"] == 3
        assert row["metric_deltas"]["AP"] == row["AP_delta"]
        if row["origin"] == TENSORFLOW:
            assert abs(row["AP_delta"]) < 1e-4 and row["baseline_only"] == 0
        else:
            # Each mistake is one indeed.
            assert row["changed_images"] > 0, row["slug"]
        assert row["title"] in output
    assert rows["tensorflow-decode"]["changed_images"] == 0
    assert rows["bgr"]["AP_delta"] < -0.1 and rows["raw-weights"]["AP_delta"] < -0.05
    assert result["environment"]["threads"] == 1


def wrong_decode(monkeypatch):
    real = torch_model.decode.read_image
    monkeypatch.setattr("torch_model.decode.read_image", lambda *a, **k: 255 - real(*a, **k))


def wrong_preprocess(monkeypatch):
    real = torch_model.detector.preprocess_with_scale
    wrong = lambda image, *a, **k: real(image[::-1], *a, **k)  # noqa: E731
    monkeypatch.setattr("torch_model.detector.preprocess_with_scale", wrong)


def wrong_network(monkeypatch):
    monkeypatch.setattr("torch_model.layers.Swish.forward", lambda _, x: torch.relu(x))


def wrong_postprocess(monkeypatch):
    real = torch_model.postprocess.decode_boxes
    monkeypatch.setattr("torch_model.postprocess.decode_boxes", lambda *a: real(*a) + 9)


@needs_tensorflow
@pytest.mark.parametrize(
    "fault",
    [
        # TensorFlow's four stages are run for each of them.
        pytest.param(wrong_decode, marks=pytest.mark.heavy),
        wrong_preprocess,
        pytest.param(wrong_network, marks=pytest.mark.heavy),
        pytest.param(wrong_postprocess, marks=pytest.mark.heavy),
    ],
)
def test_a_fault_shows_in_its_stage_alone(coco, monkeypatch, capsys, fault):
    monkeypatch.setattr(swaps, "SWAPS", swaps.SWAPS[:4])
    fault(monkeypatch)
    stage = fault.__name__.removeprefix("wrong_")
    code, result = coco()
    rows = by_slug(result)
    assert code == 1 and not result["passes"] and result["complete"]
    moved = {row["stage"] for row in rows.values() if abs(row["AP_delta"]) > 1e-4}
    assert moved == {stage} and rows[f"tensorflow-{stage}"]["AP_delta"] > 0.1
    assert f"the metrics differ with TensorFlow's {stage} (" in capsys.readouterr().out


def test_only_mistakes_without_tensorflow(coco, capsys):
    code, result = coco("--framework", "torch", "--stage", "nms=hard")
    assert code == 0 and result["outcome"] == "not shown" and not result["passes"]
    assert {row["origin"] for row in by_slug(result).values()} == {MISTAKE}
    assert "hard-nms" not in by_slug(result)
    assert "JPEG decoder of OpenCV" in capsys.readouterr().out


def test_without_the_option_there_is_no_table(tiny_checkpoint, dataset, tmp_path, capsys):
    arguments = ["coco", tiny_checkpoint, "--images", dataset[0], "--annotations", dataset[1]]
    arguments += ["--out", tmp_path / "out", "--framework", "torch", "--threads", 1]
    assert compare.main([str(argument) for argument in arguments]) == 0
    assert json.loads((tmp_path / "out" / "coco.json").read_text())["stage_swap"] is None
    assert "exchanged" not in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out" / "shards").iterdir()] == ["torch"]


def test_a_stopped_run_goes_on(coco, monkeypatch, tmp_path, capsys):
    """Stopped between two pipelines' shards of one part; the rest is computed, nothing twice."""
    monkeypatch.setattr("parity.detections.shards.MIN_IMAGES", 1)
    write, written = ShardFolder.write, []

    def stopping(folder, number, shard):
        if "swap" in folder.folder.name:
            if len(written) == 20:
                raise KeyboardInterrupt
            written.append(folder.path(number))
        write(folder, number, shard)

    monkeypatch.setattr(ShardFolder, "write", stopping)
    assert coco("--framework", "torch") == (130, "interrupted")
    before = {path: path.stat().st_mtime_ns for path in written}
    images = []
    detect = swaps.detect

    def watched(folder, image, pipelines):
        images.append((image.id, len(pipelines)))
        return detect(folder, image, pipelines)

    monkeypatch.setattr(ShardFolder, "write", write)
    monkeypatch.setattr(swaps, "detect", watched)
    code, result = coco("--framework", "torch")
    # 15 mistakes and the baseline: 16 shards of the first image, 4 of the second.
    assert code == 0 and images == [(7, 12), (9, 16)]
    assert before == {path: path.stat().st_mtime_ns for path in written}
    code, undisturbed = coco("--framework", "torch", out="other")
    assert result["stage_swap"] == undisturbed["stage_swap"]
    monkeypatch.setattr(swaps, "open_pipelines", None)
    assert coco("--framework", "torch")[1]["stage_swap"] == result["stage_swap"]


def test_other_settings_do_not_mix(coco, tmp_path, capsys):
    assert coco("--framework", "torch", "--limit", "1")[0] == 0
    manifest = tmp_path / "out" / "shards" / "swap-bgr" / "manifest.json"
    values = json.loads(manifest.read_text())
    assert values["swap"] == "bgr"
    manifest.write_text(json.dumps(values | {"swap": "hard-nms"}))
    assert coco("--framework", "torch", "--limit", "1")[0] == 2
    assert "swap was hard-nms, now bgr" in capsys.readouterr().err


def test_a_damaged_image_is_left_out_of_all(coco, dataset, capsys):
    path = dataset[0] / "7.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        code, result = coco("--framework", "torch")
    finally:
        path.write_bytes(whole)
    assert code == 3 and not result["complete"] and result["stage_swap"]["images"] == 2
    assert [item["image_id"] for item in result["stage_swap"]["failures"]] == [7]
    assert "incomplete" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["network", "postprocess"])
def test_a_stage_that_refuses_an_image_spares_the_others(dataset, where):
    """Pipelines that share a stage's result share its failure; the rest goes on."""

    def refuse(*_):
        raise InputError("Refused.")

    images = read_annotations(dataset[1], 90).images
    plain = swaps.Pipeline(
        accurate,
        lambda _, image: SimpleNamespace(pixels=image, scale=1.0),
        lambda pixels: Outputs([], [pixels]),
        lambda outputs, scale: ([[0, 0, 1, outputs.boxes[0].mean()]], [0.5], [0]),
    )
    wrong = swaps._exchanged(plain, where, refuse)
    results = swaps.detect(dataset[0], images[0], {"plain": plain, "wrong": wrong})
    assert results["plain"].failure is None and len(results["plain"].rows) == 1
    assert results["wrong"].failure == "Refused." and len(results["wrong"].rows) == 0


def test_equal_inputs_share_the_network(dataset):
    calls = []

    def network(pixels):
        calls.append(1)
        return pixels.mean()

    def prepare(_, image):
        return SimpleNamespace(pixels=image, scale=1.0)

    first = swaps.Pipeline(
        accurate,
        prepare,
        network,
        lambda mean, _: ([[0, 0, 1, mean]], [1], [0]),
    )
    others = {
        "nms": swaps._exchanged(first, "postprocess", lambda mean, _: ([], [], [])),
        "same": swaps._exchanged(first, "preprocess", lambda _, image: prepare(_, image.copy())),
        "other": swaps._exchanged(first, "preprocess", lambda _, image: prepare(_, image + 1)),
    }
    image = read_annotations(dataset[1], 90).images[0]
    results = swaps.detect(dataset[0], image, {"first": first} | others)
    assert len(calls) == 2 and len(results["nms"].rows) == 0
    assert (results["same"].rows == results["first"].rows).all()
    assert not (results["other"].rows == results["first"].rows).all()


def test_what_no_table_can_be_made_of(coco, dataset, tmp_path, monkeypatch, capsys):
    assert coco("--framework", "tensorflow") == (2, "option")
    assert "leaves out" in capsys.readouterr().err
    values = json.loads(dataset[1].read_text())
    del values["annotations"]
    bare = tmp_path / "test-dev.json"
    bare.write_text(json.dumps(values))
    assert coco("--submission", annotations=bare) == (2, "option")
    assert "has no boxes" in capsys.readouterr().err
    find = importlib.util.find_spec
    hidden = lambda name, *rest: None if name == "cv2" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    assert coco("--framework", "torch") == (2, "missing package")
    assert "needs cv2, which is not installed" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["coco.json"]


def test_the_trained_model(test_data, tmp_path):
    """Mistakes of published ports on COCO images; figures as measured with the official code."""
    tiny = test_data / "coco_tiny"
    fixed = ["--images", tiny / "val2017", "--annotations", tiny / "instances_val2017.json"]
    arguments = ["coco", test_data / "checkpoints" / "efficientdet-d0", *fixed]
    arguments += ["--out", tmp_path, "--framework", "torch", "--stage-swap", "--limit", 3]
    assert compare.main([str(argument) for argument in arguments]) == 0
    rows = by_slug(json.loads((tmp_path / "coco.json").read_text()))
    assert rows["raw-weights"]["metrics"]["AP"] < 0.01
    assert rows["bgr"]["AP_delta"] < -0.02
    assert abs(rows["opencv-resize"]["AP_delta"]) < 1e-3 > abs(rows["torch-resize"]["AP_delta"])
    # TensorFlow's op is the official soft NMS but for the +1.
    assert rows["tensorflow-nms"]["metrics"] == rows["no-last-pixel"]["metrics"]
