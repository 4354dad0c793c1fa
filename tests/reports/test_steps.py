"""Which models a command line names, and what is run for each."""

from dataclasses import replace
from pathlib import Path

import pytest

from efficientdet_spec import OFFICIAL_MODELS, InputError
from parity.settings.report import ReportSettings
from reports.run import steps
from reports.run.steps import Subject, subjects


def test_every_form_of_a_source(tmp_path):
    (tmp_path / "efficientdet-d1").mkdir()
    (tmp_path / "model.index").touch()
    folder, prefix = str(tmp_path / "efficientdet-d1") + "/", str(tmp_path / "model")
    address = "http://localhost/a/my model.tar.gz?x=1"
    found = subjects(["efficientdet-d0", folder, prefix, f"mine={folder}", address])
    assert found == [
        Subject("efficientdet-d0", "efficientdet-d0", True),
        Subject("efficientdet-d1", folder, False),
        Subject("model", prefix, False),
        Subject("mine", folder, False),
        Subject("my-model", address, False),
    ]
    assert [item.source for item in subjects(["all"])] == list(OFFICIAL_MODELS)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["efficientdet-d99"], "neither a checkpoint nor the name of a model"),
        (["../x=efficientdet-d0"], "cannot name a page"),
        ([".hidden=efficientdet-d0"], "cannot name a page"),
        (["Index=efficientdet-d0"], "cannot name a page"),
        (["efficientdet-d0", "all"], "would both be called efficientdet-d0"),
    ],
)
def test_what_is_no_source(sources, message):
    with pytest.raises(InputError, match=message):
        subjects(sources)


def choice_of(**settings):
    return ReportSettings(sources=("efficientdet-d0",), out="out", **settings)


def option(command, name):
    return command[command.index(name) + 1]


def test_the_file_that_was_converted_is_compared():
    subject = Subject("d6", "efficientdet-d6", True)
    folder = Path("results/d6")
    choice = choice_of(threads=2, size="640x512", closeups=3)
    convert = steps.convert(subject, "seeded", folder, choice)
    assert convert.command[:3] == ("convert.py", "seeded", "results/d6/model.pth")
    nodes, structure = steps.comparisons(subject, "seeded", folder, choice, trained=False)
    for step in (nodes, structure):
        assert option(step.command, "--candidate") == "results/d6/model.pth"
        assert option(step.command, "--model") == "efficientdet-d6"
        assert option(step.command, "--json") == str(folder / step.result)
    assert option(nodes.command, "--size") == "640x512"
    assert option(structure.command, "--size") == "256x256"
    assert option(structure.command, "--dtype") == "float64"


def test_detections_only_of_trained_models_and_with_images(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt"):
        (tmp_path / name).touch()
    subject = Subject("mine", "checkpoint", False)
    choice = choice_of(
        images=tmp_path, annotations=tmp_path / "notes.txt", limit=5, self_check=True
    )

    def names(choice, trained):
        found = steps.comparisons(subject, "checkpoint", Path("r"), choice, trained=trained)
        return [step.name for step in found]

    def obstacles(choice, trained):
        found = steps.comparisons(subject, "checkpoint", Path("r"), choice, trained=trained)
        return [step.obstacle for step in found]

    assert names(choice, True) == ["nodes", "structure", "self-check", "coco", "detect"]
    assert obstacles(choice, True) == ["", "", "", "", ""]
    # What was asked for is not forgotten where it cannot be made.
    untrained = "the weights are not trained"
    assert obstacles(choice, False) == ["", "", "", untrained, untrained]
    other = replace(choice, candidate="port.py:build")
    assert obstacles(other, True) == ["", "", "", "", ""]
    found = steps.comparisons(subject, "checkpoint", Path("r"), other, trained=True)
    given = {step.name: option(step.command, "--candidate") for step in found[:2] + found[3:]}
    assert set(given.values()) == {"port.py:build"} and len(given) == 4
    assert [step.runs_code for step in found] == [True, True, False, True, True]
    assert names(replace(choice, pictures=0), True)[-1] == "coco"
    assert names(choice_of(), True) == ["nodes", "structure"]
    *_, coco, detect = steps.comparisons(subject, "checkpoint", Path("r"), choice, trained=True)
    assert option(coco.command, "--limit") == "5" and "--stage-swap" not in coco.command
    *_, coco, _ = steps.comparisons(
        subject, "checkpoint", Path("r"), replace(choice, stage_swap=True), trained=True
    )
    assert "--stage-swap" in coco.command
    assert detect.command[3:5] == (str(tmp_path / "a.PNG"), str(tmp_path / "b.jpg"))


def test_only_a_converted_reference_is_used_in_float64_too():
    subject = Subject("mine", "checkpoint", False)
    for name, used in (("model.pth", True), ("graph.meta", False), ("trace.h5", False)):
        choice = choice_of()
        # The file need not be there for this.
        object.__setattr__(choice, "reference", Path(name))
        found = steps.comparisons(subject, "checkpoint", Path("r"), choice, trained=True)
        given = [step.settings.reference for step in found]
        assert given == [Path(name), Path(name) if used else None]
        assert ("tensorflow" in choice.needs()) is not used


def test_a_name_that_is_nearly_right_and_a_home_folder(monkeypatch, tmp_path):
    with pytest.raises(InputError, match=r"\(did you mean efficientdet-d0\?\)"):
        subjects(["efficentdet-d0"])
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert subjects(["mine=~/model"]) == [Subject("mine", str(tmp_path / "model"), False)]
    with pytest.raises(InputError, match="neither a checkpoint"):
        subjects(["x="])


def test_what_may_be_downloaded_is_handed_on():
    subject = Subject("d0", "efficientdet-d0", True)
    folder = Path("results/d0")
    choice = choice_of(sha256="AB" * 32, offline=True, self_check=True)
    trained = [
        steps.convert(subject, subject.source, folder, choice),
        *steps.comparisons(subject, subject.source, folder, choice, trained=True),
    ]
    for step in trained:
        assert option(step.command, "--sha256") == "ab" * 32 and "--offline" in step.command
    # Seeded weights come from no archive.
    for step in (
        steps.convert(subject, "seeded", folder, choice),
        *steps.comparisons(subject, "seeded", folder, choice, trained=False),
    ):
        assert "--sha256" not in step.command and "--offline" in step.command


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"sources": ("efficientdet-d0", "efficientdet-d1")},
            "the pages are of 2 models; name one",
        ),
        ({"sources": ("all",)}, "the pages are of all models"),
        ({"sources": (), "from_": "."}, "the pages are of an earlier run"),
        ({"sources": ("efficientdet-d0",), "seeded": True}, "--seeded makes the weights here"),
    ],
)
def test_a_digest_is_of_one_archive(settings, message):
    with pytest.raises(InputError, match=message):
        ReportSettings(out="out", sha256="0" * 64, **settings)


@pytest.mark.parametrize(
    "name", ["efficientdet-lite0", "efficientdet-d3-640", "efficientdet-d0-2020-03"]
)
def test_every_release_can_be_reported_on(name, tmp_path):
    (found,) = subjects([name])
    assert found.official and found.slug == name
    choice = ReportSettings(sources=(name,), out=tmp_path)
    assert steps.seed(found, tmp_path, choice).settings.model == name
    converted = steps.convert(found, str(tmp_path / "seeded"), tmp_path, choice)
    assert converted.settings.model == name
