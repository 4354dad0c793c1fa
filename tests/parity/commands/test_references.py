"""What a candidate can be compared with: each kind is known by its name, and one file."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import compare
from parity.commands.references import kind_of, kinds
from torch_model.saving import save_arrays

PASSING = ("exact", "rounding")
ROOT = Path(compare.__file__).resolve().parent


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (None, "graph"),
        ("exact", "exact"),
        ("model.meta", "metagraph"),
        ("model.pth", "module"),
        ("trace.h5", "trace"),
        # The reader of traces says what it is instead.
        ("what.ever", "trace"),
    ],
)
def test_a_reference_is_known_by_its_name(path, name):
    kind = kind_of(None if path is None else Path(path))
    assert kind.__name__ == f"parity.commands.references.{name}"


def test_every_kind_has_all_that_a_kind_has():
    found = list(kinds())
    assert len(found) == 5
    for kind in found:
        assert callable(kind.accepts) and callable(kind.opened) and callable(kind.gradients)
        assert kind.ANY_SIZE in (True, False)
    assert sum(kind.accepts(None) for kind in found) == 1


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
import compare
sys.exit(compare.main(sys.argv[1:]))
"""


def test_a_module_is_a_reference_without_tensorflow(tiny_checkpoint, tiny_pth, tmp_path):
    result = tmp_path / "nodes.json"
    command = [
        "nodes",
        tiny_checkpoint,
        "--reference",
        tiny_pth,
        "--json",
        result,
        "--size",
        "96x128",
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr
    values = json.loads(result.read_text())
    expected = {"kind": "module", "source": str(tiny_pth), "framework": "PyTorch"}
    assert values["reference"] == expected
    assert values["outcome"] == "parity" and len(values["inputs"]) == 2
    # It is compared with itself.
    assert values["counts"]["exact"] == len(values["nodes"]) == 309
    assert values["nodes"][0]["tensor"] == "backbone.stem_conv"


def test_a_reference_that_is_wrong_is_told_so(tiny_checkpoint, tiny_conversion, tmp_path):
    arrays = {name: array.copy() for name, array in tiny_conversion.arrays.items()}
    arrays["backbone.blocks.1.depthwise_bn.bias"] += 0.5
    wrong, result = tmp_path / "wrong.pth", tmp_path / "nodes.json"
    save_arrays(wrong, tiny_conversion.config, arrays, tiny_conversion.provenance)
    command = ["nodes", tiny_checkpoint, "--reference", wrong, "--json", result, "--size", "96x128"]
    assert compare.main([*map(str, command), "--contributions", "0"]) == 1
    nodes = json.loads(result.read_text())["nodes"]
    failing = {node["name"]: node["verdict"] for node in nodes if node["verdict"] not in PASSING}
    assert failing == {"backbone.blocks.1.depthwise_bn": "reference differs"}


def test_a_module_of_another_model_is_refused(tiny_checkpoint, tiny_conversion, tmp_path, capsys):
    path, done = tmp_path / "other.pth", tiny_conversion
    save_arrays(path, replace(done.config, anchor_scale=3.0), done.arrays, done.provenance)
    assert compare.main(["nodes", str(tiny_checkpoint), "--reference", str(path)]) == 2
    said = capsys.readouterr().err
    assert "with anchor_scale 3.0, but the checkpoint is efficientdet-tiny" in said
    assert "anchor_scale 4.0; give files of one model." in said
