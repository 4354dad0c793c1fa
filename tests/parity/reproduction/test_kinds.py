"""A fault at each kind of node is reproduced by a script that needs PyTorch and NumPy alone."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from reproductions import FAULTS, faulty, numbers, reproduction_of

from efficientdet_spec import NodeKind
from parity.reproduction.files import files_in

OURS = (
    "parity",
    "efficientdet_spec",
    "efficientdet_parity",
    "torch_model",
    "converter",
    "reference_tf",
    "reports",
    "compare",
    "msgspec",
    "tensorflow",
)


UNKNOWN = [name for name in FAULTS if name.startswith("unknown ")]
HEAVY = set(UNKNOWN) - set(UNKNOWN[::4])
"""What no script computes is written alike for every kind of node."""
EACH = [pytest.param(name, marks=pytest.mark.heavy if name in HEAVY else ()) for name in FAULTS]


def wanted(request):
    """The faults that the tests of this session ask for."""
    asked = {"pool"}
    for item in request.session.items:
        if item.module is request.module and hasattr(item, "callspec"):
            asked.add(item.callspec.params["name"])
    return {name: fault for name, fault in FAULTS.items() if name in asked}


@pytest.fixture(scope="module")
def made(lockstep, tmp_path_factory, request):
    """By fault what was told and what was written."""
    found = {}
    with torch.no_grad():
        for name, (_, node, change, _) in wanted(request).items():
            folder = tmp_path_factory.mktemp("reproduction") / "made"
            model = faulty(lockstep, node, change)
            found[name] = (*reproduction_of(lockstep, model, folder), folder)
    return found


RUNNER = f"""
import contextlib, io, json, runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OURS!r}:
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
printed = {{}}
for path in sys.argv[1:]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        runpy.run_path(path, run_name="__main__")
    printed[path] = text.getvalue()
loaded = [name for name in {OURS!r} if name in sys.modules]
print(json.dumps([printed, loaded]))
"""


@pytest.fixture(scope="module")
def printed(made):
    """What each script prints in a process that can import nothing of this project."""
    written = [name for name, (_, result, _) in made.items() if result.files]
    paths = [str(files_in(made[name][2])[0]) for name in written]
    done = subprocess.run(
        [sys.executable, "-I", "-c", RUNNER, *paths], capture_output=True, text=True, check=True
    )
    texts, loaded = json.loads(done.stdout)
    assert loaded == []
    return dict(zip(written, texts.values(), strict=True))


def test_every_kind_of_node_is_among_them():
    assert {kind for kind, *_ in FAULTS.values()} == set(NodeKind)


@pytest.mark.parametrize("name", EACH)
def test_what_is_printed_is_what_was_found(name, made, printed):
    kind, node, _, computed = FAULTS[name]
    told, result, folder = made[name]
    assert result.reason is None and not result.passed_over, result
    assert result.node == node and told.nodes[node].kind is kind
    assert result.computed is computed, result.notes
    found = numbers(printed[name])
    assert found["right, in float64"] == result.right
    for said, value in (
        ("wrong", result.wrong),
        ("recorded of the candidate", result.recorded),
        ("in roundings", result.roundings),
    ):
        assert found[said] == pytest.approx(value, rel=1e-5, nan_ok=True)
    assert result.roundings > result.limit == told.nodes[node].limit.candidate
    # As far off as the worst element of the whole comparison, of which it is one; a reproduction
    # with fewer input channels has another distance.
    if not any("Of the input channels" in note for note in result.notes):
        assert result.roundings == pytest.approx(told.nodes[node].roundings, rel=1e-2)
    assert sum(path.stat().st_size for path in files_in(folder)) == result.bytes < 12_000


@pytest.mark.parametrize("name", EACH)
def test_what_is_kept_is_little_and_no_pickle(name, made):
    kind = FAULTS[name][0]
    _, result, folder = made[name]
    with np.load(files_in(folder)[1], allow_pickle=False) as file:
        shapes = {key: file[key].shape for key in file.files}
    whole = kind is NodeKind.MEAN
    for key, shape in shapes.items():
        if key.startswith("x"):
            assert shape[0] == 1 and (whole or max(shape[2:]) <= 7), (key, shape)
            if kind not in (NodeKind.CONV,):
                assert shape[1] == 1


def test_the_script_alone(made, tmp_path):
    _, result, folder = made["pool"]
    path = files_in(folder)[0]
    done = subprocess.run(
        [sys.executable, "-I", str(path)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert numbers(done.stdout)["wrong"] == result.wrong
    assert "what is wrong: padded with zeros instead of -inf" in done.stdout
    assert "port.py:build" in done.stdout and "/home/somebody" not in path.read_text()
    assert max(map(len, path.read_text().splitlines())) <= 100
    files_in(folder)[1].write_bytes(b"something else")
    done = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True)
    assert (
        done.returncode == 1 and "is not the file that this script was written with" in done.stderr
    )
