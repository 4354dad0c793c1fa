"""Compares two results of ``compare.py nodes``: what did a change of the code do?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from parity.results.changes.conditions import conditions, settings
from parity.results.changes.figures import costs, figures, key_figures
from parity.results.changes.outcome import judged
from parity.results.changes.verdicts import gradient_changes, node_changes
from parity.results.reading import StepFailed, read
from parity.results.records.nodes import Finding, NodesResult, Suspect
from parity.results.records.nodes_diff import ComparedResult, DiffOutcome, NodesDiff

_Item = TypeVar("_Item")


def compare_files(old: Path, new: Path) -> NodesDiff:
    """What changed from one result file to another.

    Args:
        old: Written by ``compare.py nodes --json`` before a change.
        new: Written after it.

    Returns:
        The changes. Where a file says that its command failed, the two are not comparable.

    Raises:
        InputError: A file cannot be read, or holds something else.
    """
    before, after = _result_or_failure(old), _result_or_failure(new)
    if isinstance(before, NodesResult) and isinstance(after, NodesResult):
        return compare_results(before, after, str(old), str(new))
    return judged(_diff(_told(before, str(old)), _told(after, str(new))))


def compare_results(
    before: NodesResult, after: NodesResult, old: str = "before", new: str = "after"
) -> NodesDiff:
    """What changed from one result to another.

    Args:
        before: The old result.
        after: The new one.
        old: What to call the old one, such as its file.
        new: What to call the new one.
    """
    parts: dict[str, Any] = {
        "conditions": conditions(before, after),
        "settings": settings(before, after),
    }
    if before.model == after.model:
        # Nodes of two models have nothing to do with each other.
        parts |= _changes(before, after)
    return judged(_diff(_told(before, old), _told(after, new), **parts))


def _result_or_failure(path: Path) -> NodesResult | StepFailed:
    try:
        return read(path, NodesResult)
    except StepFailed as failed:
        return failed


def _told(item: NodesResult | StepFailed, file: str) -> ComparedResult:
    if isinstance(item, StepFailed):
        return ComparedResult(file=file, outcome=None, sentence=item.failure.message)
    return ComparedResult(
        file=file, outcome=item.outcome, sentence=item.sentence, nodes=len(item.nodes)
    )


def _diff(before: ComparedResult, after: ComparedResult, **parts: Any) -> NodesDiff:
    """A record of changes that is not judged yet; what is not among the parts is empty."""
    empty = ("conditions", "settings", "nodes", "figures", "gradients", "key_figures", "costs")
    kinds = ("findings", "suspects", "not_shown")
    values: dict[str, Any] = dict.fromkeys(empty, ())
    values |= {f"{kind}_{way}": () for kind in kinds for way in ("came", "left")}
    values |= {"counts": {}, "first_changed": None}
    values |= dict.fromkeys(("accumulated_only", "unchanged", "uncovered"), 0)
    return NodesDiff(
        outcome=DiffOutcome.NOT_COMPARABLE,
        sentence="",
        before=before,
        after=after,
        worse=(),
        better=(),
        **values | parts,
    )


def _changes(before: NodesResult, after: NodesResult) -> dict[str, Any]:
    nodes, found = node_changes(before, after), figures(before, after)
    return {
        "nodes": nodes,
        "counts": Counter(item.change for item in nodes),
        "figures": found.changed,
        "first_changed": found.first,
        "accumulated_only": found.accumulated_only,
        "unchanged": found.unchanged,
        "uncovered": found.uncovered,
        "gradients": gradient_changes(before, after),
        "key_figures": key_figures(before, after),
        "costs": costs(before, after),
        **_came_and_left("findings", before.findings, after.findings, _finding_key),
        **_came_and_left("suspects", before.suspects, after.suspects, _suspect_key),
        **_came_and_left("not_shown", before.not_shown, after.not_shown, str),
    }


def _came_and_left(
    name: str, before: Sequence[_Item], after: Sequence[_Item], key: Callable[[_Item], object]
) -> dict[str, list[_Item]]:
    old, new = ({key(item) for item in items} for items in (before, after))
    return {
        f"{name}_came": [item for item in after if key(item) not in old],
        f"{name}_left": [item for item in before if key(item) not in new],
    }


def _finding_key(finding: Finding) -> object:
    # The text may hold a figure, such as a momentum that is wrong in another way now.
    return finding.slug, finding.place, finding.text


def _suspect_key(suspect: Suspect) -> object:
    # A diagnosis holds figures that change with every rounding; its short name does not.
    return tuple(suspect.nodes[:1]), suspect.slug
