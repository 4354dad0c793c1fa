"""The result of a comparison, as plain values for JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parity.judge.verdict import NodeResult, Verdict, number
from parity.process.outcome import Outcome
from parity.results.coverage import Coverage, InputResult
from parity.results.summary import Summary, summarise

SCHEMA = "efficientdet-parity/nodes"
SCHEMA_VERSION = 3


@dataclass(frozen=True)
class Contribution:
    """What one node's own difference does to the outputs.

    Attributes:
        nodes: The node; several where their differences were put in together.
        share: Part of the outputs' difference that it reproduces; 1 is all of it. Negative where
            it works against the rest.
        size: Size of its effect relative to the outputs' difference, whatever the direction.
    """

    nodes: tuple[str, ...]
    share: float
    size: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"nodes": list(self.nodes), "share": number(self.share), "size": number(self.size)}


@dataclass(frozen=True)
class Finding:
    """Something about a candidate that is wrong whatever its tensors are.

    Attributes:
        slug: Short name of what it is, such as ``parameter-different``.
        place: The parameter or node.
        text: What was found and what was expected.
    """

    slug: str
    place: str
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"slug": self.slug, "place": self.place, "text": self.text}


@dataclass(frozen=True)
class Suspect:
    """A place where something is wrong that no earlier place explains.

    Attributes:
        nodes: The node; several where levels share its module.
        verdict: The verdict on the first.
        affected: Number of nodes that depend on it.
        outputs: Number of the network's outputs that do.
        slug: Short name of what is wrong; None where no hypothesis fits or none was tried.
        diagnosis: The same in words.
        evidence: What speaks for it: figures, and the parameters' relation to the checkpoint's.
        patterns: What the difference looks like, the most telling first.
        tried: Whether hypotheses were tried.
    """

    nodes: tuple[str, ...]
    verdict: Verdict
    affected: int
    outputs: int
    slug: str | None = None
    diagnosis: str | None = None
    evidence: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    tried: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "nodes": list(self.nodes),
            "verdict": self.verdict.value,
            "affected": self.affected,
            "outputs": self.outputs,
            "slug": self.slug,
            "diagnosis": self.diagnosis,
            "evidence": list(self.evidence),
            "patterns": list(self.patterns),
            "tried": self.tried,
        }


@dataclass(frozen=True)
class Noise:
    """How much one side differs from itself when something is changed that should not matter.

    Attributes:
        side: ``torch`` or ``tensorflow``.
        variation: What was changed.
        nodes: Number of nodes compared.
        changed: Number of nodes whose tensors are not the same bit for bit.
        largest: The largest difference, in units of its node's rms.
        roundings: The largest in roundings, where each node was given the same inputs.
        node: Where the largest is; None where there is none.
    """

    side: str
    variation: str
    nodes: int
    changed: int
    largest: float
    roundings: float | None
    node: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "side": self.side,
            "variation": self.variation,
            "nodes": self.nodes,
            "changed": self.changed,
            "largest_relative_max": number(self.largest),
            "largest_roundings": number(self.roundings),
            "node": self.node,
        }


@dataclass(frozen=True)
class NodesReport:
    """The result of comparing two networks node by node.

    Attributes:
        model: Name of the model.
        checkpoint: What both sides were filled from: path, fingerprint, weights.
        reference: Where the TensorFlow side came from.
        candidate: Where the PyTorch side came from.
        inputs: What both sides were run on, and what each input alone says.
        coverage: What the verdict covers.
        dtype: Type in which both sides computed.
        environment: Versions and settings.
        nodes: One result for each node of either side, in order: the worst of all inputs.
        tensors: Name of each node's TensorFlow tensor.
        outputs: Names of the nodes that are the network's outputs.
        contributions: What the nodes that make the largest differences do to the outputs, then
            all of these together; empty where that was not tried.
        seconds: Wall time by phase.
        peak_memory: Largest resident memory of the process, in bytes.
        findings: What is wrong with the candidate whatever its tensors are.
        suspects: Where what fails begins, the most harmful first.
        noise: How much each side differs from itself.
        gradients: The comparison of gradients, as plain values; None where there was none.
        closeups: A closer look at some nodes, as plain values.
        not_shown: Sentences on what could not be compared besides nodes.
    """

    model: str
    checkpoint: dict[str, Any]
    reference: dict[str, Any]
    candidate: str
    inputs: Sequence[InputResult]
    coverage: Coverage
    dtype: str
    environment: dict[str, Any]
    nodes: Sequence[NodeResult]
    tensors: Mapping[str, str]
    outputs: Sequence[str]
    contributions: Sequence[Contribution]
    seconds: dict[str, float]
    peak_memory: int
    findings: Sequence[Finding] = ()
    suspects: Sequence[Suspect] = ()
    noise: Sequence[Noise] = ()
    gradients: Mapping[str, Any] | None = None
    closeups: Sequence[Mapping[str, Any]] = ()
    not_shown: Sequence[str] = ()

    @property
    def nodes_pass(self) -> bool:
        """Whether every node of both sides is covered and within its limit."""
        return bool(self.nodes) and all(node.verdict.passes for node in self.nodes)

    @property
    def outcome(self) -> Outcome:
        """What the comparison says as a whole."""
        differs = any(node.verdict.fails for node in self.nodes) or bool(self.findings)
        if differs or self._gradients_differ():
            return Outcome.DIFFERENCE
        gradients_pass = self.gradients is None or bool(self.gradients["passes"])
        if not self.nodes_pass or not gradients_pass or self.not_shown:
            return Outcome.NOT_SHOWN
        return Outcome.PARITY

    def _gradients_differ(self) -> bool:
        counts = self.gradients["counts"] if self.gradients else {}
        failing = [verdict.value for verdict in Verdict if verdict.fails]
        return any(by_verdict.get(name) for by_verdict in counts.values() for name in failing)

    @property
    def passes(self) -> bool:
        """Whether everything is shown and nothing differs."""
        return self.outcome is Outcome.PARITY

    @property
    def summary(self) -> Summary:
        """What the comparison says, and where to look first."""
        return summarise(self)

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        return f"{self.outcome.value.upper()}: {self.summary.line}"

    def counts(self) -> dict[str, int]:
        """Number of nodes by verdict."""
        counts = Counter(node.verdict.value for node in self.nodes)
        return {verdict.value: counts[verdict.value] for verdict in Verdict}

    def output_nodes(self) -> list[NodeResult]:
        """The results of the network's outputs, in their order."""
        by_name = {node.name: node for node in self.nodes}
        return [by_name[name] for name in self.outputs if name in by_name]

    def largest_free(self) -> NodeResult | None:
        """The node whose accumulated difference is largest relative to its rms."""
        measured = [node for node in self.nodes if node.free]
        return max(measured, key=lambda node: _free_max(node), default=None)

    def sources(self, count: int) -> list[NodeResult]:
        """The nodes that make the largest difference of their own, largest first."""
        return largest_sources(self.nodes, count)

    def worst(self, count: int) -> list[NodeResult]:
        """The nodes at which the candidate is nearest to its limit, or beyond it, worst first."""
        measured = [
            node
            for node in self.nodes
            if node.limit and node.limit.candidate and node.roundings > 0
        ]
        return sorted(measured, key=lambda node: -_share(node))[:count]

    def failures(self) -> list[NodeResult]:
        """The nodes whose parity is not shown."""
        return [node for node in self.nodes if not node.verdict.passes]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the schema is documented in ``docs/results.md``."""
        largest = self.largest_free()
        return {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "outcome": self.outcome.value,
            "passes": self.passes,
            "sentence": self.sentence,
            "summary": self.summary.to_dict(),
            "nodes_pass": self.nodes_pass,
            "model": self.model,
            "checkpoint": self.checkpoint,
            "reference": self.reference,
            "candidate": self.candidate,
            "inputs": [item.to_dict() for item in self.inputs],
            "coverage": self.coverage.to_dict(self.inputs),
            "not_shown": list(self.not_shown),
            "dtype": self.dtype,
            "environment": self.environment,
            "counts": self.counts(),
            "largest_relative_max": number(_free_max(largest)) if largest else None,
            "largest_node": largest.name if largest else None,
            "outputs": list(self.outputs),
            "contributions": [item.to_dict() for item in self.contributions],
            "suspects": [item.to_dict() for item in self.suspects],
            "findings": [item.to_dict() for item in self.findings],
            "noise": [item.to_dict() for item in self.noise],
            "gradients": self.gradients,
            "closeups": list(self.closeups),
            "seconds": self.seconds,
            "peak_memory_bytes": self.peak_memory,
            "nodes": [
                {**node.to_dict(), "tensor": self.tensors.get(node.name)} for node in self.nodes
            ],
        }


def largest_sources(nodes: Iterable[NodeResult], count: int) -> list[NodeResult]:
    """The ``count`` nodes that make the largest difference of their own, largest first."""
    measured = [node for node in nodes if node.own and node.own.max_difference]
    return sorted(measured, key=lambda node: -_own_max(node))[:count]


def _share(node: NodeResult) -> float:
    """The part of its limit that a node's candidate takes up."""
    return node.roundings / node.limit.candidate if node.limit and node.limit.candidate else 0.0


def _free_max(node: NodeResult) -> float:
    value = node.free.relative_max if node.free else 0.0
    return math.inf if math.isnan(value) else value


def _own_max(node: NodeResult) -> float:
    value = node.own.relative_max if node.own else 0.0
    return math.inf if math.isnan(value) else value
