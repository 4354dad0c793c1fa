"""What a comparison of nodes says as a whole, and where to look first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from parity.judge.verdict import NodeResult, Verdict
from parity.process.outcome import Outcome
from parity.results import ranking
from parity.results.records.gradients import GradientsResult
from parity.results.records.nodes import (
    NOT_REPEATABLE,
    Coverage,
    Finding,
    InputResult,
    Node,
    NodesResult,
    Summary,
    Suspect,
)
from parity.results.records.record import made
from parity.results.signs import in_capitals


@dataclass(frozen=True)
class Evidence:
    """What the outcome of a comparison rests on.

    Attributes:
        nodes: One result for each node of either side, in order: the worst of all inputs.
        inputs: What both sides were run on, and what each input alone says.
        coverage: What the verdict covers.
        findings: What is wrong with the candidate whatever its tensors are.
        suspects: Where what fails begins, the most harmful first.
        gradients: The comparison of gradients; None where there was none.
        not_shown: Sentences on what could not be compared besides nodes.
    """

    nodes: Sequence[NodeResult]
    inputs: Sequence[InputResult]
    coverage: Coverage
    findings: Sequence[Finding] = ()
    suspects: Sequence[Suspect] = ()
    gradients: GradientsResult | None = None
    not_shown: Sequence[str] = ()

    @property
    def nodes_pass(self) -> bool:
        """Whether every node of both sides is covered and within its limit."""
        return bool(self.nodes) and not self.failures

    @property
    def failures(self) -> list[NodeResult]:
        """The nodes whose parity is not shown."""
        return [node for node in self.nodes if not node.verdict.passes]

    @property
    def failing(self) -> list[NodeResult]:
        """The nodes that differ."""
        return [node for node in self.nodes if node.verdict.fails]

    @property
    def outcome(self) -> Outcome:
        """What the comparison says as a whole."""
        if self.failing or self.findings or self._gradients_differ():
            return Outcome.DIFFERENCE
        gradients_pass = self.gradients is None or self.gradients.passes
        if not self.nodes_pass or not gradients_pass or self.not_shown:
            return Outcome.NOT_SHOWN
        return Outcome.PARITY

    def _gradients_differ(self) -> bool:
        counts = self.gradients.counts if self.gradients else {}
        return any(
            count and verdict.fails
            for by_verdict in counts.values()
            for verdict, count in by_verdict.items()
        )


@dataclass(frozen=True)
class Told:
    """What a comparison says.

    Attributes:
        summary: The parts.
        first: Whether its node is only the first of several that are alike.
    """

    summary: Summary
    first: bool = False

    @property
    def line(self) -> str:
        """All of it in one line."""
        text, node, diagnosis = self.summary.text, self.summary.node, self.summary.diagnosis
        if node is None:
            return text
        if diagnosis is None:
            return f"{text}; suspect {node}"
        return f"{text}{', first' if self.first else ';'} {node}: {diagnosis}"


def nodes_result(evidence: Evidence, tensors: Mapping[str, str], **others: Any) -> NodesResult:
    """The result of a comparison.

    Args:
        evidence: What its outcome rests on.
        tensors: What the reference calls each node's tensor.
        others: The fields of the result that do not follow from these.
    """
    told, outcome = tell(evidence), evidence.outcome
    largest = ranking.most_accumulated(evidence.nodes)
    counts = Counter(node.verdict for node in evidence.nodes)
    return NodesResult(
        outcome=outcome,
        passes=outcome is Outcome.PARITY,
        sentence=f"{in_capitals(outcome)}: {told.line}",
        summary=told.summary,
        nodes_pass=evidence.nodes_pass,
        inputs=evidence.inputs,
        coverage=evidence.coverage,
        not_shown=evidence.not_shown,
        counts={verdict: counts[verdict] for verdict in Verdict},
        largest_relative_max=ranking.accumulated(largest) if largest else None,
        largest_node=largest.name if largest else None,
        suspects=evidence.suspects,
        findings=evidence.findings,
        gradients=evidence.gradients,
        nodes=[node_record(node, tensors.get(node.name)) for node in evidence.nodes],
        **others,
    )


def node_record(node: NodeResult, tensor: str | None) -> Node:
    """What is written of a node.

    Args:
        node: What was found.
        tensor: Name of the reference's tensor; None where only the candidate has the node.
    """
    return made(Node, SimpleNamespace(**vars(node), tensor=tensor))


def tell(found: Evidence) -> Told:
    """What a comparison says, with what could go unseen or what is to blame.

    Args:
        found: What its outcome rests on.
    """
    if found.outcome is Outcome.PARITY:
        unseen, count = found.coverage.detectable or 0.0, len(found.inputs)
        return _only(
            f"all {len(found.nodes)} nodes are covered and differ by no more than their "
            f"roundings on {count} input{'s' if count != 1 else ''}; an error above {unseen:.1e} "
            f"of a tensor's rms would have been seen"
        )
    return _gaps(found) if found.outcome is Outcome.NOT_SHOWN else _differences(found)


def _only(text: str) -> Told:
    return Told(Summary(text))


def _gaps(found: Evidence) -> Told:
    if not found.nodes:
        return _only("no node was compared")
    missing = found.failures
    if missing:
        summary = Summary(
            f"nothing was found to differ, but {len(missing)} of {len(found.nodes)} nodes are not "
            f"covered",
            missing[0].name,
            missing[0].reason,
        )
        return Told(summary, first=True)
    if found.not_shown:
        return _only(found.not_shown[0])
    return _only("every node has parity, but some gradients are not covered")


def _differences(found: Evidence) -> Told:
    failing = found.failing
    unsteady = next((item for item in found.findings if item.slug == NOT_REPEATABLE), None)
    if unsteady is not None:
        # What is wrong with one run of it may be otherwise in the next.
        also = f"; {len(failing)} of {len(found.nodes)} nodes differ in the observed run"
        return _only(f"{unsteady.place}: {unsteady.text}{also if failing else ''}")
    if failing:
        return _of_nodes(found, failing)
    if found.findings:
        first, others = found.findings[0], len(found.findings) - 1
        where = "" if found.failures else "every node has parity on these inputs, but "
        more = f" ({others} more findings)" if others else ""
        return _only(f"{where}{first.place}: {first.text}{more}")
    return _only("every node has parity, but gradients differ")


def _of_nodes(found: Evidence, failing: Sequence[NodeResult]) -> Told:
    infinite = next((node for node in failing if _not_finite(node)), None)
    if infinite is not None:
        others = len(failing) - 1
        return _only(
            f"{infinite.name} is the first node with a value that is NaN or infinite: "
            f"{infinite.reason}" + (f"; {others} more nodes differ" if others else "")
        )
    uncovered = len(found.failures) - len(failing)
    also = f", {uncovered} more {'is' if uncovered == 1 else 'are'} not covered"
    verb = "differs" if len(failing) == 1 else "differ"
    text = f"{len(failing)} of {len(found.nodes)} nodes {verb}{_only_on(found.inputs)}"
    suspect = _guilty(found.suspects)
    return Told(
        Summary(
            f"{text}{also if uncovered else ''}",
            suspect.nodes[0] if suspect else failing[0].name,
            suspect.diagnosis if suspect else None,
        )
    )


def _guilty(suspects: Sequence[Suspect]) -> Suspect | None:
    """The suspect to name: what is only not covered explains no difference, even with a name."""
    guilty = [item for item in suspects if item.verdict.fails]
    return next((item for item in guilty if item.diagnosis), guilty[0] if guilty else None)


def _only_on(inputs: Sequence[InputResult]) -> str:
    """On which inputs it differs, where it does not on all."""
    differing = [item for item in inputs if item.outcome is Outcome.DIFFERENCE]
    if not differing or len(differing) == len(inputs):
        return ""
    first = differing[0]
    more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
    return f" on {first.size} ({first.source}){more}, not on the other inputs"


def _not_finite(node: NodeResult) -> bool:
    return node.from_exact is not None and not node.from_exact.finite
