"""``inspect``: what a file is, whatever container it is in, sound or damaged."""

import json

import pytest

from converter.conversion import convert
from converter.fetch.sources import resolve
from converter.formats.registry import formats
from converter.formats.target import Values
from efficientdet_parity import command_line

TARGETS = [name for name, one in formats().items() if one.write is not None and name != "zylo117"]
"""A tiny model has channels with which zylo117's code cannot build one."""


def inspect(*words):
    return command_line.main(["inspect", *map(str, words)])


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint, tmp_path_factory):
    """Every container that is written, of one model."""
    folder = tmp_path_factory.mktemp("containers")
    done = convert(resolve(str(tiny_checkpoint), folder), weights="both")
    found = {}
    for name in TARGETS:
        one = formats()[name]
        raw = done.raw if one.holds_both else None
        target = folder / f"{name}{'' if one.is_folder else one.ending or one.suffixes[0]}"
        one.write(target, Values(done.config, done.arrays, raw, done.provenance))
        found[name] = target
    return done, found


@pytest.mark.parametrize("name", TARGETS)
def test_every_container(name, tiny, tmp_path, capsys):
    done, found = tiny
    result = tmp_path / "result.json"
    assert inspect(found[name], "--json", result) == 0
    printed = capsys.readouterr().out
    told = json.loads(result.read_text())
    assert told["model"] == "efficientdet-tiny" and "problem" not in told
    assert told["container"] == {"effdet": "pth"}.get(name, name)
    assert told["names"] == {
        "tf1": "official", "h5": "official", "tf2": "tf2", "effdet": "effdet",
    }.get(name, "efficientdet-parity")  # fmt: skip
    assert told["values"] == ("ema and raw" if formats()[name].holds_both else "one")
    # The values are the same, in whatever file they are.
    expected = done.provenance["model_fingerprint"]
    assert told["provenance"]["model_fingerprint"] == expected and expected in printed
    assert told["tensors"] == len(told["ledger"]["variables"])
    assert {one["path"] for one in told["files"]} <= {
        str(path) for path in (found[name], *found[name].parent.rglob("*"))
    }
    assert f"container       {formats()[name].says}" in printed or name == "effdet"
    assert "release         none that is known" in printed


def test_a_damaged_checkpoint(tiny_checkpoint, tmp_path, capsys):
    """What it is can be said; that it is damaged must be."""
    import shutil

    folder = tmp_path / "damaged"
    shutil.copytree(tiny_checkpoint, folder)
    data = folder / "model.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    result = tmp_path / "result.json"
    assert inspect(folder, "--json", result) == 2
    shown = capsys.readouterr()
    assert "container       a TensorFlow 1 checkpoint" in shown.out
    assert "\nefficientdet-tiny, " in shown.out and "CRC32C" in shown.err
    assert "fingerprint     " not in shown.out


def test_a_damaged_file_of_this_project(tiny, tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    content = bytearray(tiny[1]["safetensors"].read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)
    assert inspect(path) == 2
    shown = capsys.readouterr()
    assert "container       a safetensors file" in shown.out and "damaged" in shown.err


def test_a_file_of_no_known_model(tmp_path, capsys):
    import torch

    path = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.zeros(2, 3)}, path)
    assert inspect(path) == 2
    assert "other.pth" in capsys.readouterr().err


def test_the_result_is_printed_alone(tiny, capsys):
    assert inspect(tiny[1]["h5"], "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "efficientdet-parity/inspection" and told["values"] == "one"
    assert told["provenance"]["checked"] == "this container carries no checksum"
