"""What a trace says of itself: where its tensors come from, and every node of the network."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from efficientdet_spec import MAX_SIDE, Cause, EfficientDetConfig, InputError, NodeKind

SCHEMA = "efficientdet-parity/trace"
SCHEMA_VERSION = 1

_TYPES: Mapping[str, str] = {"float32": "<f4", "float64": "<f8"}
_NAME = re.compile(r"[\w@-][\w.@-]{0,199}", re.ASCII)
_MAX_TENSOR_BYTES = 2**35
"""The largest official model's largest takes 26 GB, at the largest side in float64."""


def trace_bytes(shapes: Iterable[Sequence[int]], dtype: str) -> int:
    """Size of tensors on disk without compression, in bytes.

    Args:
        shapes: Their shapes.
        dtype: Their type, ``float32`` or ``float64``.
    """
    return sum(math.prod(shape) for shape in shapes) * np.dtype(dtype).itemsize


@dataclass(frozen=True)
class TraceNode:
    """One node of the network.

    Attributes:
        name: The node.
        kind: What it computes.
        tensor: Name of its TensorFlow tensor.
        shape: NHWC.
        recorded: Whether the trace holds its tensor.
    """

    name: str
    kind: NodeKind
    tensor: str
    shape: tuple[int, ...]
    recorded: bool


@dataclass(frozen=True)
class TraceHeader:
    """What was recorded.

    Attributes:
        config: The model.
        checkpoint: What the reference was filled from: ``source``, ``fingerprint``, ``weights``.
        input: The images: ``source``, ``height`` and ``width`` in pixels, ``sha256``.
        dtype: Type in which the reference computed, ``float32`` or ``float64``.
        environment: Versions and settings.
        outputs: Names of the nodes that are the network's outputs, in order.
        globs: Patterns of the names of the nodes to record; empty for all.
        nodes: Every node of the network in the order of computation, recorded or not.
    """

    config: EfficientDetConfig
    checkpoint: Mapping[str, Any]
    input: Mapping[str, Any]
    dtype: str
    environment: Mapping[str, Any]
    outputs: tuple[str, ...]
    globs: tuple[str, ...]
    nodes: tuple[TraceNode, ...]

    def __post_init__(self) -> None:
        """Check what a reader relies on.

        Raises:
            InputError: A value is impossible; the message names it.
        """
        if self.dtype not in _TYPES:
            raise InputError(
                f"A trace's type is {self.dtype!r:.40}, not one of {[*_TYPES]}.", Cause.FORMAT
            )
        texts = [self.checkpoint[name] for name in ("source", "fingerprint", "weights")]
        texts += [self.input["source"], self.input["sha256"], *self.globs]
        for text in [*texts, *(node.tensor for node in self.nodes)]:
            # They are shown on terminals.
            if not isinstance(text, str) or not text.isprintable():
                raise InputError(
                    f"A trace holds {text!r:.80} where printable text belongs.", Cause.FORMAT
                )
        for side in ("height", "width"):
            value = self.input[side]
            if type(value) is not int or not 1 <= value <= MAX_SIDE:
                raise InputError(f"The {side} of a trace's images is {value!r:.40}.", Cause.FORMAT)
        names = {node.name for node in self.nodes}
        if not any(node.recorded for node in self.nodes) or len(names) < len(self.nodes):
            raise InputError("A trace holds no nodes, or two of one name.", Cause.FORMAT)
        if not names.issuperset(self.outputs):
            raise InputError("An output of a trace is none of its nodes.", Cause.FORMAT)
        for node in self.nodes:
            if not _NAME.fullmatch(node.name):
                raise InputError(f"A trace's node is called {node.name!r:.80}.", Cause.FORMAT)
            whole = all(type(side) is int and side > 0 for side in node.shape)
            if (
                not whole
                or len(node.shape) != 4
                or node.shape[0] != self.nodes[0].shape[0]
                or trace_bytes([node.shape], self.dtype) > _MAX_TENSOR_BYTES
            ):
                raise InputError(
                    f"A trace's {node.name} has the shape {node.shape!r:.80}.", Cause.FORMAT
                )

    @property
    def recorded(self) -> tuple[TraceNode, ...]:
        """The nodes whose tensors are recorded, in the order of computation."""
        return tuple(node for node in self.nodes if node.recorded)

    @property
    def images_shape(self) -> tuple[int, ...]:
        """[N, H, W, 3]."""
        return (self.nodes[0].shape[0], self.input["height"], self.input["width"], 3)

    @property
    def stored_type(self) -> np.dtype[Any]:
        """The type of tensors and images on disk, little endian."""
        return np.dtype(_TYPES[self.dtype])

    @property
    def bytes(self) -> int:
        """Size of the images and the recorded tensors without compression."""
        shapes = (node.shape for node in self.recorded)
        return trace_bytes([self.images_shape, *shapes], self.dtype)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON.

        The model's name, its levels and the number of nodes are there for other programs; here
        they follow from the rest.
        """
        return {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "model": self.config.name,
            "config": self.config.to_dict(),
            "checkpoint": dict(self.checkpoint),
            "images": dict(self.input),
            "dtype": self.dtype,
            "environment": dict(self.environment),
            "outputs": list(self.outputs),
            "levels": list(self.config.levels),
            "globs": list(self.globs),
            "node_count": len(self.nodes),
            "nodes": [
                {**asdict(node), "kind": node.kind.value, "shape": list(node.shape)}
                for node in self.nodes
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TraceHeader:
        """The header from :meth:`to_dict`'s values.

        Raises:
            InputError: A value is missing or impossible.
        """
        try:
            return cls(
                config=EfficientDetConfig.from_dict(values["config"]),
                checkpoint=dict(values["checkpoint"]),
                input=dict(values["images"]),
                dtype=values["dtype"],
                environment=dict(values["environment"]),
                outputs=tuple(values["outputs"]),
                globs=tuple(values["globs"]),
                nodes=tuple(
                    TraceNode(
                        name=node["name"],
                        kind=NodeKind(node["kind"]),
                        tensor=node["tensor"],
                        shape=tuple(node["shape"]),
                        recorded=node["recorded"] is True,
                    )
                    for node in values["nodes"]
                ),
            )
        except InputError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"A value is missing or of a wrong type: {error!r:.120}.", Cause.FORMAT
            ) from error
