"""Frozen graphs of a configuration, as TensorFlow 1 and 2 write them, made without TensorFlow.

They have every constant and every node that takes one, and nothing in between: what flows from
layer to layer is not read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

import numpy as np

from converter.mappings.layouts import Array
from converter.mappings.official import iterate_pairs
from converter.tensorflow_files.bundle import TYPE_NUMBERS
from converter.tensorflow_files.wire import varint
from efficientdet_spec import EfficientDetConfig, Fusion

NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def number(field: int, value: int) -> bytes:
    """A number of a message."""
    return varint(field << 3) + varint(value)


def chunk(field: int, content: bytes | str) -> bytes:
    """A text or a message in a message."""
    data = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(data)) + data


def shape_of(shape: tuple[int, ...]) -> bytes:
    """A TensorShapeProto."""
    return b"".join(chunk(2, number(1, extent)) for extent in shape)


def tensor(array: Array) -> bytes:
    """A TensorProto with its bytes as a whole; one value where all are the same."""
    start = number(1, TYPE_NUMBERS[array.dtype]) + chunk(2, shape_of(array.shape))
    if array.dtype == np.float32 and array.ndim and not any(array.strides):
        return start + chunk(5, struct.pack("<f", array.flat[0]))
    return start + chunk(4, array.tobytes())


class Made(NamedTuple):
    """A node."""

    name: str
    operation: str
    inputs: tuple[str, ...] = ()
    value: bytes | None = None

    def renamed(self, names: Mapping[str, str]) -> Made:
        """The same in a graph in which some nodes have other names."""
        inputs = tuple(names.get(each, each) for each in self.inputs)
        return self._replace(name=names.get(self.name, self.name), inputs=inputs)

    def written(self) -> bytes:
        """As a GraphDef has it."""
        content = chunk(1, self.name) + chunk(2, self.operation)
        content += b"".join(chunk(3, each) for each in self.inputs)
        content += chunk(5, chunk(1, "T") + chunk(2, number(6, 1)))
        if self.value is not None:
            content += chunk(5, chunk(1, "value") + chunk(2, chunk(8, self.value)))
        return chunk(1, content)


def node(name: str, operation: str, *inputs: str, value: bytes | None = None) -> bytes:
    """A node of a GraphDef; ``value`` is a constant's TensorProto."""
    return Made(name, operation, inputs, value).written()


def ids(config: EfficientDetConfig) -> dict[str, Array]:
    """Every variable as one constant, its 1-based position in the order of the mapping."""
    shapes: dict[str, tuple[int, ...]] = {}
    for pair in iterate_pairs(config):
        shapes |= pair.variable_shapes
    return {
        name: np.broadcast_to(np.float32(position), shape)
        for position, (name, shape) in enumerate(shapes.items(), 1)
    }


def graph(
    config: EfficientDetConfig,
    values: Mapping[str, Array] | None = None,
    *,
    tf2: bool = False,
    prefix: str = "",
) -> bytes:
    """A frozen graph; see :func:`nodes`."""
    return written(nodes(config, values, tf2=tf2, prefix=prefix))


def written(made: Iterable[Made]) -> bytes:
    """The GraphDef of some nodes."""
    return b"".join(each.written() for each in made) + chunk(4, number(1, 2474))


def nodes(
    config: EfficientDetConfig,
    values: Mapping[str, Array] | None = None,
    *,
    tf2: bool = False,
    prefix: str = "",
) -> list[Made]:
    """The nodes of a frozen graph.

    Args:
        config: The model.
        values: By variable; the positions of :func:`ids` by default.
        tf2: Whether constants are called after what reads them.
        prefix: What stands before every name.
    """
    arrays = ids(config) if values is None else values
    made = [Made("images", "Placeholder")]
    for scope, names in groupby(arrays, lambda name: name.rpartition("/")[0]):
        parts = {name.rpartition("/")[2]: arrays[name] for name in names}
        for part, reader in _readers(scope, list(parts), config).items():
            constant = f"{reader}/resource" if tf2 else f"{scope}/{part}"
            made.append(Made(constant, "Const", value=tensor(parts[part])))
            made.append(Made(reader, "Identity", (constant,)))
        for name, operation, inputs in _layers(scope, list(parts), config):
            made.append(Made(name, operation, tuple(inputs)))
    made.append(Made("resample/size", "Const", value=tensor(np.array([4, 4], np.int32))))
    made.append(Made("class_net/beta", "Const", value=tensor(np.ones((), np.float32))))
    every = {each.name: f"{prefix}{each.name}" for each in made}
    return [each.renamed(every) for each in made]


def _softmax(config: EfficientDetConfig) -> bool:
    return config.fusion in (Fusion.SOFTMAX_ATTENTION, Fusion.CHANNEL_SOFTMAX_ATTENTION)


def _readers(scope: str, parts: list[str], config: EfficientDetConfig) -> dict[str, str]:
    """The node that reads each variable of a scope."""
    if set(NORM) <= set(parts):
        inner = f"{scope}/FusedBatchNormV3"
        reads = ("ReadVariableOp", "ReadVariableOp_1")
        names = [f"{place}/{read}" for place in (scope, inner) for read in reads]
        return dict(zip(NORM, names, strict=True))
    found = {}
    for position, part in enumerate(parts):
        name = _OPS.get(part, "")
        if part.startswith("WSM"):
            end = f"_{position}" if position else ""
            name = f"{'Cast' if _softmax(config) else 'Relu'}{end}/ReadVariableOp"
        found[part] = f"{scope}/{name}"
    return found


_OPS = {
    "kernel": "Conv2D/ReadVariableOp",
    "depthwise_kernel": "separable_conv2d/ReadVariableOp",
    "pointwise_kernel": "separable_conv2d/ReadVariableOp_1",
    "bias": "BiasAdd/ReadVariableOp",
}


def _layers(
    scope: str, parts: list[str], config: EfficientDetConfig
) -> Iterator[tuple[str, str, list[str]]]:
    readers = _readers(scope, parts, config)
    if set(NORM) <= set(parts):
        inputs = ["images", *(readers[part] for part in NORM)]
        yield f"{scope}/FusedBatchNormV3", "FusedBatchNormV3", inputs
        return
    if "kernel" in parts:
        yield f"{scope}/Conv2D", "Conv2D", ["images", readers["kernel"]]
    if "pointwise_kernel" in parts:
        first = f"{scope}/separable_conv2d/depthwise"
        yield first, "DepthwiseConv2dNative", ["images", readers["depthwise_kernel"]]
        yield f"{scope}/separable_conv2d", "Conv2D", [first, readers["pointwise_kernel"]]
    elif "depthwise_kernel" in parts:
        given = ["images", readers["depthwise_kernel"]]
        yield f"{scope}/depthwise", "DepthwiseConv2dNative", given
    if "bias" in parts:
        yield f"{scope}/BiasAdd", "BiasAdd", ["images", readers["bias"]]
    weights = [readers[part] for part in parts if part.startswith("WSM")]
    if weights and _softmax(config):
        yield f"{scope}/stack", "Pack", weights
    else:
        for position, given in enumerate(weights):
            name = f"{scope}/Relu_{position}" if position else f"{scope}/Relu"
            yield name, "Relu", [given]
