"""Nodes behind a departure, which cannot be given the reference's tensors: what they really read.

Behind a stride that is wrong every tensor has another shape, and the reference's do not fit in
its place. Behind a layer that is left out a node reads what that layer should have read. Such
nodes can be judged all the same: by what the faithful layer makes of the candidate's own tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from efficientdet_spec import IMAGES, NodeKind
from parity.judge.operations import Operation
from parity.judge.referee import Referee, Ruling, Sitting
from parity.process.arrays import Array
from parity.sides.side import Value


@dataclass(frozen=True)
class OnOwnInputs:
    """What a node should make of the tensors that a candidate may read there.

    Attributes:
        astray: Whether the reference's tensors cannot take the place of what it reads.
        rulings: What it should make of its own, the likeliest first, each with the nodes that the
            candidate would have to leave out for these to be what it reads.
        why_not: Why there is no ruling although it is astray.
    """

    astray: bool = False
    rulings: Sequence[tuple[Ruling, tuple[str, ...]]] = ()
    why_not: str = ""


_Known = tuple[Array, Array | None]
"""A tensor, and how far what the candidate reads there may be from it; None where it is that."""


class OwnInputs:
    """Keeps what a candidate has where the reference's tensors cannot take its place.

    Args:
        referee: Knows what each node reads and computes.
        sitting: Rules on any tensors.
        visited: The nodes that the candidate is known to make; the others lie inside of spans, are
            made by what nobody sees, or are left out.
        may_leave_out: Whether nodes that it does not make may be looked upon as left out.
    """

    def __init__(
        self,
        referee: Referee,
        sitting: Sitting,
        visited: Collection[str],
        *,
        may_leave_out: bool,
    ) -> None:
        self._referee = referee
        self._sitting = sitting
        self._visited = frozenset(visited)
        self._may_leave_out = may_leave_out
        self._own: dict[str, Array] = {}
        self._rulings: dict[str, Ruling] = {}
        self._computed: dict[str, _Known | None] = {}
        self._unread: dict[str, int] = {}
        # By height and width of a level, what the candidate has in their place.
        self._levels: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
        for node in self._visited & referee.kinds.keys():
            for source in self._reach(node):
                self._unread[source] = self._unread.get(source, 0) + 1

    def _reach(self, node: str) -> tuple[str, ...]:
        """The nodes that one reads, and those that these read where the candidate lacks them."""
        found: dict[str, None] = {}
        waiting = [node]
        while waiting:
            for source in self._referee.sources(waiting.pop()):
                if source not in found and source != IMAGES:
                    found[source] = None
                    if source not in self._visited:
                        waiting.append(source)
        return tuple(found)

    def without_partner(self, node: str, ruling: Ruling) -> None:
        """Take note of a node that the candidate does not show.

        Args:
            node: The node.
            ruling: What it should make of the reference's tensors.
        """
        if self._unread.get(node):
            self._rulings[node] = ruling

    def keep(self, node: str, value: Value, shape: tuple[int, ...]) -> None:
        """Keep the candidate's own tensor, whose place the reference's cannot take.

        Args:
            node: The node.
            value: The candidate's output.
            shape: The reference's, NHWC.
        """
        if value.shape is None or value.unreadable:
            return
        self._levels.setdefault(shape[1:3], set()).add(value.shape[1:3])
        if self._unread.get(node):
            self._own[node] = np.array(value.array())

    def done(self, node: str) -> None:
        """Let go of what nothing behind a node will be judged on."""
        for source in self._reach(node):
            self._unread[source] -= 1
            if not self._unread[source]:
                for held in (self._own, self._rulings, self._computed):
                    held.pop(source, None)

    def of(self, node: str, ruling: Ruling, read: Sequence[str | None]) -> OnOwnInputs:
        """What a node should make of what the candidate may read there.

        Args:
            node: A node that the candidate makes.
            ruling: What it should make of the reference's tensors.
            read: The nodes that its value is made from, as far as they are known.
        """
        sources = self._referee.sources(node)
        lacking = [name for name in self._reach(node) if name not in self._visited]
        known = [self._known(source) for source in sources]
        astray = any(item is not None for item in known)
        whole = list(zip(known, ruling.inputs, strict=True))
        tried: list[tuple[list[_Known], tuple[str, ...]]] = []
        if astray:
            tried.append(([item or (array, None) for item, array in whole], ()))
        if lacking and self._may_leave_out:
            through = [
                self._through(source, array, read)
                for source, array in zip(sources, ruling.inputs, strict=True)
            ]
            order = [name for name in self._referee.kinds if name in lacking]
            tried.append(([(array, None) for array in through], tuple(order)))
        rulings = [
            (found, passed_over)
            for inputs, passed_over in tried
            for found in self._ruled(node, ruling, inputs)
        ]
        why_not = ""
        if astray and not rulings:
            why_not = (
                "it cannot be judged on its own inputs: their shapes, which are not the "
                "reference's, do not fit together in the model's layer"
            )
        return OnOwnInputs(astray, rulings, why_not)

    def _ruled(self, node: str, ruling: Ruling, inputs: Sequence[_Known]) -> Iterator[Ruling]:
        """What a node makes of other inputs, in each size that it can be meant to bring them to."""
        arrays = tuple(array for array, _ in inputs)
        kind = self._referee.kinds[node]
        if not _fit(kind, arrays, ruling.inputs):
            return
        bounds = None
        if any(bound is not None for _, bound in inputs):
            bounds = tuple(
                np.zeros_like(array) if bound is None else bound for array, bound in inputs
            )
        level = self._levels.get(ruling.shape[1:3], ())
        for operation in _sized(kind, ruling, arrays[0], level):
            yield self._sitting.rule_on(node, operation, arrays, (bounds, None))

    def _known(self, node: str) -> _Known | None:
        """The candidate's own tensor at a node; None where it is the reference's."""
        if node in self._own:
            return self._own[node], None
        ruling = self._rulings.get(node)
        if node in self._visited or ruling is None:
            return None
        if node not in self._computed:
            self._computed[node] = self._computed_here(node, ruling)
        return self._computed[node]

    def _computed_here(self, node: str, ruling: Ruling) -> _Known | None:
        """What the candidate should have inside of a span that begins with tensors of its own."""
        known = [self._known(source) for source in self._referee.sources(node)]
        if all(item is None for item in known):
            return None
        inputs = [item or (array, None) for item, array in zip(known, ruling.inputs, strict=True)]
        found = next(self._ruled(node, ruling, inputs), None)
        return None if found is None else (found.rounded(), found.bound)

    def _through(self, node: str, due: Array, read: Sequence[str | None]) -> Array:
        """What takes a node's place if the candidate leaves out all that it does not show.

        Args:
            node: A node.
            due: The reference's tensor there.
            read: The nodes that the value is made from for which this is asked.
        """
        while node in self._rulings:
            sources = self._referee.sources(node)
            ends = [self._end(source) for source in sources]
            number = next((i for i, end in enumerate(ends) if end in read), 0)
            node, due = sources[number], self._rulings[node].inputs[number]
        return self._own.get(node, due)

    def _end(self, node: str) -> str:
        """The first node with a partner that one comes from, by the first of what each reads."""
        while node in self._rulings:
            node = self._referee.sources(node)[0]
        return node


def _fit(kind: NodeKind, arrays: Sequence[Array], due: Sequence[Array]) -> bool:
    """Whether a faithful layer can be given some tensors at all."""
    alike = all(
        array.ndim == 4 and (array.shape[0], array.shape[3]) == (other.shape[0], other.shape[3])
        for array, other in zip(arrays, due, strict=True)
    )
    if not alike:
        return False
    planes = {array.shape[1:3] for array in arrays}
    if kind is NodeKind.SCALE:
        return arrays[1].shape[1:3] == (1, 1)
    return kind not in (NodeKind.ADD, NodeKind.FUSE) or len(planes) == 1


def _sized(
    kind: NodeKind, ruling: Ruling, first: Array, level: Collection[tuple[int, ...]]
) -> Iterator[Operation]:
    """A node's operation on another map, for each size that this may be brought to.

    Args:
        kind: What the node computes.
        ruling: What it should make of the reference's tensors.
        first: The map.
        level: Height and width of what the candidate has at nodes of the same level.
    """
    operation = ruling.operation
    if kind not in (NodeKind.POOL, NodeKind.UPSAMPLE):
        yield operation
        return
    usual = _scaled_size(ruling, first), (ruling.shape[1], ruling.shape[2])
    sizes = dict.fromkeys((*usual, *((size[0], size[1]) for size in level)))
    for height, width in sizes:
        grows = (height >= first.shape[1], width >= first.shape[2])
        if kind is NodeKind.UPSAMPLE or not any(grows) or (height, width) == first.shape[1:3]:
            yield operation.sized((height, width))


def _scaled_size(ruling: Ruling, first: Array) -> tuple[int, int]:
    """Height and width by which a node would bring a map of another size to the next level."""
    found = []
    for axis in (1, 2):
        was, becomes, own = ruling.inputs[0].shape[axis], ruling.shape[axis], first.shape[axis]
        if becomes <= was:
            found.append(-(-own // -(-was // becomes)))
        else:
            found.append(max(1, round(own * becomes / was)))
    return found[0], found[1]
