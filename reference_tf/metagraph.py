"""A checkpoint's own MetaGraph (``.meta``) as the reference, instead of our rebuilt graph.

The file is not trusted. Only the operations that lead from the images to the nodes' tensors are
imported, each of a type that arithmetic needs; initialisers, savers, devices, pre- and
post-processing never reach TensorFlow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from efficientdet_spec import (
    MAX_SIDE,
    Cause,
    EfficientDetConfig,
    InputError,
    listed,
    open_regular,
    told,
)
from reference_tf.graph import ReferenceGraph, build
from reference_tf.placement import GraphPart, Placement, pair
from reference_tf.places import (
    ALLOWED_TYPES,
    PASSING_TYPES,
    VARIABLE_TYPES,
    constant,
    data_inputs,
    is_elementary,
    operation_of,
)
from reference_tf.variables import Variable

v1 = tf.compat.v1

MAX_BYTES = 1 << 28
"""Of a MetaGraph; D0's inference graph has 2 MB."""

_MAX_OPERATIONS = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
"""TensorFlow's rule for names of operations."""
_NUMBER = re.compile(r"[0-9]{1,9}")
_MAX_GROWTH = 16
"""How many times larger than today's a node's tensor may be: stride 1 for 2, twice over."""


@dataclass(frozen=True)
class MetaGraph(ReferenceGraph):
    """An inference graph that came with a checkpoint.

    Attributes:
        height: Height in pixels that the graph demands of its images; None where it leaves it open.
        width: Width, likewise.
        notes: In what the graph differs from today's, a sentence each.
    """

    height: int | None
    width: int | None
    notes: tuple[str, ...]


def load_metagraph(
    path: str | os.PathLike[str],
    config: EfficientDetConfig,
    size: tuple[int, int] | None = None,
    *,
    dtype: str = "float32",
    batch: int = 1,
) -> MetaGraph:
    """The graph of a ``.meta`` file with each node's tensor found by its place.

    Our own graph is the template: a node's tensor is the one that the same operations compute
    from the same variables. Names play no part, nor do attributes such as strides: what differs
    in these is noted, and a comparison shows what it does to the values.

    Args:
        path: The file.
        config: The model.
        size: (height, width) of the images in pixels; default: what the graph demands, or the
            model's own where it leaves it open.
        dtype: Type in which to compute; such a graph has float32 only.
        batch: Number of images.

    Raises:
        InputError: The file cannot be used: it is no MetaGraph or another model's, it is made
            for another size or type, a node has no partner or several, or the way to a node
            leads through operations that have no place in the network.
    """
    path = Path(path)
    if dtype != "float32":
        raise InputError(
            f"{path} is a finished graph that computes in float32 and cannot be made {dtype}; "
            f"leave out either the file or the type.",
            Cause.OPTION,
        )
    meta = _read(path)
    nodes = {node.name: node for node in meta.graph_def.node}
    functions = {one.signature.name: one for one in meta.graph_def.library.function}
    images = _images(path, nodes, config)
    declared = _declared_shape(nodes, images)
    height, width = _size(path, config, declared, size)
    template = build(config, height, width, batch=batch)
    ours = {node.name: node for node in template.graph.as_graph_def().node}
    placement = pair(
        GraphPart(ours, template.images.name, {}),
        {name: tensor.name for name, tensor in template.nodes.items()},
        template.output_nodes,
        GraphPart(nodes, images, functions),
    )
    _check(path, nodes, functions, placement, template)
    graph = _import(path, meta, placement, images, [batch, height, width, 3])
    tensors = {name: graph.get_tensor_by_name(placement.tensors[name]) for name in template.nodes}
    paired = {tensor.name: tensors[name] for name, tensor in template.nodes.items()}
    replaced = {
        "graph": graph,
        "images": graph.get_tensor_by_name(f"{operation_of(images)}:0"),
        "nodes": tensors,
        "class_outputs": [paired[tensor.name] for tensor in template.class_outputs],
        "box_outputs": [paired[tensor.name] for tensor in template.box_outputs],
        "variables": {
            name: Variable(graph.get_tensor_by_name(f"{name}:0")) for name in template.variables
        },
    }
    _check_order(path, tensors)
    notes = [*_batch_notes(declared), *placement.notes, *_shape_notes(path, tensors, template)]
    return MetaGraph(
        **(vars(template) | replaced), height=declared[1], width=declared[2], notes=tuple(notes)
    )


def _size(
    path: Path,
    config: EfficientDetConfig,
    declared: list[int | None],
    asked: tuple[int, int] | None,
) -> tuple[int, int]:
    """(height, width) at which to run the graph."""
    height, width = declared[1:3]
    if asked is not None and (height or asked[0], width or asked[1]) != asked:
        raise InputError(
            f"{path} is a graph for images of {height or 'any'}x{width or 'any'} pixels, but "
            f"{asked[0]}x{asked[1]} was asked for; a finished graph cannot change its size.",
            Cause.OPTION,
        )
    used = asked or (height or config.image_size[0], width or config.image_size[1])
    if max(used) > MAX_SIDE:
        raise InputError(
            f"{path} is a graph for images of {used[0]}x{used[1]} pixels; at most {MAX_SIDE} a "
            f"side can be processed.",
            Cause.OPTION,
        )
    return used


