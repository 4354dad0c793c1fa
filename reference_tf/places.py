"""Numbers the values of a graph by how they are computed, whatever their operations' names.

Two tensors, of one graph or of two, have the same number where the same operations compute them
from the same images and variables. Forms that TensorFlow's and the official code's versions
choose for one thing count as one: sums as ``AddN`` or as a chain of ``Add`` or ``AddV2``, the
three versions of the fused batch norm, swish with and without its factor of 1, its ``IdentityN``
or a function around it, and up-sampling by broadcasting instead of ``ResizeNearestNeighbor``.

Constants and attributes are no part of a place: a convolution with another stride is the same
one with a different value. They are kept beside it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

v1 = tf.compat.v1

ALLOWED_TYPES = frozenset(
    {
        "Add",
        "AddN",
        "AddV2",
        "BiasAdd",
        "Const",
        "Conv2D",
        "DepthwiseConv2dNative",
        "FusedBatchNorm",
        "FusedBatchNormV2",
        "FusedBatchNormV3",
        "Identity",
        "IdentityN",
        "MaxPool",
        "Mean",
        "Mul",
        "Pack",
        "Placeholder",
        "ReadVariableOp",
        "RealDiv",
        "Relu",
        "Relu6",
        "Reshape",
        "ResizeNearestNeighbor",
        "Sigmoid",
        "Softmax",
        "Softplus",
        "Sum",
        "Tanh",
        "VarHandleOp",
        "Variable",
        "VariableV2",
    }
)
"""Every type that an official inference graph needs: arithmetic, constants and variables."""

FUNCTION_TYPES = frozenset({"Const", "Identity", "Mul", "Sigmoid"})
"""What a function in such a graph may consist of: early TensorFlow made swish one."""

VARIABLE_TYPES = frozenset({"VarHandleOp", "Variable", "VariableV2"})
PASSING_TYPES = frozenset({"Identity", "IdentityN", "ReadVariableOp"})
"""Operations whose outputs are their inputs."""

MAX_CONSTANT_ELEMENTS = 4096
"""Of a constant: the network's are axes, sizes and scalars."""

_SUM_TYPES = frozenset({"Add", "AddN", "AddV2"})
_MAX_TERMS = 64
"""Terms to which a nested sum is written out; more than any chain of residuals has."""

_CONVOLUTION = {
    "strides": None,
    "padding": None,
    "dilations": (1, 1, 1, 1),
    "explicit_paddings": (),
    "data_format": "NHWC",
}
_ATTRIBUTES: Mapping[str, Mapping[str, Any]] = {
    "BiasAdd": {"data_format": "NHWC"},
    "Conv2D": _CONVOLUTION,
    "DepthwiseConv2dNative": _CONVOLUTION,
    "FusedBatchNorm": {
        "epsilon": v1.AttrValue(f=1e-4).f,
        "is_training": True,
        "data_format": "NHWC",
    },
    "MaxPool": {
        "ksize": None,
        "strides": None,
        "padding": None,
        "explicit_paddings": (),
        "data_format": "NHWC",
    },
    "Mean": {"keep_dims": False},
    "Pack": {"axis": 0},
    "ResizeNearestNeighbor": {"align_corners": False, "half_pixel_centers": False},
    "Sum": {"keep_dims": False},
}
"""Attributes that change values, with TensorFlow's defaults."""


@dataclass(frozen=True)
class Occurrence:
    """An operation that computes a value.

    Attributes:
        operation: Its name.
        kind: Its type, the same for all forms of one thing.
        attributes: What else decides the value: attributes by name, ``constants`` among the
            inputs, and the ``order`` in which a sum takes its terms.
    """

    operation: str
    kind: str
    attributes: Mapping[str, Any]


