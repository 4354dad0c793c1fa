"""What is the same at many nodes, told once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from parity.results.records.nodes import Finding, Node, Suspect

_T = TypeVar("_T")


@dataclass(frozen=True)
class Group(Generic[_T]):
    """Things that are alike.

    Attributes:
        first: The one that comes first.
        places: The nodes, or parameters, of all of them, those of the first one first.
    """

    first: _T
    places: tuple[str, ...]


def suspect_groups(suspects: Iterable[Suspect]) -> list[Group[Suspect]]:
    """Suspects, those with one diagnosis together, in the order of the first of each.

    Args:
        suspects: The most harmful first.
    """
    return _grouped(suspects, _what_is_wrong, lambda suspect: suspect.nodes)


def _what_is_wrong(suspect: Suspect) -> tuple[object, ...]:
    if suspect.diagnosis is None:
        # What is not known to be alike stands for itself, whatever else it looks like.
        return (suspect.verdict, tuple(suspect.nodes))
    told = suspect.diagnosis
    for node in sorted(suspect.nodes, key=len, reverse=True):
        # A parameter is named by its module, which levels share.
        told = told.replace(node, "it").replace(module_of(node), "it")
    return (suspect.verdict, suspect.slug, told)


def finding_groups(findings: Iterable[Finding]) -> list[Group[Finding]]:
    """Findings, those with one text together, in the order of the first of each.

    Args:
        findings: What acts most first.
    """
    return _grouped(findings, lambda item: (item.slug, item.text), lambda item: (item.place,))


def reason_groups(nodes: Iterable[Node]) -> list[Group[Node]]:
    """Nodes, those with one reason together, in the order of the first of each.

    Args:
        nodes: In the order of computation.
    """

    def what_is_said(node: Node) -> str:
        # Figures, shapes and its own name make a reason no other one.
        return re.sub(r"[\d.]+", "", node.reason.replace(node.name, ""))

    return _grouped(nodes, what_is_said, lambda node: (node.name,))


def was_not_looked_at(suspect: Suspect) -> bool:
    """Whether nothing is known of a suspect because it was not examined.

    Args:
        suspect: The suspect.
    """
    return not (suspect.diagnosis or suspect.tried or suspect.evidence or suspect.patterns)


def module_of(node: str) -> str:
    """A node's name without the level that it is computed for."""
    return node.partition("@")[0]


def _grouped(
    items: Iterable[_T], key: Callable[[_T], object], places: Callable[[_T], Sequence[str]]
) -> list[Group[_T]]:
    found: dict[object, list[_T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return [
        Group(group[0], tuple(place for item in group for place in places(item)))
        for group in found.values()
    ]
