"""Seeded weights: what they were not calibrated on stays within what their statistics expect."""

import numpy as np
import pytest
import torch

import compare
from converter.conversion import convert
from converter.fetch.sources import resolve
from parity.detections.images import high_amplitude, photograph_like
from parity.judge.reach import reach
from parity.sides import pytorch
from parity.sides.naming import own_paths
from torch_model.checkpoint import from_arrays
from torch_model.preprocess import preprocess

SIZE = (256, 256)
FARTHEST = 30.0
"""Times the expected spread: calibrated on one kind of image, D4 had 24,000 times and more."""


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """D3, whose 26 blocks multiply whatever contrast the statistics do not expect."""
    folder = tmp_path_factory.mktemp("deep")
    assert compare.main(["seed", "efficientdet-d3", str(folder)]) == 0
    done = convert(resolve(str(folder), folder))
    return from_arrays(done.config, done.arrays, "d3")


@pytest.mark.parametrize("image", [photograph_like(300, 400, 99), high_amplitude(*SIZE, 99)])
def test_no_image_is_multiplied_out_of_bounds(deep, image):
    gates, spreads = [], []

    def look(name, module, inputs, output):
        if isinstance(module, torch.nn.BatchNorm2d):
            mean, variance = (
                value.double().numpy() for value in (module.running_mean, module.running_var)
            )
            deviation = np.sqrt(variance + module.eps)
            features = pytorch.nhwc(inputs[0])
            spreads.append(reach(features, mean, deviation).spread)
        elif name.endswith("se.gate"):
            gates.append(pytorch.nhwc(output))

    nodes = [name for name, module in deep.named_modules() if not list(module.children())]
    with pytorch.visiting(deep, own_paths(nodes), look):
        pytorch.run(deep, preprocess(image, *SIZE)[None])
    assert len(spreads) > 100 and len(gates) == 26
    assert np.median(spreads) < FARTHEST
    assert all(((gate > 1e-6) & (gate < 1 - 1e-6)).any() for gate in gates)


def test_it_does_not_depend_on_the_number_of_threads(tmp_path):
    """Sums in float32 do, so that a seeded checkpoint had another fingerprint on each machine."""
    before, written = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            folder = tmp_path / str(threads)
            assert compare.main(["seed", "tiny", str(folder)]) == 0
            written.append((folder / "model.data-00000-of-00001").read_bytes())
    finally:
        torch.set_num_threads(before)
    assert written[0] == written[1] == written[2]
