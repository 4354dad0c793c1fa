"""Which part of the model each node belongs to: the bands behind the charts along depth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from parity.results.nodes import Node

_CELL = re.compile(r"fpn\.cells\.(\d{1,3})\.")
_PARTS = {
    "backbone": "backbone",
    "fpn": "BiFPN",
    "class_head": "class head",
    "box_head": "box head",
}


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


def bands(nodes: Sequence[Node]) -> list[Band]:
    """The bands of a result's nodes, in order.

    The backbone's sections are its levels, found by how often the height has halved; those of
    the BiFPN are its cells, the extra levels with the first of them.
    """
    places = [_place(node) for node in levels_of(nodes)]
    result = []
    for (part, section), members in groupby(enumerate(places), key=lambda item: item[1]):
        indices = [index for index, _ in members]
        result.append(Band(part, section, indices[0], indices[-1]))
    return result


def levels_of(nodes: Sequence[Node]) -> list[tuple[str, int]]:
    """Name and level of each node; the level of the last map that is larger than a pixel."""
    level = 1
    height = 0
    result = []
    for node in nodes:
        shape = node.shape or []
        now = shape[1] if len(shape) == 4 else 0
        if now > 1:
            if height and now < height:
                level += 1
            height = now
        result.append((node.name, level))
    return result


def _place(node: tuple[str, int]) -> tuple[str, str]:
    name, level = node
    part = _PARTS.get(name.partition(".")[0], "other")
    if part == "backbone":
        return part, f"P{level}"
    if part == "BiFPN":
        cell = _CELL.match(name)
        return part, f"cell {int(cell[1]) + 1 if cell else 1}"
    return part, part
