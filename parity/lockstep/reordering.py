"""Nodes whose channels a candidate holds in another order, which whatever reads them counts on.

Hidden channels have no order of their own. Who sorts or prunes kernels, or packs them for some
hardware, exchanges the rows of one kernel and the columns of the next, and computes the same. Each
such node by itself holds other values than the model's. So where nodes differ, it is looked whether
they hold the right values in another order. That is no fault if all that reads them is right once
it is given its inputs in that order: then the whole computes what the model does. If what reads
them is not, the order is the fault. In the network's outputs it always is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from efficientdet_spec import NodeKind
from parity.judge.verdict import NodeResult, Verdict
from parity.lockstep.isolated import IsolatedWalk
from parity.lockstep.pairing import Pairing
from parity.process.arrays import Array
from parity.sides.side import Made

Order = tuple[int, ...]
"""For each of a node's channels its place among the candidate's."""

_POSITIONS = 256
"""Positions of a map by which its channels are told apart."""

_SAME = 1e-3
"""Relative difference of rms below which channels are taken for the right ones in another order.
Whether they are is judged by all their elements afterwards."""

_ROUNDS = 3
"""Trials at most; in each but the first what has turned out to be a fault is left out."""

_MIXING = (NodeKind.CONV,)
"""Kinds of nodes whose channels have an order of their own: each is made of all channels read."""


def reordered(
    pairing: Pairing,
    results: Sequence[NodeResult],
    seen: Collection[str],
    again: Callable[[], Sequence[NodeResult]],
) -> Mapping[str, Order]:
    """Take channels in the order in which a candidate holds them, where the whole is right so.

    Args:
        pairing: What was compared; its candidate is seen operation by operation.
        results: What was found of each node with its channels as they come.
        seen: The nodes that the candidate is known to make.
        again: Judges all nodes once more.

    Returns:
        The orders by node; empty where nothing has been changed.
    """
    failing = {node.name for node in results if node.verdict.fails}
    # Where rows are exchanged and nothing reads them so, only one node differs.
    if sum(node.verdict is Verdict.FUNCTION_DIFFERS for node in results) < 2:
        return {}
    walk = _Ordering(pairing, seen)
    walk.run()
    orders = walk.orders
    for _ in range(_ROUNDS):
        made = {node: order for node, order in orders.items() if node in seen}
        if not made:
            return {}
        undo = pairing.candidate.reorder(made)
        tried = {node.name: node for node in again()}
        right = _right(pairing, orders, failing, tried)
        if right == orders.keys():
            return made
        undo()
        orders = {node: order for node, order in orders.items() if node in right}
    return {}


def _right(
    pairing: Pairing,
    orders: Mapping[str, Order],
    failing: Collection[str],
    tried: Mapping[str, NodeResult],
) -> set[str]:
    """The nodes of whose orders all that reads them takes account.

    Args:
        pairing: What is compared.
        orders: Those that were tried.
        failing: The nodes that differed without them.
        tried: What was found with them.
    """
    right: set[str] = set()
    for members, readers in _connected(pairing, orders):
        still = sum(tried[node].verdict.fails for node in members)
        before = sum(node in failing for node in members | readers)
        # A node between that does not count on the order seemed right without it.
        if still < before and readers and all(tried[node].verdict.passes for node in readers):
            right |= members
    return right


def _connected(
    pairing: Pairing, orders: Mapping[str, Order]
) -> Sequence[tuple[set[str], set[str]]]:
    """Sets of nodes in other orders that hang together, each with what else reads them."""
    groups: list[tuple[set[str], set[str]]] = []
    readers: dict[str, set[str]] = {}
    for node, sources in pairing.referee.wiring.items():
        for source in sources:
            readers.setdefault(source, set()).add(node)
    for node in orders:
        members, behind = {node}, readers.get(node, set())
        apart = []
        for one, other in groups:
            # Those that read each other, or that one node reads together.
            if behind & one or node in other or behind & other:
                members, behind = members | one, behind | other
            else:
                apart.append((one, other))
        groups = [*apart, (members, behind)]
    return [(members, behind - members) for members, behind in groups]


class _Ordering(IsolatedWalk):
    """Gives each node the reference's tensors, with their channels in the candidate's order.

    Attributes:
        orders: By node in which order its channels lie, where that is another one.
    """

    def __init__(self, pairing: Pairing, seen: Collection[str]) -> None:
        super().__init__(pairing, lambda met: None, seen)
        self.orders: dict[str, Order] = {}

    def meet(self, name: str, reference: Array | None, made: Made | None) -> Array | None:
        """See :class:`IsolatedWalk`."""
        instead = super().meet(name, reference, made)
        if made is None and not self.comes_later(name):
            self._note(name, self._taken_over(name))
        return self._arranged(name, made, instead)

    def meet_late(self, name: str, made: Made) -> Array | None:
        """As :meth:`meet`."""
        return self._arranged(name, made, super().meet_late(name, made))

    def _arranged(self, name: str, made: Made | None, instead: Array | None) -> Array | None:
        """What takes a node's place, in the order in which the candidate has it."""
        if made is None or instead is None or name in self.pairing.outputs:
            return instead
        own = made.value.array()
        if apart(own, instead) < _SAME:
            return instead
        # What is wrong in some other way may hold its channels as what it reads does.
        order = order_of(own, instead) or self._taken_over(name)
        self._note(name, order)
        return instead if order is None else instead[..., np.argsort(order)]

    def _taken_over(self, name: str) -> Order | None:
        """The order that a node takes over from what it reads, channel by channel."""
        if self._kinds[name] in _MIXING:
            return None
        sources = self.pairing.referee.sources(name)
        return next((self.orders[source] for source in sources if source in self.orders), None)

    def _note(self, name: str, order: Order | None) -> None:
        if order is not None:
            self.orders[name] = order


def apart(own: Array, due: Array) -> float:
    """Relative difference of rms of two arrays."""
    with np.errstate(all="ignore"):
        rms = float(np.sqrt(np.mean(np.square(due, dtype=np.float64))))
        found = float(np.sqrt(np.mean(np.square(np.subtract(own, due, dtype=np.float64)))))
    return found / rms if rms else found


def order_of(own: Array, due: Array) -> Order | None:
    """The order in which an array holds the channels of another; None where it does not.

    Args:
        own: [N, H, W, C].
        due: Likewise.
    """
    channels = due.shape[-1]
    flat = [array.reshape(-1, channels).astype(np.float64) for array in (own, due)]
    count = len(flat[0])
    places = np.linspace(0, count - 1, min(_POSITIONS, count)).astype(int)
    one, other = (array[places] for array in flat)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    found = _matched(one, other)
    return found if apart(own[..., list(found)], due) < _SAME else None


def _matched(own: Array, due: Array) -> Order:
    """For each column of an array the nearest of another's that no column before has taken.

    Args:
        own: [positions, channels].
        due: Likewise.
    """
    squares = (own**2).sum(0)[:, None] + (due**2).sum(0) - 2 * own.T @ due
    nearest = np.argsort(squares, axis=0)
    order = np.full(due.shape[1], -1)
    taken = np.zeros(own.shape[1], bool)
    # Those that are surely some channel come before those that may be several.
    for channel in np.argsort(squares.min(axis=0)):
        order[channel] = next(place for place in nearest[:, channel] if not taken[place])
        taken[order[channel]] = True
    return tuple(int(place) for place in order)
