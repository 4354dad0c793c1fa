"""Every refusal is one useful line: short without being cut, and it says what to do."""

import ast
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from listed_source import listed
from made_entries import checkpoint, entry

from converter.choice import choose_config
from converter.conversion import convert
from converter.fetch.archive import extract_container
from converter.fetch.cached import CheckpointFiles
from converter.fetch.sources import resolve
from converter.formats.renamed import without_prefix
from converter.ledger import make_ledger
from converter.mappings.official import iterate_pairs
from converter.mappings.state_dicts import from_naming, get_naming, to_naming
from converter.tensorflow_files.bundle import open_bundle
from efficientdet_spec import TINY, EfficientDetConfig, InputError, get_config, parse_size
from efficientdet_spec.errors import MAX_BYTES
from parity.detections.annotations import read_annotations
from parity.settings.coco import CocoSettings
from parity.settings.nodes import NodesSettings
from parity.sides.naming import read_names
from torch_model.checkpoint import from_arrays, load_checkpoint
from torch_model.decode import read_image
from torch_model.profiles import get_profile

MANY = 500
LONG = "x\x1b\n" * 700
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 28828936\n"
)


def arrays():
    return {pair.parameter: np.zeros(pair.shape, np.float32) for pair in iterate_pairs(TINY)}


def written(path, content):
    path.write_bytes(content)
    return path


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def ledger(change):
    entries = checkpoint(TINY, ema=False)
    make_ledger(listed(change(entries)), TINY).require_complete("/a/model")


def nothing_but_names(count):
    return {f"scope/{i}/{'long' * 40}": np.zeros(2, np.float32) for i in range(count)}


