"""The verdict: what it is, what it means, what is to blame and what to do first."""

from __future__ import annotations

from collections.abc import Mapping

from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from parity.results.records.nodes import OTHER_FORM, NodesResult
from parity.results.signs import in_capitals
from parity.results.text.groups import module_of, was_not_looked_at
from parity.results.text.layout import labelled, plural, same_at, wrapped
from parity.results.text.lead import Lead

_DETAILS = 2


def verdict_lines(
    report: NodesResult, found: Lead | None, paths: Mapping[str, str], width: int, *, verbose: bool
) -> list[str]:
    """The first lines.

    Args:
        report: The comparison.
        found: Where to look first.
        paths: The candidate's module by node.
        width: Columns of a line.
        verbose: Whether all places and all that speaks for them are listed.
    """
    told = report.sentence if found is None else f"{in_capitals(report.outcome)}: {_count(report)}"
    lines = wrapped(f"{told}.", width, indent="  ", first="")
    lines += wrapped(_meaning(report), width, indent="  ")
    told = report.checkpoint.told
    if told:
        lines += wrapped(f"Hyperparameters {told}.", width, indent="    ", first="  ")
    if found is not None:
        lines += ["", *_lead_lines(report, found, paths, width, verbose=verbose)]
    return lines


def last_line(report: NodesResult, found: Lead | None, width: int) -> str:
    """The verdict once more, where a reader of a long output sees it.

    Args:
        report: The comparison.
        found: Where to look first.
        width: Columns of the line.
    """
    word = in_capitals(report.outcome)
    if found is None:
        return f"{word}: {plural(len(report.nodes), 'node')}, {plural(len(report.inputs), 'input')}"
    short = f"{word}: {_count(report).partition(';')[0]}"
    shortest = short.partition(",")[0]
    forms = (f"{short}; look first at {found.place}", short)
    return next((form for form in forms if len(form) <= width), shortest)


def _count(report: NodesResult) -> str:
    """What was found, in numbers."""
    failing = sum(node.verdict.fails for node in report.nodes)
    elsewhere = report.counts.get(Verdict.OWN_INPUTS, 0)
    missing = len(report.failures()) - failing - elsewhere
    nodes = plural(len(report.nodes), "node")
    gap = f"{missing:,} of {nodes} could not be compared"
    if failing:
        more = f", {missing:,} more could not be compared" if missing else ""
        if elsewhere:
            on_own = (
                "is right on its own inputs" if elsewhere == 1 else "are right on their own inputs"
            )
            more = f", {elsewhere:,} more {on_own}{more}"
        return f"{failing:,} of {nodes} {'differs' if failing == 1 else 'differ'}{more}"
    if report.outcome is Outcome.DIFFERENCE:
        counted = plural(len(report.findings), "finding")
        differs = "gradients differ"
        if report.gradients is not None and report.gradients.only_statistics:
            differs = "batch norms' statistics differ after a step of training"
        what = f"{counted} about the candidate" if report.findings else differs
        return f"{what}; {gap}" if missing else f"{what}; every node has parity on these inputs"
    if not report.nodes:
        return "no node was compared"
    return gap if missing else "every node has parity, but not all could be compared"


def _meaning(report: NodesResult) -> str:
    """The verdict in a sentence."""
    if report.outcome is Outcome.PARITY:
        return "The candidate computes what the reference computes; all that was found is rounding."
    if report.outcome is Outcome.NOT_SHOWN:
        return (
            "Nothing was found to differ, but what could not be compared may be right or wrong. "
            "This is not parity."
        )
    failing = [node for node in report.nodes if node.verdict.fails]
    if failing and all(node.verdict is Verdict.REFERENCE_DIFFERS for node in failing):
        return "The candidate is right there, and the reference is further off than rounding goes."
    if failing and all(node.verdict is Verdict.CANDIDATE_DIFFERS for node in failing):
        return "Given the very same tensors, the candidate is further off there than rounding goes."
    if failing:
        return (
            "Given the very same tensors, the candidate computes something else there. "
            "This is not rounding."
        )
    if any(item.slug == OTHER_FORM for item in report.findings):
        return "What was written is right, and what is run in its place computes something else."
    return "The outputs agree on these inputs, but the candidate is not the same network."


def _lead_lines(
    report: NodesResult, found: Lead, paths: Mapping[str, str], width: int, *, verbose: bool
) -> list[str]:
    name = "culprit" if report.outcome is Outcome.DIFFERENCE else "missing"
    lines = labelled(name, found.place + _module(found.place, paths), width)
    lines += labelled("", f"{found.what}", width)
    if found.others:
        lines += labelled("", same_at(found.others, verbose=verbose), width)
    waiting = sum(map(was_not_looked_at, report.suspects))
    if found.suspect is not None and found.suspect.tried and waiting:
        told = f"{plural(waiting, 'more suspect')} not looked at: --diagnose N looks at N of them"
        lines += labelled("", told, width)
    for detail in found.details[: None if verbose else _DETAILS]:
        lines += labelled("", f"- {detail}", width)
    return [*lines, *labelled("do first", found.step, width)]


def _module(place: str, paths: Mapping[str, str]) -> str:
    """The candidate's module, where it is known and has another path than the node says."""
    path = paths.get(place)
    return f" (the candidate's {path})" if path not in (None, module_of(place)) else ""
