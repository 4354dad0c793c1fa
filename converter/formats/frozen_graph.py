"""Frozen graphs of TensorFlow 1 and 2: a GraphDef in which every variable has become a constant.

What a constant is, is told by the layer that takes it and by the place at which it does: a batch
norm takes its four in one order, whatever they are called. The layer's name is that of the
variable's scope. A graph of TensorFlow 1 has the constants under their variables' names, and then
the two must agree; one of TensorFlow 2 has them under the name of whatever read them first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from converter.formats.registry import Format
from converter.formats.source import OFFICIAL, StoredEntry, TensorSource
from converter.mappings.layouts import Array
from converter.tensorflow_files.graph_def import (
    GraphFile,
    Node,
    Tensor,
    looks_like_graph,
    stored_type,
)
from efficientdet_spec import Cause, InputError, file_sha256, listed, printable, shortened

_BATCH_NORM = ("", "gamma", "beta", "moving_mean", "moving_variance")
_TAKES: Mapping[str, tuple[str, ...]] = {
    "Conv2D": ("", "kernel"),
    "DepthwiseConv2dNative": ("", "depthwise_kernel"),
    "BiasAdd": ("", "bias"),
    "FusedBatchNorm": _BATCH_NORM,
    "FusedBatchNormV2": _BATCH_NORM,
    "FusedBatchNormV3": _BATCH_NORM,
}
"""What a layer takes at each of its inputs; empty for what is computed."""

_NORMS = frozenset(name for name, takes in _TAKES.items() if takes is _BATCH_NORM)
_ROLES = frozenset(role for takes in _TAKES.values() for role in takes if role) | {
    "pointwise_kernel"
}
_FOLLOWED = frozenset(("Identity", "Cast", "StopGradient", "Snapshot"))
"""Operations that hand a constant on."""

_VARIABLES = frozenset(("VarHandleOp", "Variable", "VariableV2"))
_FLOATS = frozenset(("DT_FLOAT", "DT_DOUBLE", "DT_HALF", "DT_BFLOAT16"))

_FUSION = "WSM"
_FUSION_NAME = re.compile(r"(?:.*/)?WSM(?:_\d+)?")
_FUSION_NODE = re.compile(r"(?P<scope>(?:.*/)?fnode\d+)/[^/]+")
_NUMBERED = re.compile(r"(?P<name>.*?)(?:_(?P<number>\d+))?")
# Every call of a shared layer may have a scope of its own, and only these layers are shared.
_SHARED = re.compile(r"(?P<layer>(?:.*/)?(?:class|box)-(?:\d+|predict)(?:-bn-\d+)?)_\d+")
_STEM = re.compile(r"(?P<prefix>.*?)efficientnet-[^/]+/stem/conv2d/kernel")

_OTHER_TYPE = "a shape, an index or another number that the graph works with, no variable"
_ARITHMETIC = "a number of the graph's arithmetic, which no layer takes as its weights"
_ADVICE = (
    "give the checkpoint or the SavedModel folder that it was made from, or the graph as the "
    "official export freezes it"
)


class FrozenGraph(TensorSource):
    """A frozen graph, open.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read, is damaged, or has lost the variables.
    """

    FORMAT = "frozen"
    SAYS = "a frozen TensorFlow graph"
    ONLY_VALUE = "the one that it was frozen with"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.naming = OFFICIAL
        self._graph = GraphFile(path)
        self._tensors: dict[str, Tensor] = {}
        variables = _variables(path, self._graph)
        taken = frozenset(variables.values())
        self._nodes: dict[str, str] = {}
        self._digests: dict[str, bytes] = {}
        left_out: dict[str, str] = {}
        for node, tensor in _constants(self._graph):
            name = variables.get(node.name)
            if name is not None and name not in self._tensors:
                self._enter(name, node, tensor)
                continue
            if name is None:
                left_out[node.name] = _reason(tensor)
            else:
                self._require_same(name, node.name, tensor)
                left_out[node.name] = f"the values of {name} once more, for another reader"
            if node.name in taken:
                raise _refused(path, f"its constant {_shown(node.name)} is not what it is called")
            self._enter(node.name, node, tensor)
        self.left_out = left_out
        self.entries = {
            key: StoredEntry(self._nodes[key], tensor.dtype_name, tensor.shape, tensor.size)
            for key, tensor in self._tensors.items()
        }

    def read(self, name: str) -> Array:
        """See :class:`TensorSource`."""
        return self._graph.read(self._tensors[name])

    def verify(self, name: str) -> int:
        """See :class:`TensorSource`; there is nothing to verify but whether it can be read."""
        tensor = self._tensors[name]
        return 0 if stored_type(tensor.dtype_name) is None else self._graph.not_finite(tensor)

    def digests(self) -> Mapping[str, str]:
        """See :class:`TensorSource`."""
        return {"file_sha256": file_sha256(self.path)}

    def _enter(self, key: str, node: Node, tensor: Tensor) -> None:
        self._tensors[key] = tensor
        self._nodes[key] = node.name

    def _require_same(self, name: str, node: str, tensor: Tensor) -> None:
        """Refuse two values of one variable: nobody could say which is the model's."""
        # Each is gone through once, however many there are of one variable.
        if name not in self._digests:
            self._digests[name] = self._graph.digest(self._tensors[name])
        if self._graph.digest(tensor) != self._digests[name]:
            raise _refused(
                self.path,
                f"it has two different values of {_shown(name)}, in the constants "
                f"{_shown(self._nodes[name])} and {_shown(node)}",
            )


