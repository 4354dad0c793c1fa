"""Names from elsewhere neither move a terminal's cursor nor write a line of their own."""

import json

import pytest

import compare
import convert

FORGED = "a\x1b[2J\nwrote good pth\r\u202e\x9b31m"

PORT = """
import torch
from torch import nn

NAME = {name!r}

class Odd(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.add_module(NAME, inner)
        self.wrong = {wrong}

    def forward(self, x):
        classes, boxes = self._modules[NAME](x)
        return [c * 1.5 if self.wrong else c for c in classes], boxes

def build(faithful):
    {failing}
    faithful.backbone.add_module(NAME, faithful.backbone.stem_conv)
    return Odd(faithful)
"""


def odd(tmp_path, *, wrong=False, failing="pass"):
    path = tmp_path / "port.py"
    path.write_text(PORT.format(name=FORGED, wrong=wrong, failing=failing))
    return f"{path}:build"


def is_harmless(text):
    lines = text.split("\n")
    return all(line.isprintable() for line in lines) and not any(
        line.startswith("wrote good") for line in lines
    )


@pytest.mark.parametrize("wrong", [False, True])
def test_modules_of_a_candidate(wrong, tiny_checkpoint, tmp_path, capsys):
    words = ["nodes", str(tiny_checkpoint), "--candidate", odd(tmp_path, wrong=wrong)]
    options = ["--reference", "exact", "--size", "64x64", "--verbose", "--threads", "1"]
    names = tmp_path / "names.json"
    code = compare.main([*words, *options, "--write-names", str(names)])
    told = capsys.readouterr()
    assert code == (1 if wrong else 0), told.err
    assert is_harmless(told.out) and is_harmless(told.err)
    # The files hold the names as they are: JSON escapes them itself.
    assert json.loads(names.read_text())["nodes"]


def test_what_a_candidate_says_of_its_failure(tiny_checkpoint, tmp_path, capsys):
    port = odd(tmp_path, failing="raise ValueError(NAME)")
    words = ["nodes", str(tiny_checkpoint), "--candidate", port, "--reference", "exact"]
    assert compare.main(words) == 2
    told = capsys.readouterr()
    assert is_harmless(told.out) and is_harmless(told.err) and "\\x1b[2J" in told.err


def test_a_folder_of_checkpoints(tmp_path, capsys):
    for name in (FORGED.replace("\r", ""), "b"):
        (tmp_path / f"{name}.index").write_bytes(b"x")
    assert convert.main([str(tmp_path), str(tmp_path / "x.pth")]) == 2
    told = capsys.readouterr()
    assert is_harmless(told.err) and "holds 2 checkpoints" in told.err


def test_names_in_the_results_of_others(tmp_path, capsys):
    from made_results import nodes

    values = nodes()
    values["nodes"][0]["name"] = FORGED
    values["checkpoint"]["source"] = FORGED
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path in paths:
        path.write_text(json.dumps(values))
        values["nodes"][0]["name"] = f"other {FORGED}"
    assert compare.main(["diff", *map(str, paths)]) in (0, 1, 3)
    told = capsys.readouterr()
    assert is_harmless(told.out) and is_harmless(told.err)
