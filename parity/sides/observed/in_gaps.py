"""Partners at the places of nodes that are like none: what makes them is wrong."""

from __future__ import annotations

import math

from efficientdet_spec import NodeKind
from parity.sides.observed.kinds import holds_more, is_certain, is_layer, makes_products
from parity.sides.observed.pairs import KERNELS, WITH_PARAMETERS, How, Partner
from parity.sides.observed.search import Search


def find_in_gaps(search: Search, *, whole: bool) -> None:
    """Values that lie between the partners of what a node reads and of what reads it.

    Args:
        search: What was found so far.
        whole: Whether they are to be made from all that the node should be made from. Otherwise a
            node before it that reads several may not read all of them, or not be there.
    """
    for node in search.sought.kinds:
        if node in search.found or is_folded(search, node):
            continue
        partner = _in_gap(search, node, whole)
        if partner is not None:
            search.take(node, partner)
            search.trace_from(partner.value)


def _in_gap(search: Search, node: str, whole: bool) -> Partner | None:
    """The last value that is made from what the node reads, and that all its readers read."""
    due = search.due(node)
    readers = [search.found[name] for name in search.readers_of(node)]
    between = [search.behind([reader.value]) for reader in readers]
    kind = search.sought.kinds[node]
    here = [
        value
        for value in search.values
        if search.origins[value.number] <= due
        and search.origins[value.number]
        and all(value.number in behind for behind in between)
        and search.layout(value, node) is not None
    ]
    fitting = [value for value in here if search.may_be(value, node)]
    if not fitting and readers and kind not in WITH_PARAMETERS:
        # Something that no one would write for it lies between what it reads and what reads it.
        fitting = [
            value for value in here if search.is_free(value) and not is_layer(value.operation)
        ]
    possible = [value for value in fitting if search.origins[value.number] == due]
    if not possible and not whole and len(search.sought.sources[node]) == 1:
        possible = fitting
    if kind is NodeKind.BATCH_NORM:
        # An input times its share is a part of the fusion behind it.
        possible = [v for v in possible if not search.of_fusions & search.contents[v.number]]
    possible = list(search.with_own_parameters(possible, node))
    count = search.kernels_due(node)
    possible = [value for value in possible if search.kernels[value.number] == count] or possible
    last = _last_of_reader(search, node, due)
    possible = [value for value in possible if value.number < last] or possible
    if not possible:
        return None
    # Nothing but the last step has the node's values, where there are several.
    value = possible[-1]
    assert value.operation is not None
    certain = is_certain(value.operation.name, kind)
    if not certain and readers and all(reader.right for reader in readers):
        # What it makes together with what reads it has the right values.
        return None
    sure = len(possible) == 1 and certain
    layout, distance = search.layout(value, node), search.distance(value, node)
    return Partner(value.number, layout, How.DATAFLOW, distance, sure)


def _last_of_reader(search: Search, node: str, due: frozenset[str]) -> float:
    """The last value that could be the only reader of a node, where it has no partner yet."""
    readers = search.readers.get(node, ())
    if len(readers) != 1 or readers[0] in search.found or search.due(readers[0]) != due:
        return math.inf
    numbers = [
        value.number
        for value in search.values
        if search.origins[value.number] == due and search.may_be(value, readers[0])
    ]
    return numbers[-1] if len(numbers) > 1 else math.inf


def is_folded(search: Search, node: str) -> bool:
    """Whether a convolution seems to be made in one operation with the batch norm behind it.

    One operation makes what both of them should, and does it without this one's parameters.

    Args:
        search: What was found so far.
        node: A node without a partner.
    """
    kinds = search.sought.kinds
    if kinds[node] not in KERNELS:
        return False
    norms = [
        reader
        for reader in search.readers.get(node, ())
        if kinds[reader] is NodeKind.BATCH_NORM and reader not in search.found
    ]
    if not norms:
        return False
    due = search.due(node)
    steps = [
        value
        for value in search.values
        if value.operation is not None
        and value.number not in search.node_of
        and not value.moved
        and search.origins[value.number]
        and search.origins[value.number] <= due
        and search.layout(value, node) is not None
    ]
    kernels = [value for value in steps if makes_products(value.operation)]
    wanted = search.sought.contents.get(node, frozenset())
    if not kernels or (wanted and max(wanted) in search.contents[kernels[0].number]):
        return False
    following = [value for value in steps if value.number > kernels[0].number]
    return not any(holds_more(value.operation) for value in following)
