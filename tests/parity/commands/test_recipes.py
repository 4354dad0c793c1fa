"""What a worker sets up from a recipe is what was set up here, or it says what differs."""

from dataclasses import replace

import cv2
import msgspec
import pytest
from made_images import waves

from efficientdet_spec import InputError
from parity.commands.detecting.brought_detection import FileDetecting, FunctionDetecting
from parity.commands.detecting.candidate_detection import CandidateDetecting
from parity.commands.detecting.detection import Detection
from parity.commands.detecting.detectors import detecting
from parity.commands.detecting.recipes import opened, recipe_of
from parity.detections.messages import Recipe, SideName
from torch_model.profiles import get_profile


@pytest.fixture
def setup(tiny_checkpoint, tiny_conversion):
    return Detection(
        tiny_conversion, tiny_checkpoint / "model", get_profile("official"), (64, 64), "ema",
        "cpu", 1, 1,
    )  # fmt: skip


@pytest.fixture
def recipe(setup):
    side = detecting("torch")
    return recipe_of(setup, side, side.elsewhere())


@pytest.fixture
def picture(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), waves(24, 40))
    return tmp_path / "0.png"


def travelled(recipe):
    return msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe)


def refused(recipe, message):
    with pytest.raises(InputError, match=message), opened(recipe):
        pass


def test_a_recipe_is_small_and_sets_the_same_up(recipe, picture):
    sent = travelled(recipe)
    assert len(msgspec.json.encode(recipe)) < 4000 and sent == recipe
    with opened(sent) as side:
        ((boxes, scores, classes),) = side.detect([side.prepare(picture)])
    assert boxes.shape == (100, 4) and len(scores) == len(classes) == 100


def test_a_recipe_holds_a_candidate_by_name(setup, picture, tmp_path, monkeypatch):
    """What a worker finds under the name must be what was found here."""
    port = tmp_path / "port.py"
    port.write_text("def build(faithful):\n    return faithful\n")
    monkeypatch.chdir(tmp_path)
    side = CandidateDetecting.named("port.py:build")
    name = side.elsewhere()
    assert name == SideName(kind="candidate", text=f"{port}:build")
    sent = travelled(recipe_of(replace(setup, size=(128, 128)), side, name))
    monkeypatch.chdir("/")
    with opened(sent) as side:
        ((boxes, _, _),) = side.detect([side.prepare(picture)])
    assert boxes.shape == (100, 4)
    port.write_text("def build(faithful):\n    return faithful.eval()\n")
    refused(sent, "candidate is .*, not")


def test_a_recipe_holds_a_function_by_name(setup, picture, tmp_path, monkeypatch):
    script = tmp_path / "own.py"
    script.write_text("def detect(paths):\n    return [[[0, 0, 2, 3]]], [[0.5]], [[1]]\n")
    monkeypatch.chdir(tmp_path)
    side = FunctionDetecting("own.py:detect")
    sent = travelled(recipe_of(setup, side, side.elsewhere()))
    monkeypatch.chdir("/")
    with opened(sent) as side:
        ((row,),) = side.detect([side.prepare(picture)])
    assert row.tolist() == [0, 0, 2, 3, 0.5, 1]
    script.write_text("def detect(paths):\n    return [[]], [[]], [[]]\n")
    refused(sent, "detections is .*, not")


def test_what_a_file_holds_is_computed_nowhere(tmp_path):
    assert FileDetecting(tmp_path / "x.json", {}).elsewhere() is None


def test_another_checkpoint_or_version_is_refused(recipe, rewrite):
    def change(tensors):
        tensors[sorted(tensors)[0]][...] += 1

    def changed(**values):
        return msgspec.structs.replace(recipe, **values)

    refused(changed(prefix=str(rewrite(change) / "model")), r"model .*checkpoint is \w+, not")
    manifest = {**recipe.manifest, "version of framework": "1.0"}
    refused(changed(manifest=manifest), r"version of framework is .*, not 1\.0")
    refused(changed(prefix="/nowhere/model"), "/nowhere/model")
    refused(changed(side=SideName(kind="candidate")), "without a name of its code")
