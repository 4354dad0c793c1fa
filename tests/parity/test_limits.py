"""Limits hold for legitimate arithmetic and are broken by the smallest defects."""

import numpy as np
import pytest
import torch

from efficientdet_spec import Fusion, NodeKind
from parity import torch_side
from parity.limits import SIDE_LIMIT, limit_of
from parity.measure import difference
from torch_model import layers


def judged(kind, module, *inputs, change=None):
    """Roundings of a float32 module against its own float64, with a fault injected if asked."""
    broken = module
    output = broken(*inputs)
    truth = module.double()(*(_double(x) for x in inputs)).float()
    module.float()
    gauge = torch_side.gauge(kind, module, inputs, output)
    if change:
        output = change(output)
    arrays = [torch_side.nhwc(x.contiguous()) for x in (truth, output, gauge)]
    return difference(*arrays).roundings


def _double(x):
    if isinstance(x, (list, tuple)):
        return [item.double() for item in x]
    return x.double() if x is not None else None


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("channels", [8, 512, 4608])
def test_orders_of_summation_stay_within_one_side(channels):
    conv = layers.Conv2d(channels, 16)
    x = torch.randn(1, channels, 6, 6)
    with torch.no_grad():
        assert judged(NodeKind.CONV, conv, x) < SIDE_LIMIT


def test_a_dropped_tap_is_far_above():
    conv = layers.Conv2d(512, 16, kernel=3)
    x = torch.randn(1, 512, 6, 6)
    with torch.no_grad():
        dropped = layers.Conv2d(512, 16, kernel=3)
        dropped.load_state_dict(conv.state_dict())
        dropped.weight[:, 3, 0, 0] = 0
        wrong = dropped(x)
        found = judged(NodeKind.CONV, conv, x, change=lambda output: wrong)
    assert found > 2 * limit_of(NodeKind.CONV, 1, truth_is_wider=True).candidate


@pytest.mark.parametrize(
    "kind, module, inputs",
    [
        (NodeKind.DEPTHWISE, layers.DepthwiseConv2d(32, 5, 2), [(2, 32, 15, 16)]),
        (NodeKind.BATCH_NORM, layers.BatchNorm2d(32).eval(), [(2, 32, 7, 7)]),
        (NodeKind.ACTIVATION, layers.Swish(), [(2, 32, 7, 7)]),
        (NodeKind.GATE, torch.nn.Sigmoid(), [(2, 32, 1, 1)]),
        (NodeKind.MEAN, layers.GlobalMean(), [(2, 32, 64, 64)]),
        (NodeKind.SCALE, layers.Scale(), [(2, 32, 7, 7), (2, 32, 1, 1)]),
        (NodeKind.ADD, layers.Add(), [(2, 32, 7, 7), (2, 32, 7, 7)]),
    ],
)
def test_every_kind_of_layer_stays_within_one_side(kind, module, inputs):
    # Positive values: of a sum that cancels, a part in 100,000 is less than a rounding.
    tensors = [100 * torch.rand(shape) for shape in inputs]
    with torch.no_grad():
        roundings = judged(kind, module, *tensors)
        wrong = judged(kind, module, *tensors, change=lambda output: output * (1 + 1e-5))
    assert roundings < SIDE_LIMIT
    # One part in 100,000 everywhere is 168 roundings where gauge and output are of one size.
    assert wrong > 2 * SIDE_LIMIT


def test_fusion_with_weights_stays_within_one_side():
    features = [torch.randn(1, 8, 5, 5) for _ in range(3)]
    weights = torch.tensor([0.7, -0.2, 1.4])
    fuse = layers.Fuse(Fusion.FAST_ATTENTION)
    with torch.no_grad():
        assert judged(NodeKind.FUSE, fuse, features, weights) < SIDE_LIMIT


@pytest.mark.parametrize("truth_is_wider", [True, False])
@pytest.mark.parametrize("kind", [NodeKind.POOL, NodeKind.UPSAMPLE])
def test_selections_must_be_exact(kind, truth_is_wider):
    limit = limit_of(kind, 1, truth_is_wider=truth_is_wider)
    assert (limit.candidate, limit.reference) == (0, 0)
    assert "bit for bit" in limit.reason


@pytest.mark.parametrize("kind", set(NodeKind) - {NodeKind.POOL, NodeKind.UPSAMPLE, NodeKind.MEAN})
def test_both_sides_have_the_same_limit_and_float64_that_of_its_truth_too(kind):
    limit = limit_of(kind, 1, truth_is_wider=True)
    assert (limit.candidate, limit.reference) == (SIDE_LIMIT, SIDE_LIMIT)
    limit = limit_of(kind, 1, truth_is_wider=False)
    assert (limit.candidate, limit.reference) == (2 * SIDE_LIMIT, 2 * SIDE_LIMIT)
    assert "float64 too" in limit.reason


def test_means_grow_with_their_terms_for_tensorflow_alone_and_say_why():
    limit = limit_of(NodeKind.MEAN, 65536, truth_is_wider=True)
    assert limit.candidate == SIDE_LIMIT
    assert limit.reference == 65536 + SIDE_LIMIT
    assert "65536 values one after another" in limit.reason
    values = np.abs(np.random.default_rng(0).standard_normal(65536)).astype(np.float32)
    total = np.float32(0)
    for value in values:
        total += value
    error = abs(float(total) - float(values.sum(dtype=np.float64)))
    # The bound holds for the sum that it was derived for, and one in 16 would not be enough.
    assert SIDE_LIMIT < error / (2**-24 * float(values.sum())) < limit.reference


def test_flushed_values_count_as_rounding():
    x = torch.full((1, 4, 3, 3), -95.0)
    flushed = judged(NodeKind.ACTIVATION, layers.Swish(), x, change=lambda y: torch.zeros_like(y))
    assert flushed < SIDE_LIMIT
    conv = layers.DepthwiseConv2d(4, 3)
    tiny = torch.full((1, 4, 3, 3), 1e-39)
    with torch.no_grad():
        flushed = judged(NodeKind.DEPTHWISE, conv, tiny, change=lambda y: torch.zeros_like(y))
        assert flushed < SIDE_LIMIT
        normal = torch.full((1, 4, 3, 3), 1e-20)
        lost = judged(NodeKind.DEPTHWISE, conv, normal, change=lambda y: torch.zeros_like(y))
    assert lost > 1e5
