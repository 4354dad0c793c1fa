"""Faults at each kind of node, and the reproductions that are written of them."""

from inspect import signature
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from efficientdet_spec import NodeKind
from parity.reproduction.making import reproduced
from parity.results.conclusion import Evidence

BLOCK = "backbone.blocks.2"
CELL = "fpn.cells.0.nodes"


def symmetric(layer, x):
    return F.conv2d(x, layer.weight, layer.bias, layer.stride, 1)


def noisy(layer, *given):
    made = type(layer).forward(layer, *given)
    return made + 0.01 * torch.sin(torch.arange(made.numel())).reshape(made.shape)


def no_number(layer, *given):
    made = type(layer).forward(layer, *given)
    made[:, 1, 0, 0] = float("nan")
    return made


def no_relu(layer, features, weights):
    return sum(x * share for x, share in zip(features, weights / weights.sum(), strict=True))


def pool_with_zeros(layer, x, size):
    pads = [max((goal - 1) * 2 + 3 - side, 0) for side, goal in zip(x.shape[2:], size, strict=True)]
    (top, left) = (pad // 2 for pad in pads)
    return F.max_pool2d(F.pad(x, (left, pads[1] - left, top, pads[0] - top)), 3, 2)


def transposed(layer):
    layer.weight.data = layer.weight.data.mT.contiguous()


def other_epsilon(layer):
    layer.eps = 1e-5


def other_values(layer):
    layer.weight.data = layer.weight.data * 1.01


def without_bias(layer):
    layer.bias.data.zero_()


# By name: kind, node, change of the layer or what it computes, whether the script computes it.
FAULTS = {
    "conv": (NodeKind.CONV, "fpn.resample_p6.conv", without_bias, True),
    "conv values": (NodeKind.CONV, f"{BLOCK}.expand_conv", other_values, True),
    "conv padding": (NodeKind.CONV, "backbone.stem_conv", symmetric, True),
    "depthwise": (NodeKind.DEPTHWISE, f"{BLOCK}.depthwise_conv", transposed, True),
    "norm": (NodeKind.BATCH_NORM, f"{BLOCK}.expand_bn", other_epsilon, True),
    "activation": (NodeKind.ACTIVATION, f"{BLOCK}.expand_act", lambda _, x: F.relu(x), True),
    "gate": (NodeKind.GATE, f"{BLOCK}.se.gate", lambda _, x: F.hardsigmoid(x), True),
    "mean": (NodeKind.MEAN, f"{BLOCK}.se.pool", lambda _, x: x.amax((2, 3), True), True),
    "scale": (NodeKind.SCALE, f"{BLOCK}.se.scale", lambda _, x, g: x * g * g, True),
    "add": (NodeKind.ADD, "backbone.blocks.2.residual", lambda _, x, y: (x + y) / 2, True),
    "fuse": (NodeKind.FUSE, f"{CELL}.0.fuse", no_relu, True),
    "pool": (NodeKind.POOL, "fpn.resample_p6.pool", pool_with_zeros, True),
    "upsample": (
        NodeKind.UPSAMPLE,
        f"{CELL}.3.resamples.1.upsample",
        lambda _, x, size: F.interpolate(x, size=size, mode="bilinear"),
        True,
    ),
    "not finite": (NodeKind.BATCH_NORM, f"{BLOCK}.expand_bn", no_number, False),
    **{
        f"unknown {kind.name}": (kind, node, noisy, False)
        for kind, node in {
            NodeKind.CONV: "fpn.resample_p6.conv",
            NodeKind.DEPTHWISE: f"{BLOCK}.depthwise_conv",
            NodeKind.BATCH_NORM: f"{BLOCK}.expand_bn",
            NodeKind.ACTIVATION: f"{BLOCK}.expand_act",
            NodeKind.GATE: f"{BLOCK}.se.gate",
            NodeKind.MEAN: f"{BLOCK}.se.pool",
            NodeKind.SCALE: f"{BLOCK}.se.scale",
            NodeKind.ADD: "backbone.blocks.2.residual",
            NodeKind.FUSE: f"{CELL}.0.fuse",
            NodeKind.POOL: "fpn.resample_p6.pool",
            NodeKind.UPSAMPLE: f"{CELL}.3.resamples.1.upsample",
        }.items()
    },
}


def faulty(lockstep, node, change):
    model = lockstep.candidate()
    layer = model.get_submodule(node)
    if len(signature(change).parameters) == 1:
        change(layer)
    else:
        layer.forward = lambda *given: change(layer, *given)
    return model


def evidence_of(told):
    return Evidence(
        nodes=list(told.nodes.values()),
        inputs=[],
        coverage=SimpleNamespace(detectable=0.0),
        findings=told.findings,
        suspects=told.suspects,
    )


def reproduction_of(lockstep, model, folder, **options):
    told = lockstep.tell(model)
    evidence = evidence_of(told)
    return told, reproduced(
        lockstep.pairing(model, **options),
        evidence,
        evidence.nodes,
        folder,
        model="tiny",
        candidate="/home/somebody/port.py:build",
    )


def numbers(text):
    """The values that a script prints, by what it calls them."""
    pairs = (line.split(": ", 1) for line in text.splitlines())
    names = ("right, in float64", "right, in float32", "wrong", "recorded of the candidate",
             "in roundings")  # fmt: skip
    return {name: float(rest.split()[0].rstrip(",")) for name, rest in pairs if name in names}