REFUSALS = {
    "every variable is missing": (
        lambda folder: ledger(lambda entries: {"global_step": entries["global_step"]}),
        "411 missing, 174 under fpn_cells/, 133 under efficientnet-tiny/, 49 u",
    ),
    "every variable has another type": (
        lambda folder: ledger(
            lambda entries: {n: entry(n, e.shape, "<i4") for n, e in entries.items()}
        ),
        "of another type",
    ),
    "every variable has another shape": (
        lambda folder: ledger(
            lambda entries: {n: entry(n, (*e.shape, 2)) for n, e in entries.items()}
        ),
        "of another shape",
    ),
    "hundreds are unknown": (
        lambda folder: ledger(
            lambda entries: entries
            | {n: entry(n, (2,)) for n in (f"a/{'b' * 200}/{i}" for i in range(MANY))}
        ),
        "500 unknown, all under a/bbb",
    ),
    "another network": (
        lambda folder: choose_config({f"{i}/x": entry(f"{i}/x") for i in range(MANY)}, "/a/model"),
        "500 variables",
    ),
    "another model": (
        lambda folder: choose_config(checkpoint(TINY), "/a/model", get_config("d0")),
        "not of efficientdet-d0",
    ),
    "a prefix that none has": (
        lambda folder: without_prefix(listed(checkpoint(TINY), "/a/model"), LONG[:80]),
        "no name that begins",
    ),
    "a state dict of nothing": (
        lambda folder: from_arrays(TINY, {}, "x.pth"),
        "389 missing, 158 under fpn., 133 under backbone., 49 under box_head.: "
    ),
    "a state dict of other names": (
        lambda folder: from_arrays(TINY, arrays() | nothing_but_names(MANY), "x.pth"),
        "500 unknown, all under scope/",
    ),
    "a naming's state dict": (
        lambda folder: from_naming(get_naming("effdet"), TINY, nothing_but_names(MANY)),
        "500 unknown, all under scope/",
    ),
    "arrays for a naming": (lambda folder: to_naming(get_naming("effdet"), TINY, {}), " missing"),
    "a model's configuration": (
        lambda folder: EfficientDetConfig.from_dict({f"key{i}": i for i in range(MANY)}),
        "and 492 more that this version",
    ),
    "a naming": (lambda folder: get_naming(LONG), "choose one of"),
    "a model's name": (lambda folder: get_config(LONG), "choose one of"),
    "capitals": (lambda folder: get_config("EfficientDet-D0"), "did you mean efficientdet-d0?"),
    "another spelling": (lambda folder: get_config("tf_efficientdet_d7x"), "efficientdet-d7x?"),
    "a source with capitals": (lambda folder: resolve("D3", folder), "mean efficientdet-d3?"),
    "a size": (lambda folder: parse_size(LONG), "HEIGHTxWIDTH"),
    "a profile": (lambda folder: get_profile(LONG), "choose one of"),
    "a setting": (lambda folder: CocoSettings.of(**{LONG: 1}), "it has "),
    "a choice": (
        lambda folder: NodesSettings.of(checkpoint="x", weights="x" * 900),
        "give one of",
    ),
    "a folder of many files": (
        lambda folder: (
            [written(folder / f"{i}-{'n' * 200}", b"") for i in range(MANY)],
            resolve(str(folder), folder),
        ),
        "and 494 more",
    ),
    "a folder of many checkpoints": (
        lambda folder: (
            [written(folder / f"{i}-{'n' * 200}.index", b"") for i in range(MANY)],
            resolve(str(folder), folder),
        ),
        "500 checkpoints",
    ),
    "an empty folder": (lambda folder: resolve(str(folder), folder), "found nothing"),
    "an empty file": (
        lambda folder: resolve(str(written(folder / "model", b"")), folder),
        "an empty file",
    ),
    "a folder around the folder": (
        lambda folder: (
            (folder / "efficientdet-d0").mkdir(),
            written(folder / "efficientdet-d0" / "model.index", b""),
            resolve(str(folder), folder),
        ),
        "pass the folder inside that holds one, '",
    ),
    "a ZIP archive of nothing": (
        lambda folder: (
            zipped(folder / "d0.zip", {"README": b"x"}),
            resolve(str(folder / "d0.zip"), folder),
        ),
        "holds no TensorFlow checkpoint and no other file of a model, found none of its files",
    ),
    "a Keras 3 model": (
        lambda folder: (
            zipped(folder / "d0.zip", {"config.json": b"{}", "model.weights.h5": b"x"}),
            extract_container(folder / "d0.zip", folder / "out"),
        ),
        "is a model of Keras 3 (a .keras file)",
    ),
    "a PyTorch file as an archive": (
        lambda folder: (
            zipped(folder / "d0.zip", {"archive/data.pkl": b"x", "archive/data/0": b"x"}),
            extract_container(folder / "d0.zip", folder / "out"),
        ),
        "is a PyTorch file, which is a ZIP archive itself and is not unpacked",
    ),
    "a 7z archive": (
        lambda folder: resolve(
            str(written(folder / "d0.7z", b"7z\xbc\xaf\x27\x1c" + bytes(99))), folder
        ),
        "a 7-Zip archive; unpack it",
    ),
    "a RAR archive": (
        lambda folder: resolve(
            str(written(folder / "d0.tar.gz", b"Rar!\x1a\x07\x01\x00" + bytes(99))), folder
        ),
        "a RAR archive; unpack it",
    ),
    "an XZ archive": (
        lambda folder: resolve(str(written(folder / "d0.tar.xz", b"\xfd7zXZ\x00" * 9)), folder),
        "an XZ archive (a .tar.xz, perhaps); unpack it",
    ),
    "a web page": (
        lambda folder: extract_container(
            written(folder / "d0.tar.gz", b"<!DOCTYPE html><html>" * 99), folder / "out"
        ),
        "looks like a web page",
    ),
    "a pointer for an archive": (
        lambda folder: resolve(str(written(folder / "d0.tar.gz", POINTER)), folder),
        "a Git LFS pointer in the place of a file of 28,828,936 bytes; run git lfs pull",
    ),
    "a pointer for an index": (
        lambda folder: (written(folder / "m.index", POINTER), open_bundle(folder / "m")),
        "a Git LFS pointer",
    ),
    "a pointer for a .pth": (
        lambda folder: load_checkpoint(written(folder / "m.pth", POINTER)),
        "a Git LFS pointer",
    ),
    "a pointer for an image": (
        lambda folder: read_image(written(folder / "m.jpg", POINTER)),
        "a Git LFS pointer",
    ),
    "a pointer for annotations": (
        lambda folder: read_annotations(written(folder / "a.json", POINTER), 90),
        "a Git LFS pointer",
    ),
    "names of nodes": (
        lambda folder: read_names(
            written(folder / "n.json", json.dumps(dict.fromkeys([LONG, "y"], "x")).encode()),
            ["a", "b"],
        ),
        "n.json",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_is_one_useful_line(kind, tmp_path):
    refuse, told = REFUSALS[kind]
    with pytest.raises(InputError) as refused:
        refuse(tmp_path)
    message = str(refused.value)
    assert told in message
    assert_useful(message)


ADVICE = ("give ", "pass ", "choose ", "check ", "copy ", "leave ", "unpack ", "download ", "run ",
          "convert ", "correct ", "add ", "it has ", "save ")  # fmt: skip


def assert_useful(message):
    assert message.isprintable() and len(message.encode()) < 1000
    # A message that had to be cut has lost its middle.
    assert " ... " not in message and len(message.encode()) < MAX_BYTES
    assert any(word in message.lower() for word in ADVICE), message


def test_the_check_itself_sees_a_message_that_is_cut():
    for bad in ("x" * 5000 + "; give another", "nothing to do", "a\nb; give another"):
        with pytest.raises(AssertionError):
            assert_useful(str(InputError(bad)) if "\n" not in bad else bad)


def test_a_damaged_training_checkpoint_is_one_line(tmp_path):
    state = {f"{LONG[:90]}{i}": torch.zeros(1) for i in range(MANY)}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(InputError, match="a PyTorch file of 500 tensors") as refused:
        load_checkpoint(tmp_path / "x.pth")
    assert_useful(str(refused.value))


def test_values_that_float32_cannot_hold(rewrite):
    def change(tensors):
        for name, values in tensors.items():
            if values.dtype == np.float32:
                tensors[name] = values.astype(np.float64) + 1e-12

    with pytest.raises(InputError, match="float32 cannot hold") as refused:
        convert(CheckpointFiles(rewrite(change) / "model", "x", None))
    assert_useful(str(refused.value))


SHORT = {
    "DATA_SETS",
    "names", "known", "MODELS", "BACKBONES", "METHODS", "missing", "given", "trust", "_OPENING",
    "by_name", "package_names()", "STAGES", "STAGES[stage]", "PROFILES", "OFFICIAL_MODELS",
    "sorted(RESERVED)", "SUFFIXES", "others", "str(error).split()", "told", "DTYPES",
    "FORMS", "TYPES",
}  # fmt: skip
"""What messages join that is short: registries of this project, options, arguments of functions."""


def test_whatever_else_messages_list_is_bounded():
    """A list of names of a file goes through :mod:`efficientdet_spec.findings`."""
    root, found = Path(__file__).parents[1], set()
    packages = (
        "converter", "efficientdet_parity", "efficientdet_spec", "parity", "reference_tf",
        "reports", "torch_model",
    )  # fmt: skip
    for path in (path for package in packages for path in (root / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("InputError"):
                found |= {ast.unparse(joined) for joined in _joined(node)}
    assert found - SHORT == set()
    assert SHORT - found == set()


def _joined(node):
    for call in ast.walk(node):
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "join"
        ):
            yield call.args[0]
