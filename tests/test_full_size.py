"""Every model at its native size: minutes and gigabytes, run by ``make heavy``."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from efficientdet_spec import OFFICIAL_MODELS

pytestmark = pytest.mark.heavy
ROOT = Path(__file__).parents[1]
PEAK_LIMIT = 8e9


def run(*arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module", params=OFFICIAL_MODELS)
def seeded(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    done = run("compare.py", "seed", request.param, folder)
    assert done.returncode == 0, done.stderr
    yield request.param, folder
    for path in folder.iterdir():
        path.unlink()


def test_native_size_within_memory(seeded, tmp_path):
    model, folder = seeded
    result = tmp_path / "nodes.json"
    done = run("compare.py", "nodes", folder, "--model", model, "--json", result)
    assert done.returncode == 0, done.stdout + done.stderr
    values = json.loads(result.read_text())
    assert values["passes"]
    assert {node["verdict"] for node in values["nodes"]} <= {"exact", "rounding"}
    assert values["peak_memory_bytes"] < PEAK_LIMIT


def test_double_precision_shows_one_structure(seeded, tmp_path):
    model, folder = seeded
    result = tmp_path / "nodes.json"
    arguments = ["--model", model, "--size", "256x256", "--dtype", "float64"]
    done = run("compare.py", "nodes", folder, *arguments, "--json", result)
    assert done.returncode == 0, done.stdout + done.stderr
    values = json.loads(result.read_text())
    assert {node["verdict"] for node in values["nodes"]} <= {"exact", "rounding"}
    assert values["largest_relative_max"] < 1e-10
