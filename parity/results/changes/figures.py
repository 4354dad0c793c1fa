"""Which figures changed. There is no threshold below which a change is none.

A comparison has no randomness: two runs of the same code on the same machine give the same bits
(``compare.py nodes --noise`` checks it for both sides, and a finding says where it is not so).
Whatever changed was changed by something: by the code, or by one of the settings that are listed
as differing. How large a change is decides only where it stands in the list; whether it matters is
for the verdicts to say, which have limits that are derived.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from parity.judge.verdict import Verdict
from parity.results import ranking
from parity.results.records.nodes import (
    DifferenceResult,
    Node,
    NodesResult,
    largest_of,
    roundings_of,
)
from parity.results.records.nodes_diff import ChangedFigures, KeyFigure
from parity.results.records.record import plain

_OWN = ("own", "from_exact", "reference_from_exact")


@dataclass(frozen=True)
class Figures:
    """Which nodes' figures changed.

    Attributes:
        changed: Nodes whose own figures changed, the largest change first.
        first: Name of the first of them in the order of computation; None where there is none.
        accumulated_only: Number of nodes where only what accumulates up to them changed.
        unchanged: Number of nodes that are the same in verdict and in all figures.
        uncovered: Number of nodes that have no figures in either result.
    """

    changed: list[ChangedFigures]
    first: str | None
    accumulated_only: int
    unchanged: int
    uncovered: int


def figures(before: NodesResult, after: NodesResult) -> Figures:
    """The nodes of both results whose figures are not the same bit for bit.

    Args:
        before: The old result.
        after: The new one.
    """
    old = {node.name: node for node in before.nodes}
    both = [(old[node.name], node) for node in after.nodes if node.name in old]
    # Where neither says anything, nothing is the same either.
    gap = Verdict.NOT_COVERED
    pairs = [pair for pair in both if any(node.verdict is not gap for node in pair)]
    own = [pair for pair in pairs if any(_apart(pair, name) for name in _OWN)]
    names = {node.name for _, node in own}
    others = [pair for pair in pairs if pair[1].name not in names]
    accumulated = [pair for pair in others if _apart(pair, "free")]
    moved = {node.name for _, node in accumulated}
    same = [node for was, node in others if node.name not in moved and was.verdict is node.verdict]
    changed = [_changed(was, node, before, after) for was, node in own]
    first = changed[0].name if changed else None
    return Figures(
        sorted(changed, key=size, reverse=True),
        first,
        len(accumulated),
        len(same),
        len(both) - len(pairs),
    )


def size(item: ChangedFigures) -> float:
    """How much the node's own difference changed, of rms; what became NaN is the most."""
    own = ranking.ordered(item.own_after) - ranking.ordered(item.own_before)
    # Infinite before and after.
    return 0.0 if math.isnan(own) else abs(own)


def _apart(pair: tuple[Node, Node], name: str) -> bool:
    """Whether a difference of two nodes is not the same; NaN is the same as NaN."""
    old, new = (_values(getattr(node, name)) for node in pair)
    return old != new


def _values(difference: DifferenceResult | None) -> dict[str, Any] | None:
    return plain(difference) if difference else None


def _changed(was: Node, node: Node, before: NodesResult, after: NodesResult) -> ChangedFigures:
    candidate, reference = (_apart((was, node), name) for name in _OWN[1:])
    side: Literal["candidate", "reference", "both", "neither"] = "neither"
    if candidate or reference:
        side = "both" if candidate and reference else "candidate" if candidate else "reference"
    return ChangedFigures(
        name=node.name,
        side=side,
        own_before=largest_of(was.own),
        own_after=largest_of(node.own),
        roundings_before=roundings_of(was.from_exact),
        roundings_after=roundings_of(node.from_exact),
        limit=node.limit.candidate if node.limit else None,
        same_input=before.inputs[was.input].sha256 == after.inputs[node.input].sha256,
    )


def key_figures(before: NodesResult, after: NodesResult) -> list[KeyFigure]:
    """What two results say as a whole, as far as it changed."""
    covered = [float(result.coverage.covered) for result in (before, after)]
    found = [
        _figure("nodes covered", "nodes", *covered),
        _figure(
            "error that would be seen at every covered node",
            "rms",
            before.coverage.detectable,
            after.coverage.detectable,
        ),
        _figure(
            "largest accumulated difference",
            "rms",
            before.largest_relative_max,
            after.largest_relative_max,
        ),
    ]
    return [item for item in found if not _same(item.before, item.after)]


def costs(before: NodesResult, after: NodesResult) -> list[KeyFigure]:
    """Seconds by phase, those of all together, and memory."""
    phases = dict.fromkeys([*before.seconds, *after.seconds])
    found = [
        _figure(phase, "s", before.seconds.get(phase), after.seconds.get(phase)) for phase in phases
    ]
    return [
        *found,
        _figure("all phases", "s", _sum(before.seconds), _sum(after.seconds)),
        _figure(
            "peak memory",
            "bytes",
            float(before.peak_memory_bytes),
            float(after.peak_memory_bytes),
        ),
    ]


def _sum(seconds: Mapping[str, float]) -> float:
    values: Iterable[float] = seconds.values()
    return math.fsum(values)


def _figure(
    what: str,
    unit: Literal["s", "bytes", "rms", "nodes"],
    before: float | None,
    after: float | None,
) -> KeyFigure:
    sound = before is not None and after is not None and before > 0 and math.isfinite(after)
    ratio = after / before if sound and before and after is not None else None
    return KeyFigure(what=what, unit=unit, before=before, after=after, ratio=ratio)


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))
