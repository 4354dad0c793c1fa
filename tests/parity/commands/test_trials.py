"""Several inputs in one command: what each says, and what follows from all."""

import json
from dataclasses import replace

import pytest
from handmade import given, node, report

import compare
from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from parity.results.coverage import merged_nodes
from parity.results.ranking import nearest

CANDIDATE = """
import types

def build(faithful):
    forward = faithful.forward

    def changed(images):
        if images.shape[-1] % 2:
            {at_odd_sizes}
        return forward(images)

    faithful.forward = changed
    return faithful
"""


def compared(tiny_checkpoint, tmp_path, at_odd_sizes, *options):
    port, result = tmp_path / "port.py", tmp_path / "nodes.json"
    port.write_text(CANDIDATE.format(at_odd_sizes=at_odd_sizes))
    code = compare.main(
        ["nodes", str(tiny_checkpoint), "--candidate", f"{port}:build", "--json", str(result)]
        + ["--contributions", "0", *options]
    )
    return code, json.loads(result.read_text())


def test_a_port_of_one_size_is_compared_at_that_size_and_the_result_says_so(
    tiny_checkpoint, tmp_path
):
    code, result = compared(tiny_checkpoint, tmp_path, "raise ValueError('multiples of 32')")
    assert (code, result["outcome"]) == (0, "parity")
    assert [item["outcome"] for item in result["inputs"]] == ["parity", "parity"]
    assert {(item["height"], item["width"]) for item in result["inputs"]} == {(128, 128)}
    assert result["inputs"][1]["batch"] == 2
    (note,) = [note for note in result["coverage"]["notes"] if "took the place" in note]
    assert "cannot be run on 2 images together of 65x97" in note
    assert "ValueError: multiples of 32 at " in note


@pytest.mark.heavy
def test_a_port_of_single_images_is_compared_on_single_images(tiny_checkpoint, tmp_path):
    lines = ("pass", "if images.shape[0] > 1 or images.shape[-1] % 2:", "    raise ValueError")
    code, result = compared(tiny_checkpoint, tmp_path, "\n        ".join(lines))
    assert (code, result["outcome"]) == (0, "parity")
    assert [item["batch"] for item in result["inputs"]] == [1, 1]
    notes = [note for note in result["coverage"]["notes"] if "took the place" in note]
    assert len(notes) == 2 and "a single image of 128x128 took the place" in notes[1]


def test_a_port_that_fails_on_the_generated_images_themselves_is_not_green(
    tiny_checkpoint, tmp_path
):
    bright = (
        "pass\n        if images.abs().mean() > 1.5:\n            raise ValueError('too bright')"
    )
    code, result = compared(tiny_checkpoint, tmp_path, bright)
    assert (code, result["outcome"]) == (3, "not shown")
    (item,) = result["inputs"]
    assert item["outcome"] == "parity"
    (gap,) = result["not_shown"]
    assert "ValueError: too bright at " in gap and "--image" in gap
    assert result["sentence"].startswith("NOT SHOWN: one of the generated inputs could not be")


def test_a_size_that_was_asked_for_is_another_matter(tiny_checkpoint, tmp_path, capsys):
    code, failure = compared(
        tiny_checkpoint, tmp_path, "raise ValueError('no')", "--size", "97x129"
    )
    assert (code, failure["cause"]) == (2, "candidate")
    assert "fails on [1, 3, H, W] images of 97x129 with ValueError: no" in capsys.readouterr().err


def test_a_port_that_casts_by_itself_is_told_of_the_type(tiny_checkpoint, tmp_path, capsys):
    code, failure = compared(
        tiny_checkpoint, tmp_path, "images = images.half()", "--size", "97x129"
    )
    assert (code, failure["cause"]) == (2, "candidate")
    told = capsys.readouterr().err
    assert "have been brought to float32, so let its own code bring nothing to another" in told
    assert "training mode" not in told


def test_a_difference_on_one_input_says_on_which(tiny_checkpoint, tmp_path):
    code, result = compared(tiny_checkpoint, tmp_path, "images = images * 1.01")
    assert code == 1
    assert [item["outcome"] for item in result["inputs"]] == ["parity", "difference"]
    assert ", not on the other inputs; " in result["sentence"]
    assert result["inputs"][1]["source"] in result["sentence"]


def test_what_one_input_does_not_show_another_may():
    silent = node("a", Verdict.NOT_COVERED, silent=True)
    shown = node("a", Verdict.ROUNDING, input=1)
    missing = node("a", Verdict.NOT_COVERED, input=1)
    wrong = node("a", Verdict.FUNCTION_DIFFERS, input=1)
    assert merged_nodes([[silent], [shown]]) == [shown]
    assert merged_nodes([[shown], [silent]]) == [shown]
    # What is missing for another reason is missing on every input.
    assert merged_nodes([[shown], [missing]]) == [missing]
    assert merged_nodes([[silent], [wrong]]) == [wrong]
    assert merged_nodes([[silent], [silent]]) == [silent]
    assert report([silent]).outcome is Outcome.NOT_SHOWN


