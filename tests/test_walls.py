"""Each package imports only what it may: checked in a fresh process, and the check is checked."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FRAMEWORKS = {"tensorflow", "torch"}
TOP = {"reports", "convert", "compare"}

# What importing each of these must not bring along.
WALLS = {
    "efficientdet_spec": FRAMEWORKS | TOP | {"numpy"},
    "converter.conversion": FRAMEWORKS | TOP,
    "converter.seeded": FRAMEWORKS | TOP,
    "converter.ledger": FRAMEWORKS | TOP,
    "torch_model": {"tensorflow", "converter", "reference_tf"} | TOP,
    "torch_model.preprocess": {"tensorflow", "converter", "reference_tf"} | TOP,
    "reference_tf": {"torch", "converter", "torch_model"} | TOP,
    "parity.nodes": {"tensorflow", "converter", "torch_model", "reference_tf"} | TOP,
    "parity.console": FRAMEWORKS | {"converter", "torch_model", "reference_tf"} | TOP,
    "parity.tensorflow_side": {"torch", "converter", "torch_model", "reference_tf"} | TOP,
    "parity.images": FRAMEWORKS | {"cv2", "converter"} | TOP,
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
    assert brought_along("torch_model", {"torch", "tensorflow"}) == {"torch"}
    assert "converter" in brought_along("convert", {"converter"})
