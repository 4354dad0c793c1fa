"""A comparison of nodes as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from parity.results import ranking
from parity.results.records.nodes import (
    DifferenceResult,
    Finding,
    InputResult,
    Node,
    NodesResult,
    ReferenceDescription,
    Suspect,
)
from parity.results.signs import in_capitals

_SHOWN = 5
"""Rows of a ranking."""

_FAILURES_SHOWN = 20
_FINDINGS_SHOWN = 10
_SUSPECTS_SHOWN = 10
_EVIDENCE_SHOWN = 4
_INPUTS_SHOWN = 12


def nodes_text(report: NodesResult, *, every_node: bool) -> str:
    """A comparison: what fails and why, the outputs, where differences come from, the verdict.

    Args:
        report: The result.
        every_node: Whether nodes that pass are listed too, not only the worst.
    """
    sections = [_heading(report)]
    failures = report.failures()
    if every_node:
        sections.append(["Nodes", *_table(report.nodes)])
    elif failures:
        title = "Nodes without parity"
        if len(failures) > _FAILURES_SHOWN:
            title += f" (the first {_FAILURES_SHOWN} of {len(failures)}; --verbose lists all)"
        sections.append([title, *_table(failures[:_FAILURES_SHOWN])])
    if report.suspects:
        title = "Suspects: where what fails begins, the most harmful first"
        sections.append([title, *_suspects_lines(report.suspects)])
    if report.findings:
        sections.append(["Structure", *_finding_lines(report)])
    sections.append(["Outputs", *_table(report.output_nodes())])
    worst = ranking.nearest(report.nodes, _SHOWN)
    if worst and not failures:
        title = "Nearest to their limit: roundings from the exact value, candidate and reference"
        sections.append([title, *_worst_lines(worst)])
    sources = ranking.sources(report.nodes, _SHOWN)
    if sources:
        title = "Where it comes from: largest differences that nodes make on identical inputs"
        sections.append([title, *_source_lines(sources)])
    if report.contributions:
        title = "What that does to the outputs, by putting each alone into an undisturbed run"
        sections.append([title, *_contribution_lines(report)])
    if report.noise:
        title = "Noise: how far each side is from itself"
        sections.append([title, *_noise_lines(report)])
    sections.append(_summary(report))
    return "\n\n".join("\n".join(section) for section in sections)


def _heading(report: NodesResult) -> list[str]:
    device = report.environment.get("device", "cpu")
    return [
        f"{report.model}, {report.dtype}",
        *_input_lines(report.inputs),
        f"checkpoint {report.checkpoint.source} ({report.checkpoint.weights.value}, "
        f"fingerprint {report.checkpoint.fingerprint[:16]})",
        f"reference {_reference(report.reference)}; candidate {report.candidate} on {device}",
        *(f"note: {note}" for note in report.reference.notes or ()),
        "free: both sides run on their own; max and rms are of the difference, relative to the rms "
        "of the reference's tensor.",
        "candidate, reference: distance from the exact value on the reference's tensors as inputs, "
        "in roundings, of at most so many.",
    ]


def _reference(found: ReferenceDescription) -> str:
    """Where the reference came from, and what computes it where that is known."""
    computed = f" ({found.framework})" if found.framework else ""
    return f"{found.kind.value} {found.source}{computed}"


def _input_lines(inputs: Sequence[InputResult]) -> list[str]:
    lines = [
        f"input {item.size}, {item.source}" + (f": {item.outcome.value}" if len(inputs) > 1 else "")
        for item in inputs
    ]
    if len(lines) <= _INPUTS_SHOWN:
        return lines
    # Those that say something first.
    telling = [
        line for line, item in zip(lines, inputs, strict=True) if item.outcome is not Outcome.PARITY
    ]
    shown = (telling or lines)[:_INPUTS_SHOWN]
    return [*shown, f"and {len(lines) - len(shown)} more inputs"]


def _table(nodes: Sequence[Node]) -> list[str]:
    rows = [("node", "shape", "free max", "free rms", "at", "candidate", "reference", "verdict")]
    for node in nodes:
        limit = node.limit
        rows.append(
            (
                node.name,
                "x".join(map(str, node.shape)) if node.shape else "-",
                _scientific(node.free.relative_max) if node.free else "-",
                _scientific(node.free.relative_rms) if node.free else "-",
                _place(node.free),
                _roundings(node.from_exact, limit.candidate if limit else None),
                _roundings(node.reference_from_exact, limit.reference if limit else None),
                node.verdict.value
                if node.verdict.passes
                else f"{in_capitals(node.verdict)}: {node.reason}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True))
        for row in rows
    ]


def _scientific(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


def _place(distance: DifferenceResult | None) -> str:
    if distance is None or distance.max_difference == 0:
        return "-"
    return "[" + ",".join(map(str, distance.max_index)) + "]"


def _roundings(distance: DifferenceResult | None, limit: float | None) -> str:
    if distance is None or distance.roundings is None or limit is None:
        return "-"
    return f"{_short(distance.roundings)}/{limit:.3g}"


def _short(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{value:.1f}" if value < 1000 else f"{value:.1e}"


def _suspects_lines(suspects: Sequence[Suspect]) -> list[str]:
    """Suspects, those with one diagnosis together under the most harmful of them."""
    groups: dict[Any, list[Suspect]] = {}
    # Of one whose output was looked at, or that has none, looking at more suspects tells nothing.
    waiting = [
        suspect
        for suspect in suspects
        if not (suspect.diagnosis or suspect.tried or suspect.evidence or suspect.patterns)
    ]
    for suspect in suspects:
        if suspect in waiting and len(waiting) < len(suspects):
            continue
        alone = suspect.nodes if suspect.diagnosis is None else ()
        groups.setdefault((suspect.diagnosis, alone), []).append(suspect)
    shown = list(groups.values())[:_SUSPECTS_SHOWN]
    lines = [line for group in shown for line in _suspect_lines(group)]
    if len(groups) > len(shown):
        lines.append(f"  and {len(groups) - len(shown)} more, all in the JSON result")
    if waiting and len(waiting) < len(suspects):
        lines.append(
            f"  {len(waiting)} more were not looked at, first {waiting[0].nodes[0]}; --diagnose N "
            f"looks at more"
        )
    return lines


def _suspect_lines(group: Sequence[Suspect]) -> list[str]:
    first = group[0]
    others = sum(len(suspect.nodes) for suspect in group) - 1
    more = f" and {others} more" if others else ""
    lines = [
        f"  {first.nodes[0]}{more}: {first.verdict.value}; {first.affected} nodes and "
        f"{first.outputs} outputs depend on it"
    ]
    if first.diagnosis:
        lines.append(f"    DIAGNOSIS: {first.diagnosis}")
    elif first.tried or first.patterns:
        why = "no hypothesis reproduces it" if first.tried else "no hypothesis could be tried"
        lines.append(f"    {why}; what the difference looks like:")
    lines += [f"    {line}" for line in first.evidence[:_EVIDENCE_SHOWN]]
    if not first.diagnosis:
        lines += [f"    {line}" for line in first.patterns[:_EVIDENCE_SHOWN]]
    return lines


def _finding_lines(report: NodesResult) -> list[str]:
    """One line for each kind of finding, with how many there are and the first of them."""
    kinds: dict[str, list[Finding]] = {}
    for item in report.findings:
        kinds.setdefault(item.slug, []).append(item)
    lines = []
    for alike in list(kinds.values())[:_FINDINGS_SHOWN]:
        first = alike[0]
        more = f" (and {len(alike) - 1} more of this kind)" if len(alike) > 1 else ""
        lines.append(f"  {first.place}: {first.text}{more}")
    if len(kinds) > _FINDINGS_SHOWN:
        lines.append(f"  and {len(kinds) - _FINDINGS_SHOWN} more kinds")
    if len(report.findings) > len(lines):
        lines.append(f"  all {len(report.findings)} are in the JSON result")
    return lines


def _worst_lines(nodes: Sequence[Node]) -> list[str]:
    return [
        f"  {_roundings(node.from_exact, node.limit.candidate):>10}  "
        f"{_roundings(node.reference_from_exact, node.limit.reference):>14}  {node.name} "
        f"({node.kind.value if node.kind else '-'}); an error of "
        f"{_scientific(node.detectable or 0)} of rms would be seen"
        for node in nodes
        if node.limit
    ]


def _source_lines(nodes: Sequence[Node]) -> list[str]:
    return [
        f"  {_scientific(node.own.relative_max)} of rms  {node.name} ({node.kind.value}; roundings "
        f"from the exact value: reference {_count(node.reference_from_exact)}, candidate "
        f"{_count(node.from_exact)})"
        for node in nodes
        if node.own and node.kind
    ]


def _count(distance: DifferenceResult | None) -> str:
    return "-" if distance is None or distance.roundings is None else _short(distance.roundings)


def _contribution_lines(report: NodesResult) -> list[str]:
    return [
        f"  {item.share:7.1%} of their difference  "
        + (item.nodes[0] if len(item.nodes) == 1 else "all of these together")
        for item in report.contributions
    ]


def _noise_lines(report: NodesResult) -> list[str]:
    lines = []
    for item in report.noise:
        text = f"  {item.side}, {item.variation}: "
        if not item.changed:
            lines.append(f"{text}all {item.nodes} nodes equal bit for bit")
            continue
        counted = "" if item.roundings is None else f", {_short(item.roundings)} roundings"
        lines.append(
            f"{text}{item.changed} of {item.nodes} nodes differ, at most "
            f"{_scientific(item.largest)} of rms{counted}, at {item.node}"
        )
    return lines


def _summary(report: NodesResult) -> list[str]:
    counts = ", ".join(
        f"{count} {verdict.value}"
        for verdict, count in report.counts.items()
        if count or verdict in (Verdict.EXACT, Verdict.ROUNDING, Verdict.NOT_COVERED)
    )
    lines = [f"{len(report.nodes)} nodes: {counts}"]
    largest = ranking.most_accumulated(report.nodes)
    if largest and largest.free:
        lines.append(
            f"largest accumulated difference {_scientific(largest.free.relative_max)} of rms, "
            f"at {largest.name} {_place(largest.free)}"
        )
    times = ", ".join(f"{name} {value:.1f} s" for name, value in report.seconds.items())
    lines.append(f"{times}; peak memory {report.peak_memory_bytes / 1e9:.2f} GB")
    lines.append("This verdict covers:")
    lines += [f"  {sentence}" for sentence in report.coverage.text]
    lines += [f"  Not shown: {sentence}" for sentence in report.not_shown]
    lines.append(report.sentence)
    return lines
