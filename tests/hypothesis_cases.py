"""Single nodes, each with what it is given: the material of which diagnoses are tested."""

import copy

import torch

from efficientdet_spec import Fusion, NodeKind
from parity.faults import Case
from torch_model import layers

# The tensors below are drawn as the module is read.
torch.manual_seed(0)


def features(channels=8, height=12, width=12, images=1):
    """Values as a batch norm leaves them: every channel has its own mean and deviation."""
    scale = torch.rand(1, channels, 1, 1) * 2 + 0.2
    return torch.randn(images, channels, height, width) * scale + torch.randn(1, channels, 1, 1)


def conv(inputs=8, outputs=10, kernel=1, stride=1):
    module = layers.Conv2d(inputs, outputs, kernel, stride)
    module.bias.data.copy_(torch.randn(outputs))
    return module


def depthwise(channels=8, kernel=3, stride=1):
    return layers.DepthwiseConv2d(channels, kernel, stride)


def norm(channels=8):
    module = layers.BatchNorm2d(channels)
    module.weight.data.copy_(torch.rand(channels) + 0.5)
    module.bias.data.copy_(torch.randn(channels))
    module.running_mean.copy_(torch.randn(channels))
    module.running_var.copy_(torch.rand(channels) * 2 + 0.01)
    return module.eval()


KINDS = {
    layers.Conv2d: NodeKind.CONV,
    layers.DepthwiseConv2d: NodeKind.DEPTHWISE,
    layers.BatchNorm2d: NodeKind.BATCH_NORM,
    **dict.fromkeys(layers.ACTIVATIONS.values(), NodeKind.ACTIVATION),
    torch.nn.Sigmoid: NodeKind.GATE,
    layers.GlobalMean: NodeKind.MEAN,
    layers.Scale: NodeKind.SCALE,
    layers.Add: NodeKind.ADD,
    layers.Fuse: NodeKind.FUSE,
    layers.MaxPool2d: NodeKind.POOL,
    layers.Upsample: NodeKind.UPSAMPLE,
}


def doubled(value):
    if isinstance(value, torch.Tensor):
        return value.double()
    return [doubled(item) for item in value] if isinstance(value, list) else value


def case(module, arguments, candidate, **other):
    """The case of a module that should have computed something else than ``candidate``."""
    values = {"name": "a.b", "siblings": {}, "alternatives": {}} | other
    return Case(
        kind=KINDS[type(module)],
        module=copy.deepcopy(module).double(),
        arguments=tuple(doubled(value) for value in arguments),
        candidate=candidate,
        **values,
    )


SWISH, GATE = layers.Swish(), torch.nn.Sigmoid()
FAST, SUM = layers.Fuse(Fusion.FAST_ATTENTION), layers.Fuse(Fusion.SUM)
SOFTMAX = layers.Fuse(Fusion.SOFTMAX_ATTENTION)


THREE = [[features(), features(), features()], torch.tensor([0.8, 1.3, 0.4])]
SIGNED = [[features(), features(), features()], torch.tensor([0.8, -0.12, 0.4])]
PAIR = [[features(), features()], None]
POOL, UPSAMPLE = layers.MaxPool2d(), layers.Upsample()


def by_channel():
    """Three inputs with weights of their own for each channel, some of them negative."""
    return [[features(), features(), features()], torch.rand(3, 8) * 1.2 - 0.1]


def halved(height=12, width=12):
    """Features below zero and the size of half of them."""
    return [features(height=height, width=width) - 3, (-(-height // 2), -(-width // 2))]


DOUBLED = [features(height=6, width=6), (12, 12)]
ODD = [features(height=6, width=6), (11, 11)]
MODULES = {
    "convolution": (conv(kernel=3, stride=2), [features(height=13)]),
    "pointwise": (conv(), [features()]),
    "depthwise": (depthwise(kernel=5, stride=2), [features()]),
    "batch norm": (norm(), [features()]),
    "swish": (SWISH, [features()]),
    "gate": (GATE, [features()]),
    "mean": (layers.GlobalMean(), [features()]),
    "scale": (layers.Scale(), [features(), torch.rand(1, 8, 1, 1)]),
    "sum": (layers.Add(), [features(), features()]),
    "fast attention": (FAST, SIGNED),
    "softmax attention": (SOFTMAX, THREE),
    "plain sum": (SUM, PAIR),
    "max-pool": (POOL, halved(13, 12)),
    "up-sampling": (UPSAMPLE, ODD),
    "relu": (layers.Relu(), [features()]),
    # Some values are above the cap.
    "relu6": (layers.Relu6(), [4 * features()]),
    "hard swish": (layers.HardSwish(), [2 * features()]),
    "mish": (layers.Mish(), [features()]),
    "fast attention of each channel": (layers.Fuse(Fusion.CHANNEL_FAST_ATTENTION), by_channel()),
    "softmax attention of each channel": (
        layers.Fuse(Fusion.CHANNEL_SOFTMAX_ATTENTION),
        by_channel(),
    ),
}
"""A module and its arguments for each kind of node."""