def _check(
    path: Path,
    nodes: Mapping[str, Any],
    functions: Mapping[str, Any],
    placement: Placement,
    template: ReferenceGraph,
) -> None:
    """Refuse a graph in which not every node has its place, or that does more than it should."""
    findings = [*_foreign(nodes, functions, placement), *placement.findings]
    if not findings:
        findings = _misshapen(nodes, placement, template)
    if findings:
        raise InputError(
            f"{path} is not a graph of {template.config.name} as it is known here: "
            f"{told(findings, 700)}. Compare against our own graph instead.",
            Cause.MODEL,
        )


def _read(path: Path) -> Any:
    try:
        with open_regular(path) as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give a .meta file.", Cause.of(error)
        ) from error
    if len(content) > MAX_BYTES:
        raise InputError(
            f"{path} has more than {MAX_BYTES} bytes, where graphs have a few million; "
            f"give the .meta file and not the .data file.",
            Cause.FORMAT,
        )
    meta = v1.MetaGraphDef()
    try:
        meta.ParseFromString(content)
    except DecodeError as error:
        raise InputError(
            f"{path} is no MetaGraph that TensorFlow can read; give the .meta file that came with "
            f"the checkpoint, complete and in binary form.",
            Cause.FORMAT,
        ) from error
    nodes = meta.graph_def.node
    names = {node.name for node in nodes if _NAME.fullmatch(node.name)}
    if not nodes or len(nodes) > _MAX_OPERATIONS or len(names) != len(nodes):
        raise InputError(
            f"{path} holds {len(nodes)} operations with {len(names)} proper names, where a "
            f"MetaGraph names each of 1 to {_MAX_OPERATIONS}; give the .meta file of a checkpoint.",
            Cause.FORMAT,
        )
    return meta


def _images(path: Path, nodes: Mapping[str, Any], config: EfficientDetConfig) -> str:
    """The tensor that the stem's convolution takes."""
    kernel = f"{config.backbone.name}/stem/conv2d/kernel"
    convolutions = [node for node in nodes.values() if node.op == "Conv2D"]
    stems = [node for node in convolutions if _source(nodes, node, 1) == kernel]
    if len(stems) != 1 or len(data_inputs(stems[0])) != 2:
        names = listed((node.name for node in stems), 3, 100) or "none"
        raise InputError(
            f"{path} has {len(stems)} convolutions with {kernel} ({names}), where a graph of "
            f"{config.name} has one; give the graph of one network, of the checkpoint's model.",
            Cause.MODEL,
        )
    return data_inputs(stems[0])[0]


def _source(nodes: Mapping[str, Any], node: Any, position: int) -> str | None:
    """Name of the operation whose value reaches an input, through what only passes it on."""
    seen = set()
    tensors = data_inputs(node)
    while len(tensors) > position:
        name, _, output = tensors[position].partition(":")
        if name not in nodes or name in seen or not _NUMBER.fullmatch(output):
            return None
        seen.add(name)
        if nodes[name].op not in PASSING_TYPES:
            return name
        tensors, position = data_inputs(nodes[name]), int(output)
    return None


def _declared_shape(nodes: Mapping[str, Any], images: str) -> list[int | None]:
    """[N, H, W, C] that the file says the images have; None for each side it leaves open."""
    unknown = [None] * 4
    name, _, output = images.partition(":")
    node = nodes.get(name)
    if node is None or not _NUMBER.fullmatch(output):
        return unknown
    shapes = node.attr["_output_shapes"].list.shape if "_output_shapes" in node.attr else []
    if int(output) < len(shapes):
        shape = shapes[int(output)]
    else:
        probe = v1.NodeDef(input=[images])
        source = nodes.get(_source(nodes, probe, 0) or "")
        if source is None or "shape" not in source.attr:
            return unknown
        shape = source.attr["shape"].shape
    sides = [dimension.size for dimension in shape.dim]
    return [side if side > 0 else None for side in sides] if len(sides) == 4 else unknown


def _foreign(
    nodes: Mapping[str, Any], functions: Mapping[str, Any], placement: Placement
) -> list[str]:
    """A sentence for each operation on the way to the nodes that has no place in the network."""
    findings = []
    for name in sorted(placement.operations):
        node = nodes[name]
        if node.op not in ALLOWED_TYPES and not (
            node.op in functions and is_elementary(functions[node.op])
        ):
            findings.append(f"the operation {name} is a {node.op}, which does not belong there")
        elif node.op == "Const" and constant(node.attr["value"].tensor) is None:
            findings.append(f"the constant {name} is malformed or too large")
        elif "data_format" in node.attr and node.attr["data_format"].s != b"NHWC":
            layout = node.attr["data_format"].s.decode("utf-8", "replace")
            findings.append(f"{name} computes in {layout}, where a CPU needs NHWC")
    return findings