def _constants(graph: GraphFile) -> Iterator[tuple[Node, Tensor]]:
    for node in graph.nodes.values():
        if node.tensor is not None:
            yield node, node.tensor


def _reason(tensor: Tensor) -> str:
    return _ARITHMETIC if tensor.dtype_name in _FLOATS else _OTHER_TYPE


def _variables(path: Path, graph: GraphFile) -> dict[str, str]:
    """The variable that a constant is, by the constant's name; several may be one.

    Raises:
        InputError: The graph has lost its variables, or never had their values.
    """
    taken = _taken(graph)
    _require_variables(path, graph, {role for uses in taken.values() for role, _ in uses})
    names: dict[str, str] = {}
    for constant, uses in taken.items():
        roles = {role for role, _ in uses}
        own = constant.rpartition("/")[2]
        if len(roles) > 1 or (own in _ROLES and own not in roles):
            raise _refused(
                path,
                f"its constant {_shown(constant)} is taken as {' and as '.join(sorted(roles))}",
            )
        (role,) = roles
        layers = {_layer(name) for _, name in uses}
        # A layer that is called several times has its own name the first time.
        layer = min(layers, key=lambda name: (len(name), name))
        names[constant] = constant if own == role else f"{layer}/{role}"
    names.update(_fusion_weights(graph, names))
    return _without_prefix(names)


def _taken(graph: GraphFile) -> dict[str, list[tuple[str, str]]]:
    """What every constant is taken as, and by which node, where a layer takes it."""
    roots = _Roots(graph)
    taken: dict[str, list[tuple[str, str]]] = {}
    for node in graph.nodes.values():
        takes = _TAKES.get(node.operation, ())
        for role, given in zip(takes, node.inputs, strict=False):
            root = roots.of(given) if role else None
            if root is None or root.tensor is None:
                continue
            if role == "kernel" and _is_depthwise(graph, node.inputs[0]):
                role = "pointwise_kernel"
            taken.setdefault(root.name, []).append((role, node.name))
    return taken


def _is_depthwise(graph: GraphFile, name: str) -> bool:
    """Whether a node is the first half of a separable convolution.

    Between the two convolutions of the backbone's blocks there is always a batch norm.
    """
    node = graph.nodes.get(name)
    return node is not None and node.operation == "DepthwiseConv2dNative"


class _Roots:
    """Where values come from that are only handed on."""

    def __init__(self, graph: GraphFile) -> None:
        self._nodes = graph.nodes
        self._known: dict[str, Node | None] = {}

    def of(self, name: str) -> Node | None:
        """The node whose value a name stands for; None where there is none."""
        passed: list[str] = []
        node = self._nodes.get(name)
        while node is not None and node.operation in _FOLLOWED and node.inputs:
            if node.name in self._known:
                node = self._known[node.name]
                break
            passed.append(node.name)
            # Of a circle, which TensorFlow never writes, nothing comes.
            self._known[node.name] = None
            node = self._nodes.get(node.inputs[0])
        for each in passed:
            self._known[each] = node
        return node


