"""Partners that are known by the values that they hold."""

from __future__ import annotations

from collections.abc import Mapping

from parity.sides.observed.pairs import SAME, How, Partner
from parity.sides.observed.search import Search

ALIKE = 0.03
"""Relative difference of rms below which two tensors are taken for one at first sight. What is
found is checked on the reference's own tensors, where only what is wrong is further apart."""


def find_by_values(search: Search, pinned: Mapping[str, Partner], *, native: bool) -> None:
    """Values that are a node's, and are made from what the node reads.

    Args:
        search: What was found so far.
        pinned: Partners that were found before by other things than their values.
        native: Whether they are to be of the type that is compared in, as a step may be that
            computes in another type inside.
    """
    given = {partner.value: (node, partner) for node, partner in pinned.items()}
    search.forget_traces()
    for value in search.values:
        search.trace(value)
        if value.number in search.node_of or value.native != native:
            continue
        pin, before = given.get(value.number, ("", None))
        if before is not None and pin not in search.found:
            search.take(pin, before)
            search.trace(value)
            continue
        alike = search.distances.get(value.number)
        if not alike:
            continue
        made_from = search.origins[value.number]
        fits = [
            (distance, search.order[node], node, layout)
            for node, (distance, layout) in alike.items()
            if node not in search.found and distance < ALIKE and search.due(node) == made_from
        ]
        if fits:
            distance, _, node, layout = min(fits, key=lambda item: item[:2])
            search.take(node, Partner(value.number, layout, How.VALUES, distance))
            search.trace(value)


def find_by_values_alone(search: Search) -> None:
    """Values that are one node's and no other's, whatever they are made from."""
    for node in search.sought.kinds:
        if node in search.found:
            continue
        close = [
            (number, *alike[node])
            for number, alike in search.distances.items()
            if number not in search.node_of
            and node in alike
            and alike[node][0] < SAME
            and not search.values[number].moved
        ]
        if len(close) == 1:
            number, distance, layout = close[0]
            search.take(node, Partner(number, layout, How.VALUES, distance))
    search.trace_from(0)
