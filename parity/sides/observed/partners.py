"""Which of the values of a run are which nodes, found on the whole record of it.

A node's partner holds the node's values, or is made with the node's parameters, or is what lies
between the partners of what the node reads and of what reads it. A node without a partner lies
inside a *span* of operations that makes it together with the nodes that read it, such as a
convolution that a batch norm was folded into; or the candidate has no such layer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from parity.sides.observed.by_order import find_by_order
from parity.sides.observed.by_parameters import find_by_parameters
from parity.sides.observed.by_readers import find_by_readers
from parity.sides.observed.by_values import find_by_values, find_by_values_alone
from parity.sides.observed.changed_behind import move_behind_changes
from parity.sides.observed.in_gaps import find_in_gaps
from parity.sides.observed.kinds import is_certain
from parity.sides.observed.pairs import WITH_PARAMETERS, How, Partner, Partners, Sought
from parity.sides.observed.record import Record
from parity.sides.observed.search import Search


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
    search = Search(record, sought)
    named = named or {}
    given = {**(pinned or {}), **named}
    find_by_values(search, given, frozenset(named), native=True)
    find_by_values(search, given, frozenset(named), native=False)
    find_by_values_alone(search)
    move_behind_changes(search, frozenset(named))
    find_by_parameters(search)
    find_by_order(search)
    find_in_gaps(search, whole=True)
    if find_by_readers(search):
        # What follows upon these can be told by where it lies now.
        find_by_parameters(search)
    find_in_gaps(search, whole=False)
    return _found(search)


def without(record: Record, sought: Sought, found: Partners, nodes: Collection[str]) -> Partners:
    """The partners without those of some nodes, which lie in the spans of what reads them then.

    Args:
        record: What a candidate did.
        sought: The nodes.
        found: All partners.
        nodes: The nodes to pass over.
    """
    search = Search(record, sought)
    for node, partner in found.found.items():
        if node not in nodes:
            search.take(node, partner)
    search.trace_from(0)
    return _found(search)


def _found(search: Search) -> Partners:
    sought = search.sought
    return Partners(
        search.found,
        {
            node: search.made_from(search.values[partner.value])
            for node, partner in search.found.items()
        },
        {node: search.due(node) for node in sought.kinds},
        frozenset(node for node in sought.kinds if _is_absent(search, node)),
    )


def _is_absent(search: Search, node: str) -> bool:
    """Whether nothing is computed between what a node reads and what reads it."""
    if node in search.found:
        return False
    readers = search.readers_of(node)
    if search.sought.kinds[node] in WITH_PARAMETERS and not _is_unfolded(search, node, readers):
        return False
    values = [search.values[search.found[name].value] for name in readers]
    direct = all(search.made_from(value) & search.due(node) for value in values)
    return (
        bool(values)
        and direct
        and not any(
            search.origins[number] and not search.values[number].moved
            for value in values
            for number in search.behind([value.number])
        )
    )


def _is_unfolded(search: Search, node: str, readers: Sequence[str]) -> bool:
    """Whether neither what a layer reads nor what reads it can have taken it over."""
    due = [search.found.get(name) for name in search.due(node)]
    if not all(item and (item.right or item.how is How.PARAMETERS) for item in due):
        return False
    operations = (search.values[search.found[name].value].operation for name in readers)
    return all(
        operation is not None and is_certain(operation.name, search.sought.kinds[name])
        for name, operation in zip(readers, operations, strict=True)
    )