def test_the_nearest_to_its_limit_is_not_the_one_with_most_roundings():
    few, many = node("few"), node("many")
    many = replace(
        many,
        limit=replace(many.limit, candidate=100.0),
        from_exact=replace(many.from_exact, roundings=5.0),
    )
    assert [item.name for item in nearest([many, few], 2)] == ["few", "many"]


def test_one_node_differs_and_two_differ():
    wrong = [node(name, Verdict.FUNCTION_DIFFERS) for name in "ab"]
    assert "DIFFERENCE: 1 of 1 nodes differs; " in report(wrong[:1]).sentence
    assert "DIFFERENCE: 2 of 2 nodes differ; " in report(wrong).sentence
    inputs = [given(outcome=Outcome.PARITY), given("other.png", outcome=Outcome.DIFFERENCE)]
    told = report(wrong, inputs=inputs).sentence
    assert "2 of 2 nodes differ on 96x128 (other.png), not on the other inputs; " in told


def test_a_port_that_is_only_run_without_gradients_is_not_refused(tiny_checkpoint, tmp_path):
    code, result = compared(tiny_checkpoint, tmp_path, "next(faithful.parameters()).abs().numpy()")
    assert code == 0
    assert any("with gradients recorded" in note for note in result["coverage"]["notes"])


LOOP = """
import torch
from torch import nn

class Loop(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        found = [self.model({first}) for images in images.split(1)]
        return [[torch.cat(level) for level in zip(*part)] for part in zip(*found)]

def build(faithful):
    return Loop(faithful).eval()
"""


@pytest.mark.parametrize("by_modules", [True, False])
def test_a_port_that_takes_images_one_after_another_is_compared_on_each(
    tiny_checkpoint, tmp_path, by_modules
):
    port, result = tmp_path / "loop.py", tmp_path / "nodes.json"
    code = LOOP.format(first="images")
    if not by_modules:
        # Its modules have other names, so that its operations are looked at.
        code = code.replace("self.model = model", "self.parts = nn.ModuleList(model.children())")
        code = code.replace("self.model(", "self.one(") + ONE
    port.write_text(code)
    options = ["--json", str(result), "--contributions", "0", "--reference", "exact"]
    options += ["--candidate", f"{port}:build"]
    assert compare.main(["nodes", str(tiny_checkpoint), *options]) == 0
    found = json.loads(result.read_text())
    assert [item["batch"] for item in found["inputs"]] == [1, 1, 1]
    assert found["inputs"][2]["source"] == "generated, of high amplitude, number 2 of 2"
    (note,) = [note for note in found["coverage"]["notes"] if "one after another" in note]
    assert note.endswith("what it returns for them together is the same bit for bit.")


ONE = """
def one(self, images):
    backbone, fpn, classes, boxes = self.parts
    features = fpn(backbone(images))
    return classes(features), boxes(features)

Loop.one = one
"""


def test_a_batch_that_is_not_what_its_images_are_is_a_difference(tiny_checkpoint, tmp_path):
    port, result = tmp_path / "loop.py", tmp_path / "nodes.json"
    # Of two images the second is weakened, and of a single one nothing.
    port.write_text(
        LOOP.format(first="images * (0.99 if len(found) else 1)")
        .replace(
            "found = [self", "found = []\n        for image in images.split(1): found += [self"
        )
        .replace(" for images in images.split(1)]", "]")
        .replace("self.model(images *", "self.model(image *")
    )
    options = ["--json", str(result), "--contributions", "0", "--reference", "exact"]
    options += ["--candidate", f"{port}:build"]
    assert compare.main(["nodes", str(tiny_checkpoint), *options]) == 1
    (finding,) = json.loads(result.read_text())["findings"]
    assert finding["slug"] == "not-repeatable"
    assert finding["text"].startswith("of 2 images together it makes something else than of each")


@pytest.mark.parametrize("size, seen", [("128x128", False), ("256x128", True)])
def test_kernels_that_only_their_middle_shows_of_are_told(tiny_checkpoint, tmp_path, size, seen):
    result = tmp_path / "nodes.json"
    options = ["--json", str(result), "--contributions", "0", "--reference", "exact"]
    options += ["--size", size]
    assert compare.main(["nodes", str(tiny_checkpoint), *options]) == 0
    notes = json.loads(result.read_text())["coverage"]["notes"]
    told = [note for note in notes if "only the middle of the kernel counts" in note]
    assert bool(told) != seen
    if told:
        assert told[0].startswith("2 depthwise convolutions (first fpn.cells.0.nodes.7.conv.dep")
