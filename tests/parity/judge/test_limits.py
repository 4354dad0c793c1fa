"""Limits hold for legitimate arithmetic and are broken by the smallest defects."""

import numpy as np
import pytest
import torch

from efficientdet_spec import Fusion, NodeKind
from parity.judge.limits import FALSE_ALARM, SIDE_LIMIT, chance_factor, limit_of
from parity.judge.measure import difference
from parity.sides import pytorch
from torch_model import layers


def judged(kind, module, *inputs, change=None):
    """Roundings of a float32 module against its own float64, with a fault injected if asked."""
    broken = module
    output = broken(*inputs)
    truth = module.double()(*(_double(x) for x in inputs)).float()
    module.float()
    gauge = pytorch.expected(kind, module, inputs)[1]
    if change:
        output = change(output)
    arrays = [pytorch.nhwc(x.contiguous()) for x in (truth, output, gauge)]
    return difference(*arrays).roundings


def _double(x):
    if isinstance(x, (list, tuple)):
        return [item.double() for item in x]
    return x.double() if x is not None else None


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


FACTOR = chance_factor(10**9)


def bound(kind, terms=1, wider=True, **other):
    return limit_of(kind, terms, factor=FACTOR, truth_is_wider=wider, **other)


def test_the_factor_is_that_of_the_stated_probability():
    # lambda = sqrt(2 ln(2 N / p)): about 8.4 for a billion elements and one alarm in a million.
    assert 3 * chance_factor(10**9, 1e-6) == pytest.approx(8.40, abs=0.01)
    assert FALSE_ALARM == 1e-6
    assert chance_factor(10**9) > chance_factor(10**6) > chance_factor(10**6, 1e-3)


# Each a case in which roundings might not be independent: the sums of ratios to sqrt(K) that the
# derivation allows are 2.8; measured ratios are 0.1 to 1 and are no part of it.
SUMS = {
    "noise": (False, False),
    "a constant image": (False, True),
    "positive kernels": (True, False),
    "positive kernels on a constant image": (True, True),
}


@pytest.mark.parametrize("channels", [8, 240, 1152, 3840])
@pytest.mark.parametrize("case", SUMS)
@pytest.mark.parametrize("size", [1, 6])
def test_sums_stay_within_the_limit_of_their_terms(channels, case, size):
    positive, constant = SUMS[case]
    conv = layers.Conv2d(channels, 16)
    x = (
        torch.full((1, channels, size, size), 0.3)
        if constant
        else torch.randn(1, channels, size, size)
    )
    with torch.no_grad():
        if positive:
            conv.weight.abs_()
        roundings = judged(NodeKind.CONV, conv, x)
    limit = bound(NodeKind.CONV, channels + 1).candidate
    assert roundings < limit
    assert limit == max(SIDE_LIMIT, FACTOR * (channels + 1) ** 0.5)


def test_equal_terms_break_the_assumption_as_documented():
    """Where all terms are one value their roundings are alike, and the derivation does not hold."""
    values = np.full(1152, np.float32(0.03))
    total = np.float32(0)
    for value in values:
        total += value
    roundings = abs(float(total) - 1152 * float(values[0])) / (2**-24 * 1152 * float(values[0]))
    assert roundings > 2.8 * 1152**0.5


def test_a_dropped_tap_is_far_above():
    conv = layers.Conv2d(512, 16, kernel=3)
    x = torch.randn(1, 512, 6, 6)
    with torch.no_grad():
        dropped = layers.Conv2d(512, 16, kernel=3)
        dropped.load_state_dict(conv.state_dict())
        dropped.weight[:, 3, 0, 0] = 0
        wrong = dropped(x)
        found = judged(NodeKind.CONV, conv, x, change=lambda output: wrong)
    assert found > 100 * bound(NodeKind.CONV, 9 * 512).candidate


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
    limit = bound(kind, wider=truth_is_wider)
    assert (limit.candidate, limit.reference) == (0, 0)
    assert "bit for bit" in limit.reason
    limit = bound(kind, certain=(False, True))
    assert (limit.candidate, limit.reference) == (SIDE_LIMIT, 0)


@pytest.mark.parametrize(
    "kind", [kind for kind in NodeKind if kind not in (NodeKind.POOL, NodeKind.UPSAMPLE)]
)
def test_both_sides_have_the_same_limit_and_float64_that_of_its_truth_too(kind):
    limit = bound(kind)
    assert (limit.candidate, limit.reference) == (SIDE_LIMIT, SIDE_LIMIT)
    limit = bound(kind, wider=False)
    assert (limit.candidate, limit.reference) == (2 * SIDE_LIMIT, 2 * SIDE_LIMIT)
    assert "float64 too" in limit.reason


def test_functions_are_told_apart_by_one_rounding_where_that_can_be_seen():
    assert bound(NodeKind.CONV).same_function == 1
    assert bound(NodeKind.CONV, wider=False).same_function == 2 * SIDE_LIMIT
    assert bound(NodeKind.CONV, certain=(False, True)).same_function == SIDE_LIMIT


def test_a_folded_batch_norm_is_within_one_rounding_of_its_convolution():
    """What rounding parameters once may do is what a function may differ by and stay the same."""
    conv = layers.Conv2d(512, 64)
    scale = torch.rand(64, dtype=torch.float64) + 0.5
    x = torch.randn(1, 512, 4, 4)
    with torch.no_grad():
        exact = conv.weight.double() * scale[:, None, None, None]
        folded = exact.float().double()
        one, other = (torch.nn.functional.conv2d(x.double(), w) for w in (exact, folded))
        gauge = torch.nn.functional.conv2d(x.double().abs(), exact.abs())
    apart = float(((one - other).abs() / (2**-24 * gauge)).max())
    assert 0.01 < apart < 1


@pytest.mark.parametrize("value", [-30.0, -12.0, 12.0])
@pytest.mark.parametrize(
    "kind, module", [(NodeKind.ACTIVATION, layers.Swish()), (NodeKind.GATE, torch.nn.Sigmoid())]
)
def test_far_out_an_activation_is_as_exact_as_its_argument(kind, module, value):
    """An exponential rounds its argument; at -30 that is 29 roundings of its value."""
    x = torch.full((1, 4, 8, 8), value) + torch.linspace(-1, 1, 64).view(8, 8)
    moved = torch.nextafter(x, torch.tensor(torch.inf))
    assert judged(kind, module, x) < 4
    assert judged(kind, module, x, change=lambda output: module(moved)) < 6


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
