"""Partners that are known by the bits of the parameters that they are made with."""

from __future__ import annotations

from collections import Counter

from parity.sides.observed.pairs import SAME, WITH_PARAMETERS, How, Partner
from parity.sides.observed.record import Content, Made
from parity.sides.observed.search import Search


def find_by_parameters(search: Search) -> None:
    """Values that are made with a node's parameters, whatever they are."""
    for node, kind in search.sought.kinds.items():
        wanted = search.sought.contents.get(node, frozenset())
        if node in search.found or kind not in WITH_PARAMETERS or not wanted:
            continue
        partner = _with_parameters(search, node, wanted)
        if partner is not None:
            search.take(node, partner)
            search.trace_from(partner.value)


def _with_parameters(search: Search, node: str, wanted: frozenset[Content]) -> Partner | None:
    """The first value that is made with most of them, and with least of anything else.

    Values that are like the node's come before those that are not.
    """
    due = search.due(node)
    shared = search.shares[wanted] > 1
    best: tuple[tuple[float, ...], Partner] | None = None
    parts: Counter[bool] = Counter()
    for value in search.values:
        held = search.contents[value.number]
        if max(wanted) not in held or not search.may_be(value, node):
            continue
        placed = search.origins[value.number] == due
        layout = search.layout(value, node)
        fits = layout is not None
        layout = layout or search.layout_of_any_size(value, node)
        if not placed and (shared or layout is None):
            continue
        parts[placed] += not fits and _reads(search, value, wanted)
        distance = search.distance(value, node)
        rank = (
            float(placed),
            float(fits),
            # Of a sum of many products the first ones are made with the parameters too.
            float(distance < SAME),
            float(len(wanted & held)),
            -float(len(held - wanted)),
            -float(value.number),
        )
        if best is None or rank > best[0]:
            best = rank, Partner(value.number, layout, How.PARAMETERS, distance)
    if best is None:
        return None
    (is_placed, is_fitting, *_), partner = best
    if not is_fitting and parts[bool(is_placed)] > 1:
        # Several of another shape are parts, such as tiles, of what is put together later.
        return None
    return partner


def _reads(search: Search, value: Made, wanted: frozenset[Content]) -> bool:
    """Whether the operation that makes a value is itself given one of the parameters."""
    return any(search.values[parent].content in wanted for parent in value.parents)
