"""The script for machines with a GPU, as far as a CPU can run it."""

import pytest
import torch

from benchmarks import gpu
from efficientdet_spec import OFFICIAL_MODELS


@pytest.fixture
def machine(tiny_checkpoint, tmp_path):
    (tmp_path / "efficientdet-tiny").symlink_to(tiny_checkpoint)
    return gpu.Machine("cpu", tmp_path, (96, 128))


def test_everything_is_planned_once():
    names = [check.keywords["name"] for check in gpu.planned(OFFICIAL_MODELS, "cuda")]
    assert len(set(names)) == len(names) and set(OFFICIAL_MODELS) < set(names)
    assert names[0] == "TF32 switched on"


def test_recorded_tensors_and_nodes_are_checked(machine):
    found = machine.measured(lambda: gpu.trace(machine, name="recorded"))
    assert (found.passes, found.told) == (True, "33 recorded nodes, 0 of all fail")
    assert found.seconds > 0 and found.peak_bytes is None


def test_a_check_can_fail(machine, monkeypatch):
    compare = machine.compare

    def wrong(model, candidate=None, **settings):
        import efficientdet_parity

        changed = efficientdet_parity.convert(machine.checkpoint(model))
        changed.get_submodule("backbone.stem_bn").eps = 1e-5
        return compare(model, changed, **settings)

    monkeypatch.setattr(machine, "compare", wrong)
    found = gpu.nodes(machine, name="tiny")
    assert not found.passes and "backbone.stem_bn" in found.told


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert gpu.main(["d0"]) == 2
    assert "needs a GPU" in capsys.readouterr().err
