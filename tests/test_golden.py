"""Both networks reproduce what Google's own code computed, node by node.

Tolerance: float32 results of the same graph differ between machines by rounding that the
network amplifies. How much that is at a node is measured, as the largest difference between
this machine's float32 and float64 results. The golden values were rounded by another machine
and carry an error of their own of that size, so ``GOLDEN_FACTOR`` times it is allowed: one share
for each side, doubled because a maximum over one run is itself a sample.
"""

import gzip
import json
import os
from pathlib import Path

import golden_cases
import numpy as np
import pytest

from efficientdet_spec import get_config

GOLDEN_FACTOR = 4
STRUCTURE = 1e-10


def embedded(name):
    return Path(__file__).parent / "golden" / name


def load(model):
    folder = os.environ.get("EFFICIENTDET_TEST_DATA")
    if not folder:
        if model != "d0":
            pytest.skip(f"EFFICIENTDET_TEST_DATA names no folder with golden/{model}")
        nodes = json.loads(gzip.decompress((embedded("d0") / "nodes.json.gz").read_bytes()))
        return nodes, np.load(embedded("d0") / "moving_statistics.npz"), None
    path = Path(folder) / "golden" / model
    nodes = json.loads((path / "nodes.json").read_text())
    return nodes, np.load(path / "moving_statistics.npz"), np.load(path / "outputs.npz")


class Case:
    def __init__(self, model):
        self.config = get_config(model)
        golden, statistics, self.outputs = load(model)
        self.values = golden_cases.variables(self.config, statistics)
        self.images = golden_cases.image(golden["image_height"], golden["image_width"])
        self.golden = {node["name"]: node for node in golden["nodes"]}
        run = golden_cases.tensorflow_tensors
        self.tensorflow, self.operations = run(self.config, self.values, self.images, "float32")
        self.truth, _ = run(self.config, self.values, self.images, "float64")
        self.torch = self.run_torch("float32")
        self.torch64 = self.run_torch("float64")

    def run_torch(self, dtype, change=None):
        nodes = list(self.operations)
        return golden_cases.torch_tensors(
            self.config, self.values, self.images, dtype, nodes, change
        )

    def tolerance(self, tensors, name):
        return GOLDEN_FACTOR * np.abs(tensors[name] - self.truth[name]).max()

    def mismatches(self, tensors):
        """Nodes whose tensor is not the golden one, by what they are off."""
        found = {}
        for name, operation in self.operations.items():
            node = self.golden[operation]
            assert list(tensors[name].shape) == node["shape"]
            off = np.abs(tensors[name].reshape(-1)[node["index"]] - np.array(node["value"])).max()
            # Noise is this machine's own for healthy tensors, never that of broken ones.
            if off > max(self.tolerance(self.tensorflow, name), self.tolerance(self.torch, name)):
                found[name] = off
        return found


@pytest.fixture(scope="module", params=["d0", pytest.param("d6", marks=pytest.mark.heavy)])
def case(request):
    return Case(request.param)


def test_every_node_has_a_golden_operation(case):
    assert len(case.operations) > 500
    assert set(case.operations.values()) <= set(case.golden)
    assert set(case.operations) == set(case.torch)


def test_tensorflow_reproduces_every_node(case):
    assert case.mismatches(case.tensorflow) == {}


def test_torch_reproduces_every_node(case):
    assert case.mismatches(case.torch) == {}


def test_golden_values_are_not_reached_by_a_slightly_wrong_network(case):
    def other_epsilon(model):
        # The smallest of the known defects: PyTorch's default epsilon in one batch norm.
        model.fpn.cells[0].nodes[2].bn.eps = 1e-5

    found = case.mismatches(case.run_torch("float32", other_epsilon))
    assert found
    order = list(case.operations)
    first = min(order.index(name) for name in found)
    assert order.index("fpn.cells.0.nodes.2.bn") <= first
    assert order[first].startswith("fpn.cells.0.")


def test_both_frameworks_have_one_structure(case):
    relative = {
        name: np.abs(case.torch64[name] - case.truth[name]).max() / np.sqrt(np.mean(truth**2))
        for name, truth in case.truth.items()
    }
    assert max(relative.values()) < STRUCTURE


def test_outputs_agree_everywhere_not_only_at_samples(case):
    if case.outputs is None:
        pytest.skip("EFFICIENTDET_TEST_DATA names no folder with the whole outputs (4 MB)")
    for level in case.config.levels:
        for head, key in (("class_head", "class"), ("box_head", "box")):
            name = f"{head}.predict.pointwise@P{level}"
            golden = case.outputs[f"{key}_{level}"]
            for tensors in (case.tensorflow, case.torch):
                off = np.abs(tensors[name] - golden).max()
                assert off <= case.tolerance(tensors, name)
