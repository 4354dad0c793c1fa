"""Each named fault, injected alone in float32, is named again; anything else is not."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis_cases import (
    DOUBLED,
    FAST,
    GATE,
    MODULES,
    ODD,
    PAIR,
    POOL,
    SIGNED,
    SOFTMAX,
    SUM,
    SWISH,
    THREE,
    UPSAMPLE,
    case,
    conv,
    depthwise,
    features,
    halved,
    norm,
)

from parity.faults import Attempt, diagnose
from parity.faults.basics.case import ALL, by_resemblance
from parity.faults.basics.operations import Convolution, faithful
from parity.sides import pytorch
from torch_model import layers

# The tables below draw their tensors as the module is read.
torch.manual_seed(0)


@pytest.fixture(autouse=True)
def quiet():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def changed(module, **values):
    """A copy of a module with other attributes or parameter values."""
    other = copy.deepcopy(module)
    for name, value in values.items():
        if isinstance(getattr(other, name), torch.nn.Parameter):
            getattr(other, name).data.copy_(value)
        else:
            setattr(other, name, value)
    return other


def padded(module, x, left, right, top, bottom, mode="constant", **options):
    settings = {"stride": module.stride, "groups": module.groups} | options
    x = F.pad(x, (left, right, top, bottom), mode=mode)
    return F.conv2d(x, module.weight, module.bias, **settings)


def with_value(tensor, index, value):
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


def hwio_reshaped(weight):
    return weight.permute(2, 3, 1, 0).reshape(weight.shape)


# Name: slug, part of the title, module, arguments, what the candidate computes instead.
CONVOLUTIONS = {
    "symmetric padding, even side": (
        "padding-symmetric", "1 pixels of padding on every side",
        conv(kernel=3, stride=2), [features()], lambda m, x: padded(m, x, 1, 1, 1, 1),
    ),
    "symmetric padding, depthwise 5x5": (
        "padding-symmetric", "instead of SAME's 1 above, 2 below",
        depthwise(kernel=5, stride=2), [features()], lambda m, x: padded(m, x, 2, 2, 2, 2),
    ),
    "symmetric padding where only the width is even": (
        "padding-symmetric", "1 above, 1 below, 0 left and 1 right",
        conv(kernel=3, stride=2), [features(height=13)], lambda m, x: padded(m, x, 1, 1, 1, 1),
    ),
    "padding by reflection": (
        "padding-reflect", "reflect", depthwise(), [features()],
        lambda m, x: padded(m, x, 1, 1, 1, 1, "reflect"),
    ),
    "padding by the border": (
        "padding-replicate", "replicate", depthwise(kernel=5), [features()],
        lambda m, x: padded(m, x, 2, 2, 2, 2, "replicate"),
    ),
    "no padding": (
        "padding-none", "no padding", conv(kernel=3), [features()],
        lambda m, x: padded(m, x, 0, 0, 0, 0),
    ),
    "the other phase": (
        "stride-moved", "the other rows and columns", depthwise(stride=2), [features()],
        lambda m, x: padded(m, x, -1, 2, -1, 2),
    ),
    "a stride lost": (
        "stride-other", "stride 1x1 instead of 2x2", depthwise(stride=2), [features()],
        lambda m, x: padded(m, x, 1, 1, 1, 1, stride=1),
    ),
    "a stride too many": (
        "stride-other", "stride 2x2 instead of 1x1", conv(kernel=3), [features()],
        lambda m, x: padded(m, x, 1, 1, 1, 1, stride=2),
    ),
    "dilation": (
        "dilation", "dilation 2", depthwise(), [features()],
        lambda m, x: padded(m, x, 2, 2, 2, 2, dilation=2),
    ),
    "no bias": (
        "bias-missing", "without its bias", conv(), [features()],
        lambda m, x: F.conv2d(x, m.weight),
    ),
    "bias twice": (
        "bias-twice", "twice", conv(), [features()],
        lambda m, x: F.conv2d(x, m.weight, 2 * m.bias),
    ),
    "a bias that does not belong": (
        "channels-offset", "in 8 of 8", depthwise(), [features()],
        lambda m, x: m(x) + torch.linspace(-0.5, 0.7, 8).view(1, -1, 1, 1),
    ),
    "one value as bias": (
        "offset", "0.01 added", depthwise(), [features()], lambda m, x: m(x) + 0.01,
    ),
    "kernel transposed": (
        "kernel-transposed", "transposed", depthwise(), [features()],
        lambda m, x: changed(m, weight=m.weight.mT)(x),
    ),
    "kernel flipped": (
        "kernel-flipped", "true convolution", depthwise(kernel=5), [features()],
        lambda m, x: changed(m, weight=m.weight.flip(2, 3))(x),
    ),
    "kernel rotated": (
        "kernel-rotated", "90 degrees", conv(kernel=3), [features()],
        lambda m, x: changed(m, weight=m.weight.rot90(1, (2, 3)))(x),
    ),
    "in and out exchanged": (
        "kernel-in-out", "exchanged", conv(8, 8), [features()],
        lambda m, x: changed(m, weight=m.weight.transpose(0, 1))(x),
    ),
    "HWIO reshaped": (
        "kernel-reshaped", "HWIO", conv(kernel=3), [features()],
        lambda m, x: changed(m, weight=hwio_reshaped(m.weight))(x),
    ),
    "HWC1 reshaped": (
        "kernel-reshaped", "reshaped", depthwise(), [features()],
        lambda m, x: changed(m, weight=hwio_reshaped(m.weight))(x),
    ),
    "1x1 reshaped": (
        "kernel-reshaped", "HWIO", conv(), [features()],
        lambda m, x: changed(m, weight=hwio_reshaped(m.weight))(x),
    ),
    "kernel negated": (
        "kernel-negated", "other sign", conv(), [features()],
        lambda m, x: changed(m, weight=-m.weight)(x),
    ),
    "kernel zero": (
        "kernel-zero", "all zero", conv(), [features()],
        lambda m, x: changed(m, weight=0 * m.weight)(x),
    ),
    "one value of a kernel": (
        "kernel-values", "1 of 720 kernel values wrong ([out, in, y, x] [3, 1, 0, 2] is 0.3 ",
        conv(kernel=3), [features(height=24, width=24)],
        lambda m, x: changed(m, weight=with_value(m.weight, (3, 1, 0, 2), 0.3))(x),
    ),
    "some values of depthwise kernels": (
        "kernel-values", "9 of 72 kernel values wrong", depthwise(stride=2), [features(8, 24, 24)],
        lambda m, x: changed(m, weight=with_value(m.weight, (slice(2, 5), 0, 1), 0.7))(x),
    ),
    "channels of the input reversed": (
        "input-channels-reversed", "reverse order", conv(), [features()],
        lambda m, x: m(x.flip(1)),
    ),
    "output channels permuted": (
        "channels-permuted", "2 of 10 channels", conv(), [features()],
        lambda m, x: m(x)[:, [0, 1, 5, 3, 4, 2, 6, 7, 8, 9]],
    ),
    "output channels reversed": (
        "channels-reversed", "reverse", conv(), [features()], lambda m, x: m(x).flip(1),
    ),
    "output channels moved": (
        "channels-moved", "+1", conv(), [features()], lambda m, x: m(x).roll(1, 1),
    ),
    "one channel for another": (
        "channels-repeated", "3 holds 4", conv(), [features()],
        lambda m, x: m(x)[:, [0, 1, 2, 4, 4, 5, 6, 7, 8, 9]],
    ),
    "groups ignored": (
        "groups-ignored", "sum of all channels", depthwise(), [features()],
        lambda m, x: F.conv2d(x, m.weight.expand(8, 8, 3, 3), padding=1),
    ),
    "ReLU on top": (
        "activation-extra", "ReLU on top", conv(), [features()], lambda m, x: F.relu(m(x)),
    ),
    "swish on top": (
        "activation-extra", "swish on top", depthwise(), [features()], lambda m, x: F.silu(m(x)),
    ),
    "swish before": (
        "activation-before", "swish before", conv(), [features()], lambda m, x: m(F.silu(x)),
    ),
    "applied twice": (
        "applied-twice", "twice", conv(8, 8, 3), [features()], lambda m, x: m(m(x)),
    ),
    "left out": ("left-out", "left out", depthwise(), [features()], lambda m, x: x.clone()),
    "its input transposed": (
        "input-transposed", "height and width", depthwise(), [features()], lambda m, x: m(x.mT),
    ),
    "NHWC read as NCHW": (
        "input-reshaped", "reshaped", conv(), [features()],
        lambda m, x: m(x.permute(0, 2, 3, 1).reshape(x.shape)),
    ),
}  # fmt: skip

BATCH_NORMS = {
    "epsilon 1e-5": (
        "epsilon", "epsilon 1e-05 instead of 0.001", norm(), [features()],
        lambda m, x: changed(m, eps=1e-5)(x),
    ),
    "epsilon 1e-4": (
        "epsilon", "epsilon 0.0001 instead", norm(), [features()],
        lambda m, x: changed(m, eps=1e-4)(x),
    ),
    "an epsilon nobody uses": (
        "epsilon", "epsilon 0.0037 instead", norm(), [features()],
        lambda m, x: changed(m, eps=3.7e-3)(x),
    ),
    "gamma and beta exchanged": (
        "parameters-exchanged", "beta for gamma, gamma for beta", norm(), [features()],
        lambda m, x: changed(m, weight=m.bias, bias=m.weight)(x),
    ),
    "mean and beta exchanged": (
        "parameters-exchanged", "mean for beta, beta for mean", norm(), [features()],
        lambda m, x: changed(m, bias=m.running_mean, running_mean=m.bias.clone())(x),
    ),
    "gamma and variance exchanged": (
        "parameters-exchanged", "variance for gamma, gamma for variance", norm(), [features()],
        lambda m, x: changed(m, weight=m.running_var, running_var=m.weight.clone())(x),
    ),
    "no gamma": (
        "gamma-missing", "gamma", norm(), [features()],
        lambda m, x: changed(m, weight=torch.ones(8))(x),
    ),
    "no beta": (
        "beta-missing", "beta", norm(), [features()],
        lambda m, x: changed(m, bias=torch.zeros(8))(x),
    ),
    "no gamma and beta": (
        "affine-missing", "scale and offset", norm(), [features()],
        lambda m, x: changed(m, bias=torch.zeros(8), weight=torch.ones(8))(x),
    ),
    "no mean": (
        "mean-missing", "mean", norm(), [features()],
        lambda m, x: changed(m, running_mean=torch.zeros(8))(x),
    ),
    "no statistics": (
        "statistics-missing", "mean 0 and variance 1", norm(), [features()],
        lambda m, x: changed(m, running_mean=torch.zeros(8), running_var=torch.ones(8))(x),
    ),
    "no square root": (
        "variance-as-deviation", "not by the square root", norm(), [features()],
        lambda m, x: changed(m, running_var=(m.running_var + m.eps) ** 2, eps=0.0)(x),
    ),
    "deviation as variance": (
        "deviation-as-variance", "deviation taken", norm(), [features()],
        lambda m, x: changed(m, running_var=m.running_var.sqrt())(x),
    ),
    "epsilon outside the root": (
        "epsilon-outside", "deviation", norm(), [features()],
        lambda m, x: changed(m, running_var=(m.running_var.sqrt() + m.eps) ** 2, eps=0.0)(x),
    ),
    "training mode": (
        "batch-statistics", "training mode", norm(), [features(images=2)],
        lambda m, x: copy.deepcopy(m).train()(x),
    ),
    "instance norm": (
        "instance-statistics", "each image", norm(), [features(images=2)],
        lambda m, x: F.instance_norm(x, weight=m.weight, bias=m.bias, eps=m.eps),
    ),
    "left out": ("left-out", "left out", norm(), [features()], lambda m, x: x.clone()),
    "swish on top": (
        "activation-extra", "swish on top", norm(), [features()], lambda m, x: F.silu(m(x)),
    ),
    "applied twice": ("applied-twice", "twice", norm(), [features()], lambda m, x: m(m(x))),
    "one gamma wrong": (
        "channels-affine", "in 1 of 8, channels 3", norm(), [features()],
        lambda m, x: changed(m, weight=m.weight + 0.25 * (torch.arange(8) == 3))(x),
    ),
    "one beta wrong": (
        "channels-offset", "plus 0.25 in 1 of 8, channels 3", norm(), [features()],
        lambda m, x: changed(m, bias=m.bias + 0.25 * (torch.arange(8) == 3))(x),
    ),
}  # fmt: skip

ELEMENTWISE = {
    "left out": ("left-out", "left out", SWISH, [features()], lambda m, x: x.clone()),
    "ReLU": ("relu", "ReLU, or ReLU6", SWISH, [features()], lambda m, x: F.relu(x)),
    "ReLU6": ("relu6", "ReLU6", SWISH, [features() * 4], lambda m, x: F.relu6(x)),
    "leaky ReLU": (
        "leaky-relu", "slope 0.1)", SWISH, [features()], lambda m, x: F.leaky_relu(x, 0.1),
    ),
    "GELU": ("gelu", "error function", SWISH, [features()], lambda m, x: F.gelu(x)),
    "GELU by tanh": (
        "gelu", "tanh", SWISH, [features()], lambda m, x: F.gelu(x, approximate="tanh"),
    ),
    "hard swish": ("hard-swish", "hard", SWISH, [features()], lambda m, x: F.hardswish(x)),
    "sigmoid": ("sigmoid", "sigmoid", SWISH, [features()], lambda m, x: x.sigmoid()),
    "tanh": ("tanh", "tanh", SWISH, [features()], lambda m, x: x.tanh()),
    "ELU": ("elu", "ELU", SWISH, [features()], lambda m, x: F.elu(x)),
    "Mish": ("mish", "Mish", SWISH, [features()], lambda m, x: F.mish(x)),
    "softplus": ("softplus", "softplus", SWISH, [features()], lambda m, x: F.softplus(x)),
    "twice": ("applied-twice", "twice", SWISH, [features()], lambda m, x: m(m(x))),
    "another slope": (
        "other-slope", "b = 1.25", SWISH, [features()], lambda m, x: x * (1.25 * x).sigmoid(),
    ),
    "clamped": (
        "clamped", "clamped to at most 0.5", SWISH, [features()], lambda m, x: m(x).clamp(max=0.5),
    ),
    "softmax gate": (
        "softmax", "channels", GATE, [features(16, 1, 1)], lambda m, x: x.softmax(1),
    ),
    "gate left out": ("left-out", "left out", GATE, [features(16, 1, 1)], lambda m, x: x.clone()),
    "hard gate": (
        "hard-sigmoid", "relu6", GATE, [features(16, 1, 1)], lambda m, x: F.hardsigmoid(x),
    ),
    "tanh gate": ("tanh", "tanh", GATE, [features(16, 1, 1)], lambda m, x: x.tanh()),
    "swish gate": ("swish", "swish", GATE, [features(16, 1, 1)], lambda m, x: F.silu(x)),
    "gate twice": ("applied-twice", "twice", GATE, [features(16, 1, 1)], lambda m, x: m(m(x))),
    "maximum for the mean": (
        "max-pool", "largest", layers.GlobalMean(), [features()],
        lambda m, x: x.amax((2, 3), keepdim=True),
    ),
    "sum for the mean": (
        "sum", "sum", layers.GlobalMean(), [features()],
        lambda m, x: x.sum((2, 3), keepdim=True),
    ),
    "median for the mean": (
        "median", "median", layers.GlobalMean(), [features(height=9, width=9)],
        lambda m, x: x.flatten(2).median(2)[0][..., None, None],
    ),
    "mean of squares": (
        "mean-of-squares", "squares", layers.GlobalMean(), [features()], lambda m, x: m(x * x),
    ),
    "mean of a half": (
        "mean-of-part", "upper half", layers.GlobalMean(), [features()],
        lambda m, x: m(x[:, :, :6]),
    ),
    "centre for the mean": (
        "centre", "centre", layers.GlobalMean(), [features()], lambda m, x: x[:, :, 6:7, 6:7],
    ),
    "mean over one axis": (
        "mean-over-other-axes", "height", layers.GlobalMean(), [features()],
        lambda m, x: x.mean(2, keepdim=True),
    ),
    "mean summed in order": (
        "summed-in-order", "one after another", layers.GlobalMean(),
        [features(4, 512, 512).abs()],
        lambda m, x: torch.from_numpy(
            x.flatten(2).numpy().cumsum(2, dtype="float32")[..., -1:, None] / 2**18
        ),
    ),
    "no gate": (
        "left-out", "gate left out", layers.Scale(), [features(), torch.rand(1, 8, 1, 1)],
        lambda m, x, g: x.clone(),
    ),
    "gate added": (
        "gate-added", "added", layers.Scale(), [features(), torch.rand(1, 8, 1, 1)],
        lambda m, x, g: x + g,
    ),
    "gate twice in scale": (
        "gate-squared", "twice", layers.Scale(), [features(), torch.rand(1, 8, 1, 1)],
        lambda m, x, g: x * g * g,
    ),
    "gate and residual": (
        "gate-residual", "added", layers.Scale(), [features(), torch.rand(1, 8, 1, 1)],
        lambda m, x, g: x * (1 + g),
    ),
    "gate reversed": (
        "gate-reversed", "reverse", layers.Scale(), [features(), torch.rand(1, 8, 1, 1)],
        lambda m, x, g: x * g.flip(1),
    ),
    "no shortcut": (
        "shortcut-left-out", "shortcut", layers.Add(), [features(), features()],
        lambda m, x, y: x.clone(),
    ),
    "no branch": (
        "branch-left-out", "shortcut alone", layers.Add(), [features(), features()],
        lambda m, x, y: y.clone(),
    ),
    "averaged": (
        "averaged", "averaged", layers.Add(), [features(), features()], lambda m, x, y: (x + y) / 2,
    ),
    "subtracted": (
        "subtracted", "shortcut", layers.Add(), [features(), features()], lambda m, x, y: x - y,
    ),
    "multiplied": (
        "multiplied", "multiplied", layers.Add(), [features(), features()], lambda m, x, y: x * y,
    ),
    "shortcut twice": (
        "shortcut-twice", "twice", layers.Add(), [features(), features()],
        lambda m, x, y: x + 2 * y,
    ),
    "drop-connect's factor": (
        "weighted", "1.25 times the branch plus the shortcut",
        layers.Add(), [features(), features()],
        lambda m, x, y: x / 0.8 + y,
    ),
    "ReLU after the sum": (
        "activation-extra", "ReLU", layers.Add(), [features(), features()],
        lambda m, x, y: F.relu(x + y),
    ),
}  # fmt: skip


def shares(weights, epsilon=1e-4):
    return weights / (weights.sum() + epsilon)


def weighted(xs, factors):
    return sum(x * factor for x, factor in zip(xs, factors, strict=True))


FUSIONS = {
    "no relu": (
        "no-relu", "without the relu", FAST, SIGNED, lambda m, xs, w: weighted(xs, shares(w)),
    ),
    "no epsilon": (
        "fusion-epsilon", "epsilon 0 instead of 0.0001", FAST, THREE,
        lambda m, xs, w: weighted(xs, shares(w, 0)),
    ),
    "epsilon 1e-3": (
        "fusion-epsilon", "epsilon 0.001", FAST, THREE,
        lambda m, xs, w: weighted(xs, shares(w, 1e-3)),
    ),
    "softmax": (
        "softmax", "softmax", FAST, THREE, lambda m, xs, w: weighted(xs, w.softmax(0)),
    ),
    "fast attention where softmax belongs": (
        "fast-attention", "instead of softmax", SOFTMAX, THREE,
        lambda m, xs, w: weighted(xs, shares(w)),
    ),
    "plain sum": ("plain-sum", "plain sum", FAST, THREE, lambda m, xs, w: sum(xs)),
    "mean": ("plain-mean", "mean", FAST, THREE, lambda m, xs, w: sum(xs) / 3),
    "weights reversed": (
        "weights-permuted", "2, 1, 0", FAST, THREE,
        lambda m, xs, w: weighted(xs, shares(w.flip(0))),
    ),
    "one input missing": (
        "input-missing", "input 1 left out", FAST, THREE,
        lambda m, xs, w: weighted(xs[::2], shares(w)[::2]),
    ),
    "one input missing, renormalised": (
        "input-missing", "the rest normalised", FAST, THREE,
        lambda m, xs, w: weighted(xs[::2], shares(w[::2])),
    ),
    "one input twice": (
        "input-repeated", "input 0 taken for input 2", FAST, THREE,
        lambda m, xs, w: weighted([xs[0], xs[1], xs[0]], shares(w)),
    ),
    "softplus": (
        "weights-function", "softplus", FAST, THREE,
        lambda m, xs, w: weighted(xs, shares(F.softplus(w))),
    ),
    "sigmoid": (
        "weights-function", "sigmoid", FAST, THREE,
        lambda m, xs, w: weighted(xs, shares(w.sigmoid())),
    ),
    "absolute": (
        "weights-function", "absolute", FAST, SIGNED,
        lambda m, xs, w: weighted(xs, shares(w.abs())),
    ),
    "not normalised": (
        "not-normalised", "not divided", FAST, THREE, lambda m, xs, w: weighted(xs, w),
    ),
    "maximum": (
        "maximum", "largest", FAST, THREE, lambda m, xs, w: torch.stack(xs).amax(0),
    ),
    "swish on top": (
        "activation-extra", "swish", FAST, THREE, lambda m, xs, w: F.silu(m(xs, w)),
    ),
    "other weights": (
        "weights-other", "weighted by 0.1, 0.2, 0.3 instead of 0.32, 0.52, 0.16", FAST, THREE,
        lambda m, xs, w: weighted(xs, [0.1, 0.2, 0.3]),
    ),
    "attention where a sum belongs": (
        "fast-attention-of-ones", "every weight 1", SUM, PAIR,
        lambda m, xs, w: weighted(xs, shares(torch.ones(2))),
    ),
    "mean where a sum belongs": (
        "plain-mean", "mean", SUM, PAIR, lambda m, xs, w: sum(xs) / 2,
    ),
}  # fmt: skip

RESAMPLING = {
    "zeros around": (
        "pool-zero-padding", "zeros", POOL, halved(),
        lambda m, x, s: F.max_pool2d(layers.pad_same(x, (3, 3), (2, 2)), 3, 2),
    ),
    "zeros around an odd side": (
        "pool-zero-padding", "zeros", POOL, halved(13, 13),
        lambda m, x, s: F.max_pool2d(layers.pad_same(x, (3, 3), (2, 2)), 3, 2),
    ),
    "kernel is stride": (
        "pool-kernel-is-stride", "kernel 2 (its stride)", POOL, halved(),
        lambda m, x, s: F.max_pool2d(x, 2, 2),
    ),
    "kernel is stride, an odd side lost": (
        "pool-kernel-is-stride", "kernel 2 (its stride)", POOL, halved(13, 13),
        lambda m, x, s: F.max_pool2d(x, 2, 2),
    ),
    "symmetric": (
        "pool-padding-symmetric", "every side", POOL, halved(),
        lambda m, x, s: F.max_pool2d(x, 3, 2, 1),
    ),
    "no padding": (
        "pool-padding-none", "no padding", POOL, halved(), lambda m, x, s: F.max_pool2d(x, 3, 2),
    ),
    "average": (
        "average-pool", "windows of its stride", POOL, halved(),
        lambda m, x, s: F.avg_pool2d(x, 2, 2),
    ),
    "subsampled": (
        "subsampled", "with the first", POOL, halved(), lambda m, x, s: x[:, :, ::2, ::2],
    ),
    "subsampled, second": (
        "subsampled", "with the second", POOL, halved(), lambda m, x, s: x[:, :, 1::2, 1::2],
    ),
    "minimum": ("min-pool", "smallest", POOL, halved(), lambda m, x, s: -m(-x, s)),
    "bilinear down": (
        "interpolated", "bilinear with aligned corners", POOL, halved(),
        lambda m, x, s: F.interpolate(x, s, mode="bilinear", align_corners=True),
    ),
    "bilinear up": (
        "bilinear", "bilinear instead", UPSAMPLE, DOUBLED,
        lambda m, x, s: F.interpolate(x, s, mode="bilinear"),
    ),
    "bilinear up, corners aligned": (
        "bilinear", "aligned corners", UPSAMPLE, DOUBLED,
        lambda m, x, s: F.interpolate(x, s, mode="bilinear", align_corners=True),
    ),
    "bicubic up": (
        "bicubic", "bicubic", UPSAMPLE, DOUBLED,
        lambda m, x, s: F.interpolate(x, s, mode="bicubic"),
    ),
    "nearest-exact": (
        "nearest-exact", "pixel centres", UPSAMPLE, ODD,
        lambda m, x, s: F.interpolate(x, s, mode="nearest-exact"),
    ),
    "repeated then cut": (
        "repeated", "2x2 times", UPSAMPLE, [features(height=6, width=6), (9, 9)],
        lambda m, x, s: x.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :9, :9],
    ),
    "tiled": ("tiled", "side by side", UPSAMPLE, DOUBLED, lambda m, x, s: x.repeat(1, 1, 2, 2)),
    "zeros between": (
        "zeros-between", "zeros", UPSAMPLE, DOUBLED,
        lambda m, x, s: F.conv_transpose2d(
            x, torch.eye(2)[:1, :1].expand(8, 1, 1, 1), stride=2, groups=8, output_padding=1
        ),
    ),
    "moved": (
        "upsample-moved", "down and right", UPSAMPLE, DOUBLED,
        lambda m, x, s: F.pad(m(x, s), (1, 0, 1, 0), mode="replicate")[:, :, :12, :12],
    ),
}  # fmt: skip

GENERAL = {
    "zero": ("zero", "zero", depthwise(), [features()], lambda m, x: 0 * x),
    "negated": ("negated", "sign", depthwise(), [features()], lambda m, x: -m(x)),
    "scaled": ("scaled", "times 1.001", conv(), [features()], lambda m, x: 1.001 * m(x)),
    "transposed": (
        "transposed", "exchanged", POOL, halved(), lambda m, x, s: m(x, s).mT,
    ),
    "flipped": ("flipped", "columns", SWISH, [features()], lambda m, x: m(x).flip(3)),
    "moved cyclically": (
        "moved", "+1 rows and +0 columns, cyclically", norm(), [features()],
        lambda m, x: m(x).roll(1, 2),
    ),
    "moved": (
        "moved", "+0 rows and -1 columns, zeros", SWISH, [features()],
        lambda m, x: F.pad(m(x), (0, 1))[..., 1:],
    ),
    "images reversed": (
        "images-reordered", "images", conv(), [features(images=3)], lambda m, x: m(x).flip(0),
    ),
    "first image for all": (
        "images-repeated", "first", conv(), [features(images=3)],
        lambda m, x: m(x)[:1].expand(3, -1, -1, -1).contiguous(),
    ),
    "shuffled": (
        "channels-shuffled", "2 groups", SWISH, [features()],
        lambda m, x: F.channel_shuffle(m(x), 2),
    ),
    "dropout": (
        "dropout", "others times 1.25", SWISH, [features()],
        lambda m, x: F.dropout(m(x), 0.2, training=True),
    ),
    "channels zeroed": (
        "zeroed", "channels 2, 5 of 8 zeroed", SWISH, [features()],
        lambda m, x: m(x) * ~torch.isin(torch.arange(8), torch.tensor([2, 5])).view(1, -1, 1, 1),
    ),
    "channels scaled": (
        "channels-scaled", "times 0.5 to 2 in 8 of 8", depthwise(), [features()],
        lambda m, x: m(x) * torch.linspace(0.5, 2, 8).view(1, -1, 1, 1),
    ),
    "NHWC values read as NCHW": (
        "reshaped", "reshaped", norm(), [features()],
        lambda m, x: m(x).permute(0, 2, 3, 1).reshape(x.shape),
    ),
}  # fmt: skip


def tiled(module, x, rows, columns):
    parts = [
        torch.cat([module(part) for part in band.chunk(columns, 3)], 3) for band in x.chunk(rows, 2)
    ]
    return torch.cat(parts, 2)


def eight_bits(weight):
    scale = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    return (weight / scale).round() * scale


def below_zero(weight, limit):
    return weight * (weight.abs() >= limit)


UNUSUAL = {
    "border twice": (
        "padding-symmetric", "border twice", depthwise(kernel=5), [features()],
        lambda m, x: F.conv2d(
            torch.cat([x[:, :, [1, 0]], x, x[:, :, [-1, -2]]], 2)[
                ..., [1, 0, *range(12), 11, 10]], m.weight, groups=8),
    ),
    "one axis mirrored": (
        "padding-reflect", "along its width", depthwise(), [features()],
        lambda m, x: padded(m, F.pad(x, (1, 1, 0, 0), mode="reflect"), 0, 0, 1, 1),
    ),
    "a value around": (
        "padding-constant", "padding by 0.7", depthwise(), [features()],
        lambda m, x: m(x - 0.7) + F.conv2d(torch.full((1, 8, 14, 14), 0.7), m.weight, groups=8),
    ),
    "a value around dense filters": (
        "padding-of-channel", "each channel", conv(3, 16, 3, 2), [features(3, 24, 24)],
        lambda m, x: F.conv2d(
            torch.cat([torch.cat([x, OFFSETS.expand(1, 3, 24, 1)], 3),
                       OFFSETS.expand(1, 3, 1, 25)], 2), m.weight, m.bias, stride=2),
    ),
    "partial convolution": (
        "padding-partial", "partial convolution", depthwise(), [features()],
        lambda m, x: m(x) * 9 / F.conv2d(torch.ones_like(x[:, :1]), torch.ones(1, 1, 3, 3),
                                         padding=1),
    ),
    "all padding before": (
        "padding-other", "2 above and 2 left", depthwise(), [features()],
        lambda m, x: padded(m, x, 2, 0, 2, 0),
    ),
    "rows further apart": (
        "dilation", "2 along its height", depthwise(), [features()],
        lambda m, x: padded(m, x, 1, 1, 2, 2, dilation=(2, 1)),
    ),
    "averaged for a stride": (
        "stride-pooled", "averaged", depthwise(stride=2), [features()],
        lambda m, x: F.avg_pool2d(padded(m, x, 1, 1, 1, 1, stride=1), 2),
    ),
    "centre of a kernel": (
        "kernel-cropped", "only 3x3 of its kernel's 5x5", depthwise(kernel=5), [features()],
        lambda m, x: F.conv2d(x, m.weight[:, :, 1:4, 1:4], padding=1, groups=8),
    ),
    "in groups": (
        "kernel-grouped", "in 2 groups: each", conv(8, 10), [features()],
        lambda m, x: F.conv2d(x, torch.cat([m.weight[:5, :4], m.weight[5:, 4:]]), m.bias,
                              groups=2),
    ),
    "eight-bit weights": (
        "kernel-quantised", "8 bits, symmetric, a scale for each output", conv(), [features()],
        lambda m, x: changed(m, weight=eight_bits(m.weight))(x),
    ),
    "multiples of a number": (
        "kernel-quantised", "multiples of 0.0173", conv(), [features()],
        lambda m, x: changed(m, weight=(m.weight / 0.0173).round() * 0.0173)(x),
    ),
    "standardised": (
        "kernel-standardised", "unbiased (epsilon 1e-05)", conv(8, 10, 3), [features()],
        lambda m, x: changed(m, weight=(m.weight - m.weight.mean((1, 2, 3), True))
                             / (m.weight.var((1, 2, 3), keepdim=True) + 1e-5).sqrt())(x),
    ),
    "pruned": (
        "kernel-pruned", "weights below ", conv(16, 24), [features(16)],
        lambda m, x: changed(m, weight=below_zero(m.weight, 0.1))(x),
    ),
    "low rank": (
        "kernel-low-rank", "rank 3 of 10", conv(16, 10), [features(16)],
        lambda m, x: changed(m, weight=rank(m.weight, 3))(x),
    ),
    "input shuffled": (
        "input-channels-shuffled", "4 groups", conv(), [features()],
        lambda m, x: m(F.channel_shuffle(x, 4)),
    ),
    "input in another order": (
        "input-channels-permuted", "4 of 8 moved", conv(), [features()],
        lambda m, x: m(x[:, [2, 1, 0, 3, 7, 5, 6, 4]]),
    ),
    "input moved by three": (
        "input-channels-moved", "+3", depthwise(), [features()], lambda m, x: m(x.roll(3, 1)),
    ),
    "half of the input": (
        "input-channels-left-out", "channels 4 to 7", conv(), [features()],
        lambda m, x: F.conv2d(x[:, :4], m.weight[:, :4], m.bias),
    ),
    "half passed through": (
        "left-out-partly", "4 of 8 channels", depthwise(), [features()],
        lambda m, x: torch.cat([m(x)[:, :4], x[:, 4:]], 1),
    ),
    "four tiles": (
        "tile-seams", "on 2x2 tiles", depthwise(), [features()], lambda m, x: tiled(m, x, 2, 2),
    ),
    "tiles of a max-pool": (
        "tile-seams", "4x1 tiles", POOL, halved(24, 24),
        lambda m, x, s: torch.cat(
            [m(part, (3, 12)) for part in x.split(6, 2)], 2),
    ),
    "input cut off": (
        "input-clamped", "at most 0.4", conv(), [features()], lambda m, x: m(x.clamp(max=0.4)),
    ),
    "input blurred": (
        "input-filtered", "9 pixels", conv(), [features()],
        lambda m, x: m(F.avg_pool2d(x, 3, 1, 1)),
    ),
    "eight-bit input": (
        "input-quantised", "8 bits, symmetric, one scale", conv(), [features()],
        lambda m, x: m((x / (x.abs().max() / 127)).round() * (x.abs().max() / 127)),
    ),
    "eight-bit output": (
        "output-quantised", "0.05 apart", norm(), [features()],
        lambda m, x: (m(x) / 0.05).round() * 0.05,
    ),
    "other windows": (
        "pool-window-other", "windows of 2x2", POOL, halved(),
        lambda m, x, s: F.max_pool2d(F.pad(x, (1, 0, 1, 0), value=-9e9), 2, 2),
    ),
    "a value around a max-pool": (
        "pool-padding-value", "-1.5", POOL, halved(),
        lambda m, x, s: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-1.5), 3, 2),
    ),
    "maximum and mean": (
        "pool-mixed", "0.5 times", POOL, halved(13, 13),
        lambda m, x, s: 0.5 * m(x, s) + 0.5 * F.avg_pool2d(
            x, 3, 2, 1, count_include_pad=False),
    ),
    "bilinear by corners": (
        "bilinear", "pixel corners", UPSAMPLE, DOUBLED,
        lambda m, x, s: by_corners(by_corners(x, 2), 3),
    ),
    "bicubic of Pillow": (
        "bicubic", "a = -0.5", UPSAMPLE, DOUBLED,
        lambda m, x, s: F.interpolate(x, s, mode="bicubic", antialias=True),
    ),
    "other pixels": (
        "nearest-other", "copies", UPSAMPLE, DOUBLED,
        lambda m, x, s: m(x, s)[:, :, [0, 0, 4, 4, 2, 2, 8, 8, 6, 6, 10, 10]],
    ),
}  # fmt: skip

OFFSETS = torch.tensor([0.3, -1.2, 0.8]).view(1, 3, 1, 1)


def rank(weight, count):
    left, values, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    return (left[:, :count] * values[:count] @ right[:count]).view_as(weight)


def by_corners(x, axis):
    after = torch.cat([x.narrow(axis, 1, x.shape[axis] - 1), x.narrow(axis, x.shape[axis] - 1, 1)],
                      axis)  # fmt: skip
    both = torch.stack([x, (x + after) / 2], axis + 1)
    return both.flatten(axis, axis + 1)


FAULTS = {
    f"{family}: {name}": fault
    for family, faults in {
        "convolution": CONVOLUTIONS,
        "batch norm": BATCH_NORMS,
        "elementwise": ELEMENTWISE,
        "fusion": FUSIONS,
        "resampling": RESAMPLING,
        "any": GENERAL,
        "unusual": UNUSUAL,
    }.items()
    for name, fault in faults.items()
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault):
    slug, title, module, arguments, candidate = FAULTS[fault]
    found = diagnose(case(module, arguments, candidate(module, *arguments)))
    assert found is not None, "nothing fits"
    assert (found.slug, title in found.title) == (slug, True), found
    assert found.roundings <= 32 and found.without >= 10 * found.roundings
    assert found.tried >= 1 and found.to_dict()["slug"] == slug


@pytest.mark.parametrize("name", MODULES)
def test_the_faithful_operation_is_the_modules_own(name):
    module, arguments = MODULES[name]
    known = case(module, arguments, module(*arguments))
    output, scale = faithful(known)(ALL)
    expected = known.module(*known.arguments)
    torch.testing.assert_close(output, expected, rtol=1e-13, atol=1e-13)
    _, official = pytorch.expected(known.kind, known.module, known.arguments)
    # As wide as the official gauge, and no wider than a few roundings need.
    assert bool((scale >= official * (1 - 1e-9)).all())
    assert bool((scale <= 3 * official + 1e-9).all())


@pytest.mark.parametrize("name", MODULES)
def test_rounding_is_not_explained(name):
    module, arguments = MODULES[name]
    exact = module(*arguments)
    for disturbed in (exact, exact * (1 + 6 * 2**-24 * (2 * torch.rand_like(exact) - 1))):
        assert diagnose(case(module, arguments, disturbed)) is None


@pytest.mark.parametrize("name", MODULES)
def test_garbage_is_not_explained(name):
    module, arguments = MODULES[name]
    assert diagnose(case(module, arguments, torch.randn_like(module(*arguments)))) is None


@pytest.mark.parametrize("name", MODULES)
def test_one_wrong_value_in_an_output_is_not_explained(name):
    module, arguments = MODULES[name]
    output = module(*arguments).clone()
    output[0, 2, 0, 0] += 0.37
    assert diagnose(case(module, arguments, output)) is None


def test_nothing_finite_is_not_explained():
    x = features()
    assert diagnose(case(SWISH, [x], torch.full_like(x, float("nan")))) is None


def test_another_number_of_channels_is_not_explained():
    module, x = conv(), features()
    assert diagnose(case(module, [x], module(x)[:, :6])) is None
    assert diagnose(case(module, [x], module(x).flatten())) is None


def siblings(make, names):
    return {name: make() for name in names}


def test_another_nodes_kernel_is_named():
    others = siblings(conv, ["a.0.conv", "a.1.conv", "a.2.conv"])
    x = features()
    known = case(conv(), [x], others["a.2.conv"](x), name="a.3.conv", siblings=others)
    found = diagnose(known)
    assert found.slug == "kernel-of-other-node"
    assert found.title == "with the weights of a.2.conv"


def test_another_nodes_bias_is_named():
    module, x = conv(), features()
    others = siblings(conv, ["a.0.conv"])
    wrong = changed(module, bias=others["a.0.conv"].bias)(x)
    found = diagnose(case(module, [x], wrong, siblings=others))
    assert (found.slug, found.title) == ("bias-of-other-node", "with the bias of a.0.conv")


def test_squeeze_and_expand_exchanged_are_named():
    squeeze, expand = conv(8, 2), conv(2, 8)
    x = features(height=1, width=1)
    wrong = F.conv2d(x, expand.weight.transpose(0, 1), squeeze.bias)
    found = diagnose(case(squeeze, [x], wrong, siblings={"se.expand": expand}))
    assert found.slug == "se-swapped" and "se.expand" in found.title


def test_raw_parameters_are_named():
    module, x = depthwise(), features()
    raw = depthwise().weight.detach()
    wrong = changed(module, weight=raw)(x)
    found = diagnose(case(module, [x], wrong, alternatives={"raw": {"weight": raw}}))
    assert (found.slug, found.title) == ("parameters-raw", "with its raw parameters")


def test_raw_statistics_are_named():
    module, x = norm(), features()
    raw = {"running_mean": torch.randn(8), "running_var": torch.rand(8) + 0.1}
    found = diagnose(case(module, [x], changed(module, **raw)(x), alternatives={"raw": raw}))
    assert found.slug == "parameters-raw"


def test_another_levels_batch_norm_is_named():
    others = siblings(norm, ["class_head.bns.1.P4", "class_head.bns.0.P5", "box_head.bns.1.P5"])
    x = features()
    known = case(
        norm(), [x], others["class_head.bns.1.P4"](x), name="class_head.bns.1.P5", siblings=others
    )
    found = diagnose(known)
    assert found.slug == "parameters-of-other-node"
    assert found.title == "with the parameters of class_head.bns.1.P4"


def test_another_nodes_statistics_are_named():
    module, x = norm(), features()
    other = norm()
    wrong = changed(module, running_mean=other.running_mean, running_var=other.running_var)(x)
    found = diagnose(case(module, [x], wrong, siblings={"b.bn": other}))
    assert (found.slug, found.title) == (
        "statistics-of-other-node",
        "with the mean and variance of b.bn",
    )


def test_likely_slips_come_first():
    names = ["box_head.bns.1.P5", "class_head.bns.0.P5", "class_head.bns.1.P4", "stem_bn"]
    order = by_resemblance("class_head.bns.1.P5", dict.fromkeys([*names, "class_head.bns.1.P5"]))
    assert order == [names[2], names[1], names[0], names[3]]


MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
INPUTS = {
    "BGR": ("input-bgr", "BGR", lambda x: x.flip(1)),
    "BGR before normalising": (
        "input-bgr", "normalised by the mean and deviation of RGB",
        lambda x: ((x * STD + MEAN).flip(1) - MEAN) / STD,
    ),
    "RBG": ("input-channels-permuted", "RBG", lambda x: x[:, [0, 2, 1]]),
    "grey levels": ("input-unnormalised", "up to 255", lambda x: 255 * (x * STD + MEAN)),
    "up to 1": ("input-unnormalised", "up to 1", lambda x: x * STD + MEAN),
    "AdvProp": ("input-scaled", "AdvProp", lambda x: (x * STD + MEAN) * 2 - 1),
    "lite": ("input-scaled", "lite", lambda x: ((x * STD + MEAN) * 255 - 127) / 128),
    "twice": ("input-normalised-twice", "twice", lambda x: (x - MEAN) / STD),
    "transposed": ("input-transposed", "height and width", lambda x: x.mT),
    "mirrored": ("input-flipped", "width", lambda x: x.flip(3)),
    "upside down": ("input-flipped", "height", lambda x: x.flip(2)),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_wrong_images_are_named(name):
    slug, title, change = INPUTS[name]
    stem = layers.Conv2d(3, 8, 3, 2, bias=False)
    x = (torch.rand(1, 3, 16, 16) - MEAN) / STD
    found = diagnose(case(stem, [x], stem(change(x)), is_input=True))
    assert found is not None and (found.slug, title in found.title) == (slug, True), found


def test_black_padding_is_named():
    stem = layers.Conv2d(3, 8, 3, 2, bias=False)
    x = (torch.rand(1, 3, 16, 16) - MEAN) / STD
    padded_image = torch.cat([x, (-MEAN / STD).expand(1, 3, 16, 1)], 3)
    padded_image = torch.cat([padded_image, (-MEAN / STD).expand(1, 3, 1, 17)], 2)
    wrong = F.conv2d(padded_image, stem.weight, stride=2)
    assert diagnose(case(stem, [x], wrong, is_input=True)).slug == "padding-black"


def swap(y, values, order):
    shape = y.shape
    return y.view(1, -1, values, *shape[2:])[:, :, order].reshape(shape)


PREDICTIONS = {
    "class-major": (
        "prediction-order", "values before anchors", 7,
        lambda y: y.view(1, 9, 7, 6, 6).transpose(1, 2).reshape(y.shape),
    ),
    "x before y": ("box-order", "x before y", 4, lambda y: swap(y, 4, [1, 0, 3, 2])),
    "sizes first": ("box-order", "sizes before", 4, lambda y: swap(y, 4, [2, 3, 0, 1])),
    "scales and aspects": (
        "anchor-order", "scales and aspects", 7,
        lambda y: y.view(1, 3, 3, 7, 6, 6).transpose(1, 2).reshape(y.shape),
    ),
    "anchors reversed": (
        "anchor-order", "reverse", 7, lambda y: y.view(1, 9, 7, 6, 6).flip(1).reshape(y.shape),
    ),
    "classes moved": (
        "class-order", "moved by +1", 7,
        lambda y: y.view(1, 9, 7, 6, 6).roll(1, 2).reshape(y.shape),
    ),
    "sigmoid": ("activation-extra", "sigmoid", 7, lambda y: y.sigmoid()),
    "softmax": (
        "softmax", "each anchor", 7, lambda y: y.view(1, 9, 7, 6, 6).softmax(2).reshape(y.shape),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PREDICTIONS)
def test_wrong_predictions_are_named(name):
    slug, title, outputs, change = PREDICTIONS[name]
    module, x = conv(16, 9 * outputs), features(16, 6, 6)
    known = case(module, [x], change(module(x)), outputs_per_anchor=outputs, num_anchors=9)
    found = diagnose(known)
    assert found is not None and (found.slug, title in found.title) == (slug, True), found


def tf32(x):
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def cut_off(x):
    return (x.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)


PRECISIONS = {
    "TF32": ("TF32", lambda m, x: changed(m, weight=tf32(m.weight))(tf32(x))),
    "TF32, cut off": (
        "10-bit mantissa", lambda m, x: changed(m, weight=cut_off(m.weight))(cut_off(x)),
    ),
    "bfloat16 operands": (
        "bfloat16", lambda m, x: changed(m, weight=m.weight.bfloat16())(x.bfloat16().float()),
    ),
    "all float16": (
        "its operands and its output rounded to float16", lambda m, x: m.half()(x.half()).float(),
    ),
    "all bfloat16": (
        "its operands and its output rounded to bfloat16",
        lambda m, x: m.bfloat16()(x.bfloat16()).float(),
    ),
    "what is read and written": (
        "its input and its output rounded to float16",
        lambda m, x: m(x.half().float()).half().float(),
    ),
    "output": ("output rounded to float16", lambda m, x: m(x).half().float()),
}  # fmt: skip


@pytest.mark.parametrize("name", PRECISIONS)
def test_lower_precision_is_named(name):
    title, compute = PRECISIONS[name]
    module, x = layers.Conv2d(64, 24, bias=False), features(64)
    found = diagnose(case(module, [x], compute(copy.deepcopy(module), x)))
    assert found is not None and (found.slug, title in found.title) == (
        "reduced-precision",
        True,
    ), found
    assert found.unit >= 2**-24


@pytest.mark.parametrize("name", ["batch norm", "swish", "sum", "fast attention", "mean"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_lower_precision_of_other_nodes_is_named(name, dtype):
    module, arguments = MODULES[name]
    rounded = module(*arguments).to(dtype).float()
    found = diagnose(case(module, arguments, rounded))
    assert found.slug == "reduced-precision" and found.unit > 2**-24


def test_a_candidate_in_float64_is_diagnosed():
    module, x = norm().double(), features().double()
    found = diagnose(case(module, [x], changed(module, eps=1e-5)(x)))
    assert (found.slug, found.unit) == ("epsilon", 2.0**-53)


def test_what_comes_to_the_same_is_no_explanation():
    """Symmetric and SAME padding are one at stride 1; the wrong values have another cause."""
    module, x = depthwise(), features()
    wrong = changed(module, weight=module.weight.flip(2, 3))(x)
    assert diagnose(case(module, [x], wrong)).slug == "kernel-flipped"


def test_what_does_not_fit_is_looked_at_in_a_few_channels_only(monkeypatch):
    """A hypothesis is tried on all channels only where it fits the most telling ones."""
    evaluated = []
    call = Convolution.__call__

    def counted(self, channels):
        output, scale = call(self, channels)
        evaluated.append(output.shape[1])
        return output, scale

    monkeypatch.setattr(Convolution, "__call__", counted)
    module, x = depthwise(32), features(32)
    wrong = changed(module, weight=module.weight.flip(2, 3))(x)
    found = diagnose(case(module, [x], wrong))
    assert found.slug == "kernel-flipped" and found.tried > 10
    # The faithful operation and the one that fits.
    assert evaluated.count(32) == 2
    assert set(evaluated) == {2, 32}


# Several nodes of one module


def tried_on(module, sizes, wrong):
    """The diagnosis of a module from nodes of several sizes."""
    attempt = Attempt()
    for size in sizes:
        x = features(height=size, width=size)
        attempt.see(case(module, [x], wrong(x)))
    return attempt.result()


def test_a_name_must_hold_at_every_node():
    module = depthwise()

    def in_a_corner(x):
        factors = torch.ones(x.shape[2:])
        factors[:2, :2] = 1.75
        return module(x) * factors

    # Where there are two pixels by two, all of them are times one number.
    assert tried_on(module, [2], in_a_corner).title == "every value times 1.75"
    assert tried_on(module, [2, 3, 12], in_a_corner) is None
    assert tried_on(module, [12, 3, 2], in_a_corner) is None


def test_fitted_numbers_must_be_the_same_at_every_node():
    module = depthwise()

    def by_size(x):
        return module(x) * (1 + 1e-3 * x.shape[2])

    assert tried_on(module, [12, 6], by_size) is None
    found = tried_on(module, [12, 6], lambda x: 1.25 * module(x))
    assert (found.slug, found.title) == ("scaled", "every value times 1.25")


@pytest.mark.parametrize("sizes", [(12, 4), (4, 12)])
@pytest.mark.parametrize(
    "slug, wrong",
    [
        ("relu6", lambda x: (4 * x).clamp(0, 6)),
        ("clamped", lambda x: F.silu(x).clamp(max=0.5)),
        ("other-slope", lambda x: x * (1.25 * x).sigmoid()),
        ("dropout", lambda x: F.dropout(F.silu(x), 0.01, True)),
        ("channels-shuffled", lambda x: F.channel_shuffle(F.silu(x), 4)),
        ("reduced-precision", lambda x: F.silu(x).half().float()),
    ],
)
def test_a_name_that_holds_everywhere_is_found_from_any_node(slug, wrong, sizes):
    if slug == "relu6":
        attempt = Attempt()
        for size in sizes:
            x = 4 * features(height=size, width=size)
            attempt.see(case(SWISH, [x], x.clamp(0, 6)))
        assert attempt.result().slug == slug
        return
    assert tried_on(SWISH, sizes, wrong).slug == slug


def test_a_node_that_needs_no_explanation_refutes_none():
    module = depthwise()
    found = tried_on(module, [12, 6], lambda x: module(x) if x.shape[2] == 6 else module(x).relu())
    assert found.slug == "activation-extra"


def test_of_two_that_fit_the_one_with_fewer_fitted_numbers_is_given():
    x, y = features(), features()
    found = diagnose(case(layers.Add(), [x, y], 1.001 * (x + y)))
    assert (found.title, found.constants) == ("every value times 1.001", 1)
    found = diagnose(case(FAST, THREE, 1.001 * FAST(*THREE)))
    assert (found.title, found.constants) == ("every value times 1.001", 1)


def test_where_nothing_exceeds_six_relu_is_the_simpler_name():
    x = features() / 4
    assert diagnose(case(SWISH, [x], F.relu6(x))).slug == "relu"


def test_more_roundings_are_allowed_where_a_node_may_carry_them():
    module, x = conv(), features()
    wrong = module(x) * (1 + 30 * 2**-24)
    assert diagnose(case(module, [x], wrong, limit=40.0)) is None
    assert case(module, [x], wrong, limit=40.0).bound == 80
    assert case(module, [x], wrong, limit=0.0).bound == 32


@pytest.mark.parametrize("function", [F.relu, torch.clone])
def test_where_no_value_is_negative_relu_and_nothing_are_one(function):
    x = features().abs()
    found = diagnose(case(SWISH, (x,), function(x)))
    assert found.slug == "left-out-or-relu"
    assert found.title.startswith("left out, or a ReLU")


@pytest.mark.parametrize("before, after", [(20, 40), (64, 128), (96, 191)])
@pytest.mark.parametrize(
    "mode, aligned", [("bilinear", True), ("bilinear", False), ("bicubic", False)]
)
def test_interpolations_are_told_of_maps_of_any_size(before, after, mode, aligned):
    """The places of many pixels are rounded in float32 by more than the values are."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, before, before, generator=generator)
    made = F.interpolate(x, size=(after, after), mode=mode, align_corners=aligned)
    named = diagnose(case(UPSAMPLE, [x, (after, after)], made))
    assert named.slug == mode and named.roundings < 4
    assert ("aligned corners" in named.title) == aligned


@pytest.mark.parametrize("spread, centre", [(0.02, 0), (0.1, 0), (0.1, 1), (1, -2), (3, 0)])
def test_a_slope_is_told_also_of_few_and_small_values(spread, centre):
    generator = torch.Generator().manual_seed(0)
    x = spread * torch.randn(1, 16, 1, 1, generator=generator) + centre
    named = diagnose(case(GATE, [x], torch.sigmoid(x / 1.1)))
    assert named.slug == "other-slope" and "b = 0.9091" in named.title
