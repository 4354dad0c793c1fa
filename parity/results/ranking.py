"""Which node comes first: one order for texts, pages and the choice of what is looked at closer.

NaN counts as larger than any number everywhere: a value that is none is as wrong as can be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol, TypeVar

from parity.judge.verdict import Verdict


class _Difference(Protocol):
    @property
    def relative_max(self) -> float: ...
    @property
    def roundings(self) -> float | None: ...


class _Limit(Protocol):
    @property
    def candidate(self) -> float: ...


class Ranked(Protocol):
    """A node, while it is being compared and as a result holds it."""

    @property
    def verdict(self) -> Verdict:
        """The verdict on it."""

    @property
    def free(self) -> _Difference | None:
        """Difference accumulated up to it."""

    @property
    def own(self) -> _Difference | None:
        """Difference that it makes itself."""

    @property
    def from_exact(self) -> _Difference | None:
        """Difference of the candidate from the exact value."""

    @property
    def limit(self) -> _Limit | None:
        """What the roundings of the latter may be."""


_N = TypeVar("_N", bound=Ranked)

_SEVERITY = {
    Verdict.EXACT: 0,
    Verdict.ROUNDING: 1,
    Verdict.OWN_INPUTS: 2,
    Verdict.NOT_COVERED: 3,
}
"""A difference of any kind outweighs what is not covered, which outweighs parity."""


def severity(verdict: Verdict) -> int:
    """How bad a verdict is; those that show a difference are equally so."""
    return _SEVERITY.get(verdict, 4)


def ordered(value: float | None) -> float:
    """A figure by which to sort: NaN is larger than any number, and nothing is zero."""
    if value is None:
        return 0.0
    return math.inf if math.isnan(value) else value


def accumulated(node: Ranked) -> float:
    """The largest accumulated difference of a node, of its rms."""
    return ordered(node.free.relative_max) if node.free else 0.0


def own(node: Ranked) -> float:
    """The largest difference that a node makes itself, of its rms."""
    return ordered(node.own.relative_max) if node.own else 0.0


def roundings(node: Ranked) -> float:
    """Of the candidate from the exact value."""
    return ordered(node.from_exact.roundings) if node.from_exact else 0.0


def share(node: Ranked) -> float:
    """The part of its limit that a node's candidate takes up; infinite where nothing is allowed."""
    found = roundings(node)
    if node.limit is None or not found:
        return 0.0
    return found / node.limit.candidate if node.limit.candidate else math.inf


def most_accumulated(nodes: Iterable[_N]) -> _N | None:
    """The node whose accumulated difference is largest; None where none was measured."""
    return max((node for node in nodes if node.free), key=accumulated, default=None)


def sources(nodes: Iterable[_N], count: int) -> list[_N]:
    """The nodes that make the largest differences of their own, largest first."""
    found = [node for node in nodes if own(node) > 0]
    return sorted(found, key=own, reverse=True)[:count]


def nearest(nodes: Iterable[_N], count: int) -> list[_N]:
    """The nodes at which the candidate is nearest to its limit, or furthest beyond it, first."""
    found = [node for node in nodes if share(node) > 0]
    return sorted(found, key=share, reverse=True)[:count]
