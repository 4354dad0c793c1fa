"""What a verdict covers: inputs, how far they reached, what could go unseen, what is assumed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parity.judge.reach import Reach
from parity.judge.verdict import NodeResult, Verdict, number

CONFIDENT = 0.5
"""Score of a detection that anybody would show; what acts only on such logits needs one."""

UNLIKE = 4.0
"""Times that the inputs of batch norms may spread as much as their statistics expect, at the
median, before the images count as unlike those of the training. 80
photographs in the trained D0 have a median of 1.5."""


@dataclass(frozen=True)
class InputResult:
    """One of the inputs of a comparison, and what came of it.

    Attributes:
        source: Where its images came from.
        height: In pixels.
        width: In pixels.
        batch: Number of images.
        sha256: Of the input tensor's bytes.
        outcome: What this input alone says.
        counts: Number of nodes by verdict.
        largest_relative_max: Largest accumulated difference relative to its node's rms.
        largest_node: Where that is.
        seconds: Wall time by pass.
    """

    source: str
    height: int
    width: int
    batch: int
    sha256: str
    outcome: str
    counts: Mapping[str, int]
    largest_relative_max: float | None
    largest_node: str | None
    seconds: Mapping[str, float]

    @property
    def size(self) -> str:
        """Batch, height and width as text."""
        pixels = f"{self.height}x{self.width}"
        return pixels if self.batch == 1 else f"{self.batch} of {pixels}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "source": self.source,
            "height": self.height,
            "width": self.width,
            "batch": self.batch,
            "sha256": self.sha256,
            "outcome": self.outcome,
            "counts": dict(self.counts),
            "largest_relative_max": number(self.largest_relative_max),
            "largest_node": self.largest_node,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


@dataclass(frozen=True)
class Coverage:
    """What a verdict covers.

    Attributes:
        nodes: Number of nodes of either side.
        covered: Number of those on which something is shown.
        detectable: The largest error of one element, in units of its tensor's rms, that could go
            unseen at a covered node on all inputs; None where nothing is covered.
        detectable_node: Where that is.
        spread: Of the inputs of batch norms, relative to what the checkpoint's statistics expect:
            the median over nodes and inputs; None where there are none.
        deviations: How far the inputs of a batch norm went, in the deviations of its statistics.
        deviations_node: Where that is.
        score: The highest class score reached.
        assumed: What no tensor and no file says.
        notes: What the verdict leaves out or depends on besides.
    """

    nodes: int
    covered: int
    detectable: float | None = None
    detectable_node: str | None = None
    spread: float | None = None
    deviations: float | None = None
    deviations_node: str | None = None
    score: float | None = None
    assumed: Sequence[str] = ()
    notes: Sequence[str] = ()

    def text(self, inputs: Sequence[InputResult]) -> list[str]:
        """Sentences for a reader.

        Args:
            inputs: The comparison's inputs.
        """
        lines = [
            f"{self.covered} of {self.nodes} nodes, on {_inputs_text(inputs)}.",
        ]
        if self.detectable is not None:
            lines.append(
                f"An error of {self.detectable:.1e} of a tensor's rms would be seen at every "
                f"covered node (least sharp: {self.detectable_node})."
            )
        if self.spread is not None:
            unlike = (
                ": these images are unlike those of its training, or its statistics are not trained"
                if self._unlike()
                else ""
            )
            lines.append(
                f"Inputs of batch norms spread {self.spread:.2g} times as much as the checkpoint's "
                f"statistics expect (median), and reach {self.deviations:.3g} deviations at "
                f"{self.deviations_node}{unlike}."
            )
        if self.score is not None:
            lines.append(_score_text(self.score))
        if self.assumed:
            lines.append(f"Assumed, since no file says so: {', '.join(self.assumed)}.")
        return [*lines, *self.notes]

    def _unlike(self) -> bool:
        return self.spread is not None and not 1 / UNLIKE <= self.spread <= UNLIKE

    def to_dict(self, inputs: Sequence[InputResult]) -> dict[str, Any]:
        """Plain values for JSON.

        Args:
            inputs: The comparison's inputs.
        """
        return {
            "nodes": self.nodes,
            "covered": self.covered,
            "detectable": number(self.detectable),
            "detectable_node": self.detectable_node,
            "reached": {
                "spread": number(self.spread),
                "deviations": number(self.deviations),
                "deviations_node": self.deviations_node,
                "score": number(self.score),
            },
            "assumed": list(self.assumed),
            "notes": list(self.notes),
            "text": self.text(inputs),
        }


def _score_text(score: float) -> str:
    if score >= CONFIDENT:
        return f"Class scores reach {score:.2g}."
    return (
        f"No class score is above {score:.2g}: a fault that acts only on confident detections "
        f"would go unseen; give photographs with --image."
    )


def _inputs_text(inputs: Sequence[InputResult]) -> str:
    counts: dict[str, int] = {}
    for item in inputs:
        counts[item.size] = counts.get(item.size, 0) + 1
    sizes = ", ".join(
        size if count == 1 else f"{count} times {size}" for size, count in counts.items()
    )
    return f"{len(inputs)} input{'s' if len(inputs) != 1 else ''} ({sizes})"


def coverage_of(
    by_input: Sequence[Sequence[NodeResult]],
    merged: Sequence[NodeResult],
    reach: Iterable[Mapping[str, Reach]],
    peaks: Iterable[float],
    *,
    assumed: Sequence[str],
    notes: Sequence[str],
) -> Coverage:
    """What a comparison covers.

    Args:
        by_input: The results of each input.
        merged: The worst result of each node.
        reach: For each input what its batch norms were given.
        peaks: For each input the highest class logit.
        assumed: What no tensor and no file says.
        notes: What else the verdict leaves out or depends on.
    """
    covered = [node for node in merged if node.verdict is not Verdict.NOT_COVERED]
    sharpest: dict[str, float] = {}
    for node in (node for nodes in by_input for node in nodes):
        if node.detectable is not None and node.verdict is not Verdict.NOT_COVERED:
            sharpest[node.name] = min(sharpest.get(node.name, math.inf), node.detectable)
    names = {node.name for node in covered}
    bluntest = max(
        ((value, name) for name, value in sharpest.items() if name in names), default=None
    )
    given = [(name, item) for found in reach for name, item in found.items()]
    farthest = max(((item.largest, name) for name, item in given), default=None)
    highest = max(peaks, default=None)
    return Coverage(
        nodes=len(merged),
        covered=len(covered),
        detectable=bluntest[0] if bluntest else None,
        detectable_node=bluntest[1] if bluntest else None,
        spread=statistics.median(item.spread for _, item in given) if given else None,
        deviations=farthest[0] if farthest else None,
        deviations_node=farthest[1] if farthest else None,
        score=None if highest is None else _sigmoid(highest),
        assumed=tuple(assumed),
        notes=tuple(notes),
    )


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def merged_nodes(by_input: Sequence[Sequence[NodeResult]]) -> list[NodeResult]:
    """The worst result of each node over all inputs, in the order of the first that has it.

    Args:
        by_input: The results of each input, each with its :attr:`NodeResult.input`.
    """
    worst: dict[str, NodeResult] = {}
    for node in (node for nodes in by_input for node in nodes):
        if node.name not in worst or _badness(node) > _badness(worst[node.name]):
            worst[node.name] = node
    return list(worst.values())


def _badness(node: NodeResult) -> tuple[int, float]:
    """Orders results of one node: differing, not covered, rounding, exact; then by distance.

    What an input does not show for its values alone is the least: another input may show it.
    """
    ranks = {Verdict.EXACT: 1, Verdict.ROUNDING: 2, Verdict.NOT_COVERED: 0 if node.silent else 3}
    value = node.roundings
    return ranks.get(node.verdict, 4), 0.0 if math.isnan(value) else value


def wiring_notes(nodes: Iterable[NodeResult], closed: Mapping[str, Sequence[int]]) -> list[str]:
    """What is wired to no effect, and so cannot be seen.

    Args:
        nodes: The worst results.
        closed: By fusion node, the inputs whose weight is not above zero.
    """
    notes = [
        f"{node.name} reads {', '.join(node.wrong_inputs)} instead of what it should, which makes "
        f"no difference on these inputs."
        for node in nodes
        if node.wrong_inputs and node.verdict.passes
    ]
    if closed:
        first, inputs = next(iter(closed.items()))
        count = sum(len(numbers) for numbers in closed.values())
        listed = ", ".join(str(item) for item in inputs)
        notes.append(
            f"{count} fusion input{'s have' if count != 1 else ' has'} a weight that relu makes 0 "
            f"(first {first}, input {listed}): what is wired there cannot be seen."
        )
    return notes
