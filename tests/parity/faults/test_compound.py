"""Two faults in one node are named both; what is none of the catalogue's is not called two."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis_cases import (
    FAST,
    MODULES,
    POOL,
    SIGNED,
    SWISH,
    case,
    conv,
    depthwise,
    features,
    halved,
    norm,
)
from sampling import one_in

from parity.faults import diagnose

torch.manual_seed(0)


@pytest.fixture(autouse=True)
def quiet():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def convolved(module, x, pad=1, bias=True, weight=lambda w: w, stride=None):
    own = module.bias if bias else None
    stride = stride or module.stride
    return F.conv2d(x, weight(module.weight), own, stride, pad, 1, module.groups)


def normed(module, x, other=None, eps=None, **values):
    names = {"weight": module.weight, "bias": module.bias, **values}
    mean, variance = module.running_mean, module.running_var
    eps = module.eps if eps is None else eps
    return F.batch_norm(x, mean, variance, names["weight"], names["bias"], eps=eps)


TWO = {
    "symmetric padding without bias": (
        {"padding-symmetric", "bias-missing"}, conv(kernel=3, stride=2), [features()], {},
        lambda m, x: convolved(m, x, bias=False),
    ),
    "kernel transposed without bias": (
        {"kernel-transposed", "bias-missing"}, conv(kernel=3), [features()], {},
        lambda m, x: convolved(m, x, weight=lambda w: w.transpose(2, 3), bias=False),
    ),
    "symmetric padding and a kernel transposed": (
        {"padding-symmetric", "kernel-transposed"}, depthwise(kernel=5, stride=2), [features()], {},
        lambda m, x: convolved(m, x, 2, weight=lambda w: w.transpose(2, 3)),
    ),
    "symmetric padding and channels reversed": (
        {"padding-symmetric", "channels-reversed"}, conv(kernel=3, stride=2), [features()], {},
        lambda m, x: convolved(m, x).flip(1),
    ),
    "another epsilon and no beta": (
        {"epsilon", "beta-missing"}, norm(), [features()], {},
        lambda m, x: normed(m, x, eps=1e-5, bias=torch.zeros_like(m.bias)),
    ),
    "relu6 and channels reversed": (
        {"relu6", "channels-reversed"}, SWISH, [features() * 3], {},
        lambda m, x: F.relu6(x).flip(1),
    ),
    "symmetric padding and its output transposed": (
        {"padding-symmetric", "transposed"}, conv(kernel=3, stride=2), [features()], {},
        lambda m, x: convolved(m, x).transpose(2, 3),
    ),
    "softmax's weights and channels moved": (
        {"softmax", "channels-moved"}, FAST, SIGNED, {},
        lambda m, x, w: sum(a * b for a, b in zip(x, w.softmax(0), strict=True)).roll(1, 1),
    ),
    "padding by zeros and channels reversed": (
        {"pool-zero-padding", "channels-reversed"}, POOL, halved(12, 12), {},
        lambda m, x, size: F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2).flip(1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TWO)
def test_both_of_two_faults_are_named(name):
    slugs, module, arguments, other, made = TWO[name]
    found = diagnose(case(module, arguments, made(module, *arguments), **other))
    assert found is not None
    assert set(found.slug.split("+")) == slugs


def mixed(y):
    weight = torch.randn(y.shape[1], y.shape[1]) / y.shape[1] ** 0.5
    return torch.einsum("nchw,dc->ndhw", y, weight)


def ramp(y, axis):
    shape = [1] * 4
    shape[axis] = y.shape[axis]
    return torch.linspace(0.9, 1.1, y.shape[axis]).view(shape)


ODD = {
    "noise": lambda y: y + torch.randn_like(y) * y.std() * 0.1,
    "little noise": lambda y: y + torch.randn_like(y) * y.std() * 1e-4,
    "relative noise": lambda y: y * (1 + torch.randn_like(y) * 1e-3),
    "nothing but noise": lambda y: torch.randn_like(y),
    "channels mixed": mixed,
    "channels mixed and reversed": lambda y: mixed(y).flip(1),
    "quantised": lambda y: torch.round(y / 0.1) * 0.1,
    "quantised, half a step on": lambda y: (torch.floor(y / 0.25) + 0.5) * 0.25,
    "square": lambda y: y.square(),
    "cube": lambda y: y**3,
    "sine": torch.sin,
    "softsign": F.softsign,
    "arctangent": torch.atan,
    "signed root": lambda y: y.sign() * y.abs().sqrt(),
    "exponential": lambda y: y.clamp(max=3).exp(),
    "logarithm": lambda y: y.abs().add(1).log(),
    "bent": lambda y: torch.where(y > 0.3, y * 1.3, y * 0.7),
    "blurred": lambda y: F.avg_pool2d(y, 3, 1, 1),
    "sharpened": lambda y: 2 * y - F.avg_pool2d(y, 3, 1, 1),
    "averaged along rows": lambda y: (y + y.roll(1, 2)) / 2,
    "averaged with its mirror image": lambda y: (y + y.flip(3)) / 2,
    "mean of each plane taken off": lambda y: y - y.mean((2, 3), keepdim=True),
    "standardised": lambda y: (y - y.mean()) / y.std(),
    "standardised by channel": lambda y: y / (y.square().mean((2, 3), keepdim=True) + 1),
    "softmax over channels": lambda y: y.softmax(1),
    "cumulative": lambda y: y.cumsum(3) / 4,
    "ramp along rows": lambda y: y * ramp(y, 2),
    "ramp along columns": lambda y: y * ramp(y, 3),
    "ramp along channels, reversed": lambda y: (y * ramp(y, 1)).flip(1),
    "other channels in a corner": lambda y: torch.cat([y[..., :2].flip(1) * 0.3, y[..., 2:]], 3),
    "checkerboard": lambda y: y * (1 + 0.1 * ((torch.arange(y.shape[3]) + 1) % 2)),
    "some dropped": lambda y: y * (torch.rand_like(y) > 0.3),
    "places shuffled": lambda y: y.flatten(2)[..., torch.randperm(y[0, 0].numel())].view_as(y),
    "sorted": lambda y: y.flatten(2).sort(2).values.view_as(y),
    "largest of neighbours": lambda y: F.max_pool2d(y, 3, 1, 1),
    "median of channels added": lambda y: y.roll(1, 3).median(1, True)[0] + y,
    "next channel mixed in": lambda y: 0.9 * y + 0.1 * y.roll(1, 1),
    "gated by its mean": lambda y: y * torch.sigmoid(y.mean((2, 3), keepdim=True)),
    "outer product": lambda y: y.mean(2, keepdim=True) * y.mean(3, keepdim=True),
    "bent and moved": lambda y: (y.sign() * y.abs() ** 1.1).roll(1, 3),
}
"""Changes of an output that no fault of the catalogue makes."""


@pytest.mark.parametrize("odd", one_in(10, ODD))
def test_what_is_not_in_the_catalogue_is_not_called_two_faults(odd):
    for name, (module, arguments) in MODULES.items():
        made = ODD[odd](module(*arguments))
        found = diagnose(case(module, arguments, made.contiguous()))
        assert found is None or "+" not in found.slug, (name, found)
