"""Finds each tensor of a template graph in another graph by its place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reference_tf.places import (
    VARIABLE_TYPES,
    Numbering,
    Places,
    number_places,
    operation_of,
)


@dataclass(frozen=True)
class GraphPart:
    """A graph as far as pairing needs it.

    Attributes:
        nodes: Operation (``NodeDef``) by name.
        images: The tensor that holds the network's images.
        functions: Function (``FunctionDef``) by name.
    """

    nodes: Mapping[str, Any]
    images: str
    functions: Mapping[str, Any]


@dataclass(frozen=True)
class Placement:
    """What of a template was found in another graph.

    Attributes:
        tensors: Name of the other graph's tensor of each node that has a partner.
        operations: Names of the other graph's operations that lead to these.
        findings: What has no partner or more than one, a sentence each.
        notes: What is in its place but differs, a sentence each.
    """

    tensors: Mapping[str, str]
    operations: set[str]
    findings: list[str]
    notes: list[str]


def pair(
    template: GraphPart, targets: Mapping[str, str], outputs: Sequence[str], other: GraphPart
) -> Placement:
    """Pair a template's tensors with another graph's.

    A tensor's partner is the one in the same place, see :mod:`reference_tf.places`. Of tensors
    that only pass a value on, the one with the template's name is taken, else one made by the
    same type of operation. What does not lead to the outputs is left out of account.

    Args:
        template: The graph whose tensors are looked for.
        targets: The template's tensor for each node, in a topological order.
        outputs: Nodes that are the network's outputs.
        other: The graph in which they are looked for.
    """
    numbering = Numbering()
    ours = number_places(numbering, template.nodes, template.images, template.functions)
    theirs = number_places(numbering, other.nodes, other.images, other.functions)
    by_place = defaultdict(list)
    for tensor, place in theirs.values.items():
        by_place[place].append(tensor)
    candidates = {
        node: [tensor for tensor in by_place[ours.values[target]] if tensor != other.images]
        for node, target in targets.items()
    }
    if all(candidates[node] for node in outputs):
        live = theirs.ancestors(
            [tensor for node in outputs for tensor in candidates[node]], other.images
        )
        candidates = {
            node: [tensor for tensor in found if operation_of(tensor) in live]
            for node, found in candidates.items()
        }
    tensors: dict[str, str] = {}
    findings = []
    missing = []
    for node, target in targets.items():
        chosen = _choose(ours, theirs, target, candidates[node])
        if len(chosen) == 1:
            tensors[node] = chosen[0]
        elif chosen:
            findings.append(f"{node} may be any of {', '.join(chosen)}")
        else:
            missing.append(node)
    findings += _missing(ours, theirs, targets, missing, tensors, (template.images, other.images))
    operations = theirs.ancestors(tensors.values(), other.images)
    findings += _twice(tensors)
    notes = [] if findings else _notes(ours, theirs, targets, tensors, operations)
    return Placement(tensors, operations, findings, notes)


def _choose(ours: Places, theirs: Places, target: str, found: list[str]) -> list[str]:
    """The partner of a tensor, or several where the graph does not say which it is."""
    if target in found:
        return [target]
    if len({theirs.roots[tensor] for tensor in found}) > 1:
        # One feature may be pooled with several strides, or up-sampled to several sizes.
        place = ours.values[target]
        wanted_attributes = _attributes(ours, place, ours.roots[target])
        alike = [
            tensor
            for tensor in found
            if _attributes(theirs, place, theirs.roots[tensor]) == wanted_attributes
        ]
        if len({theirs.roots[tensor] for tensor in alike}) != 1:
            return sorted({theirs.roots[tensor] for tensor in found})
        found = alike
    wanted = ours.nodes[operation_of(target)].op
    same = [tensor for tensor in found if theirs.nodes[operation_of(tensor)].op == wanted]
    return (same or [theirs.roots[tensor] for tensor in found])[:1]


def _attributes(places: Places, place: int, root: str) -> Mapping[str, Any] | None:
    """What besides its inputs decides the value of a tensor, which an operation computes."""
    made_by = operation_of(root)
    for occurrence in places.occurrences[place]:
        if occurrence.operation == made_by:
            return occurrence.attributes
    return None


def _missing(
    ours: Places,
    theirs: Places,
    targets: Mapping[str, str],
    missing: Sequence[str],
    tensors: Mapping[str, str],
    images: tuple[str, str],
) -> list[str]:
    """A sentence for each node without a partner whose inputs have theirs, and one for the rest.

    Args:
        ours: The template's places.
        theirs: The other graph's.
        targets: The template's tensor for each node.
        missing: Nodes without a partner.
        tensors: Partners of the others.
        images: The template's tensor of images, and the other graph's.
    """
    readers = defaultdict(list)
    for name in theirs.nodes:
        for tensor in theirs.inputs(name):
            readers[tensor].append(name)
    nodes = {target: node for node, target in targets.items()}
    findings = []
    for node in missing:
        target = targets[node]
        stops = [tensor for tensor in nodes if tensor != target]
        inner = ours.ancestors([target], *stops, images[0])
        taken = dict.fromkeys(tensor for name in inner for tensor in ours.inputs(name))
        before = [nodes[tensor] for tensor in taken if tensor in nodes]
        if any(name not in tensors for name in before):
            continue
        absent = [
            name
            for name in inner
            if ours.nodes[name].op in VARIABLE_TYPES
            and (name not in theirs.nodes or theirs.nodes[name].op not in VARIABLE_TYPES)
        ]
        reason = f"{node} ({ours.nodes[operation_of(target)].op}, {operation_of(target)})"
        if absent:
            findings.append(f"{reason} needs the variable {min(absent)}, which the graph lacks")
            continue
        inputs = [tensors[name] for name in before] or [images[1]]
        unread = [tensor for tensor in inputs if not readers[tensor]]
        if unread:
            reason += f" would take {', '.join(unread)}, which nothing reads, and"
            # Whatever passes it over takes what it takes.
            inputs = theirs.inputs(operation_of(unread[0]))
        read = sorted(
            {f"{name} ({theirs.nodes[name].op})" for tensor in inputs for name in readers[tensor]}
        )
        findings.append(
            f"{reason} has no counterpart among the operations that read "
            f"{', '.join(sorted(inputs))}: {', '.join(read[:8]) or 'none'}"
            f"{', ...' if len(read) > 8 else ''}"
        )
    if len(missing) > len(findings):
        behind = len(missing) - len(findings)
        findings.append(f"the {behind} nodes behind cannot be looked for")
    return findings


def _twice(tensors: Mapping[str, str]) -> list[str]:
    users = defaultdict(list)
    for node, tensor in tensors.items():
        users[tensor].append(node)
    return [
        f"{tensor} may be any of {', '.join(nodes)}"
        for tensor, nodes in users.items()
        if len(nodes) > 1
    ]


def _notes(
    ours: Places,
    theirs: Places,
    targets: Mapping[str, str],
    tensors: Mapping[str, str],
    operations: set[str],
) -> list[str]:
    notes = []
    renamed = [node for node, tensor in tensors.items() if tensor != targets[node]]
    if renamed:
        first = renamed[0]
        notes.append(
            f"{len(renamed)} of {len(tensors)} node tensors have other names than today's graph "
            f"gives them, the first being {tensors[first]} (today {targets[first]}) of {first}."
        )
    grouped = defaultdict(list)
    for place, found in theirs.occurrences.items():
        known = ours.occurrences.get(place, [])
        for occurrence in found if known else ():
            if occurrence.operation not in operations:
                continue
            if all(occurrence.attributes != one.attributes for one in known):
                for name, value in occurrence.attributes.items():
                    expected = known[0].attributes[name]
                    if value != expected:
                        key = (occurrence.kind, name, _text(name, value), _text(name, expected))
                        grouped[key].append(occurrence.operation)
    for (kind, name, value, expected), names in grouped.items():
        where = f"{len(names)} {kind} operations, the first being {names[0]}"
        if len(names) == 1:
            where = names[0] if kind == "sum" else f"the {kind} operation {names[0]}"
        if name == "order":
            notes.append(f"The terms are added in another order in {where}; only roundings differ.")
        else:
            what = "a constant input" if name == "constants" else name
            notes.append(f"In {where} {what} is {value}; in today's graph it is {expected}.")
    return notes


def _text(name: str, value: Any) -> str:
    if name == "order":
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        items = ", ".join(_text("", item) for item in value)
        return items if name == "constants" else f"[{items}]"
    return str(value)
