"""``coco`` and ``detect`` with a candidate: its network is what runs, and what is told of it."""

import importlib.util
import json

import cv2
import numpy as np
import pytest
from made_images import waves

import compare
from parity.coco.titles import titles

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)
SIZES = {1: (90, 150), 2: (128, 128), 3: (60, 40)}

PORT = """
import torch
from torch import nn


def joined(levels, values):
    return torch.cat([x.permute(0, 2, 3, 1).reshape(len(x), -1, values) for x in levels], 1)


class Odd(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        classes, boxes = self.inner(images)
        return images, joined(boxes, 4), {"classes": joined(classes, 7)}


class Scores(Odd):
    def forward(self, images):
        classes, boxes = self.inner(images)
        return [x.permute(0, 2, 3, 1) for x in boxes], [x.sigmoid() for x in classes]


class Pairs(Odd):
    def forward(self, images):
        assert len(images) == 2, "made for two images"
        return super().forward(images)


class Sized(Odd):
    def __init__(self, inner, size):
        super().__init__(inner)
        self.size = size

    def forward(self, images):
        assert tuple(images.shape[2:]) == self.size, "made for another size"
        return super().forward(images)


def odd(faithful):
    return Odd(faithful).eval()


def scores(faithful):
    return Scores(faithful).eval()


def pairs(faithful):
    return Pairs(faithful).eval()


def sized(faithful, size):
    return Sized(faithful, size).eval()


def fault(faithful):
    layer = faithful.get_submodule("fpn.resample_p6.pool")
    make = layer.forward
    layer.forward = lambda x, size: make(x.clamp(min=0), size)
    return Odd(faithful).eval()


def nothing(faithful):
    return None


def decoded(faithful):
    class Decoded(Odd):
        def forward(self, images):
            classes, boxes = self.inner(images)
            return classes, [x.exp() for x in boxes]

    return Decoded(faithful).eval()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with images, their annotations, and a port."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    for number, (height, width) in SIZES.items():
        image = waves(height, width, seed=number)
        assert cv2.imwrite(str(folder / "images" / f"{number}.png"), image[..., ::-1])
    values = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
            for number, (height, width) in SIZES.items()
        ],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 30, 30],
             "area": 900, "iscrowd": 0}
            for number in SIZES
        ],
    }  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(values))
    (folder / "port.py").write_text(PORT)
    return folder


@pytest.fixture
def coco(tiny_checkpoint, data, tmp_path):
    """Runs ``coco``; exit code and result."""

    def run(*options, out="out", framework="candidate"):
        arguments = ["coco", str(tiny_checkpoint), "--images", str(data / "images")]
        arguments += ["--annotations", str(data / "annotations.json"), "--out", str(tmp_path / out)]
        arguments += ["--size", "128x128", "--threads", "1"]
        arguments += [] if framework == "both" else ["--framework", framework]
        code = compare.main([*arguments, *map(str, options)])
        path = tmp_path / out / "coco.json"
        return code, json.loads(path.read_text()) if path.exists() else None

    return run


def rows(folder, side):
    entries = json.loads((folder / f"detections_{side}.json").read_text())
    return np.array([[*item["bbox"], item["score"], item["category_id"]] for item in entries])


def test_a_faithful_port_in_any_form_detects_what_the_converted_model_does(coco, data, tmp_path):
    """And one with a fault does not: its own network is what runs."""
    assert coco(framework="torch", out="ours")[0] == 0
    ours = rows(tmp_path / "ours", "torch")
    for name in ("odd", "sized"):
        code, result = coco("--candidate", f"{data / 'port.py'}:{name}", out=name)
        assert code == 0 and list(result["metrics"]) == ["candidate"]
        assert np.array_equal(rows(tmp_path / name, "candidate"), ours)
    code, result = coco("--candidate", f"{data / 'port.py'}:scores", out="scores")
    found = rows(tmp_path / "scores", "candidate")
    assert np.allclose(found, ours, rtol=1e-5, atol=1e-4)
    assert any("undone by logit" in note for note in result["notes"])
    coco("--candidate", f"{data / 'port.py'}:fault", out="fault")
    found = rows(tmp_path / "fault", "candidate")
    assert found.shape != ours.shape or np.abs(found[:, 4] - ours[:, 4]).max() > 1e-5


def test_a_port_for_so_many_images(coco, data, tmp_path, capsys):
    port = f"{data / 'port.py'}:pairs"
    assert coco("--candidate", port, out="one")[0] == 2
    assert "made for two images" in (said := capsys.readouterr().err) and "--batch-size" in said
    assert coco("--candidate", port, "--batch-size", 2, out="two")[0] == 0
    assert coco(framework="torch", out="ours")[0] == 0
    # The third image is given together with itself.
    ours, found = rows(tmp_path / "ours", "torch"), rows(tmp_path / "two", "candidate")
    assert np.allclose(found, ours, rtol=1e-5, atol=1e-4)


def test_shards_of_another_port_are_not_taken(coco, data, tmp_path, monkeypatch, capsys):
    port = tmp_path / "port.py"
    port.write_text(PORT)
    named = ("--candidate", f"{port}:odd")
    assert coco(*named)[0] == 0
    before = (tmp_path / "out" / "coco.json").read_bytes()

    def never(*_):
        raise AssertionError("opened")

    place = "parity.commands.detecting.candidate_detection.CandidateDetecting.open"
    monkeypatch.setattr(place, never)
    # The same, wherever it lies.
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "port.py").write_text(PORT)
    assert coco("--candidate", f"{moved / 'port.py'}:odd")[0] == 0
    assert coco(*named)[0] == 0
    assert (tmp_path / "out" / "coco.json").read_bytes() == before
    capsys.readouterr()
    assert coco("--candidate", f"{port}:fault")[0] == 2
    assert "another run: candidate function was odd, now fault" in capsys.readouterr().err
    port.write_text(PORT.replace("return Odd(faithful).eval()", "return Odd(faithful) .eval()"))
    assert coco(*named)[0] == 2
    assert "candidate code candidate_port was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--candidate", "nowhere.py:build"], "nowhere.py does not exist"),
        (["--candidate", "{port}"], "which of its functions returns the model"),
        (["--candidate", "{port}:other"], "has no function 'other'"),
        (["--candidate", "{port}:nothing"], "is of type NoneType"),
        (["--candidate", "{port}:decoded"], "something to its box outputs behind its last"),
        (["--candidate", "{port}:odd", "--framework", "torch"], "leaves the candidate out"),
        (
            ["--candidate", "{port}:odd", "--framework", "both", "--stage-swap"],
            "neither a candidate",
        ),
        (["--framework", "candidate"], "none is given"),
        (["--names", "names.json", "--framework", "torch"], "--candidate is not given"),
    ],
)
def test_mistakes_are_told_in_a_sentence(coco, data, capsys, options, said):
    code, _ = coco(*(text.format(port=data / "port.py") for text in options), out="wrong")
    told = capsys.readouterr().err.splitlines()[-1]
    assert code == 2 and said in told and len(told) < 1000
    assert "Traceback" not in told


@needs_tensorflow
def test_a_candidate_beside_the_reference(coco, data, tiny_checkpoint, tmp_path, capsys):
    port = f"{data / 'port.py'}:fault"
    code, result = coco("--candidate", port, framework="both")
    printed = capsys.readouterr().out
    assert code == 1 and result["outcome"] == "difference"
    assert list(result["metrics"]) == ["tensorflow", "candidate"] == list(result["images"])
    assert result["candidate"] == port and "port.py:fault's are missing" in result["sentence"]
    assert f"candidate: {port}" in printed and "TensorFlow port.py:fault" in printed
    assert "PyTorch" not in printed
    code, result = coco("--candidate", f"{data / 'port.py'}:odd", framework="both", out="right")
    # Boxes that nobody drew around anything are not found; every detection has its partner.
    assert code in (0, 3) and result["matching"]["apart"] == 0
    assert not result["matching"]["candidate_unexplained"]
    image, out = data / "images" / "1.png", tmp_path / "drawn"
    arguments = ["detect", str(tiny_checkpoint), str(image), "--out", str(out), "--min-score", "0"]
    arguments += ["--size", "128x128", "--candidate", port]
    assert compare.main(arguments) == 1
    result = json.loads((out / "detect.json").read_text())
    assert result["candidate"] == port and (out / "1.png").is_file()
    assert list(result["images"][0]["detections"]) == ["tensorflow", "candidate"]
    pairs = ["--candidate", f"{data / 'port.py'}:pairs", "--batch-size", "2"]
    assert compare.main([*arguments[:-2], *pairs]) == 0


def test_what_a_side_is_called():
    assert list(titles(None).values()) == ["TensorFlow", "PyTorch"]
    for text, name in (
        ("/a/b/port.py:build", "port.py:build"),
        ("models/d0.pth", "d0.pth"),
        ("effdet:tf_efficientdet_d0", "effdet:tf_efficientdet_d0"),
        ("port.Port (a live module)", "port.Port (a live module)"),
    ):
        assert titles(text) == {"tensorflow": "TensorFlow", "candidate": name}
