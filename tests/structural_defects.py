"""Ports of the tiny model whose structure is another: each known defect of published ports.

Each says how a port is made that has it, and the statement that is to name it.
"""

from contextlib import contextmanager

import torch
from port_styles import STYLES, Port
from torch.nn import functional as F

from efficientdet_spec import NodeKind

K = NodeKind


@contextmanager
def changed(layer, **settings):
    """A layer with other settings for a while."""
    before = {name: getattr(layer, name) for name in settings}
    for name, value in settings.items():
        setattr(layer, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(layer, name, value)


def strided(stride):
    def do(style, layer, given, step):
        with changed(layer, stride=(stride, stride)):
            return step()

    return do


def epsilon(style, layer, given, step):
    with changed(layer, eps=1e-5):
        return step()


def biased(style, layer, given, step):
    bias = torch.linspace(-1, 1, layer.weight.shape[0])
    with changed(layer, bias=bias):
        return step()


def kernel_2(style, layer, given, step):
    odd = any(size % 2 for size in given[0].shape[2:])
    return F.max_pool2d(given[0], 2, ceil_mode=odd)


def left_out(style, layer, given, step):
    return given[0]


def symmetric(style, layer, given, step):
    pads = [size // 2 for size in layer.kernel_size]
    return F.conv2d(given[0], layer.weight, layer.bias, layer.stride, pads, 1, layer.groups)


def relu(style, layer, given, step):
    return F.relu(given[0])


def in_one_piece(style, layer, given, step):
    """A convolution over all channels in the place of the depthwise one."""
    count = len(layer.weight)
    weight = layer.weight.repeat(1, count, 1, 1) / count
    return F.conv2d(given[0], weight, None, 1, 1)


def unweighted(style, layer, given, step):
    return style.fuse(given[0], None)


class WithoutRelu(STYLES["functions"]):
    def weights(self, weights):
        return weights / (weights.sum() + 1e-4)


class WithoutEpsilon(STYLES["functions"]):
    def weights(self, weights):
        weights = F.relu(weights)
        return weights / weights.sum()


class Departed(Port):
    """A port in which nodes are made with the layers of others, or are others.

    Args:
        layers: By node the one whose layer makes it.
        same: By node the one whose tensor it is.
        style: How steps are done.
        how: As for :class:`Port`.
    """

    def __init__(self, at, layers=None, same=None, style=None, **how):
        style = style or STYLES["functions"]
        super().__init__(at.referee, at.outputs, style(), **how)
        self._same = same or {}
        own = {step[0]: step[2] for step in self._steps}
        self._steps = [
            (node, kind, own[(layers or {}).get(node, node)], arguments)
            for node, kind, _, arguments in self._steps
        ]

    def _do(self, node, kind, layer, arguments, made):
        if node not in self._same:
            super()._do(node, kind, layer, arguments, made)
            return
        other = self._same[node]
        if other not in made:
            super()._do(*next(step for step in self._steps if step[0] == other), made)
        made[node] = made[other]


def of(at, kind, *parts, but=()):
    """The nodes of a kind whose names have something in them."""
    return [
        node
        for node, own in at.kinds.items()
        if own is kind and any(part in node for part in parts) and not any(b in node for b in but)
    ]


def each(nodes, fault):
    return {"fault": dict.fromkeys(nodes, fault)}


DEFECTS = {
    "a stride is 1, another 2": (
        lambda at: {
            "fault": {
                "backbone.blocks.1.depthwise_conv": strided(1),
                "backbone.blocks.2.depthwise_conv": strided(2),
            },
            "without": ["backbone.blocks.2.residual"],
        },
        {"stride-other": "blocks.1.depthwise_conv has stride 1 instead of 2"},
    ),
    "batch norms of the BiFPN with PyTorch's epsilon": (
        lambda at: each(of(at, K.BATCH_NORM, "fpn."), epsilon),
        {"batch-norm-epsilon": "have epsilon 1e-05 instead of 0.001"},
    ),
    "a bias inside separable convolutions": (
        lambda at: each(of(at, K.DEPTHWISE, "fpn.", "head."), biased),
        {"bias-extra": "separable convolutions there is a bias between"},
    ),
    "max-pools with kernel = stride": (
        lambda at: each(of(at, K.POOL, "fpn."), kernel_2),
        {"max-pool-other": "have kernel 2 and stride 2 instead of kernel 3"},
    ),
    "no batch norm behind 1x1 convolutions of features": (
        lambda at: {"without": [n for n in of(at, K.BATCH_NORM, ".resample")]},
        {"batch-norm-missing": "1x1 convolutions that bring the backbone's features"},
    ),
    "symmetric padding": (
        lambda at: each(of(at, K.CONV, "stem_conv") + of(at, K.DEPTHWISE, "backbone."), symmetric),
        {"padding-other": "convolutions of stride 2 have symmetric padding instead of SAME"},
    ),
    "no activation behind fusions": (
        lambda at: {"without": of(at, K.ACTIVATION, "fpn.")},
        {"activation-missing": "fusions no activation follows"},
    ),
    "relu behind fusions": (
        lambda at: each(of(at, K.ACTIVATION, "fpn."), relu),
        {"activation-other": "relu follows instead of swish"},
    ),
    "no activation in the heads": (
        lambda at: {"without": of(at, K.ACTIVATION, "head.")},
        {"activation-missing": "repeats of the heads there is no activation"},
    ),
    "relu in the heads": (
        lambda at: each(of(at, K.ACTIVATION, "head."), relu),
        {"activation-other": "repeats of the heads there is relu instead of swish"},
    ),
    "no batch norms in the heads": (
        lambda at: {"without": of(at, K.BATCH_NORM, "head.")},
        {"batch-norm-missing": "repeats of the heads no batch norm follows"},
    ),
    "batch norms of the heads shared by levels": (
        lambda at: {"layers": {n: n[:-1] + "3" for n in of(at, K.BATCH_NORM, "head.")}},
        {"batch-norm-shared": "batch norms of the heads are shared by levels"},
    ),
    "convolutions in one piece": (
        lambda at: each(of(at, K.DEPTHWISE, "fpn."), in_one_piece),
        {"convolution-not-separable": "convolution over all channels instead of a depthwise"},
    ),
    "fusions without relu": (
        lambda at: {"style": WithoutRelu},
        {"fusion-weights-relu": "no relu is applied to the weights"},
    ),
    "fusions without epsilon": (
        lambda at: {"style": WithoutEpsilon},
        {"fusion-epsilon": "nothing is added to the sum of the weights"},
    ),
    "fusions without weights": (
        lambda at: each(of(at, K.FUSE, "fpn."), unweighted),
        {"fusion-unweighted": "the inputs are added up without weights"},
    ),
    "P4 from another block": (
        lambda at: {
            "wired": {
                f"fpn.cells.0.nodes.{node}.resamples.0.conv": {
                    "backbone.blocks.5.residual": "backbone.blocks.4.project_bn"
                }
                for node in (2, 4)
            }
        },
        {"features-other": "P4 is taken from block 4 of the backbone instead of block 5"},
    ),
    "features down-channelled once": (
        lambda at: {"same": twice(at)},
        {"down-channelled-once": "down-channelled once"},
    ),
    "a cell fewer": (
        lambda at: {"without": [n for n in at.kinds if n.startswith("fpn.cells.1.")]},
        {"cells-other": "there are 1 BiFPN cells of 8 fusions; the model has 2"},
    ),
    "a repeat fewer": (
        lambda at: {"without": of_repeat(at, 1)},
        {"repeats-other": "the heads have 1 repeats; the model has 2"},
    ),
}
"""By what is different: how to make such a port, and by slug a part of the statement on it."""


TOGETHER = (
    "a stride is 1, another 2",
    "batch norms of the BiFPN with PyTorch's epsilon",
    "a bias inside separable convolutions",
    "max-pools with kernel = stride",
    "no batch norm behind 1x1 convolutions of features",
    "symmetric padding",
    "no activation behind fusions",
    "relu in the heads",
    "batch norms of the heads shared by levels",
    "P4 from another block",
    "features down-channelled once",
)
"""Those that one port has all at once."""


def all_at_once(at):
    """How a port is made that has the defects of :data:`TOGETHER`."""
    together = {"fault": {}, "without": [], "wired": {}, "layers": {}, "same": {}}
    for name in TOGETHER:
        for what, value in DEFECTS[name][0](at).items():
            if isinstance(value, dict):
                together[what] = {**value, **together[what]}
            else:
                together[what] += value
    return together


def of_repeat(at, number):
    parts = [f".{part}.{number}" for part in ("convs", "bns", "acts")]
    return [
        node
        for node in at.kinds
        if "_head." in node and any(f"{part}." in node or f"{part}@" in node for part in parts)
    ]


def twice(at):
    """The second down-channelling of a feature and the first, node by node."""
    found, first = {}, {}
    for node, call in at.referee.calls.items():
        if ".resamples." in node and node.endswith(".conv") and node.startswith("fpn.cells.0."):
            source = call.sources[0]
            if source in first:
                found[node] = first[source]
                found[node.replace(".conv", ".bn")] = first[source].replace(".conv", ".bn")
            else:
                first[source] = node
    return found
