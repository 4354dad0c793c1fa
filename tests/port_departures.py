"""Ports of another architecture than the tiny model's: what is different, and what that breaks.

Each departure says how a port is made that has it, at which nodes it may show, and which nodes it
leaves out.
"""

import torch
from torch.nn import functional as F

BLOCK = "backbone.blocks.2"


def stride_1(style, layer, given, step):
    layer.stride, was = (1, 1), layer.stride
    try:
        return step()
    finally:
        layer.stride = was


def another_convolution(style, layer, given, step):
    """One more convolution, whose weights are nobody's."""
    x = step()
    weight = torch.linspace(-1, 1, x.shape[1] ** 2).reshape(x.shape[1], x.shape[1], 1, 1)
    return F.conv2d(x, weight.sin() / 3)


def within(lockstep, *prefixes):
    """The nodes whose names begin in some way."""
    return [node for node in lockstep.kinds if node.startswith(prefixes)]


def of_repeat(lockstep, number):
    """The nodes of one repeat of both heads."""
    parts = [f".{part}.{number}" for part in ("convs", "bns", "acts")]
    return [
        node
        for node in lockstep.kinds
        if "_head." in node and any(f"{part}." in node or f"{part}@" in node for part in parts)
    ]


DEPARTURES = {
    "a block is left out": lambda at: ({"without": within(at, f"{BLOCK}.")}, []),
    "a block is repeated": lambda at: (
        {"again": within(at, f"{BLOCK}.")},
        ["backbone.blocks.3.expand_conv"],
    ),
    "a stride is 1": lambda at: (
        {"fault": {"backbone.blocks.1.depthwise_conv": stride_1}},
        ["backbone.blocks.1.depthwise_conv"],
    ),
    "another level is fused": lambda at: (
        {
            "wired": {
                "fpn.cells.1.nodes.5.fuse": {"fpn.cells.1.nodes.1.bn": "fpn.cells.0.nodes.1.bn"}
            }
        },
        ["fpn.cells.1.nodes.5.fuse"],
    ),
    "P6 is made behind the resampling of P5": lambda at: (
        {
            "without": within(at, "fpn.resample_p6.conv", "fpn.resample_p6.bn"),
            "wired": {
                "fpn.resample_p6.pool": {"fpn.resample_p6.bn": "fpn.cells.0.nodes.1.resamples.0.bn"}
            },
        },
        ["fpn.resample_p6.pool"],
    ),
    "P6 has no batch norm": lambda at: ({"without": ["fpn.resample_p6.bn"]}, []),
    "a cell is left out": lambda at: ({"without": within(at, "fpn.cells.1.")}, []),
    "heads have a repeat fewer": lambda at: ({"without": of_repeat(at, 1)}, []),
    "one convolution more": lambda at: (
        {"fault": {"backbone.blocks.3.project_bn": another_convolution}},
        [
            "backbone.blocks.3.project_bn",
            "backbone.blocks.4.expand_conv",
            "fpn.cells.0.nodes.3.fuse",
        ],
    ),
}
"""By what is different: how to make such a port, and the nodes besides those left out at which it
shows."""
