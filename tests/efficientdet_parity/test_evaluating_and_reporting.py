"""Evaluations, and pages of all results, from a program."""

import importlib.util
import json

import msgspec
import numpy as np
import pytest

import efficientdet_parity as ep
from parity.detections.images import photograph_like
from parity.process.outcome import Outcome

needs_all = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("tensorflow", "cv2", "pycocotools")),
    reason="TensorFlow, OpenCV or pycocotools is not installed",
)
pages = pytest.mark.skipif(
    importlib.util.find_spec("jinja2") is None, reason="Jinja2 is not installed"
)
IMAGES = np.random.default_rng(0).standard_normal((1, 128, 128, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images and annotations of a data set with two images."""
    import cv2

    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    for number in (1, 2):
        image = photograph_like(90, 120, number)
        assert cv2.imwrite(str(folder / "images" / f"{number}.png"), image)
    values = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": 120, "height": 90}
            for number in (1, 2)
        ],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 40, 40],
             "area": 1600, "iscrowd": 0}
            for number in (1, 2)
        ],
    }  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(values))
    return folder


def evaluate(checkpoint, data, **settings):
    return ep.evaluate(
        checkpoint,
        images=data / "images",
        annotations=str(data / "annotations.json"),
        size=(128, 128),
        threads=1,
        **settings,
    )


@pytest.fixture(scope="module")
def comparison(tiny_checkpoint, tiny_pth):
    return ep.compare(checkpoint=tiny_checkpoint, reference=tiny_pth, images=IMAGES)


@pytest.fixture(scope="module")
def difference(tiny_checkpoint, tiny_pth):
    model = ep.load(tiny_pth)
    model.backbone.stem_bn.eps = 0.1
    return ep.compare(model, tiny_checkpoint, reference=tiny_pth, images=IMAGES)


@needs_all
def test_an_evaluation(tiny_checkpoint, data, comparison, tmp_path, capfd):
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    capfd.readouterr()
    events = []
    result = evaluate(tiny_checkpoint, data, limit=1, progress=events.append)
    assert capfd.readouterr() == ("", "")
    assert {"detecting with torch", "detecting with tensorflow"} <= {e.title for e in events}
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    assert result.ap.keys() == {"torch", "tensorflow"}
    assert result.passes is (result.outcome is Outcome.PARITY)
    # Boxes that nobody drew around anything are not found; the detections agree all the same.
    result.assert_parity()
    assert "AP is 0 on both sides, so that only the detections show it" in result.sentence
    with pytest.raises(TypeError):
        bool(result)
    result.to_json(tmp_path / "coco.json")
    assert json.loads((tmp_path / "coco.json").read_text())["schema"].endswith("/coco")
    ep.report([comparison, result], tmp_path / "report")
    (run,) = json.loads((tmp_path / "report" / "report.json").read_text())["models"]
    assert run["model"] == "efficientdet-tiny"


@needs_all
def test_one_framework_alone_shows_no_parity(tiny_checkpoint, data, tmp_path):
    result = evaluate(tiny_checkpoint, data, framework="torch", out=tmp_path / "out")
    assert (tmp_path / "out" / "detections_torch.json").is_file()
    assert result.ap.keys() == {"torch"} and not result.passes
    with pytest.raises(AssertionError):
        result.assert_parity()


@needs_all
def test_a_live_module_is_evaluated(tiny_checkpoint, tiny_pth, data, tmp_path):
    ours = evaluate(tiny_checkpoint, data, framework="torch", out=tmp_path / "ours")
    model = ep.load(tiny_pth)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    out = tmp_path / "out"
    result = evaluate(tiny_checkpoint, data, framework="candidate", out=out, candidate=model)
    assert result.record.candidate.endswith("EfficientDet (a live module)")
    assert result.ap.keys() == {"candidate"} and not result.passes
    assert result.ap["candidate"] == ours.ap["torch"]
    first = (out / "detections_candidate.json").read_bytes()
    assert first == (tmp_path / "ours" / "detections_torch.json").read_bytes()
    assert all(bool((model.state_dict()[name] == value).all()) for name, value in before.items())
    # What is changed in a living module is another candidate.
    model.backbone.stem_bn.eps = 0.1
    with pytest.raises(ep.InputError, match="another run: candidate modules was"):
        evaluate(tiny_checkpoint, data, framework="candidate", out=out, candidate=model)
    with pytest.raises(ep.InputError, match="live module cannot be sent") as caught:
        evaluate(tiny_checkpoint, data, framework="candidate", candidate=model, workers=1)
    assert caught.value.cause is ep.Cause.OPTION
    with pytest.raises(ep.InputError, match="must be a torch.nn.Module"):
        evaluate(tiny_checkpoint, data, candidate=len)


@needs_all
def test_detections_of_a_live_module_are_drawn(tiny_checkpoint, tiny_pth, data, tmp_path):
    model = ep.load(tiny_pth)
    model.backbone.stem_bn.eps = 0.1
    picture = data / "images" / "1.png"
    found = ep.detect(
        tiny_checkpoint, picture, tmp_path, candidate=model, size=(128, 128), threads=1, min_score=0
    )
    assert found.outcome is Outcome.DIFFERENCE and (tmp_path / "1.png").is_file()
    assert json.loads((tmp_path / "detect.json").read_text())["candidate"] == found.record.candidate
    assert found.record.images[0].detections.keys() == {"tensorflow", "candidate"}


@pages
def test_results_of_different_candidates_share_no_page(comparison, difference, tmp_path):
    import made_results as made

    evaluation = ep.Evaluation(
        made.as_record(
            {
                **made.of_candidate(made.coco(), difference.record.candidate),
                "model": difference.record.model,
                "checkpoint": json.loads(msgspec.json.encode(difference.record.checkpoint)),
            }
        )
    )
    ep.report([comparison, difference, evaluation], tmp_path)
    places = {
        path.parent.parent.name if path.parent.name == "coco" else path.parent.name
        for path in tmp_path.rglob("coco.json")
    }
    assert places == {"efficientdet-tiny-2"}


@needs_all
def test_mistakes_of_an_evaluation(tiny_checkpoint, data, tmp_path):
    with pytest.raises(ep.InputError, match="has none of the") as caught:
        ep.evaluate(tiny_checkpoint, tmp_path, data / "annotations.json")
    assert caught.value.cause is ep.Cause.FILE
    with pytest.raises(ep.InputError, match="did you mean limit") as caught:
        evaluate(tiny_checkpoint, data, limits=1)
    assert caught.value.cause is ep.Cause.OPTION


@pages
def test_pages_of_several_results(comparison, difference, tmp_path, capfd):
    capfd.readouterr()
    outcome = ep.report([comparison, difference], tmp_path / "both")
    assert outcome is Outcome.DIFFERENCE
    assert capfd.readouterr() == ("", "")
    names = {path.name for path in (tmp_path / "both").glob("*.html")}
    assert names == {"index.html", "efficientdet-tiny.html", "efficientdet-tiny-2.html"}
    assert (tmp_path / "both" / "efficientdet-tiny-2" / "nodes.json").is_file()


@pages
def test_pages_are_of_the_results_given_and_of_no_earlier_ones(comparison, difference, tmp_path):
    assert ep.report([difference, comparison], tmp_path) is Outcome.DIFFERENCE
    assert ep.report([comparison], tmp_path, data=False) is Outcome.PARITY
    (model,) = json.loads((tmp_path / "report.json").read_text())["models"]
    assert "tiny-2" not in (tmp_path / "index.html").read_text()


@pages
@pytest.mark.parametrize(
    "results, said",
    [([], "No result"), (["r.json"], "A str is no result"), ("comparison", "A single result")],
)
def test_results_that_are_none(comparison, tmp_path, results, said):
    with pytest.raises(ep.InputError, match=said) as caught:
        ep.report(comparison if results == "comparison" else results, tmp_path / "report")
    assert caught.value.cause is ep.Cause.OPTION
    assert not (tmp_path / "report").exists()
