"""The part of a page on what is wrong, and where what is right comes nearest to its limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parity.results import ranking
from parity.results.records.nodes import DifferenceResult, NodesResult, largest_of, roundings_of
from parity.results.signs import VERDICTS, Sign
from reports.pages.elements import Link, Table, node_link
from reports.words.faults import about_finding, is_about_values
from reports.words.texts import NONE, plural, scientific, short

_NEAREST = 8
_ORIGINS = 8
_LINES = 6


@dataclass(frozen=True)
class Suspicion:
    """A place where something is wrong that no earlier place explains.

    Attributes:
        id: Of its place on the page.
        nodes: Links to its nodes.
        verdict: On the first of them.
        sign: How that is shown.
        diagnosis: What is wrong, in words; may be empty.
        values: Whether the layer is the right one and only its parameters are not.
        reason: Why the verdict is what it is.
        evidence: What speaks for the diagnosis.
        patterns: What the difference looks like.
        effect: What depends on it, in a sentence.
        tried: Whether hypotheses were tried.
    """

    id: str
    nodes: Sequence[Link]
    verdict: str
    sign: Sign
    diagnosis: str
    values: bool
    reason: str
    evidence: Sequence[str]
    patterns: Sequence[str]
    effect: str
    tried: bool


def suspicions(nodes: NodesResult) -> list[Suspicion]:
    """The suspects of a comparison, the most harmful first.

    Args:
        nodes: The comparison.
    """
    reasons = {node.name: node.reason for node in nodes.nodes}
    return [
        Suspicion(
            id=f"suspect-{number}",
            nodes=[node_link(name) for name in item.nodes],
            verdict=item.verdict.value,
            sign=VERDICTS[item.verdict],
            diagnosis=item.diagnosis or "",
            values=is_about_values(item.slug),
            reason=reasons.get(item.nodes[0], "") if item.nodes else "",
            evidence=item.evidence[:_LINES],
            patterns=item.patterns[:_LINES],
            effect=f"{plural(item.affected, 'node')} and "
            f"{plural(item.outputs, 'output')} of the network depend on it",
            tried=item.tried,
        )
        for number, item in enumerate(nodes.suspects)
    ]


def findings_table(nodes: NodesResult) -> Table | None:
    """What is wrong with the candidate whatever its tensors are; None where nothing is."""
    if not nodes.findings:
        return None
    rows = [[item.place, about_finding(item.slug).value, item.text] for item in nodes.findings]
    return Table(
        "Found in the candidate's parameters and settings, whatever its tensors are",
        ["Place", "What it is about", "What was found"],
        rows,
        [False, False, False],
    )


def structures_table(nodes: NodesResult) -> Table | None:
    """What the candidate's structure has otherwise; None where nothing is known to be."""
    if not nodes.structures:
        return None
    rows: list[list[str | Link]] = [[item.slug, item.text] for item in nodes.structures]
    return Table(
        "What the candidate's structure has otherwise, read off its operations",
        ["What", "What was found"],
        rows,
        [False, False],
    )


def nearest_table(nodes: NodesResult) -> Table:
    """The nodes nearest to their limit, or furthest beyond it."""
    rows: list[list[str | Link]] = [
        [
            node_link(node.name),
            node.kind.value if node.kind else NONE,
            _of(node.from_exact, node.limit.candidate if node.limit else None),
            _of(node.reference_from_exact, node.limit.reference if node.limit else None),
            scientific(node.detectable),
        ]
        for node in ranking.nearest(nodes.nodes, _NEAREST)
    ]
    return Table(
        "Nearest to their limit: roundings from the exact value, of as many as are allowed",
        ["Node", "Kind", "PyTorch", "TensorFlow", "Detectable error, of rms"],
        rows,
        [False, False, True, True, True],
    )


def _of(distance: DifferenceResult | None, most: float | None) -> str:
    found = short(roundings_of(distance))
    return found if most is None else f"{found} / {most:g}"


def origins_table(nodes: NodesResult) -> Table:
    """The nodes that make the largest differences of their own."""
    rows: list[list[str | Link]] = [
        [
            node_link(node.name),
            node.kind.value if node.kind else NONE,
            scientific(largest_of(node.own)),
            short(roundings_of(node.from_exact)),
            short(roundings_of(node.reference_from_exact)),
        ]
        for node in ranking.sources(nodes.nodes, _ORIGINS)
    ]
    return Table(
        "Where it comes from: largest differences that nodes make on identical inputs, of rms, and "
        "each side's roundings from the exact value",
        ["Node", "Kind", "Own difference, of rms", "PyTorch, roundings", "TensorFlow, roundings"],
        rows,
        [False, False, True, True, True],
    )
