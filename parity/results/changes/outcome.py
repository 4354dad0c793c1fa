"""Whether a change made something worse, in one sentence and in parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import structs

from parity.process.outcome import Outcome
from parity.results.records.nodes_diff import ChangeKind, DiffOutcome, NodeChange, NodesDiff

_WEIGHT = {Outcome.PARITY: 0, Outcome.NOT_SHOWN: 1, Outcome.DIFFERENCE: 2}

_GRADIENTS = "gradients"
"""What :mod:`parity.results.changes.conditions` calls the setting whether there are any."""


def judged(diff: NodesDiff) -> NodesDiff:
    """The same with its outcome, its sentence, and what got worse and better.

    Args:
        diff: All changes; what it says of its outcome is not looked at.
    """
    worse, better = _worse(diff), _better(diff)
    reason = _not_comparable(diff)
    if reason:
        outcome, text = DiffOutcome.NOT_COMPARABLE, reason
    elif worse:
        outcome, text = DiffOutcome.WORSE, "; ".join([*worse, *better])
    else:
        outcome, text = DiffOutcome.NOT_WORSE, "; ".join([*better, _figures(diff)])
    sentence = f"{outcome.value.upper()}: {text}"
    return structs.replace(diff, outcome=outcome, sentence=sentence, worse=worse, better=better)


def _not_comparable(diff: NodesDiff) -> str:
    """Why nothing can be said of the change; empty where something can."""
    failed = [item for item in (diff.before, diff.after) if item.outcome is None]
    if failed:
        return "; ".join(
            f"{item.file} holds no result, for its command failed ({item.sentence.rstrip('.')})"
            for item in failed
        )
    if not diff.conditions:
        return ""
    names = ", ".join(item.what for item in diff.conditions)
    verb = "is" if len(diff.conditions) == 1 and names != "inputs" else "are"
    return f"{names} {verb} not the same, so that what changed need not be the code's doing"


def _worse(diff: NodesDiff) -> list[str]:
    found = [
        _nodes(diff, ChangeKind.FAILS, "that agreed differs now", "that agreed differ now"),
        _nodes(
            diff,
            ChangeKind.FOUND,
            "that was not covered differs now",
            "that were not covered differ now",
        ),
        _nodes(diff, ChangeKind.LOST, "is not covered any more", "are not covered any more"),
        _nodes(diff, ChangeKind.CAME, "came without parity", "came without parity"),
        _nodes(diff, ChangeKind.LEFT, "that agreed is gone", "that agreed are gone"),
        _items([f"{item.place} ({item.slug})" for item in diff.findings_came], "finding", "came"),
        _items(diff.not_shown_came, "thing", "cannot be compared any more", "besides nodes"),
        _gradients([item.name for item in diff.gradients if item.worse], "got worse", "got worse"),
    ]
    if any(item.what == _GRADIENTS and item.after.startswith("not") for item in diff.settings):
        found.append("gradients are not compared any more")
    old, new = diff.before.outcome, diff.after.outcome
    if not any(found) and old and new and _WEIGHT[new] > _WEIGHT[old]:
        found.append(f"the outcome was {old.value} and is {new.value} now")
    return [text for text in found if text]


def _better(diff: NodesDiff) -> list[str]:
    gone = [f"{item.place} ({item.slug})" for item in diff.findings_left]
    mended = [
        item.name
        for item in diff.gradients
        if item.change in (ChangeKind.MENDED, ChangeKind.COVERED)
    ]
    found = [
        _nodes(diff, ChangeKind.MENDED, "was mended", "were mended", worse=False),
        _nodes(
            diff,
            ChangeKind.COVERED,
            "that was not covered agrees now",
            "that were not covered agree now",
            worse=False,
        ),
        _items(gone, "finding", "went"),
        _gradients(mended, "agrees now", "agree now"),
    ]
    return [text for text in found if text]


def _nodes(diff: NodesDiff, kind: ChangeKind, one: str, many: str, *, worse: bool = True) -> str:
    found = [item for item in diff.nodes if item.change is kind and item.worse is worse]
    return _counted([item.name for item in found], "node", one, many)


def _items(names: Sequence[str], noun: str, verb: str, where: str = "") -> str:
    text = f"{verb} {where}".strip()
    return _counted(names, noun, text, text)


def _gradients(names: Sequence[str], one: str, many: str) -> str:
    return _counted(list(dict.fromkeys(names)), "gradient", one, many)


def _counted(names: Sequence[str], noun: str, one: str, many: str) -> str:
    """Such as ``3 nodes that agreed differ now, first a.b``; empty where there is none."""
    if not names:
        return ""
    if len(names) == 1:
        return f"1 {noun} {one}: {names[0]}"
    return f"{len(names)} {noun}s {many}, first {names[0]}"


def _figures(diff: NodesDiff) -> str:
    """What is to be said of figures where nothing got worse."""
    if diff.figures:
        where = "1 node" if len(diff.figures) == 1 else f"{len(diff.figures)} nodes"
        return f"no verdict got worse; own figures changed at {where}, first {diff.first_changed}"
    if diff.accumulated_only:
        return (
            f"no verdict got worse; no node's own figures changed, but what accumulates did at "
            f"{diff.accumulated_only} of them"
        )
    gaps = f"; {diff.uncovered} are not covered in either" if diff.uncovered else ""
    if not diff.unchanged:
        return f"no node has figures in both{gaps}"
    alike = (
        f"all {diff.unchanged} nodes"
        if diff.unchanged == diff.after.nodes
        else (f"{diff.unchanged} of {diff.after.nodes} nodes")
    )
    return f"the figures of {alike} are the same bit for bit{gaps}"


def by_kind(changes: Iterable[NodeChange]) -> dict[ChangeKind, list[NodeChange]]:
    """The changes of each kind that occurs, those that are a loss first."""
    found: dict[ChangeKind, list[NodeChange]] = {}
    for item in sorted(changes, key=lambda item: not item.worse):
        found.setdefault(item.change, []).append(item)
    return found
