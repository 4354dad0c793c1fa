"""Which operations can be the last step of which nodes."""

from __future__ import annotations

from efficientdet_spec import NodeKind
from parity.sides.observed.record import Operation

_PRODUCTS = ("conv", "mm", "matmul", "linear", "einsum", "bilinear", "dot")
_SUMS = ("add", "sub", "sum", "rsub", "cat", "stack")
_PARTS = ("mul", "div", *_SUMS)

_NAMES = {
    NodeKind.CONV: (*_PRODUCTS, "add"),
    NodeKind.DEPTHWISE: (*_PRODUCTS, "mul", "add", "sum"),
    NodeKind.BATCH_NORM: ("norm", *_PARTS, "addcmul", *_PRODUCTS),
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


_CERTAIN = {
    NodeKind.POOL: "max_pool",
    NodeKind.UPSAMPLE: "upsample",
    NodeKind.MEAN: "mean",
    NodeKind.ACTIVATION: "silu",
    NodeKind.ADD: "add",
    NodeKind.SCALE: "mul",
    NodeKind.GATE: "sigmoid",
}


def is_certain(operation: str, kind: NodeKind) -> bool:
    """Whether an operation at the place of a node is what one would write for it.

    Args:
        operation: What the framework calls it.
        kind: What the node computes.
    """
    return kind in _CERTAIN and _CERTAIN[kind] in operation


_STEPS = {
    NodeKind.ACTIVATION: ("silu", "sigmoid"),
    NodeKind.GATE: ("sigmoid",),
    NodeKind.BATCH_NORM: ("batch_norm",),
}
"""What the names of the operations contain with which one would begin such a node."""


def is_certain_step(operation: Operation | None, kind: NodeKind) -> bool:
    """Whether an operation begins what one would write for an activation, a gate or a norm."""
    return operation is not None and any(part in operation.name for part in _STEPS.get(kind, ()))


def makes_products(operation: Operation | None) -> bool:
    """Whether an operation is a convolution, or a product of matrices."""
    return operation is not None and any(part in operation.name for part in _PRODUCTS)


def is_layer(operation: Operation | None) -> bool:
    """Whether an operation is one of a layer with parameters: products, or a norm."""
    norms = ("batch_norm", "group_norm", "layer_norm", "instance_norm")
    normalises = operation is not None and any(part in operation.name for part in norms)
    return normalises or makes_products(operation)


def holds_more(operation: Operation | None) -> bool:
    """Whether an operation behind a convolution can be more than its bias: a batch norm's."""
    parts = ("norm", "mul", "div", "sub")
    return operation is not None and any(part in operation.name for part in parts)


def may_end(operation: str, kind: NodeKind) -> bool:
    """Whether an operation can be the last step of a node, as far as its name tells.

    Args:
        operation: What the framework calls it.
        kind: What the node computes.
    """
    return any(part in operation for part in _NAMES[kind])
