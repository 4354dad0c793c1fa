"""Which of the values of a run are which nodes, found on the whole record of it.

A node's partner holds the node's values, or is made with the node's parameters, or is what lies
between the partners of what the node reads and of what reads it. A node without a partner lies
inside a *span* of operations that makes it together with the nodes that read it, such as a
convolution that a batch norm was folded into; or the candidate has no such layer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from efficientdet_spec import IMAGES, NodeKind
from parity.process.arrays import Array
from parity.sides.observed.kinds import holds_more, is_certain, makes_products, may_end
from parity.sides.observed.layouts import Layout, layouts
from parity.sides.observed.record import Content, Made, Record

ALIKE = 0.03
"""Relative difference of rms below which two tensors are taken for one at first sight. What is
found is checked on the reference's own tensors, where only what is wrong is further apart."""

SAME = 1e-3
"""Relative difference of rms below which two tensors are taken for one and the same."""

ROUNDED = 1e-5
"""Relative difference of rms above which two tensors differ by more than the roundings of a few
operations: one of the two is a better partner."""


WITH_PARAMETERS = (NodeKind.CONV, NodeKind.DEPTHWISE, NodeKind.BATCH_NORM)
"""Kinds of nodes that are made with parameters of a layer."""


class How(str, Enum):
    """What a partner was found by."""

    VALUES = "values"
    PARAMETERS = "parameters"
    DATAFLOW = "what it is made from"
    NAMES = "name"


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
        sure: Whether there is no other value that it could be.
    """

    value: int
    layout: Layout | None
    how: How
    distance: float
    sure: bool = True


@dataclass(frozen=True)
class Partners:
    """All partners.

    Attributes:
        found: By node.
        reads: By node the nodes with a partner, and :data:`IMAGES`, that its partner is made from.
        due: By node those that it should be made from, nodes without a partner passed over.
        absent: Nodes that the candidate does not compute: nothing lies at their places.
    """

    found: Mapping[str, Partner]
    reads: Mapping[str, frozenset[str]]
    due: Mapping[str, frozenset[str]]
    absent: frozenset[str]


def partners(
    record: Record,
    sought: Sought,
    pinned: Mapping[str, Partner] | None = None,
    named: Mapping[str, Partner] | None = None,
) -> Partners:
    """Find the partner of each node.

    Args:
        record: What a candidate did.
        sought: The nodes.
        pinned: Partners that were found before by other things than their values, and that the
            reference's tensors have taken the place of in this run.
        named: Partners that names give, which nothing else can be.
    """
    named = named or {}
    others = {node: item for node, item in (pinned or {}).items() if node not in named}
    search = _Search(record, sought, {**others, **named}, frozenset(named))
    search.by_values(native=True)
    search.by_values(native=False)
    search.by_values_alone()
    search.by_parameters()
    search.in_gaps()
    return search.result()


class _Search:
    """Finds partners, the surest first."""

    def __init__(
        self,
        record: Record,
        sought: Sought,
        pinned: Mapping[str, Partner],
        named: frozenset[str],
    ) -> None:
        self._named = named
        self._pinned = {partner.value: (node, partner) for node, partner in pinned.items()}
        self._values = record.values
        self._images = record.images
        self._sought = sought
        self._found: dict[str, Partner] = {}
        self._node_of: dict[int, str] = {}
        self._held: Counter[tuple[int, ...]] = Counter()
        self._readers: dict[str, list[str]] = {}
        for node, sources in sought.sources.items():
            for source in sources:
                self._readers.setdefault(source, []).append(node)
        self._order = {node: place for place, node in enumerate(sought.kinds)}
        self._shares = Counter(sought.contents.values())
        self._distances = _distances(record.values, sought)
        # By node the values like it, in order, with how far they are from it.
        self._alike: dict[str, list[tuple[int, float]]] = {}
        for number, alike in self._distances.items():
            for node, (distance, _) in alike.items():
                if distance < ALIKE:
                    self._alike.setdefault(node, []).append((number, distance))
        self._origins: list[frozenset[str]] = []
        self._contents: list[frozenset[Content]] = []
        self._kernels: list[int] = []
        # Of what partners there are now; forgotten when one is found.
        self._dues: dict[str, frozenset[str]] = {}
        self._kernels_dues: dict[str, int] = {}

    def by_values(self, *, native: bool) -> None:
        """Values that are a node's, and are made from what the node reads.

        Args:
            native: Whether they are to be of the type that is compared in, as a step may be that
                computes in another type inside.
        """
        self._origins, self._contents, self._kernels = [], [], []
        for value in self._values:
            self._trace(value)
            if value.number in self._node_of or value.native != native:
                continue
            node, partner = self._pinned.get(value.number, ("", None))
            if partner is not None and node not in self._found:
                self._take(node, partner)
                self._trace(value)
                continue
            alike = self._distances.get(value.number)
            if not alike:
                continue
            made_from = self._origins[value.number]
            fits = [
                (distance, self._order[node], node, layout)
                for node, (distance, layout) in alike.items()
                if node not in self._found
                and node not in self._named
                and distance < ALIKE
                and self._due(node) == made_from
                # Passing over what is still to come would let its reader be a copy of another.
                and not self._is_to_come(node, value.number)
                and not self._is_surpassed(node, value.number, distance)
            ]
            if fits:
                distance, _, node, layout = min(fits, key=lambda item: item[:2])
                self._take(node, Partner(value.number, layout, How.VALUES, distance))
                self._trace(value)

    def _is_surpassed(self, node: str, number: int, distance: float) -> bool:
        """Whether what is computed behind some value is far more like a node, beyond roundings.

        A convolution without its bias may be like the one with it.
        """
        return distance > ROUNDED and any(
            later > number and other < distance / 2 and not self._values[later].moved
            for later, other in self._alike[node]
        )

    def _is_to_come(self, node: str, number: int) -> bool:
        """Whether a value behind some value may be what a node reads, and what is not found yet."""
        waiting, seen = [node], {node}
        while waiting:
            for source in self._sought.sources[waiting.pop()]:
                if source == IMAGES or source in self._found or source in seen:
                    continue
                if any(later > number for later, _ in self._alike.get(source, ())):
                    return True
                seen.add(source)
                waiting.append(source)
        return False

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
                and alike[node][0] < SAME
                and not self._values[number].moved
            ]
            if len(close) == 1:
                number, distance, layout = close[0]
                self._take(node, Partner(number, layout, How.VALUES, distance))
        self._trace_from(0)

    def by_parameters(self) -> None:
        """Values that are made with a node's parameters, whatever they are."""
        for node, kind in self._sought.kinds.items():
            wanted = self._sought.contents.get(node, frozenset())
            if node in self._found or kind not in WITH_PARAMETERS or not wanted:
                continue
            partner = self._with_parameters(node, wanted)
            if partner is not None:
                self._take(node, partner)
                self._trace_from(partner.value)

    def _with_parameters(self, node: str, wanted: frozenset[Content]) -> Partner | None:
        """The first value that is made with most of them, and with least of anything else."""
        due = self._due(node)
        shared = self._shares[wanted] > 1
        best: tuple[tuple[float, ...], Partner] | None = None
        for value in self._values:
            held = self._contents[value.number]
            if max(wanted) not in held or not self._may_be(value, node):
                continue
            placed = self._origins[value.number] == due
            fits = self._layout(value, node)
            if not placed and (shared or (fits is None and len(value.shape) != 4)):
                continue
            rank = (
                float(placed),
                float(fits is not None),
                float(len(wanted & held)),
                -float(len(held - wanted)),
                -float(value.number),
            )
            if best is None or rank > best[0]:
                distance = self._distance(value, node)
                best = rank, Partner(value.number, fits, How.PARAMETERS, distance)
        return None if best is None else best[1]

    def in_gaps(self) -> None:
        """Values at the places of nodes that are like none: what makes them is wrong."""
        for node in self._sought.kinds:
            if node in self._found or self._is_folded(node):
                continue
            partner = self._in_gap(node)
            if partner is not None:
                self._take(node, partner)
                self._trace_from(partner.value)

    def _in_gap(self, node: str) -> Partner | None:
        """The last value that is made from what the node reads, and that all its readers read."""
        due = self._due(node)
        readers = [self._found[name] for name in self._readers_of(node)]
        between = [self._behind([reader.value]) for reader in readers]
        kind = self._sought.kinds[node]
        fitting = [
            value
            for value in self._values
            if self._origins[value.number] <= due
            and self._origins[value.number]
            and self._may_be(value, node)
            and all(value.number in behind for behind in between)
            and self._layout(value, node) is not None
        ]
        possible = [value for value in fitting if self._origins[value.number] == due]
        if not possible and len(self._sought.sources[node]) == 1:
            # A node before it that reads several does not read all of them, or is not there.
            possible = fitting
        count = self._kernels_due(node)
        possible = [value for value in possible if self._kernels[value.number] == count] or possible
        last = self._last_of_reader(node, due)
        possible = [value for value in possible if value.number < last] or possible
        if not possible:
            return None
        # Nothing but the last step has the node's values, where there are several.
        value = possible[-1]
        assert value.operation is not None
        certain = is_certain(value.operation.name, kind)
        if not certain and readers and all(map(_is_right, readers)):
            # What it makes together with what reads it has the right values.
            return None
        sure = len(possible) == 1 and certain
        layout, distance = self._layout(value, node), self._distance(value, node)
        return Partner(value.number, layout, How.DATAFLOW, distance, sure)

    def _last_of_reader(self, node: str, due: frozenset[str]) -> float:
        """The last value that could be the only reader of a node, where it has no partner yet."""
        readers = self._readers.get(node, ())
        if len(readers) != 1 or readers[0] in self._found or self._due(readers[0]) != due:
            return math.inf
        numbers = [
            value.number
            for value in self._values
            if self._origins[value.number] == due and self._may_be(value, readers[0])
        ]
        return numbers[-1] if len(numbers) > 1 else math.inf

    def _kernels_due(self, node: str) -> int:
        """How many convolutions there should be between the partners before a node and it."""
        if node not in self._kernels_dues:
            own = self._sought.kinds[node] in (NodeKind.CONV, NodeKind.DEPTHWISE)
            self._kernels_dues[node] = int(own) + max(
                0 if source == IMAGES or source in self._found else self._kernels_due(source)
                for source in self._sought.sources[node]
            )
        return self._kernels_dues[node]

    def _may_be(self, value: Made, node: str) -> bool:
        """Whether a value without a node can be this one, as far as its operation tells."""
        if value.operation is None or value.number in self._node_of:
            return False
        kind = self._sought.kinds[node]
        moves = value.moved and kind is not NodeKind.UPSAMPLE
        return not moves and may_end(value.operation.name, kind)

    def _distance(self, value: Made, node: str) -> float:
        return float(self._distances.get(value.number, {}).get(node, (np.inf, None))[0])

    def _is_folded(self, node: str) -> bool:
        """Whether a convolution seems to be made in one operation with the batch norm behind it.

        One operation makes what both of them should, and does it without this one's parameters.
        """
        kinds = self._sought.kinds
        if kinds[node] not in (NodeKind.CONV, NodeKind.DEPTHWISE):
            return False
        norms = [
            reader
            for reader in self._readers.get(node, ())
            if kinds[reader] is NodeKind.BATCH_NORM and reader not in self._found
        ]
        if not norms:
            return False
        due = self._due(node)
        steps = [
            value
            for value in self._values
            if value.operation is not None
            and value.number not in self._node_of
            and not value.moved
            and self._origins[value.number]
            and self._origins[value.number] <= due
            and self._layout(value, node) is not None
        ]
        kernels = [value for value in steps if makes_products(value.operation)]
        wanted = self._sought.contents.get(node, frozenset())
        if not kernels or (wanted and max(wanted) in self._contents[kernels[0].number]):
            return False
        following = [value for value in steps if value.number > kernels[0].number]
        return not any(holds_more(value.operation) for value in following)

    def _layout(self, value: Made, node: str) -> Layout | None:
        """How a value may hold a node although its elements differ.

        Of several layouts that fit, it is the one that most of the nodes known by values have.
        """
        possible = layouts(value.shape, self._sought.shapes[node])
        if len(possible) < 2:
            return next(iter(possible), None)
        return max(possible, key=lambda layout: self._held[layout.order])

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
        if partner.how is How.VALUES and partner.layout is not None:
            self._held[partner.layout.order] += 1
        self._found[node] = partner
        self._node_of[partner.value] = node
        self._dues.clear()
        self._kernels_dues.clear()

    def _trace_from(self, number: int) -> None:
        """Note anew what values are made from, from one on."""
        for value in self._values[number:]:
            self._trace(value)

    def _trace(self, value: Made) -> None:
        """Note what a value is made from, and with which of what the candidate holds."""
        number = value.number
        del self._origins[number:], self._contents[number:], self._kernels[number:]
        node = self._node_of.get(number)
        if node is not None or number == self._images:
            self._origins.append(frozenset((node or IMAGES,)))
            self._contents.append(frozenset())
            self._kernels.append(0)
            return
        self._origins.append(self._made_from(value))
        contents = [self._contents[parent] for parent in value.parents]
        own = frozenset() if value.content is None else frozenset((value.content,))
        self._contents.append(own.union(*contents))
        passed = max((self._kernels[parent] for parent in value.parents), default=0)
        is_kernel = bool(self._origins[number]) and makes_products(value.operation)
        self._kernels.append(passed + is_kernel)

    def _made_from(self, value: Made) -> frozenset[str]:
        return frozenset().union(*(self._origins[parent] for parent in value.parents))

    def _due(self, node: str) -> frozenset[str]:
        """What a node should be made from, nodes without a partner passed over."""
        if node not in self._dues:
            self._dues[node] = frozenset().union(
                *(
                    frozenset((source,))
                    if source == IMAGES or source in self._found
                    else self._due(source)
                    for source in self._sought.sources[node]
                )
            )
        return self._dues[node]

    def result(self) -> Partners:
        """What was found."""
        return Partners(
            self._found,
            {
                node: self._made_from(self._values[partner.value])
                for node, partner in self._found.items()
            },
            {node: self._due(node) for node in self._sought.kinds},
            frozenset(node for node in self._sought.kinds if self._is_absent(node)),
        )

    def _is_absent(self, node: str) -> bool:
        """Whether nothing is computed between what a node reads and what reads it."""
        if node in self._found:
            return False
        readers = self._readers_of(node)
        if self._sought.kinds[node] in WITH_PARAMETERS and not self._is_unfolded(node, readers):
            return False
        values = [self._values[self._found[name].value] for name in readers]
        direct = all(self._made_from(value) & self._due(node) for value in values)
        return (
            bool(values)
            and direct
            and not any(
                self._origins[number] and not self._values[number].moved
                for value in values
                for number in self._behind([value.number])
            )
        )

    def _is_unfolded(self, node: str, readers: Sequence[str]) -> bool:
        """Whether neither what a layer reads nor what reads it can have taken it over."""
        due = [self._found.get(name) for name in self._due(node)]
        if not all(item and (_is_right(item) or item.how is How.PARAMETERS) for item in due):
            return False
        operations = (self._values[self._found[name].value].operation for name in readers)
        return all(
            operation is not None and is_certain(operation.name, self._sought.kinds[name])
            for name, operation in zip(readers, operations, strict=True)
        )


