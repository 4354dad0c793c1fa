"""Why nodes have no partner: the candidate has no such step, or none was found to be it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from efficientdet_spec import IMAGES
from parity.sides.observed.layouts import layouts
from parity.sides.observed.named import Named
from parity.sides.observed.pairs import WITH_PARAMETERS, Partners, Sought
from parity.sides.observed.record import Made, Record
from parity.sides.observed.words import step_in_words

_NEAREST = 2
"""Operations that are named of those that were considered."""


def left_out(record: Record, sought: Sought, partners: Partners) -> dict[str, str]:
    """What was seen at the places of nodes that a candidate does not compute.

    Args:
        record: What it did.
        sought: The nodes.
        partners: Which of its values are which nodes.
    """
    found = {}
    for node in sorted(partners.absent):
        readers = [
            f"{reader} is made directly from it, by {step_in_words(operation)}"
            for reader in _readers(sought, partners, node)
            if (operation := record.values[partners.found[reader].value].operation) is not None
        ]
        seen = f": {' and '.join(readers[:_NEAREST])}" if readers else ""
        found[node] = (
            f"nothing is computed between {_listed(partners.due[node])} and what reads it{seen}"
        )
    return found


def not_found(record: Record, sought: Sought, partners: Partners, named: Named) -> dict[str, str]:
    """Why none of a candidate's values was found to be a node, by node.

    Args:
        record: What it did.
        sought: The nodes.
        partners: Which of its values are which nodes.
        named: What became of the names that were given.
    """
    origins = _origins(record, partners)
    held = {value.content for value in record.values}
    taken = {partner.value for partner in partners.found.values()}
    reasons = {}
    for node, kind in sought.kinds.items():
        if node in partners.found or node in partners.absent:
            continue
        due = partners.due[node]
        possible = [
            value
            for value in record.values
            if value.operation is not None
            and not value.moved
            and value.number not in taken
            and origins[value.number] == due
        ]
        why = named.unmet.get(node) or _why(sought, node, possible, due)
        wanted = sought.contents.get(node, frozenset())
        if kind in WITH_PARAMETERS and wanted and wanted.isdisjoint(held):
            why = f"{why}; none of its parameters is read as it is"
        reasons[node] = f"{why}; --names can say which submodule makes it"
    return reasons


def _why(sought: Sought, node: str, possible: Sequence[Made], due: frozenset[str]) -> str:
    """What speaks against all values that lie at a node's place."""
    if not possible:
        return f"no other tensor is made from {_listed(due)} alone"
    made = f"nothing that is made from {_listed(due)} has its"
    shape = sought.shapes[node]
    fitting = [value for value in possible if layouts(value.shape, shape)]
    if not fitting:
        nearest = (f"{_step(value)} makes {list(value.shape)}" for value in possible[-_NEAREST:])
        return f"{made} shape {list(shape)}: {', '.join(nearest)}"
    apart = sorted((_distance(sought, node, value), value.number, value) for value in fitting)
    nearest = (
        f"{_step(value)} is {distance:.2g} of its rms off"
        for distance, _, value in apart[:_NEAREST]
    )
    return f"{made} values: {', '.join(nearest)}"


def _step(value: Made) -> str:
    assert value.operation is not None
    return step_in_words(value.operation)


def _distance(sought: Sought, node: str, value: Made) -> float:
    """Relative difference of rms in the nearest layout; infinite where it has no such values."""
    wanted = sought.samples[node]
    with np.errstate(all="ignore"):
        rms = np.sqrt((wanted**2).mean())
        apart = [
            float(np.sqrt(((taken - wanted) ** 2).mean()) / rms)
            for layout, taken in value.samples.items()
            if layout.node == sought.shapes[node]
        ]
    return min((item for item in apart if np.isfinite(item)), default=float("inf"))


def _origins(record: Record, partners: Partners) -> list[frozenset[str]]:
    """By value the nodes with a partner, and the images, that it is made from."""
    node_of = {partner.value: node for node, partner in partners.found.items()}
    behind: list[frozenset[str]] = []
    origins: list[frozenset[str]] = []
    for value in record.values:
        made = frozenset().union(*(behind[parent] for parent in value.parents))
        origins.append(made)
        if value.number == record.images:
            made = frozenset((IMAGES,))
        elif value.number in node_of:
            made = frozenset((node_of[value.number],))
        behind.append(made)
    return origins


def _readers(sought: Sought, partners: Partners, node: str) -> Iterator[str]:
    """The next nodes with a partner that read a node, in order, through those without."""
    hidden = {node}
    # Nodes come in the order of computation, each behind what it reads.
    for reader, sources in sought.sources.items():
        if not hidden.isdisjoint(sources):
            if reader in partners.found:
                yield reader
            else:
                hidden.add(reader)


def _listed(nodes: Iterable[str]) -> str:
    return ", ".join(sorted(nodes))
