"""Each package imports only what it may: checked in a fresh process, and the check is checked."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from efficientdet_parity.command_line import COMMANDS

ROOT = Path(__file__).parents[1]
FRAMEWORKS = {"tensorflow", "torch"}
TOP = {"reports", "convert", "compare"}
ROOMS = {"converter", "torch_model", "reference_tf"}
SLOW = {
    "numpy",
    "numba",
    "yaml",
    "shtab",
    "importlib.metadata",
    "http.client",
    "parity.commands.convert",
}

# What importing each of these must not bring along.
WALLS = {
    "efficientdet_spec": FRAMEWORKS | TOP | {"numpy"},
    "efficientdet_parity": FRAMEWORKS | ROOMS | TOP | {"numpy", "parity"},
    "efficientdet_parity.pytest_plugin": FRAMEWORKS | ROOMS | TOP | {"numpy", "parity"},
    "efficientdet_parity.comparing": FRAMEWORKS | {"torch_model", "reference_tf"} | TOP,
    "efficientdet_parity.converting": FRAMEWORKS | {"torch_model", "reference_tf"} | TOP,
    "converter.conversion": FRAMEWORKS | TOP,
    "converter.fetch.sources": FRAMEWORKS | TOP | {"http.client", "ssl", "importlib.metadata"},
    "converter.seeded": FRAMEWORKS | TOP,
    "converter.formats.own": FRAMEWORKS | TOP,
    "converter.formats.pth": FRAMEWORKS | TOP,
    "converter.formats.registry": FRAMEWORKS | TOP,
    "converter.formats.safetensors": FRAMEWORKS | TOP,
    "converter.ledger": FRAMEWORKS | TOP,
    "converter.mappings.state_dicts": FRAMEWORKS | TOP,
    "converter.mappings.effdet": FRAMEWORKS | TOP,
    "converter.mappings.zylo117": FRAMEWORKS | TOP,
    "torch_model": {"tensorflow", "converter", "reference_tf"} | TOP,
    "torch_model.model": {"tensorflow", "converter", "reference_tf"} | TOP,
    "torch_model.saving": FRAMEWORKS | {"converter", "reference_tf"} | TOP,
    "torch_model.model_file": FRAMEWORKS | {"converter", "reference_tf"} | TOP,
    "torch_model.preprocess": FRAMEWORKS | {"converter", "reference_tf"} | TOP,
    "reference_tf": {"torch", "converter", "torch_model"} | TOP,
    "reference_tf.metagraph": {"torch", "converter", "torch_model"} | TOP,
    "parity.lockstep.comparison": FRAMEWORKS | ROOMS | {"numba"} | TOP,
    "parity.lockstep.contributions": FRAMEWORKS | ROOMS | TOP,
    "parity.lockstep.closeups": FRAMEWORKS | ROOMS | TOP,
    "parity.reproduction.making": FRAMEWORKS | ROOMS | TOP,
    "parity.sides.side": FRAMEWORKS | ROOMS | TOP,
    "parity.judge.referee": FRAMEWORKS | ROOMS | {"numba"} | TOP,
    "parity.diagnosis.suspects": {"tensorflow"} | ROOMS | TOP,
    "parity.faults": {"tensorflow"} | ROOMS | TOP,
    "parity.sides.tensorflow_graph": {"torch"} | ROOMS | TOP,
    "parity.process.console": FRAMEWORKS | ROOMS | TOP,
    "parity.process.frames": FRAMEWORKS | ROOMS | {"numpy"} | TOP,
    "parity.process.interruption": FRAMEWORKS
    | ROOMS
    | {"argparse", "numpy", "efficientdet_spec"}
    | TOP,
    "parity.process.reading": FRAMEWORKS | ROOMS | TOP | {"numpy"},
    "parity.traces.reader": FRAMEWORKS | ROOMS | TOP,
    "parity.traces.writer": FRAMEWORKS | ROOMS | TOP,
    "parity.sides.naming": FRAMEWORKS | ROOMS | TOP,
    "parity.judge.verdict": FRAMEWORKS | ROOMS | {"numba"} | TOP,
    "parity.judge.measure": FRAMEWORKS | ROOMS | {"numba"} | TOP,
    "parity.judge.operations": FRAMEWORKS | ROOMS | {"numba"} | TOP,
    "parity.judge.reach": FRAMEWORKS | ROOMS | TOP,
    "parity.sides.replay": FRAMEWORKS | ROOMS | TOP,
    "parity.results.changes.comparison": FRAMEWORKS | ROOMS | TOP,
    "parity.results.junit": FRAMEWORKS | ROOMS | TOP,
    "parity.results.text.nodes": FRAMEWORKS | ROOMS | TOP,
    "parity.gradients.comparison": FRAMEWORKS | ROOMS | TOP,
    "parity.gradients.pytorch": {"tensorflow"} | ROOMS | TOP,
    "parity.pipelines.explanation": FRAMEWORKS | {"converter", "reference_tf", "cv2"} | TOP,
    "parity.pipelines.running": FRAMEWORKS | {"converter", "reference_tf", "cv2"} | TOP,
    "parity.detections.brought": FRAMEWORKS | ROOMS | {"cv2"} | TOP,
    "parity.coco.swaps": FRAMEWORKS | ROOMS | {"cv2", "pycocotools"} | TOP,
    "parity.coco.report": FRAMEWORKS | ROOMS | {"cv2", "pycocotools"} | TOP,
    "parity.coco.metrics": FRAMEWORKS | ROOMS | {"cv2", "pycocotools"} | TOP,
    "parity.detections.matching": FRAMEWORKS | ROOMS | TOP,
    "parity.detections.shards": FRAMEWORKS | ROOMS | TOP,
    "efficientdet_spec.prefetch": FRAMEWORKS | ROOMS | TOP,
    "parity.detections.cluster": FRAMEWORKS | ROOMS | {"distributed"} | TOP,
    "parity.detections.messages": FRAMEWORKS | ROOMS | {"cv2", "distributed"} | TOP,
    "parity.detections.worker": FRAMEWORKS | ROOMS | {"cv2", "distributed", "dask"} | TOP,
    "parity.detections.workers": FRAMEWORKS | ROOMS | {"cv2", "distributed", "dask"} | TOP,
    "reports.pages.render": FRAMEWORKS | ROOMS | {"compare", "convert"},
    "reports.run.runner": FRAMEWORKS | ROOMS | {"compare", "convert"},
    "parity.detections.drawing": FRAMEWORKS | ROOMS | {"cv2"} | TOP,
    "parity.lockstep.noise": FRAMEWORKS | ROOMS | TOP,
    "reference_tf.gradients": {"torch", "converter", "torch_model"} | TOP,
    "torch_model.detector": {"tensorflow", "converter", "reference_tf"} | TOP,
    "torch_model.decode": FRAMEWORKS | {"converter", "reference_tf"} | TOP,
    "torch_model.nms": FRAMEWORKS | {"converter", "reference_tf"} | TOP,
    "reference_tf.detection": {"torch", "converter"} | TOP,
    "parity.detections.images": FRAMEWORKS | {"cv2", "converter"} | TOP,
    # What is put in to prove the harness knows nothing of it.
    "faults.catalogue": {"parity"} | TOP,
    "faults.held_out": {"parity"} | TOP,
    "convert": FRAMEWORKS,
    "compare": FRAMEWORKS,
    **{item.module: FRAMEWORKS | {"numba"} for item in COMMANDS},
    # Of a program that is asked for its help, the commands stay where they are.
    "efficientdet_parity.command_line": FRAMEWORKS | ROOMS | TOP | SLOW,
}


FAULT_FILES = sorted((ROOT / "tests" / "faults").glob("*.py"))


BEHIND = [[name for name in WALLS if WALLS[name] == wall] for wall in {
    frozenset(wall): wall for wall in WALLS.values()
}.values()]  # fmt: skip
"""The modules behind each wall. One process imports all of one: what it has not loaded then, none
of them has brought along."""


def brought_along(modules, watched):
    """Which of ``watched`` are loaded after importing ``modules`` in a fresh process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    code = f"import sys, {modules}; print(*(n for n in {sorted(watched)} if n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("modules", BEHIND, ids=lambda modules: modules[0])
