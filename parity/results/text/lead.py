"""Where to look first, what is wrong there, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parity.process.outcome import Outcome
from parity.results.records.nodes import (
    NOT_REPEATABLE,
    READS_OTHER,
    REWIRINGS,
    Finding,
    Node,
    NodesResult,
    Statement,
    Suspect,
)
from parity.results.text import advice
from parity.results.text.groups import finding_groups, reason_groups, suspect_groups
from parity.results.text.layout import same_at

_READS_OTHERS = frozenset((READS_OTHER, "inputs-permuted"))
"""Names that say only what a node reads."""


@dataclass(frozen=True)
class Lead:
    """Where to look first.

    Attributes:
        place: A node, a parameter, or the candidate as a whole.
        what: What is wrong there, or why nothing is shown.
        step: What to do about it, one sentence.
        others: Further places of which the same is true.
        details: Sentences on what speaks for it.
        suspect: The suspect that it is; None where it is something else.
        finding: The finding that it is, likewise.
    """

    place: str
    what: str
    step: str
    others: Sequence[str] = ()
    details: Sequence[str] = ()
    suspect: Suspect | None = None
    finding: Finding | None = None


def lead(report: NodesResult) -> Lead | None:
    """Where to look first; None where nothing is wrong and nothing is missing.

    Args:
        report: The comparison.
    """
    if report.outcome is Outcome.PARITY:
        return None
    if report.outcome is Outcome.NOT_SHOWN:
        return _of_gaps(report)
    if any(item.slug == NOT_REPEATABLE for item in report.findings):
        return _of_findings(report, NOT_REPEATABLE)
    node = next((node for node in report.nodes if node.name == report.summary.node), None)
    failing = [item for item in report.nodes if item.verdict.fails]
    if node is None and failing:
        # The summary names no suspect where values that are none are the first thing to look at.
        node = next((item for item in failing if _not_finite(item)), failing[0])
    if node is not None:
        return _of_node(report, node)
    if report.findings:
        return _of_findings(report, report.findings[0].slug)
    if report.gradients is not None and report.gradients.only_statistics:
        return Lead(
            "the batch norms' statistics",
            "every gradient has parity, but a step of training leaves another running_mean and "
            "running_var",
            "Compare the momentum of the batch norms with the model's, which is 0.01 in PyTorch's "
            "sense, where TensorFlow says 0.99.",
        )
    return Lead(
        "the gradients",
        "both networks compute the same, but do not differentiate alike",
        "Look at the comparison of gradients below; the last gradient without parity is nearest to "
        "the fault.",
    )


def accusation(report: NodesResult) -> list[str]:
    """The same in a few lines: ``place: what is wrong``, where else, and what to do first.

    Args:
        report: The comparison.
    """
    found = lead(report)
    if found is None:
        return []
    others = [same_at(found.others, verbose=False)] if found.others else []
    return [f"{found.place}: {found.what}", *others, found.step]


def _of_findings(report: NodesResult, slug: str) -> Lead:
    groups = finding_groups(report.findings)
    group = next(group for group in groups if group.first.slug == slug)
    others = group.places[1:]
    step = advice.for_fault(slug, report, several=bool(others))
    return Lead(group.first.place, group.first.text, step, others, finding=group.first)


def _of_node(report: NodesResult, node: Node) -> Lead:
    groups = suspect_groups(report.suspects)
    group = next((group for group in groups if node.name in group.places), None)
    if group is None:
        return Lead(node.name, node.reason, advice.for_unknown(None, node, report))
    suspect = group.first
    others = [place for place in group.places if place != node.name]
    if _not_finite(node):
        step = advice.for_unknown(None, node, report)
        named = [suspect.diagnosis] if suspect.diagnosis else []
        return Lead(node.name, node.reason, step, others, [*named, *suspect.evidence], suspect)
    if suspect.slug in _READS_OTHERS and any(item.other_layers for item in report.structures):
        return _of_structure(report, node, suspect)
    if any(item.slug in REWIRINGS and _explains(item, group.places) for item in report.structures):
        return _of_structure(report, node, suspect)
    if suspect.diagnosis and suspect.slug:
        step = advice.for_fault(suspect.slug, report, several=len(group.places) > 1)
        return Lead(node.name, suspect.diagnosis, step, others, suspect.evidence, suspect)
    step = advice.for_unknown(suspect, node, report)
    why = (
        "no known fault reproduces it"
        if suspect.tried
        else "what is wrong is not known; no hypothesis could be tried"
    )
    # What the difference looks like says more than which operations make it.
    details = (*suspect.patterns[:2], *suspect.evidence, *suspect.patterns[2:])
    return Lead(node.name, f"{node.verdict.value}; {why}", step, others, details, suspect)


def _of_structure(report: NodesResult, node: Node, suspect: Suspect) -> Lead:
    """What is built otherwise, where a node that reads something else follows from that."""
    count = len(report.structures)
    told = "as a statement on it says" if count == 1 else f"as {count} statements on it say"
    reads = []
    # Where only the order is another, what a layer reads is told by the statement.
    if suspect.slug in _READS_OTHERS and any(item.other_layers for item in report.structures):
        reads = [f"the first node that differs is {node.name}, which {suspect.diagnosis}"]
    return Lead(
        "the candidate's structure",
        f"it is not the model's: layers are missing, too many or in another order, {told}",
        advice.for_structure(report),
        details=(
            "in such a place a layer of the candidate may be taken for another node than it is "
            "meant to be",
            *reads,
        ),
        suspect=suspect,
    )


def _explains(statement: Statement, places: Sequence[str]) -> bool:
    """Whether a statement is about the step that some nodes lie in, such as a fusion's."""
    steps = {name.rpartition(".")[0] for name in statement.nodes}
    return any(place.rpartition(".")[0] in steps for place in places)


def _of_gaps(report: NodesResult) -> Lead:
    missing = report.failures()
    if missing:
        group = reason_groups(missing)[0]
        first = group.first
        step = advice.for_gap(first, report)
        return Lead(first.name, first.reason, step, group.places[1:])
    if report.not_shown:
        step = "Mend what is said above, or compare on images of your own with --image."
        return Lead("the candidate", report.not_shown[0], step)
    if not report.nodes:
        step = (
            "Say with --names FILE.json which submodules of the candidate make the model's nodes."
        )
        return Lead("the candidate", "no node of it could be compared", step)
    return Lead(
        "the gradients",
        "some could not be compared",
        "Look at the comparison of gradients below, which says why.",
    )


def _not_finite(node: Node) -> bool:
    return node.from_exact is not None and not node.from_exact.finite
