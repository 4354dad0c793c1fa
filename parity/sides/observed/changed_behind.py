"""Nodes whose values are changed once more before anything reads them.

A port may compute a layer rightly and then do something to what it made, such as mix the images of
a batch. Everything that reads the layer reads the changed values. These are the layer's, then:
what the layer makes by itself tells nothing, and each of its readers would be accused instead.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from efficientdet_spec import NodeKind
from parity.sides.observed.kinds import is_certain_step
from parity.sides.observed.pairs import How
from parity.sides.observed.record import Made
from parity.sides.observed.search import Search


def move_behind_changes(search: Search, named: Collection[str]) -> None:
    """Let the last value that all readers of a node share be its partner, where that differs.

    What is done to an output of the network before it is returned is the output's, but for a
    sigmoid. Where a node has a single reader, what lies between the two is that reader's. It is the
    node's only if the module that makes it returns what is changed, and is none that often makes
    both.

    Args:
        search: What was found so far.
        named: Nodes that names give, which stay.
    """
    last_read = _last_read(search)
    for node, partner in list(search.found.items()):
        if partner.how is not How.VALUES or node in named:
            continue
        changed = next(
            (
                value
                for value in reversed(_changes(search, node, partner.value, last_read))
                if _is_of(search, node, partner.value, value)
            ),
            None,
        )
        if changed is None or _same(search, node, partner.value, changed):
            continue
        distance, layout = search.distances[changed.number][node]
        del search.node_of[partner.value]
        moved = replace(partner, value=changed.number, layout=layout, distance=distance)
        search.take(node, replace(moved, how=How.CHANGED))
        search.trace_from(partner.value)


def _is_of(search: Search, node: str, number: int, changed: Made) -> bool:
    """Whether a change of what a node makes belongs to it, and not to what reads it."""
    readers = search.readers.get(node, ())
    if not readers:
        # An output of the network is what is returned.
        return number not in search.returned
    if len(readers) > 1:
        return True
    # The innermost module comes first.
    call = next((call for call in search.calls if call.begin <= number < call.end), None)
    if call is None or changed.number not in call.outputs:
        return False
    kind = search.sought.kinds[readers[0]]
    if kind not in (NodeKind.ACTIVATION, NodeKind.GATE, NodeKind.BATCH_NORM):
        return True
    # One module may well make both, and the change be what is wrong with the second.
    return any(
        changed.number in value.parents and is_certain_step(value.operation, kind)
        for value in search.values[call.end :]
    )


def _last_read(search: Search) -> dict[int, int]:
    """By value the last one that is made from it."""
    return {parent: value.number for value in search.values for parent in value.parents}


def _changes(search: Search, node: str, begin: int, last_read: dict[int, int]) -> list[Made]:
    """The values of a node's size through each of which alone the node is read, in order."""
    reached, waited_for = {begin}, last_read.get(begin, -1)
    found: list[Made] = []
    is_output = node not in search.readers
    for value in search.values[begin + 1 :]:
        if value.number > waited_for:
            break
        if reached.isdisjoint(value.parents):
            continue
        if value.number in search.node_of or not _is_still(search, node, value):
            break
        if is_output and value.operation is not None and "sigmoid" in value.operation.name:
            # Probabilities may be returned for logits.
            break
        if value.number == waited_for and search.distance(value, node) < np.inf:
            # Whatever is made from the node from here on is made from this value.
            found.append(value)
        reached.add(value.number)
        waited_for = max(waited_for, last_read.get(value.number, -1))
    return found


def _same(search: Search, node: str, number: int, other: Made) -> bool:
    """Whether two values that are of a node's size hold the same elements."""
    if search.distance(other, node) == 0:
        # It is made of the reference's tensor, which has taken the place of the first.
        return True
    one, two = (
        value.samples[search.distances[value.number][node][1]]
        for value in (search.values[number], other)
    )
    return np.array_equal(one, two)


def _is_still(search: Search, node: str, value: Made) -> bool:
    """Whether a value is made from a node, and from what that is made from, and no next layer."""
    others = search.known - search.sought.contents.get(node, frozenset())
    made_from = search.origins[value.number]
    # What the node is made from may go through the node's own layer once more.
    kernels = 0 if made_from == {node} else search.kernels_due(node)
    return (
        made_from <= search.due(node) | {node}
        and search.kernels[value.number] <= kernels
        and not search.contents[value.number] & others
    )
