"""Convolutions that are known by their place in the order, where their parameters are others.

In a candidate with other weights no value and no bits tell a node. Both sides compute many
convolutions one after another, though, and the longest common part of the two sequences, by the
numbers of weights and the shapes of the maps, says which is which, even where some are left out or
are too many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from efficientdet_spec import NodeKind
from parity.sides.observed.kinds import holds_more, makes_products
from parity.sides.observed.pairs import KERNELS, How, Partner
from parity.sides.observed.record import Content, Made
from parity.sides.observed.search import Search

_KNOWN = 1000
"""Weight of a pair that was found before."""

_OWN = 4
"""Weight of a pair of the same weights, which other nodes have too."""

_ALIKE = 1
"""Weight of a pair of as many weights and with maps of one shape."""


def find_by_order(search: Search) -> None:
    """Values that convolutions make, in the place of nodes that are convolutions."""
    nodes = [node for node, kind in search.sought.kinds.items() if kind in KERNELS]
    if all(node in search.found for node in nodes):
        return
    kernels = [
        value
        for value in search.values
        if makes_products(value.operation) and search.origins[value.number]
    ]
    if all(value.number in search.node_of for value in kernels):
        return
    normalised = _normalised(search)
    scores = [[_score(search, node, value, normalised) for value in kernels] for node in nodes]
    pairs = _longest_common(scores)
    new = [(nodes[i], kernels[j]) for i, j in pairs if nodes[i] not in search.found]
    for node, value in new:
        layout, distance = search.layout(value, node), search.distance(value, node)
        search.take(node, Partner(value.number, layout, How.ORDER, distance))
    if new:
        search.trace_from(min(value.number for _, value in new))


def _score(search: Search, node: str, value: Made, normalised: Mapping[int, set[int]]) -> int:
    """How well a convolution of the candidate fits a node; 0 where it does not."""
    known = search.found.get(node)
    if known is not None:
        return _KNOWN if known.value == value.number else 0
    if value.number in search.node_of or not search.may_be(value, node):
        return 0
    wanted = search.sought.contents.get(node)
    weights = _weights(search, value)
    if not wanted or weights is None or max(wanted)[0] != weights[0]:
        return 0
    own = weights == max(wanted)
    if weights in search.known and not own:
        # It is made with another node's.
        return 0
    next_found = [search.found[name] for name in search.readers_of(node)]
    if next_found and all(reader.right for reader in next_found):
        # What it makes together with what reads it has the right values.
        return 0
    behind = [search.sought.kinds[reader] for reader in search.readers.get(node, ())]
    channels = search.sought.shapes[node][3]
    if behind == [NodeKind.BATCH_NORM] and channels not in normalised.get(value.number, ()):
        # It is folded: the value is the batch norm's.
        return 0
    if search.layout(value, node) is None:
        return 0
    return _OWN if own else _ALIKE


def _weights(search: Search, value: Made) -> Content | None:
    """The weights of a convolution: the most that the candidate holds that it reads."""
    return max(_held(search, value), default=None)


def _held(search: Search, value: Made) -> list[Content]:
    """What the candidate holds that an operation itself reads."""
    return [
        content
        for parent in value.parents
        if not search.origins[parent]
        for content in search.contents[parent]
    ]


def _normalised(search: Search) -> dict[int, set[int]]:
    """The values that are read, perhaps through a bias, by a step that may be a batch norm's.

    Returns:
        By value how many numbers that step is made with, one for each channel if it is one.
    """
    found: dict[int, set[int]] = {}
    for value in reversed(search.values):
        if value.operation is None or not search.origins[value.number]:
            continue
        counts = {content[0] for content in _held(search, value)}
        if not holds_more(value.operation):
            adds = "add" in value.operation.name
            counts = counts & found.get(value.number, set()) if adds else set()
        for parent in value.parents:
            if counts and search.origins[parent]:
                found.setdefault(parent, set()).update(counts)
    return found


def _longest_common(scores: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Pairs that follow each other in both sequences, of the largest weight together.

    Args:
        scores: By place in the first and in the second sequence the weight of a pair; 0 for none.
    """
    rows, columns = len(scores), len(scores[0]) if scores else 0
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            paired = scores[i][j] + best[i + 1][j + 1] if scores[i][j] else 0
            best[i][j] = max(best[i + 1][j], best[i][j + 1], paired)
    found = []
    i = j = 0
    while i < rows and j < columns:
        if scores[i][j] and best[i][j] == scores[i][j] + best[i + 1][j + 1]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return found