def _misshapen(
    nodes: Mapping[str, Any], placement: Placement, template: ReferenceGraph
) -> list[str]:
    """A sentence for each variable that the network has not or in another shape."""
    findings = []
    for name in sorted(placement.operations):
        if nodes[name].op not in VARIABLE_TYPES:
            continue
        if name not in template.variables:
            findings.append(f"the variable {name} is none of the network's")
            continue
        shape = [dimension.size for dimension in nodes[name].attr["shape"].shape.dim]
        expected = template.variables[name].shape.as_list()
        if shape != expected:
            findings.append(f"the variable {name} has shape {shape}, not {expected}")
    return findings


def _import(path: Path, meta: Any, placement: Placement, images: str, shape: list[int]) -> tf.Graph:
    """A graph of the operations that lead from new images to the nodes.

    Control inputs are left out: they order operations that nothing here needs, such as updates.
    """
    pruned = v1.GraphDef(versions=meta.graph_def.versions)
    source = operation_of(images)
    placeholder = pruned.node.add(name=source, op="Placeholder")
    placeholder.attr["dtype"].type = tf.float32.as_datatype_enum
    placeholder.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())
    called = set()
    for node in meta.graph_def.node:
        if node.name not in placement.operations:
            continue
        called.add(node.op)
        copy = pruned.node.add(name=node.name, op=node.op)
        copy.input.extend(
            f"{source}:0" if tensor == images else tensor for tensor in data_inputs(node)
        )
        for name, value in node.attr.items():
            # Hints of TensorFlow's own, such as colocation and gradients.
            if not name.startswith("_"):
                copy.attr[name].CopyFrom(value)
        if node.op in VARIABLE_TYPES:
            # Two variables that share a name would share their values.
            copy.attr["shared_name"].s = node.name.encode()
            copy.attr["container"].s = b""
    for function in meta.graph_def.library.function:
        if function.signature.name in called - ALLOWED_TYPES:
            copied = pruned.library.function.add()
            copied.CopyFrom(function)
            copied.ClearField("attr")
            for node in copied.node_def:
                node.device = ""
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.import_graph_def(
                pruned, name="", producer_op_list=meta.meta_info_def.stripped_op_list
            )
    except (KeyError, TypeError, ValueError, tf.errors.OpError) as error:
        raise InputError(
            f"{path} cannot be imported for images of {shape[1]}x{shape[2]} pixels: "
            f"{' '.join(str(error).split()):.200}",
            Cause.FORMAT,
        ) from error
    return graph


def _check_order(path: Path, tensors: Mapping[str, tf.Tensor]) -> None:
    """Refuse a graph in which a node depends on a later one, so that they cannot be in order."""
    owners = {tensor.op: name for name, tensor in tensors.items()}
    seen: set[Any] = set()
    passed: set[str] = set()
    for name, tensor in tensors.items():
        waiting = [tensor.op]
        passed.add(name)
        while waiting:
            operation = waiting.pop()
            if operation in seen:
                continue
            seen.add(operation)
            if owners.get(operation, name) not in passed:
                raise InputError(
                    f"{path} computes {owners[operation]} ({operation.name}) before {name} "
                    f"({tensor.name}), where official graphs compute it later; compare against "
                    f"our own graph instead.",
                    Cause.MODEL,
                )
            waiting += [source.op for source in operation.inputs]


def _batch_notes(declared: list[int | None]) -> list[str]:
    if declared[0] in (None, 1):
        return []
    return [f"The graph was made for batches of {declared[0]} images; it is run on one."]


def _shape_notes(
    path: Path, tensors: Mapping[str, tf.Tensor], template: ReferenceGraph
) -> list[str]:
    """What to say of tensors with other shapes than today's; refuses absurd ones."""
    notes = []
    for name, tensor in tensors.items():
        expected = template.nodes[name].shape.as_list()
        if not tensor.shape.is_fully_defined():
            raise InputError(
                f"{path} leaves the shape of {name} ({tensor.name}) open: {tensor.shape}, not "
                f"{expected}; compare against our own graph instead.",
                Cause.MODEL,
            )
        if prod(tensor.shape.as_list()) > _MAX_GROWTH * prod(expected):
            raise InputError(
                f"{path} gives {name} ({tensor.name}) the shape {tensor.shape.as_list()}, not "
                f"{expected}; a tensor of that size belongs to no such model.",
                Cause.MODEL,
            )
        if tensor.shape.as_list() != expected:
            shape = tensor.shape.as_list()
            notes.append(f"{name} ({tensor.name}) has shape {shape}, not {expected}.")
    behind = [f"{len(notes) - 1} later nodes have other shapes, too."] if notes[1:] else []
    return notes[:1] + behind
