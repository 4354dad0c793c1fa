"""Partners that are known by what reads them, whatever they are made from.

Behind something that is wired otherwise a node reads what it should not, or layers before it are
left out. What follows may be known all the same, such as a convolution by its parameters; then
the way back from there leads to the node.
"""

from __future__ import annotations

from collections.abc import Collection

from efficientdet_spec import NodeKind
from parity.sides.observed.in_gaps import is_folded
from parity.sides.observed.kinds import is_certain, makes_products
from parity.sides.observed.pairs import KERNELS, WITH_PARAMETERS, How, Partner
from parity.sides.observed.record import Made
from parity.sides.observed.search import Search


def find_by_readers(search: Search) -> bool:
    """Values that the partners of what reads a node are made from; backwards through the network.

    Returns:
        Whether any was found.
    """
    any_found = False
    for node in reversed(list(search.sought.kinds)):
        if node in search.found or is_folded(search, node):
            continue
        partner = _before_readers(search, node)
        if partner is not None:
            search.take(node, partner)
            search.trace_from(partner.value)
            any_found = True
    return any_found


def _before_readers(search: Search, node: str) -> Partner | None:
    """The last value before all of a node's readers that can be it."""
    readers = [search.found[name] for name in search.readers_of(node)]
    if not readers:
        return None
    shared: Collection[int] = set.intersection(*(_read_by(search, reader) for reader in readers))
    kind = search.sought.kinds[node]
    possible = [
        value
        for value in search.values
        if value.number in shared
        and search.origins[value.number]
        and search.may_be(value, node)
        and search.layout(value, node) is not None
        and _may_hold(search, value, node)
    ]
    if kind not in KERNELS:
        # What lies before another convolution is not what this one reads.
        kernels = [n for n in shared if makes_products(search.values[n].operation)]
        last = max((n for n in kernels if search.origins[n]), default=-1)
        possible = [value for value in possible if value.number > last or _folds(kind, value)]
    if not possible:
        return None
    value = possible[-1]
    assert value.operation is not None
    if all(reader.right for reader in readers):
        # What it makes together with what reads it has the right values.
        return None
    certain = is_certain(value.operation.name, kind)
    held = bool(search.sought.contents[node] & search.contents[value.number])
    sure = held or (len(possible) == 1 and certain)
    layout, distance = search.layout(value, node), search.distance(value, node)
    return Partner(value.number, layout, How.READERS, distance, sure)


def _read_by(search: Search, reader: Partner) -> set[int]:
    """The values that can be the node that a partner reads.

    A convolution reads the very value. What other steps make may have several of them.
    """
    value = search.values[reader.value]
    if not makes_products(value.operation):
        return search.behind([reader.value])
    found: set[int] = set()
    waiting = [value]
    while waiting:
        for number in waiting.pop().parents:
            parent = search.values[number]
            if number in search.node_of or not search.origins[number] or number in found:
                continue
            found.add(number)
            if parent.moved:
                waiting.append(parent)
    return found


def _folds(kind: NodeKind, value: Made) -> bool:
    """Whether a value can be a batch norm that is made by the convolution itself."""
    return kind is NodeKind.BATCH_NORM and makes_products(value.operation)


def _may_hold(search: Search, value: Made, node: str) -> bool:
    """Whether a value is made with the parameters of a layer, where that is what the node is."""
    if search.sought.kinds[node] not in WITH_PARAMETERS:
        return True
    wanted = search.sought.contents.get(node, frozenset())
    return bool(wanted) and max(wanted) in search.contents[value.number]