def _is_right(partner: Partner) -> bool:
    return partner.how in (How.VALUES, How.NAMES) and partner.distance < SAME


def _distances(
    values: Sequence[Made], sought: Sought
) -> dict[int, dict[str, tuple[float, Layout]]]:
    """By value and node of the same size, how far apart they are, in the layout in which least."""
    nodes: dict[tuple[int, int, int, int], list[str]] = {}
    for node, shape in sought.shapes.items():
        nodes.setdefault(shape, []).append(node)
    held: dict[tuple[int, int, int, int], list[tuple[int, Layout, Array]]] = {}
    for value in values:
        for layout, taken in value.samples.items():
            held.setdefault(layout.node, []).append((value.number, layout, taken))
    found: dict[int, dict[str, tuple[float, Layout]]] = {}
    for shape, items in held.items():
        wanted = np.stack([sought.samples[node] for node in nodes[shape]])
        apart = _apart(np.stack([taken for _, _, taken in items]), wanted)
        for (number, layout, _), row in zip(items, apart.tolist(), strict=True):
            here = found.setdefault(number, {})
            for node, distance in zip(nodes[shape], row, strict=True):
                if node not in here or distance < here[node][0]:
                    here[node] = distance, layout
    return dict(sorted(found.items()))


def _apart(taken: Array, wanted: Array) -> Array:
    """Relative differences of rms of all rows of one array from all rows of another.

    Args:
        taken: [values, count].
        wanted: [nodes, count].

    Returns:
        [values, nodes]; infinite where something is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.maximum(np.sqrt((wanted**2).mean(axis=1)), np.finfo(np.float64).tiny)
        # A product of matrices is quick, and tells what is far apart.
        squares = (taken**2).mean(axis=1)[:, None] + (wanted**2).mean(axis=1)
        squares = np.maximum(squares - 2 * (taken @ wanted.T) / taken.shape[1], 0)
        apart: Array = np.sqrt(squares) / size
        # What is near is computed from the differences, in which nothing cancels.
        for value, node in np.argwhere(apart < 2 * ALIKE).tolist():
            difference = taken[value] - wanted[node]
            apart[value, node] = np.sqrt((difference**2).mean()) / size[node]
    apart[~np.isfinite(apart)] = np.inf
    return apart
