"""A comparison of nodes in one line: what it says, and where to look first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parity.judge.verdict import NodeResult
from parity.process.outcome import Outcome

if TYPE_CHECKING:
    from parity.results.nodes import NodesReport, Suspect

NOT_REPEATABLE = "not-repeatable"
"""Slug of the finding that a candidate's runs do not agree with each other."""


@dataclass(frozen=True)
class Summary:
    """What a comparison says.

    Attributes:
        text: What was found, without the outcome's name.
        node: The node to look at first; None where there is none.
        diagnosis: What is wrong there, or why nothing is shown; None where that is not known.
        first: Whether the node is only the first of several that are alike.
    """

    text: str
    node: str | None = None
    diagnosis: str | None = None
    first: bool = False

    @property
    def line(self) -> str:
        """All of it in one line."""
        if self.node is None:
            return self.text
        if self.diagnosis is None:
            return f"{self.text}; suspect {self.node}"
        return f"{self.text}{', first' if self.first else ';'} {self.node}: {self.diagnosis}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"text": self.text, "node": self.node, "diagnosis": self.diagnosis}


def summarise(report: NodesReport) -> Summary:
    """What a comparison says, with what could go unseen or what is to blame.

    Args:
        report: The comparison.
    """
    if report.outcome is Outcome.PARITY:
        unseen, count = report.coverage.detectable or 0.0, len(report.inputs)
        return Summary(
            f"all {len(report.nodes)} nodes are covered and differ by no more than their "
            f"roundings on {count} input{'s' if count != 1 else ''}; an error above {unseen:.1e} "
            f"of a tensor's rms would have been seen"
        )
    return _gaps(report) if report.outcome is Outcome.NOT_SHOWN else _differences(report)


def _gaps(report: NodesReport) -> Summary:
    if not report.nodes:
        return Summary("no node was compared")
    missing = report.failures()
    if missing:
        return Summary(
            f"nothing was found to differ, but {len(missing)} of {len(report.nodes)} nodes are not "
            f"covered",
            missing[0].name,
            missing[0].reason,
            first=True,
        )
    if report.not_shown:
        return Summary(report.not_shown[0])
    return Summary("every node has parity, but some gradients are not covered")


def _differences(report: NodesReport) -> Summary:
    failing = [node for node in report.nodes if node.verdict.fails]
    unsteady = next((item for item in report.findings if item.slug == NOT_REPEATABLE), None)
    if unsteady is not None:
        # What is wrong with one run of it may be otherwise in the next.
        also = f"; {len(failing)} of {len(report.nodes)} nodes differ in the observed run"
        return Summary(f"{unsteady.place}: {unsteady.text}{also if failing else ''}")
    if failing:
        return _of_nodes(report, failing)
    if report.findings:
        first, others = report.findings[0], len(report.findings) - 1
        where = "" if report.failures() else "every node has parity on these inputs, but "
        more = f" ({others} more findings)" if others else ""
        return Summary(f"{where}{first.place}: {first.text}{more}")
    return Summary("every node has parity, but gradients differ")


def _of_nodes(report: NodesReport, failing: list[NodeResult]) -> Summary:
    infinite = next((node for node in failing if _not_finite(node)), None)
    if infinite is not None:
        others = len(failing) - 1
        return Summary(
            f"{infinite.name} is the first node with a value that is NaN or infinite: "
            f"{infinite.reason}" + (f"; {others} more nodes differ" if others else "")
        )
    uncovered = len(report.failures()) - len(failing)
    also = f", {uncovered} more {'is' if uncovered == 1 else 'are'} not covered"
    verb = "differs" if len(failing) == 1 else "differ"
    text = f"{len(failing)} of {len(report.nodes)} nodes {verb}{_only_on(report)}"
    suspect = _guilty(report)
    return Summary(
        f"{text}{also if uncovered else ''}",
        suspect.nodes[0] if suspect else failing[0].name,
        suspect.diagnosis if suspect else None,
    )


def _guilty(report: NodesReport) -> Suspect | None:
    """The suspect to name: what is only not covered explains no difference, even with a name."""
    guilty = [item for item in report.suspects if item.verdict.fails]
    return next((item for item in guilty if item.diagnosis), guilty[0] if guilty else None)


def _only_on(report: NodesReport) -> str:
    """On which inputs it differs, where it does not on all."""
    differing = [item for item in report.inputs if item.outcome == Outcome.DIFFERENCE.value]
    if not differing or len(differing) == len(report.inputs):
        return ""
    first = differing[0]
    more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
    return f" on {first.size} ({first.source}){more}, not on the other inputs"


def _not_finite(node: NodeResult) -> bool:
    return node.from_exact is not None and not node.from_exact.finite