class Numbering:
    """Gives each description of a place a number; graphs to be compared share one."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Any, ...], int] = {}
        self.terms: dict[int, tuple[int, ...]] = {}

    def number(self, *description: Any) -> int:
        """The number of a place: a kind and what it is applied to."""
        return self._numbers.setdefault(description, len(self._numbers))

    def sum(self, inputs: Iterable[int]) -> int:
        """The number of a sum, whatever the order of its terms and however it is nested."""
        inputs = list(inputs)
        terms = [term for place in inputs for term in self.terms.get(place, (place,))]
        # A hostile graph can double its terms at every operation.
        if len(terms) > _MAX_TERMS:
            terms = inputs
        number = self.number("sum", *sorted(terms))
        self.terms.setdefault(number, tuple(sorted(terms)))
        return number


@dataclass
class Places:
    """The places of one graph's tensors.

    Attributes:
        nodes: Operation by name.
        values: Number of each tensor, ``name:output``.
        roots: The tensor that computes a tensor's value: itself, or what is passed on to it.
        occurrences: The operations that compute the value of each number.
    """

    nodes: Mapping[str, Any]
    values: dict[str, int] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    occurrences: dict[int, list[Occurrence]] = field(default_factory=lambda: defaultdict(list))

    def inputs(self, operation: str) -> list[str]:
        """Tensors that an operation takes."""
        return data_inputs(self.nodes[operation])

    def ancestors(self, tensors: Iterable[str], *stops: str) -> set[str]:
        """Names of the operations that lead to some tensors, those that make these included.

        Args:
            tensors: Names of tensors.
            *stops: Tensors behind which not to look; their operations are left out.
        """
        found: set[str] = set()
        waiting = [tensor for tensor in tensors if tensor not in stops]
        while waiting:
            name = operation_of(waiting.pop())
            if name not in found and name in self.nodes:
                found.add(name)
                waiting += [tensor for tensor in self.inputs(name) if tensor not in stops]
        return found


def data_inputs(node: Any) -> list[str]:
    """Tensors that an operation takes, as ``name:output``, without control inputs."""
    names = (name for name in node.input if not name.startswith("^"))
    return [name if ":" in name else f"{name}:0" for name in names]


def operation_of(tensor: str) -> str:
    """Name of the operation that makes a tensor."""
    return tensor.split(":")[0]


def number_places(
    numbering: Numbering, nodes: Mapping[str, Any], images: str, functions: Mapping[str, Any]
) -> Places:
    """The places of all tensors that acyclic parts of a graph compute.

    Args:
        numbering: Shared by the graphs that are compared.
        nodes: Operation (``NodeDef``) by name.
        images: The tensor that holds the network's images.
        functions: Function (``FunctionDef``) by name.
    """
    places = Places(nodes)
    walk = _Visitor(numbering, places, functions)
    walk.give(images, numbering.number("images"))
    readers = defaultdict(list)
    missing = {}
    for name, node in nodes.items():
        # Where the images come from does not matter.
        inputs = [] if name == operation_of(images) else data_inputs(node)
        needed = {operation_of(tensor) for tensor in inputs}
        missing[name] = len(needed)
        for other in needed:
            readers[other].append(name)
    ready = [name for name, count in missing.items() if not count]
    while ready:
        name = ready.pop()
        if name != operation_of(images) and not walk.visit(nodes[name]):
            continue
        for reader in readers[name]:
            missing[reader] -= 1
            if not missing[reader]:
                ready.append(reader)
    return places


class _Visitor:
    def __init__(self, numbering: Numbering, places: Places, functions: Mapping[str, Any]) -> None:
        self._numbering = numbering
        self._places = places
        self._functions = functions
        self._constants: dict[str, Any] = {}
        self._orders: dict[str, tuple[Any, ...]] = {}

    def give(self, tensor: str, number: int, root: str | None = None) -> None:
        self._places.values[tensor] = number
        self._places.roots[tensor] = root or tensor

    def visit(self, node: Any) -> bool:
        """Number an operation's outputs; False where its inputs are not what it needs."""
        inputs = data_inputs(node)
        output = f"{node.name}:0"
        try:
            taken = [self._value(tensor) for tensor in inputs]
            if node.op in PASSING_TYPES:
                for position, tensor in enumerate(inputs):
                    self._pass_on(f"{node.name}:{position}", tensor)
                return bool(inputs)
            self._compute(node, output, inputs, taken)
        except (KeyError, IndexError):
            return False
        return True

    def _value(self, tensor: str) -> int:
        values = self._places.values
        if tensor not in values:
            # A further output of an operation that computes more than one thing.
            name, _, position = tensor.partition(":")
            values[tensor] = self._numbering.number("output", position, values[f"{name}:0"])
            self._places.roots[tensor] = tensor
        return values[tensor]

    def _pass_on(self, tensor: str, source: str) -> None:
        self.give(tensor, self._places.values[source], self._places.roots[source])
        for known in (self._constants, self._orders):
            if source in known:
                known[tensor] = known[source]

    def _compute(self, node: Any, output: str, inputs: list[str], taken: list[int]) -> None:
        kind = "FusedBatchNorm" if node.op.startswith("FusedBatchNorm") else node.op
        number = self._numbering.number
        attributes: dict[str, Any] = {}
        if node.op in VARIABLE_TYPES:
            self.give(output, number("variable", node.name))
            return
        if node.op == "Const":
            value = constant(node.attr["value"].tensor)
            self._constants[output] = value
            self.give(output, number("constant", None if value is None else value.shape))
            return
        if node.op not in ALLOWED_TYPES:
            place = self._call(node, taken)
            if place is None:
                place = number("operation", id(self._places), node.name)
        elif node.op == "Mul":
            for position, tensor in enumerate(inputs):
                if self._is_one(tensor):
                    self._pass_on(output, inputs[1 - position])
                    return
            place = number("Mul", *sorted(taken))
        elif node.op in _SUM_TYPES:
            kind = "sum"
            place = self._numbering.sum(taken)
            attributes["order"] = self._orders[output] = self._order(inputs)
        elif node.op == "Reshape" and (upsampled := self._upsampling(node)):
            kind = "ResizeNearestNeighbor"
            source, size = upsampled
            place = number(kind, self._places.values[source], number("constant", (2,)))
            attributes = {**_ATTRIBUTES[kind], "constants": (size,)}
        else:
            place = number(kind, *taken)
        for name, default in _ATTRIBUTES.get(kind, {}).items():
            if name not in attributes:
                attributes[name] = _attribute(node.attr[name]) if name in node.attr else default
        values = [self._constants[tensor] for tensor in inputs if tensor in self._constants]
        attributes.setdefault(
            "constants",
            tuple(None if value is None else tuple(value.ravel().tolist()) for value in values),
        )
        self.give(output, place)
        self._places.occurrences[place].append(Occurrence(node.name, kind, attributes))

    def _is_one(self, tensor: str) -> bool:
        value = self._constants.get(tensor)
        return value is not None and value.shape == () and value == 1

    def _order(self, inputs: list[str]) -> tuple[Any, ...]:
        """The terms of a sum in the order in which they are added; the first two commute."""
        terms: tuple[Any, ...] = ()
        for tensor in inputs:
            added = self._orders.get(tensor, (self._places.values[tensor],))
            if len(added) > 1 and len(terms) == 1:
                terms, added = added, terms
            # A sum of sums is no chain: the second one stays in brackets.
            terms += added if not terms or len(added) == 1 else (self._places.values[tensor],)
        return (*sorted(terms[:2]), *terms[2:])

    def _upsampling(self, reshape: Any) -> tuple[str, tuple[int, int]] | None:
        """Input and size of an up-sampling by ``reshape(reshape(x) * ones)``, or None."""
        nodes = self._places.nodes
        product = nodes.get(operation_of(reshape.input[0]))
        if product is None or product.op != "Mul":
            return None
        for one, other in (data_inputs(product), data_inputs(product)[::-1]):
            inner = nodes[operation_of(one)]
            ones = self._constants.get(other)
            if inner.op != "Reshape" or ones is None or ones.ndim != 6 or not (ones == 1).all():
                continue
            source, *shapes = data_inputs(inner) + data_inputs(reshape)[1:]
            before, after = (self._constants.get(shape) for shape in shapes)
            if before is None or after is None or before.shape != (6,) or after.shape != (4,):
                continue
            n, h, _, w, _, c = before.tolist()
            vertical, horizontal = ones.shape[2], ones.shape[4]
            size = (h * vertical, w * horizontal)
            if (
                before.tolist() == [n, h, 1, w, 1, c]
                and ones.shape == (1, 1, vertical, 1, horizontal, 1)
                and after.tolist() == [n, *size, c]
            ):
                return source, size
        return None

    def _call(self, node: Any, taken: list[int]) -> int | None:
        """The place of what a function of elementary operations returns, or None."""
        function = self._functions.get(node.op)
        if function is None or not is_elementary(function):
            return None
        arguments = [f"{argument.name}:0" for argument in function.signature.input_arg]
        if len(arguments) != len(taken) or len(function.ret) != 1:
            return None
        body = Places({inner.name: _flat(inner) for inner in function.node_def})
        walk = _Visitor(self._numbering, body, {})
        for argument, place in zip(arguments, taken, strict=True):
            walk.give(argument, place)
        waiting = list(body.nodes.values())
        while waiting:
            blocked = [inner for inner in waiting if not walk.visit(inner)]
            if len(blocked) == len(waiting):
                return None
            waiting = blocked
        (returned,) = function.ret.values()
        return body.values.get(f"{operation_of(returned)}:0")


def is_elementary(function: Any) -> bool:
    """Whether a function consists of a few elementary operations only."""
    body = function.node_def
    return len(body) <= _MAX_TERMS and all(
        node.op in FUNCTION_TYPES
        and (node.op != "Const" or constant(node.attr["value"].tensor) is not None)
        for node in body
    )


def _flat(node: Any) -> Any:
    """A function's operation with its inputs named as those of a graph are.

    There a tensor is ``name:argument:number``; elementary operations have a single output.
    """
    flat = v1.NodeDef()
    flat.CopyFrom(node)
    del flat.input[:]
    flat.input.extend(operation_of(name) for name in node.input if not name.startswith("^"))
    return flat


def constant(tensor: Any) -> Any:
    """A constant's value as an array; None where it is malformed or not a small one."""
    sides = [dimension.size for dimension in tensor.tensor_shape.dim]
    if min(sides, default=0) < 0 or math.prod(sides) > MAX_CONSTANT_ELEMENTS:
        return None
    try:
        return tf.make_ndarray(tensor)
    except (KeyError, TypeError, ValueError):
        return None


def _attribute(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "list":
        return tuple(value.list.i)
    found = getattr(value, kind) if kind else None
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else found
