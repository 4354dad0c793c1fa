"""Which operations can be the last step of which nodes."""

from __future__ import annotations

from efficientdet_spec import NodeKind

_PRODUCTS = ("conv", "mm", "matmul", "linear", "einsum", "bilinear", "dot")
_SUMS = ("add", "sub", "sum", "rsub", "cat", "stack")
_PARTS = ("mul", "div", *_SUMS)

_NAMES = {
    NodeKind.CONV: (*_PRODUCTS, "add"),
    NodeKind.DEPTHWISE: (*_PRODUCTS, "mul", "add", "sum"),
    NodeKind.BATCH_NORM: ("norm", *_PARTS, "addcmul", "conv"),
    NodeKind.ACTIVATION: (
        *("silu", "mul", "div", "relu", "clamp", "hardtanh", "hardswish", "elu", "mish", "tanh"),
        *("sigmoid", "swish", "softplus", "where", "threshold", "minimum", "maximum", "pow"),
    ),
    NodeKind.MEAN: ("mean", "sum", "div", "mul", "avg_pool", "einsum", "mm"),
    NodeKind.GATE: ("sigmoid", "hardsigmoid", "hardtanh", "clamp", "reciprocal", "div", "exp"),
    NodeKind.SCALE: ("mul", "div", "einsum"),
    NodeKind.ADD: _SUMS,
    NodeKind.FUSE: (*_PARTS, "mm", "einsum", "mean", "addcmul"),
    NodeKind.POOL: ("max", "pool", "amax"),
    NodeKind.UPSAMPLE: (
        *("upsample", "interpolate", "repeat", "expand", "index", "cat", "stack", "clone"),
        *("conv_transpose", "copy", "grid_sample", "take", "view", "reshape"),
    ),
}
"""What the names of the operations contain that can end a node of a kind."""


def may_end(operation: str, kind: NodeKind) -> bool:
    """Whether an operation can be the last step of a node, as far as its name tells.

    Args:
        operation: What the framework calls it.
        kind: What the node computes.
    """
    return any(part in operation for part in _NAMES[kind])
