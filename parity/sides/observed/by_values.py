"""Partners that are known by the values that they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from efficientdet_spec import IMAGES
from parity.sides.observed.pairs import SAME, How, Partner
from parity.sides.observed.search import Search

ALIKE = 0.03
"""Relative difference of rms below which two tensors are taken for one at first sight. What is
found is checked on the reference's own tensors, where only what is wrong is further apart."""

ROUNDED = 1e-5
"""Relative difference of rms above which two tensors differ by more than the roundings of a few
operations: one of the two is a better partner."""

_Alike = Mapping[str, Sequence[tuple[int, float]]]
"""By node the values like it, in order, with how far they are from it."""


def find_by_values(
    search: Search, pinned: Mapping[str, Partner], named: frozenset[str], *, native: bool
) -> None:
    """Values that are a node's, and are made from what the node reads.

    Args:
        search: What was found so far.
        pinned: Partners that were found before by other things than their values.
        named: Those of these nodes that names give, which nothing else can be.
        native: Whether they are to be of the type that is compared in, as a step may be that
            computes in another type inside.
    """
    given = {partner.value: (node, partner) for node, partner in pinned.items()}
    alike = _alike(search)
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
        near = search.distances.get(value.number)
        if not near or search.is_again(value):
            continue
        made_from = search.origins[value.number]
        fits = [
            (distance, search.order[node], node, layout)
            for node, (distance, layout) in near.items()
            if node not in search.found
            and node not in named
            and distance < ALIKE
            and search.due(node) == made_from
            # Passing over what is still to come would let its reader be a copy of another.
            and not _is_to_come(search, alike, node, value.number)
            and not _is_surpassed(search, alike[node], value.number, distance)
        ]
        if fits:
            distance, _, node, layout = min(fits, key=lambda item: item[:2])
            search.take(node, Partner(value.number, layout, How.VALUES, distance))
            search.trace(value)


def _alike(search: Search) -> _Alike:
    found: dict[str, list[tuple[int, float]]] = {}
    for number, near in search.distances.items():
        for node, (distance, _) in near.items():
            if distance < ALIKE:
                found.setdefault(node, []).append((number, distance))
    return found


def _is_surpassed(
    search: Search, alike: Sequence[tuple[int, float]], number: int, distance: float
) -> bool:
    """Whether what is computed behind some value is far more like a node, beyond roundings.

    A convolution without its bias may be like the one with it.
    """
    return distance > ROUNDED and any(
        later > number and other < distance / 2 and not search.values[later].moved
        for later, other in alike
    )


def _is_to_come(search: Search, alike: _Alike, node: str, number: int) -> bool:
    """Whether a value behind some value may be what a node reads, and what is not found yet."""
    waiting, seen = [node], {node}
    while waiting:
        for source in search.sought.sources[waiting.pop()]:
            if source == IMAGES or source in search.found or source in seen:
                continue
            if any(later > number for later, _ in alike.get(source, ())):
                return True
            seen.add(source)
            waiting.append(source)
    return False


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
            and not search.is_again(search.values[number])
        ]
        if len(close) == 1:
            number, distance, layout = close[0]
            search.take(node, Partner(number, layout, How.VALUES, distance))
    search.trace_from(0)
