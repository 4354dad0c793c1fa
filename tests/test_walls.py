"""Each package imports only what it may: checked in a fresh process, and the check is checked."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FRAMEWORKS = {"tensorflow", "torch"}
TOP = {"reports", "convert", "compare"}
ROOMS = {"converter", "torch_model", "reference_tf"}

# What importing each of these must not bring along.
WALLS = {
    "efficientdet_spec": FRAMEWORKS | TOP | {"numpy"},
    "converter.conversion": FRAMEWORKS | TOP,
    "converter.seeded": FRAMEWORKS | TOP,
    "converter.ledger": FRAMEWORKS | TOP,
    "torch_model": {"tensorflow", "converter", "reference_tf"} | TOP,
    "torch_model.model": {"tensorflow", "converter", "reference_tf"} | TOP,
    "torch_model.preprocess": FRAMEWORKS | {"converter", "reference_tf"} | TOP,
    "reference_tf": {"torch", "converter", "torch_model"} | TOP,
    "reference_tf.metagraph": {"torch", "converter", "torch_model"} | TOP,
    "parity.lockstep.comparison": FRAMEWORKS | ROOMS | {"numba"} | TOP,
    "parity.lockstep.contributions": FRAMEWORKS | ROOMS | TOP,
    "parity.lockstep.closeups": FRAMEWORKS | ROOMS | TOP,
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
    "parity.results.junit": FRAMEWORKS | ROOMS | TOP,
    "parity.results.nodes_text": FRAMEWORKS | ROOMS | TOP,
    "parity.gradients.comparison": FRAMEWORKS | ROOMS | TOP,
    "parity.gradients.pytorch": {"tensorflow"} | ROOMS | TOP,
    "parity.coco.swaps": FRAMEWORKS | ROOMS | {"cv2", "pycocotools"} | TOP,
    "parity.coco.report": FRAMEWORKS | ROOMS | {"cv2", "pycocotools"} | TOP,
    "parity.coco.metrics": FRAMEWORKS | ROOMS | {"cv2", "pycocotools"} | TOP,
    "parity.detections.matching": FRAMEWORKS | ROOMS | TOP,
    "parity.detections.shards": FRAMEWORKS | ROOMS | TOP,
    "parity.process.prefetch": FRAMEWORKS | ROOMS | TOP,
    "parity.detections.cluster": FRAMEWORKS | ROOMS | {"distributed"} | TOP,
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
    "convert": FRAMEWORKS,
    "compare": FRAMEWORKS,
}


def brought_along(module, watched):
    """Which of ``watched`` are loaded after importing ``module`` in a fresh process."""
    code = f"import sys, {module}; print(*(n for n in {sorted(watched)} if n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", WALLS)
def test_wall(module):
    assert brought_along(module, WALLS[module]) == set()


def test_the_check_sees_a_breach():
    assert brought_along("torch_model.model", {"torch", "tensorflow"}) == {"torch"}
    assert "converter" in brought_along("convert", {"converter"})