def test_wall(modules):
    wall = WALLS[modules[0]]
    if brought_along(", ".join(modules), wall):
        assert {name: brought_along(name, wall) for name in modules} == dict.fromkeys(
            modules, set()
        )
        pytest.fail("none alone brings anything along, but all of them together do")


def test_each_module_is_behind_one_wall():
    assert sorted(name for modules in BEHIND for name in modules) == sorted(WALLS)


def test_the_check_sees_a_breach():
    assert brought_along("torch_model.model", {"torch", "tensorflow"}) == {"torch"}
    # Whichever of several it is that brings it.
    together = "efficientdet_spec, torch_model.model, converter.ledger"
    assert brought_along(together, {"torch", "tensorflow"}) == {"torch"}
    assert "converter" in brought_along("parity.commands.convert", {"converter"})
    assert "shtab" in brought_along("shtab", SLOW)


def imported(source):
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FAULT_FILES, ids=lambda path: path.name)
def test_faults_that_prove_the_harness_take_none_of_its_catalogue(path):
    assert not takes_from_the_catalogue(path.read_text("utf-8"))


def takes_from_the_catalogue(source):
    return any(name == "parity.faults" or name.startswith("parity.faults.")
               for name in imported(source))  # fmt: skip


@pytest.mark.parametrize(
    "source, takes",
    [
        ("from parity import faults", True),
        ("import parity.faults.families.resampling as resampling", True),
        ("def f():\n    from parity.faults.families.resampling import zero_padded_pool", True),
        ("from parity.diagnosis.suspects import diagnosed", False),
        ("from faults.fusion import zero_padded", False),
    ],
)
def test_the_check_of_the_faults_sees_what_it_should(source, takes):
    assert takes_from_the_catalogue(source) is takes
