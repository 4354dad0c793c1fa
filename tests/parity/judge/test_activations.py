"""The activations' exact values, gauges and slopes, against PyTorch's and their definitions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from efficientdet_spec import Activation
from parity.judge.operations import ACTIVATIONS
from torch_model.layers import ACTIVATIONS as MODULES

X = np.concatenate(
    [
        np.linspace(-30, 30, 60001),
        np.linspace(-3.01, -2.99, 2001),
        np.linspace(5.99, 6.01, 2001),
        [0.0, -0.0, 3.0, -3.0, 6.0, 1e-30, -1e-30, 1e-42, -1e-42, 80.0, -80.0, 200.0, -200.0, 3e38],
    ]
).astype(np.float32)[None, None, :, None]

DEFINITIONS = {
    Activation.SWISH: lambda x: x * torch.sigmoid(x),
    Activation.RELU: lambda x: x.clamp(min=0),
    Activation.RELU6: lambda x: x.clamp(0, 6),
    Activation.HARD_SWISH: lambda x: x * (x + 3).clamp(0, 6) / 6,
    Activation.MISH: lambda x: x * torch.tanh(F.softplus(x, threshold=1000)),
}
"""As the official ``utils.activation_fn`` has them."""

OTHER_FORMS = {
    Activation.SWISH: lambda x: x / (1 + torch.exp(-x)),
    Activation.RELU: lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    Activation.RELU6: lambda x: 6 - (6 - x.clamp(min=0)).clamp(min=0),
    Activation.HARD_SWISH: lambda x: x * (x / 6 + 0.5).clamp(0, 1),
    Activation.MISH: lambda x: x * torch.tanh(torch.log1p(torch.exp(x))),
}
"""Other programs' ways to compute the same."""


@pytest.mark.parametrize("kind", Activation)
def test_every_activation_is_known_everywhere(kind):
    assert MODULES[kind].activation is kind
    assert ACTIVATIONS[kind] is not None


@pytest.mark.parametrize("kind", Activation)
def test_the_exact_value_is_the_definition(kind):
    truth, gauge = ACTIVATIONS[kind]().whole([X])
    wanted = DEFINITIONS[kind](torch.from_numpy(X).double()).numpy()
    # Double precision's own roundings, as many as the definition has steps.
    assert (np.abs(truth - wanted) <= 16 * 2.0**-53 * np.maximum(gauge, np.abs(wanted))).all()


def roundings(kind, values):
    truth, gauge = ACTIVATIONS[kind]().whole([X])
    finite = np.isfinite(values)
    assert finite.sum() >= X.size - 1
    return (np.abs(values.astype(np.float64) - truth) / gauge)[finite].max() * 2.0**24


@pytest.mark.parametrize("kind", Activation)
def test_our_module_is_within_a_few_roundings(kind):
    assert roundings(kind, MODULES[kind]()(torch.from_numpy(X)).numpy()) <= 8


@pytest.mark.parametrize("kind", [kind for kind in Activation if kind is not Activation.RELU6])
def test_another_way_to_compute_it_is_no_other_function(kind):
    assert roundings(kind, OTHER_FORMS[kind](torch.from_numpy(X)).numpy()) <= 16


@pytest.mark.parametrize("kind", Activation)
def test_any_other_activation_is_far_off(kind):
    for other in Activation:
        if other is not kind:
            values = MODULES[other]()(torch.from_numpy(X)).numpy()
            assert roundings(kind, values) > 1e4


@pytest.mark.parametrize("kind", Activation)
def test_changes_of_the_input_change_no_more_than_the_spread(kind):
    operation = ACTIVATIONS[kind]()
    rng = np.random.default_rng(1)
    x = rng.uniform(-8, 8, (1, 4, 500, 3))
    bound = rng.uniform(0, 0.5, x.shape)
    spread = operation.spread([x], [bound])
    here = operation.whole([x])[0]
    largest = np.zeros_like(x)
    for share in (-1, -0.5, 0.5, 1):
        moved = np.abs(operation.whole([x + share * bound])[0] - here)
        assert (moved <= spread * (1 + 1e-12)).all()
        largest = np.maximum(largest, moved)
    # And it is no larger than the slope asks for.
    assert (largest >= 0.9 * spread).any()


def test_a_saturated_value_spreads_nothing():
    x = np.array([[[[7.0, 5.9, -1.0, 0.05]]]])
    bound = np.full_like(x, 0.25)
    spread = ACTIVATIONS[Activation.RELU6]().spread([x], [bound])
    assert np.allclose(spread, [[[[0.0, 0.25, 0.0, 0.25]]]])
