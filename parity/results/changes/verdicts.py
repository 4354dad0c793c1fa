"""How verdicts changed, of nodes and of gradients, and whether that is a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from parity.judge.verdict import Verdict
from parity.results.records.gradients import Gradient, GradientsResult, Mode
from parity.results.records.nodes import Node, NodesResult
from parity.results.records.nodes_diff import ChangeKind, GradientChange, NodeChange

_PASSES, _FAILS, _UNCOVERED = "passes", "fails", "uncovered"

_KINDS = {
    (_PASSES, _FAILS): ChangeKind.FAILS,
    (_UNCOVERED, _FAILS): ChangeKind.FOUND,
    (_PASSES, _UNCOVERED): ChangeKind.LOST,
    (_FAILS, _UNCOVERED): ChangeKind.UNDECIDED,
    (_FAILS, _PASSES): ChangeKind.MENDED,
    (_UNCOVERED, _PASSES): ChangeKind.COVERED,
}

_LOSSES = frozenset({ChangeKind.FAILS, ChangeKind.FOUND, ChangeKind.LOST})

_Key = TypeVar("_Key")


def change(before: Verdict | None, after: Verdict | None) -> tuple[ChangeKind, bool]:
    """How a verdict changed, and whether that is a loss.

    One that came is a loss unless it passes, one that left is a loss if it had passed: what was
    shown of it is not shown any more.

    Args:
        before: The old verdict; None where there was none.
        after: The new one; None where there is none. One of the two must be given.
    """
    if before is None:
        return ChangeKind.CAME, after is not None and not after.passes
    if after is None:
        return ChangeKind.LEFT, before.passes
    kind = _KINDS.get((_weight(before), _weight(after)), ChangeKind.OTHER)
    return kind, kind in _LOSSES


def _weight(verdict: Verdict) -> str:
    if verdict.passes:
        return _PASSES
    return _FAILS if verdict.fails else _UNCOVERED


def node_changes(before: NodesResult, after: NodesResult) -> list[NodeChange]:
    """The nodes whose verdict changed, in the order of computation; those that left come last."""
    old, new = ({node.name: node for node in result.nodes} for result in (before, after))
    return [
        _node_change(name, old.get(name), new.get(name))
        for name in _all(new, old)
        if _verdict(old.get(name)) is not _verdict(new.get(name))
    ]


def gradient_changes(before: NodesResult, after: NodesResult) -> list[GradientChange]:
    """The gradients whose verdict changed; none where only one of the results has gradients."""
    if before.gradients is None or after.gradients is None:
        return []
    old, new = (_by_place(result) for result in (before.gradients, after.gradients))
    return [
        _gradient_change(place, old.get(place), new.get(place))
        for place in _all(new, old)
        if _verdict(old.get(place)) is not _verdict(new.get(place))
    ]


def _by_place(result: GradientsResult) -> dict[tuple[str, Mode], Gradient]:
    return {(item.name, item.mode): item for item in result.gradients}


def _all(first: Mapping[_Key, object], second: Mapping[_Key, object]) -> Sequence[_Key]:
    return list(dict.fromkeys([*first, *second]))


def _verdict(item: Node | Gradient | None) -> Verdict | None:
    return item.verdict if item else None


def _node_change(name: str, before: Node | None, after: Node | None) -> NodeChange:
    kind, worse = change(_verdict(before), _verdict(after))
    told = after or before
    return NodeChange(
        name=name,
        change=kind,
        worse=worse,
        before=_verdict(before),
        after=_verdict(after),
        reason=told.reason if told else "",
    )


def _gradient_change(
    place: tuple[str, Mode], before: Gradient | None, after: Gradient | None
) -> GradientChange:
    kind, worse = change(_verdict(before), _verdict(after))
    name, mode = place
    return GradientChange(
        name=name,
        mode=mode,
        change=kind,
        worse=worse,
        before=_verdict(before),
        after=_verdict(after),
    )
