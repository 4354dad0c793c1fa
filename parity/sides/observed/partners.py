"""Which of the values of a run are which nodes, found on the whole record of it.

A node's partner holds the node's values, or is made with the node's parameters, or is what lies
between the partners of what the node reads and of what reads it. A node without a partner lies
inside a *span* of operations that makes it together with the nodes that read it, such as a
convolution that a batch norm was folded into; or the candidate has no such layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from efficientdet_spec import IMAGES, NodeKind
from parity.process.arrays import Array
from parity.sides.observed.kinds import may_end
from parity.sides.observed.layouts import Layout, layouts
from parity.sides.observed.record import Content, Made, Record

ALIKE = 0.03
"""Relative difference of rms below which two tensors are taken for one at first sight. What is
found is checked on the reference's own tensors, where only what is wrong is further apart."""

_SAME = 1e-3
"""The same where nothing but the values speaks for it."""


class How(str, Enum):
    """What a partner was found by."""

    VALUES = "values"
    PARAMETERS = "parameters"
    DATAFLOW = "what it is made from"


@dataclass(frozen=True)
class Sought:
    """The nodes of the reference, as far as they are needed to know them again.

    Attributes:
        kinds: What each node computes, in the order of computation.
        sources: The nodes that each node reads.
        shapes: NHWC.
        samples: Elements of each node's tensor at its positions.
        contents: Of each node's parameters.
    """

    kinds: Mapping[str, NodeKind]
    sources: Mapping[str, tuple[str, ...]]
    shapes: Mapping[str, tuple[int, int, int, int]]
    samples: Mapping[str, Array]
    contents: Mapping[str, frozenset[Content]]


@dataclass(frozen=True)
class Partner:
    """What makes a node in the candidate.

    Attributes:
        value: Number of the value.
        layout: How that holds the node's elements; None where its shape is another.
        how: What it was found by.
        distance: Relative difference of rms from the reference's tensor, of the elements looked
            at; infinite where the shape is another.
    """

    value: int
    layout: Layout | None
    how: How
    distance: float


@dataclass(frozen=True)
class Partners:
    """All partners.

    Attributes:
        found: By node.
        reads: By node the nodes with a partner, and :data:`IMAGES`, that its partner is made from.
        due: By node those that it should be made from, nodes without a partner passed over.
    """

    found: Mapping[str, Partner]
    reads: Mapping[str, frozenset[str]]
    due: Mapping[str, frozenset[str]]

    def same(self, other: Partners) -> bool:
        """Whether both pair the same."""
        return {name: item.value for name, item in self.found.items()} == {
            name: item.value for name, item in other.found.items()
        }


def partners(record: Record, sought: Sought) -> Partners:
    """Find the partner of each node.

    Args:
        record: What a candidate did.
        sought: The nodes.
    """
    search = _Search(record, sought)
    search.by_values()
    search.by_values_alone()
    search.in_gaps()
    return search.result()


