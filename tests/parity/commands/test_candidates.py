"""Candidates that are code: called as they need it, for every size of images that there is."""

import pytest

import efficientdet_parity as ep
from efficientdet_spec import InputError
from parity.commands.comparing.candidates import Candidate
from torch_model.saving import save_arrays

SIZED = """
import torch
from torch import nn

made = []


class Port(nn.Module):
    # The sizes of the levels are fixed when it is made, as in many ports.
    def __init__(self, faithful, size):
        super().__init__()
        made.append(size)
        self.size = size
        {step}
        self.inner = faithful.train()

    def forward(self, images):
        assert tuple(images.shape[2:]) == self.size, "made for another size"
        return self.inner(images)


def build(faithful, size):
    return Port(faithful, size).eval()
"""

UNSIZED = """
from torch import nn


class Port(nn.Sequential):
    def __init__(self, faithful):
        super().__init__(faithful.train())
"""


@pytest.fixture
def compared(tiny_checkpoint, tiny_conversion, tmp_path):
    """Compares what a file's function makes, with the converted model as the reference."""
    target, port = tmp_path / "tiny.pth", tmp_path / "port.py"
    conversion = tiny_conversion
    save_arrays(target, conversion.config, conversion.arrays, conversion.provenance)

    def run(code, function="build", **settings):
        port.write_text(code)
        settings = {"reference": target, "contributions": 0, **settings}
        return ep.compare(f"{port}:{function}", tiny_checkpoint, **settings)

    return run


@pytest.mark.parametrize("function", ["build", "Port"])
def test_what_is_made_for_a_size_is_made_for_each(function, compared):
    step = "assert made.count(size) == 1"
    result = compared(SIZED.format(step=step), function, contributions=1)
    result.assert_parity()
    assert len({(item.height, item.width) for item in result.record.inputs}) == 2


def test_what_is_wrong_with_every_one_is_told_once(compared):
    result = compared(SIZED.format(step="faithful.backbone.stem_bn.momentum = 0.1"))
    assert [(item.slug, item.place) for item in result.findings] == [
        ("momentum", "backbone.stem_bn")
    ]
    assert len(result.record.inputs) == 2


def test_a_size_that_was_not_asked_for_is_told(compared):
    code = SIZED.format(step="assert size[0] % 2 == 0")
    result = compared(code)
    assert result.outcome.value == "parity"
    (note,) = [note for note in result.record.coverage.notes if "took the place" in note]
    assert ":build fails with AssertionError at " in note and "65x97" in note
    with pytest.raises(InputError, match=":build fails with AssertionError at .*port.py:"):
        compared(code, size=(97, 129))


def test_a_class_alone_can_be_a_port(compared):
    compared(UNSIZED, "Port", size=(64, 64)).assert_parity()


def test_what_is_for_all_sizes_is_made_once():
    import torch

    sizes = []

    def make(size):
        sizes.append(size)
        return torch.nn.BatchNorm2d(3)

    with Candidate(make) as one, Candidate(make, sized=True) as many:
        assert one.at((1, 2)) is one.at((3, 4))
        first, second = many.at((1, 2)), many.at((3, 4))
        assert first is not second and many.at((1, 2)) is first
        assert sizes == [(1, 2), (1, 2), (3, 4)]
        for module in (one.at((1, 2)), first, second):
            module(torch.ones(2, 3, 4, 4))
            assert module.running_mean.any()
    # Behind it all have the values that they came with.
    for module in (one.at((1, 2)), first, second):
        assert not module.running_mean.any() and module.num_batches_tracked == 0
