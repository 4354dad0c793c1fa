"""The search for partners: what was found so far, and what follows from that for the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from efficientdet_spec import IMAGES, NodeKind
from parity.sides.observed.distances import distances
from parity.sides.observed.kinds import makes_products, may_end
from parity.sides.observed.layouts import Layout, layouts
from parity.sides.observed.pairs import KERNELS, WITH_PARAMETERS, How, Partner, Shape, Sought
from parity.sides.observed.record import Content, Made, Record


class Search:
    """The partners found so far, the surest first.

    Args:
        record: What a candidate did.
        sought: The nodes.

    Attributes:
        values: Of the run.
        calls: Of modules, in the order in which they ended.
        returned: Numbers of the values that the run returns.
        sought: As given.
        found: Partners by node.
        node_of: Nodes by the number of the value.
        order: By node its place in the order of computation.
        readers: By node the nodes that read it.
        shares: How many nodes have the same parameters, by these.
        known: Of each layer of the reference what most of its numbers are in.
        of_fusions: The weights of the fusions.
        distances: How far values are from nodes.
        origins: By value the nodes with a partner, and :data:`IMAGES`, that it is made from.
        contents: By value what the candidate holds that it is made with since these.
        kernels: By value how many convolutions lie between these and it, itself included.
    """

    def __init__(self, record: Record, sought: Sought) -> None:
        self.values = record.values
        self.calls = record.calls
        self.returned = frozenset(record.returned)
        self.sought = sought
        self.found: dict[str, Partner] = {}
        self.node_of: dict[int, str] = {}
        self.order = {node: place for place, node in enumerate(sought.kinds)}
        self.readers: dict[str, list[str]] = {}
        for node, sources in sought.sources.items():
            for source in sources:
                self.readers.setdefault(source, []).append(node)
        self.shares = Counter(sought.contents.values())
        self.distances = distances(record.values, sought)
        self.origins: list[frozenset[str]] = []
        self.contents: list[frozenset[Content]] = []
        self.kernels: list[int] = []
        self._images = record.images
        # By the first value that it is made of; of equal parents the first are equal.
        self._made_of: dict[int, list[int]] = {}
        for value in record.values:
            for parent in value.parents[:1]:
                self._made_of.setdefault(parent, []).append(value.number)
        self.known = frozenset(
            max(sought.contents[node])
            for node, kind in sought.kinds.items()
            if kind in WITH_PARAMETERS and sought.contents.get(node)
        )
        self.of_fusions = frozenset[Content]().union(
            *(
                sought.contents.get(node, frozenset())
                for node, kind in sought.kinds.items()
                if kind is NodeKind.FUSE
            )
        )
        self._held: Counter[tuple[int, ...]] = Counter()
        # By height and width of a level those that the candidate has in their place.
        self._levels: dict[tuple[int, int], dict[tuple[int, int], None]] = {}
        # Of what partners there are now; forgotten when one is found.
        self._dues: dict[str, frozenset[str]] = {}
        self._kernels_dues: dict[str, int] = {}
        self._shapes: dict[str, list[Shape]] = {}

    def take(self, node: str, partner: Partner) -> None:
        """Note a node's partner."""
        if partner.layout is not None:
            if partner.how is How.VALUES:
                self._held[partner.layout.order] += 1
            (_, height, width, _), (_, *own, _) = self.sought.shapes[node], partner.layout.node
            if (height, width) != tuple(own):
                self._levels.setdefault((height, width), {})[own[0], own[1]] = None
        self.found[node] = partner
        self.node_of[partner.value] = node
        self._dues.clear()
        self._kernels_dues.clear()
        self._shapes.clear()

    def may_be(self, value: Made, node: str) -> bool:
        """Whether a value without a node can be this one, as far as its operation tells."""
        if value.operation is None or not self.is_free(value):
            return False
        kind = self.sought.kinds[node]
        if kind in KERNELS and self.puts_together(value):
            return True
        moves = value.moved and kind is not NodeKind.UPSAMPLE
        if moves or not may_end(value.operation.name, kind):
            return False
        # What is multiplied by something that the candidate holds is no activation.
        return kind is not NodeKind.ACTIVATION or not self.reads_parameters(value)

    def puts_together(self, value: Made) -> bool:
        """Whether a value is put together of several that are computed, such as tiles."""
        joins = value.operation is not None and value.operation.name in ("cat", "stack")
        return joins and sum(bool(self.origins[parent]) for parent in value.parents) > 1

    def is_free(self, value: Made) -> bool:
        """Whether a value is one that a step has made of real numbers, and no node so far."""
        made = value.operation is not None and value.real and value.number not in self.node_of
        return made and not self.is_again(value)

    def is_again(self, value: Made) -> bool:
        """Whether a value is what the candidate has made of the very same for a node already."""
        if value.operation is None:
            return False
        return any(
            number < value.number and _alike(self.values[number], value)
            for parent in value.parents[:1]
            for number in self._made_of.get(parent, ())
            if number in self.node_of
        )

    def reads_parameters(self, value: Made) -> bool:
        """Whether an operation itself reads something that the candidate holds."""
        return any(self.contents[parent] and not self.origins[parent] for parent in value.parents)

    def with_own_parameters(self, values: Sequence[Made], node: str) -> Sequence[Made]:
        """Those of some values that are made with a node's parameters; if none is, the others.

        What is made with another node's is rather that one; it is only looked at where nothing
        else is left.
        """
        wanted = self.sought.contents.get(node, frozenset())
        if self.sought.kinds[node] not in WITH_PARAMETERS or not wanted:
            return values
        own = [value for value in values if max(wanted) in self.contents[value.number]]
        nobodys = [value for value in values if not self.known & self.contents[value.number]]
        return own or nobodys or values

    def distance(self, value: Made, node: str) -> float:
        """How far a value is from a node; infinite where its size is another."""
        return float(self.distances.get(value.number, {}).get(node, (np.inf, None))[0])

    def layout(self, value: Made, node: str) -> Layout | None:
        """How a value may hold a node although its elements differ.

        Of several layouts that fit, it is the one that most of the nodes known by values have.
        """
        for shape in self.shapes(node):
            possible = layouts(value.shape, shape)
            if possible:
                return self._usual(possible)
        return None

    def layout_of_any_size(self, value: Made, node: str) -> Layout | None:
        """How a value may hold a node although its height and width are others."""
        batch, _, _, channels = self.sought.shapes[node]
        if len(value.shape) != 4 or value.shape[0] != batch:
            return None
        _, first, second, third = value.shape
        possible = []
        if first == channels:
            possible.append(Layout((0, 3, 1, 2), value.shape, (batch, second, third, channels)))
        if third == channels:
            possible.append(Layout((0, 1, 2, 3), value.shape, (batch, first, second, channels)))
        return self._usual(possible) if possible else None

    def _usual(self, possible: Sequence[Layout]) -> Layout:
        return max(possible, key=lambda layout: self._held[layout.order])

    def shapes(self, node: str) -> list[Shape]:
        """The shapes that a node may have in the candidate, the likeliest first.

        Behind a map of another height and width it is another too.
        """
        if node not in self._shapes:
            self._shapes[node] = self._possible_shapes(node)
        return self._shapes[node]

    def _possible_shapes(self, node: str) -> list[Shape]:
        wanted, kind = self.sought.shapes[node], self.sought.kinds[node]
        batch, height, width, channels = wanted
        sizes: dict[tuple[int, int], None] = {}
        for source in self.sought.sources[node]:
            own = self._own_shape(source)
            if own is None or kind is NodeKind.MEAN:
                continue
            was = self.sought.shapes[source]
            if own != was:
                sizes[_scaled(was[1], height, own[1]), _scaled(was[2], width, own[2])] = None
        if sizes and kind in (NodeKind.POOL, NodeKind.UPSAMPLE):
            sizes.update(self._levels.get((height, width), {}))
        return [*((batch, *size, channels) for size in sizes if size != (height, width)), wanted]

    def _own_shape(self, node: str) -> Shape | None:
        """The shape that the candidate has, or should have, in a node's place."""
        if node == IMAGES:
            return None
        if node not in self.found:
            return self.shapes(node)[0]
        layout = self.found[node].layout
        return None if layout is None else layout.node

    def readers_of(self, node: str) -> list[str]:
        """The next nodes with a partner that a node is read by, through those without."""
        found: list[str] = []
        waiting, seen = [node], {node}
        while waiting:
            for reader in self.readers.get(waiting.pop(), ()):
                if reader in seen:
                    continue
                seen.add(reader)
                (found if reader in self.found else waiting).append(reader)
        return found

    def behind(self, numbers: Sequence[int]) -> set[int]:
        """The values that some values are made from, up to the next partners."""
        reached: set[int] = set()
        waiting = list(numbers)
        while waiting:
            for parent in self.values[waiting.pop()].parents:
                if parent not in reached and parent not in self.node_of:
                    reached.add(parent)
                    waiting.append(parent)
        return reached

    def forget_traces(self) -> None:
        """Begin to trace anew, with the first value."""
        self.origins, self.contents, self.kernels = [], [], []

    def trace_from(self, number: int) -> None:
        """Note anew what values are made from, from one on."""
        for value in self.values[number:]:
            self.trace(value)

    def trace(self, value: Made) -> None:
        """Note what a value is made from, and with which of what the candidate holds."""
        number = value.number
        del self.origins[number:], self.contents[number:], self.kernels[number:]
        node = self.node_of.get(number)
        if node is not None or number == self._images:
            self.origins.append(frozenset((node or IMAGES,)))
            self.contents.append(frozenset())
            self.kernels.append(0)
            return
        self.origins.append(self.made_from(value))
        contents = [self.contents[parent] for parent in value.parents]
        own = frozenset() if value.content is None else frozenset((value.content,))
        self.contents.append(own.union(*contents))
        passed = max((self.kernels[parent] for parent in value.parents), default=0)
        is_kernel = bool(self.origins[number]) and makes_products(value.operation)
        self.kernels.append(passed + is_kernel)

    def made_from(self, value: Made) -> frozenset[str]:
        """The nodes with a partner, and :data:`IMAGES`, that a value is made from."""
        return frozenset().union(*(self.origins[parent] for parent in value.parents))

    def due(self, node: str) -> frozenset[str]:
        """What a node should be made from, nodes without a partner passed over."""
        if node not in self._dues:
            self._dues[node] = frozenset().union(
                *(
                    frozenset((source,))
                    if source == IMAGES or source in self.found
                    else self.due(source)
                    for source in self.sought.sources[node]
                )
            )
        return self._dues[node]

    def kernels_due(self, node: str) -> int:
        """How many convolutions there should be between the partners before a node and it."""
        if node not in self._kernels_dues:
            own = self.sought.kinds[node] in KERNELS
            self._kernels_dues[node] = int(own) + max(
                0 if source == IMAGES or source in self.found else self.kernels_due(source)
                for source in self.sought.sources[node]
            )
        return self._kernels_dues[node]


def _scaled(was: int, becomes: int, own: int) -> int:
    """What a length becomes where one of another length becomes something else."""
    if becomes <= was:
        return -(-own // -(-was // becomes))
    return max(1, round(own * becomes / was))


def _alike(first: Made, second: Made) -> bool:
    """Whether two values are made by the same operation of the same."""
    assert second.operation is not None
    return (
        first.operation is not None
        and (first.parents, first.output) == (second.parents, second.output)
        and first.operation.name == second.operation.name
        and first.operation.settings == second.operation.settings
    )