class _Search:
    """Finds partners, the surest first."""

    def __init__(self, record: Record, sought: Sought) -> None:
        self._values = record.values
        self._images = record.images
        self._sought = sought
        self._found: dict[str, Partner] = {}
        self._node_of: dict[int, str] = {}
        self._readers: dict[str, list[str]] = {}
        for node, sources in sought.sources.items():
            for source in sources:
                self._readers.setdefault(source, []).append(node)
        self._order = {node: place for place, node in enumerate(sought.kinds)}
        self._distances = _distances(record.values, sought)
        self._origins: list[frozenset[str]] = []
        self._contents: list[frozenset[Content]] = []

    def by_values(self) -> None:
        """Values that are a node's, and are made from what the node reads."""
        due: dict[str, frozenset[str]] = {}
        self._origins, self._contents = [], []
        for value in self._values:
            self._trace(value)
            alike = self._distances.get(value.number)
            if not alike:
                continue
            made_from = self._origins[value.number]
            fits = [
                (distance, self._order[node], node, layout)
                for node, (distance, layout) in alike.items()
                if node not in self._found
                and distance < ALIKE
                and self._due(node, due) == made_from
            ]
            if fits:
                distance, _, node, layout = min(fits, key=lambda item: item[:2])
                self._take(node, Partner(value.number, layout, How.VALUES, distance))
                self._trace(value)
                due.clear()

    def by_values_alone(self) -> None:
        """Values that are one node's and no other's, whatever they are made from."""
        for node in self._sought.kinds:
            if node in self._found:
                continue
            close = [
                (number, *alike[node])
                for number, alike in self._distances.items()
                if number not in self._node_of
                and node in alike
                and alike[node][0] < _SAME
                and not self._values[number].moved
            ]
            if len(close) == 1:
                number, distance, layout = close[0]
                self._take(node, Partner(number, layout, How.VALUES, distance))
        self._trace_all()

    def in_gaps(self) -> None:
        """Values at the places of nodes that are like none: what makes them is wrong, or unlike."""
        for node in self._sought.kinds:
            if node in self._found:
                continue
            partner = self._in_gap(node)
            if partner is not None:
                self._take(node, partner)
                self._trace_all()

    def _in_gap(self, node: str) -> Partner | None:
        due = self._due(node, {})
        wanted = self._sought.contents.get(node, frozenset())
        readers = [self._found[name].value for name in self._readers_of(node)]
        before = self._behind(readers)
        # What it makes together with what reads it has the right values.
        spanned = bool(readers) and all(
            item.how is How.VALUES and item.distance < _SAME
            for item in map(self._found.__getitem__, self._readers_of(node))
        )
        best: tuple[tuple[float, ...], Partner] | None = None
        for value in self._values:
            number = value.number
            if number in self._node_of or value.operation is None:
                continue
            held = self._contents[number]
            matched = len(wanted & held)
            whole = bool(wanted) and max(wanted) in held
            fits = self._layout(value, node)
            placed = self._origins[number] == due
            kind = may_end(value.operation.name, self._sought.kinds[node])
            if value.moved and self._sought.kinds[node] is not NodeKind.UPSAMPLE:
                continue
            if fits is None and not (whole and kind and len(value.shape) == 4):
                continue
            if not (whole and kind or (placed and (kind or number in before))):
                continue
            if spanned and not whole:
                continue
            if placed is False and self._is_shared(node) and not fits:
                continue
            if readers and number not in before and not whole:
                continue
            # The last step of a span, but no further step that merely moves.
            rank = (
                float(whole),
                float(placed),
                float(fits is not None),
                float(matched),
                -float(len(held - wanted)),
                float(kind),
                -float(value.moved),
                float(number) if not whole else -float(number),
            )
            if best is None or rank > best[0]:
                how = How.PARAMETERS if whole else How.DATAFLOW
                distance = self._distances.get(number, {}).get(node, (np.inf, None))[0]
                best = rank, Partner(number, fits, how, float(distance))
        return None if best is None else best[1]

    def _is_shared(self, node: str) -> bool:
        """Whether other nodes have the same parameters, as levels that share a layer do."""
        contents = self._sought.contents.get(node)
        return bool(contents) and sum(c == contents for c in self._sought.contents.values()) > 1

    def _layout(self, value: Made, node: str) -> Layout | None:
        alike = self._distances.get(value.number, {}).get(node)
        if alike is not None:
            return alike[1]
        return next(iter(layouts(value.shape, self._sought.shapes[node])), None)

    def _readers_of(self, node: str) -> list[str]:
        """The next nodes with a partner that a node is read by, through those without."""
        found: list[str] = []
        waiting, seen = [node], {node}
        while waiting:
            for reader in self._readers.get(waiting.pop(), ()):
                if reader in seen:
                    continue
                seen.add(reader)
                (found if reader in self._found else waiting).append(reader)
        return found

    def _behind(self, numbers: Sequence[int]) -> set[int]:
        """The values that some values are made from, up to the next partners."""
        reached: set[int] = set()
        waiting = list(numbers)
        while waiting:
            for parent in self._values[waiting.pop()].parents:
                if parent not in reached and parent not in self._node_of:
                    reached.add(parent)
                    waiting.append(parent)
        return reached

    def _take(self, node: str, partner: Partner) -> None:
        self._found[node] = partner
        self._node_of[partner.value] = node

    def _trace_all(self) -> None:
        self._origins, self._contents = [], []
        for value in self._values:
            self._trace(value)

    def _trace(self, value: Made) -> None:
        """Note what a value is made from, and with which of what the candidate holds."""
        number = value.number
        del self._origins[number:], self._contents[number:]
        node = self._node_of.get(number)
        if node is not None or number == self._images:
            self._origins.append(frozenset((node or IMAGES,)))
            self._contents.append(frozenset())
            return
        self._origins.append(self._made_from(value))
        contents = [self._contents[parent] for parent in value.parents]
        own = frozenset() if value.content is None else frozenset((value.content,))
        self._contents.append(own.union(*contents))

    def _made_from(self, value: Made) -> frozenset[str]:
        return frozenset().union(*(self._origins[parent] for parent in value.parents))

    def _due(self, node: str, known: dict[str, frozenset[str]]) -> frozenset[str]:
        """What a node should be made from, nodes without a partner passed over."""
        if node not in known:
            known[node] = frozenset().union(
                *(
                    frozenset((source,))
                    if source == IMAGES or source in self._found
                    else self._due(source, known)
                    for source in self._sought.sources[node]
                )
            )
        return known[node]

    def result(self) -> Partners:
        """What was found."""
        due: dict[str, frozenset[str]] = {}
        return Partners(
            self._found,
            {
                node: self._made_from(self._values[partner.value])
                for node, partner in self._found.items()
            },
            {node: self._due(node, due) for node in self._sought.kinds},
        )


def _distances(
    values: Sequence[Made], sought: Sought
) -> dict[int, dict[str, tuple[float, Layout]]]:
    """By value and node of the same size, how far apart they are, in the layout in which least."""
    nodes: dict[tuple[int, int, int, int], list[str]] = {}
    for node, shape in sought.shapes.items():
        nodes.setdefault(shape, []).append(node)
    wanted = {
        shape: np.stack([sought.samples[node] for node in names]) for shape, names in nodes.items()
    }
    sizes = {
        shape: np.maximum(np.sqrt((rows**2).mean(axis=1)), np.finfo(np.float64).tiny)
        for shape, rows in wanted.items()
    }
    found: dict[int, dict[str, tuple[float, Layout]]] = {}
    for value in values:
        for layout, taken in value.samples.items():
            rows = wanted[layout.node]
            with np.errstate(over="ignore", invalid="ignore"):
                apart = np.sqrt(((rows - taken) ** 2).mean(axis=1)) / sizes[layout.node]
            here = found.setdefault(value.number, {})
            for node, distance in zip(nodes[layout.node], apart.tolist(), strict=True):
                distance = distance if np.isfinite(distance) else np.inf
                if node not in here or distance < here[node][0]:
                    here[node] = distance, layout
    return found