def _layer(name: str) -> str:
    """The scope of the variables of the layer that a node belongs to."""
    layer = name.rpartition("/")[0]
    before, _, last = layer.rpartition("/")
    if _numbered(last)[0] == "separable_conv2d":
        layer = before
    shared = _SHARED.fullmatch(layer)
    return layer if shared is None else shared["layer"]


def _numbered(name: str) -> tuple[str, int]:
    """A name without the number that makes it unique, and that number."""
    match = _NUMBERED.fullmatch(name)
    return (match["name"], int(match["number"] or 0)) if match is not None else (name, 0)


def _fusion_weights(graph: GraphFile, known: Mapping[str, str]) -> dict[str, str]:
    """The weights of the feature fusions: scalars, or vectors, that no layer takes.

    Fast attention takes the absolute ones by a rectifier each, softmax attention stacks them.
    """
    roots = _Roots(graph)
    names: dict[str, str] = {}
    for node in graph.nodes.values():
        match = _FUSION_NODE.fullmatch(node.name)
        if match is None or node.operation not in ("Relu", "Pack"):
            continue
        number = _numbered(node.name.rpartition("/")[2])[1]
        for position, given in enumerate(node.inputs):
            root = roots.of(given)
            if root is None or root.tensor is None or root.name in known:
                continue
            if root.tensor.dtype_name not in _FLOATS:
                continue
            index = number if node.operation == "Relu" else position
            name = _FUSION if index == 0 else f"{_FUSION}_{index}"
            own = _FUSION_NAME.fullmatch(root.name) is not None
            names.setdefault(root.name, root.name if own else f"{match['scope']}/{name}")
    return names


def _without_prefix(names: dict[str, str]) -> dict[str, str]:
    """The names without what stands before those of the whole network, where something does."""
    stems = {match["prefix"] for name in names.values() if (match := _STEM.fullmatch(name))}
    if len(stems) != 1:
        return names
    prefix = stems.pop()
    return {constant: name.removeprefix(prefix) for constant, name in names.items()}


def _require_variables(path: Path, graph: GraphFile, roles: set[str]) -> None:
    """Refuse a graph that has no variables, whatever else it is."""
    if not any(role.endswith("kernel") for role in roles):
        without = [node.name for node in graph.nodes.values() if node.operation in _VARIABLES]
        if without:
            raise InputError(
                f"{path} is a graph without values: its {len(without):,} variables "
                f"({listed(without, 2)}) are read from a checkpoint; give that checkpoint, or "
                f"freeze the graph",
                Cause.FORMAT,
            )
        raise InputError(
            f"{path} is a graph without a convolution whose kernel is a constant, among "
            f"{_operations(graph)}; expected a frozen EfficientDet, so {_ADVICE}",
            Cause.MODEL,
        )
    if not roles & set(_BATCH_NORM[1:]):
        raise InputError(
            f"{path} is a frozen graph whose batch norms are folded into the convolutions before "
            f"them, as optimisers for inference do, so that the variables are lost; {_ADVICE}",
            Cause.MODEL,
        )


def _operations(graph: GraphFile) -> str:
    counts = Counter(node.operation for node in graph.nodes.values())
    most = [f"{count:,} {name}" for name, count in counts.most_common(5)]
    return f"its {len(graph.nodes):,} nodes ({listed(most, 5)})"


def _refused(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} is a frozen graph of another kind: {found}; {_ADVICE}",
        Cause.MODEL,
    )


def _shown(name: str) -> str:
    return repr(shortened(printable(name), 100))


def _find(path: Path) -> Path | None:
    return path if path.is_file() and looks_like_graph(path) else None


FORMATS = (
    Format(
        name=FrozenGraph.FORMAT,
        says=FrozenGraph.SAYS,
        find=_find,
        open=FrozenGraph,
        suffixes=(".pb",),
        order=70,
    ),
)
