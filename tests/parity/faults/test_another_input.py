"""Names are held against other inputs, and refuted by them."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from efficientdet_spec import NodeKind
from parity.faults import Attempt, Case
from torch_model import layers


def case(offset, seed, size=24):
    """A swish with something added to it."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 8, size, size, generator=generator) * 2 - 0.5
    return Case(
        name="backbone.stem_act",
        kind=NodeKind.ACTIVATION,
        module=layers.Swish().double(),
        arguments=(x.double(),),
        candidate=F.silu(x) + offset,
    )


@pytest.mark.parametrize("size", [24, 17])
def test_a_number_that_holds_elsewhere_stays(size):
    attempt = Attempt(alone=True)
    attempt.see(case(0.25, 0))
    assert attempt.fitted and attempt.result().slug == "offset"
    attempt.hold(case(0.25, 1, size))
    assert "0.25" in attempt.result().title


@pytest.mark.parametrize("other", [0.3, 0.0])
def test_a_number_that_goes_with_the_image_is_no_name(other):
    attempt = Attempt(alone=True)
    attempt.see(case(0.25, 0))
    attempt.hold(case(other, 1))
    assert attempt.result() is None


def with_relu(seed, size=24):
    right = case(0.0, seed, size)
    return replace(right, candidate=F.relu(right.arguments[0]).float())


@pytest.mark.parametrize("size", [24, 17])
def test_what_has_no_number_holds_where_its_name_does(size):
    attempt = Attempt(alone=True)
    attempt.see(with_relu(0))
    assert attempt.result().slug == "relu" and not attempt.fitted
    attempt.hold(with_relu(1, size))
    assert attempt.result().slug == "relu"


@pytest.mark.parametrize("other", [0.0, 0.3])
def test_what_has_no_number_is_no_name_where_the_node_is_right_or_otherwise_wrong(other):
    attempt = Attempt(alone=True)
    attempt.see(with_relu(0))
    attempt.hold(case(other, 1))
    assert attempt.result() is None


def normalised(images, seed):
    """Instance norm in the place of a batch norm."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(images, 8, 12, 12, generator=generator) * 3 + 1
    norm = layers.BatchNorm2d(8).double()
    norm.weight.data = torch.linspace(0.5, 2, 8).double()
    norm.bias.data = torch.linspace(-1, 1, 8).double()
    made = F.instance_norm(x, weight=norm.weight.float(), bias=norm.bias.float(), eps=norm.eps)
    return Case(
        name="backbone.stem_bn",
        kind=NodeKind.BATCH_NORM,
        module=norm,
        arguments=(x.double(),),
        candidate=made.detach(),
    )


def test_of_two_names_that_are_one_on_the_first_input_the_second_tells():
    """The statistics of one image are those of a batch of one."""
    attempt = Attempt(alone=True)
    attempt.see(normalised(1, 0))
    assert attempt.result().slug == "batch-statistics"
    attempt.hold(normalised(2, 1))
    assert attempt.result().slug == "instance-statistics"
