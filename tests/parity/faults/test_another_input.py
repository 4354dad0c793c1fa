"""Names with fitted numbers are held against other inputs, and refuted by them."""

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


def test_what_has_no_number_is_not_refuted_by_another_input():
    wrong = case(0.0, 0)
    attempt = Attempt(alone=True)
    attempt.see(Case(**{**vars(wrong), "candidate": F.relu(wrong.arguments[0]).float()}))
    assert attempt.result().slug == "relu" and not attempt.fitted
