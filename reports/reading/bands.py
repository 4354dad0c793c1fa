"""Which part of the model each node belongs to: the bands behind the charts along depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from msgspec import UNSET

from efficientdet_spec import EfficientDetConfig, InputError, Node, Part, get_config, iterate_nodes
from parity.results.records.nodes import NodesResult

OTHER = "other"
"""The part of what the model does not have, such as a candidate's own layers."""


@dataclass(frozen=True)
class Band:
    """Nodes that follow one another and belong together.

    Attributes:
        part: Such as ``backbone``.
        section: Such as ``P3`` or ``cell 1``; the part itself where it has none.
        first: Index of the first node.
        last: Index of the last node.
    """

    part: str
    section: str
    first: int
    last: int


def config_of(nodes: NodesResult) -> EfficientDetConfig | None:
    """What the model of a result is; None where that is not known.

    Args:
        nodes: The comparison.
    """
    told = nodes.checkpoint.hyperparameters
    try:
        if told is not UNSET:
            return EfficientDetConfig.from_dict(told.config)
        return get_config(nodes.model)
    except InputError:
        return None


def places_of(nodes: NodesResult) -> Mapping[str, Node]:
    """The place of each node of a result's model, by name; none where that is not known.

    Args:
        nodes: The comparison.
    """
    config = config_of(nodes)
    return {} if config is None else {node.name: node for node in iterate_nodes(config)}


def bands(nodes: NodesResult) -> list[Band]:
    """The bands of a result's nodes, in order.

    The backbone's sections are its levels, of a block the one that it leads to; those of the
    BiFPN are its cells, the extra levels with the first of them.

    Args:
        nodes: The result, schema ``efficientdet-parity/nodes``.
    """
    known = places_of(nodes)
    sections = [_section(known.get(entry.name)) for entry in nodes.nodes]
    result = []
    for (part, section), members in groupby(enumerate(sections), key=lambda item: item[1]):
        indices = [index for index, _ in members]
        result.append(Band(part, section, indices[0], indices[-1]))
    return result


def _section(node: Node | None) -> tuple[str, str]:
    if node is None:
        return OTHER, OTHER
    part = node.part.value
    if node.part is Part.BACKBONE:
        return part, f"P{node.level}"
    if node.part is Part.BIFPN:
        return part, f"cell {(node.cell or 0) + 1}"
    return part, part
