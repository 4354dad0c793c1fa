"""Bounds on what changed inputs do to an output hold, and are no larger than they need be."""

import numpy as np
import pytest
import torch

from efficientdet_spec import Fusion, NodeKind
from parity.sides.pytorch.hooks import nchw, nhwc
from parity.sides.pytorch.operations import feature_maps, operation_of
from torch_model import layers

FULL = (2, 6, 8, 10)
GATE = (2, 6, 1, 1)
ONE = 1e-6
"""Changes are this large, so that what is not linear in them does not count."""


def batch_norm():
    bn = layers.BatchNorm2d(6).eval()
    with torch.no_grad():
        bn.weight.uniform_(-2, 2)
        bn.running_mean.uniform_(-1, 1)
        bn.running_var.uniform_(0.1, 2)
    return bn


CASES = {
    "pointwise": (NodeKind.CONV, lambda: layers.Conv2d(6, 5), [FULL]),
    "convolution": (NodeKind.CONV, lambda: layers.Conv2d(6, 5, 3, 2), [FULL]),
    "depthwise": (NodeKind.DEPTHWISE, lambda: layers.DepthwiseConv2d(6, 3), [FULL]),
    "strided": (NodeKind.DEPTHWISE, lambda: layers.DepthwiseConv2d(6, 5, 2), [FULL]),
    "batch norm": (NodeKind.BATCH_NORM, batch_norm, [FULL]),
    **{
        kind.value: (NodeKind.ACTIVATION, module, [FULL])
        for kind, module in layers.ACTIVATIONS.items()
    },
    "gate": (NodeKind.GATE, torch.nn.Sigmoid, [GATE]),
    "mean": (NodeKind.MEAN, layers.GlobalMean, [FULL]),
    "scale": (NodeKind.SCALE, layers.Scale, [FULL, GATE]),
    "add": (NodeKind.ADD, layers.Add, [FULL, FULL]),
    "pool": (NodeKind.POOL, layers.MaxPool2d, [FULL]),
    "upsample": (NodeKind.UPSAMPLE, layers.Upsample, [FULL]),
    **{
        f"fuse by {fusion.name}": (
            NodeKind.FUSE,
            lambda fusion=fusion: layers.Fuse(fusion),
            [FULL, FULL, FULL],
        )
        for fusion in Fusion
    },
}
OTHER = {"pool": (4, 5), "upsample": (16, 20)}
WEIGHTS = torch.tensor([0.7, -0.2, 1.4], dtype=torch.float64)


def spread(kind, module, inputs, errors):
    """The bound of a layer's output, errors of None being no errors."""
    maps = feature_maps(inputs)
    bounds = [
        np.zeros_like(x) if error is None else np.ascontiguousarray(nhwc(error))
        for x, error in zip(maps, errors, strict=True)
    ]
    return nchw(operation_of(kind, module, inputs).spread(maps, bounds))


class Setting:
    """A layer in float64 with its inputs and the largest changes of them."""

    def __init__(self, name):
        torch.manual_seed(0)
        self.kind, module, shapes = CASES[name]
        self.module = module().double()
        self.name = name
        self.maps = [3 * torch.randn(shape, dtype=torch.float64) for shape in shapes]
        self.errors = [ONE * torch.rand(shape, dtype=torch.float64) for shape in shapes]

    def inputs(self, maps):
        if self.kind is NodeKind.FUSE:
            return (maps, self.weights(self.module.fusion))
        return (*maps, *([OTHER[self.name]] if self.name in OTHER else []))

    @staticmethod
    def weights(fusion):
        if not fusion.is_weighted:
            return None
        channels = torch.linspace(0.5, 1.5, FULL[1], dtype=torch.float64)
        return WEIGHTS[:, None] * channels if fusion.is_per_channel else WEIGHTS

    def output(self, changes=None):
        changes = changes or [torch.zeros(()) for _ in self.maps]
        moved = [x + change for x, change in zip(self.maps, changes, strict=True)]
        with torch.inference_mode():
            return self.module(*self.inputs(moved))

    def bound(self, errors):
        return spread(self.kind, self.module, self.inputs(self.maps), errors)


@pytest.mark.parametrize("name", CASES)
def test_no_change_within_bounds_goes_beyond_them(name):
    setting = Setting(name)
    before, bound = setting.output(), setting.bound(setting.errors)
    assert bound.shape == before.shape
    reached = torch.zeros_like(bound)
    for number in range(40):
        # Corners are the worst: every element goes as far as it may.
        changes = [
            error * (torch.randint(0, 2, error.shape) * 2 - 1 if number else 1)
            for error in setting.errors
        ]
        change = (setting.output(changes) - before).abs()
        assert (change <= bound * (1 + 1e-6) + 1e-14).all()
        reached = torch.maximum(reached, change)
    # Of sums over many elements random signs reach a part only.
    assert (reached.sum() / bound.sum()).item() > (0.2 if name != "mean" else 0.05)


@pytest.mark.parametrize("name", ["pointwise", "convolution", "depthwise", "strided"])
def test_the_worst_change_of_a_convolution_reaches_its_bound(name):
    setting = Setting(name)
    x = setting.maps[0].clone().requires_grad_()
    output = setting.module(x)
    where = (1, 2, 1, 2)
    output[where].backward()
    worst = setting.errors[0] * torch.sign(x.grad)
    change = (setting.output([worst]) - setting.output())[where].abs().item()
    assert change == pytest.approx(setting.bound(setting.errors)[where].item(), rel=1e-6)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case[2]) > 1])
def test_inputs_without_errors_add_nothing(name):
    setting = Setting(name)
    for index, error in enumerate(setting.errors):
        alone = [error if number == index else None for number in range(len(setting.errors))]
        bound = setting.bound(alone)
        change = (
            setting.output(
                [e if e is not None else torch.zeros_like(m)
                 for e, m in zip(alone, setting.maps, strict=True)]
            )
            - setting.output()
        ).abs()  # fmt: skip
        assert (change <= bound * (1 + 1e-6) + 1e-14).all()
        assert bound.sum() <= setting.bound(setting.errors).sum()


def test_slopes_are_the_largest_there_are():
    x = torch.linspace(-20, 20, 100_001, dtype=torch.float64)
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for kind, module in [
        (NodeKind.ACTIVATION, layers.Swish()),
        (NodeKind.GATE, torch.nn.Sigmoid()),
    ]:
        y = module(x)
        slope = ((y[1:] - y[:-1]) / (x[1:] - x[:-1])).abs().max().item()
        bound = spread(kind, module, (one,), [one]).item()
        assert slope <= bound < 1.001 * slope


def test_bounds_of_products_hold_for_large_changes_too():
    setting = Setting("scale")
    setting.maps = [x.abs() for x in setting.maps]
    errors = [torch.full_like(x, 10.0) for x in setting.maps]
    change = setting.output(errors) - setting.output()
    torch.testing.assert_close(change, setting.bound(errors))
