"""What a verdict covers: inputs, how far they reached, what could go unseen, what is assumed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from parity.judge.reach import Reach
from parity.judge.verdict import NodeResult, Verdict
from parity.results.ranking import severity
from parity.results.records.nodes import Coverage, InputResult, Reached

CONFIDENT = 0.5
"""Score of a detection that anybody would show; what acts only on such logits needs one."""

UNLIKE = 4.0
"""Times that the inputs of batch norms may spread as much as their statistics expect, at the
median, before the images count as unlike those of the training. 80
photographs in the trained D0 have a median of 1.5."""


def sentences(coverage: Coverage, inputs: Sequence[InputResult]) -> list[str]:
    """What a verdict covers, for a reader.

    Args:
        coverage: The figures.
        inputs: The comparison's inputs.
    """
    reached = coverage.reached
    lines = [
        f"{coverage.covered} of {coverage.nodes} nodes, on {_inputs_text(inputs)}.",
    ]
    if coverage.own_inputs:
        behind = "nodes were" if coverage.own_inputs > 1 else "node was"
        lines.append(
            f"{coverage.own_inputs} more {behind} judged on the candidate's own inputs, which the "
            f"reference's tensors cannot take the place of, and found right there: that is no "
            f"parity."
        )
    if coverage.detectable is not None:
        lines.append(
            f"An error of {coverage.detectable:.1e} of a tensor's rms would be seen at every "
            f"covered node (least sharp: {coverage.detectable_node})."
        )
    if reached.spread is not None:
        unlike = (
            ": these images are unlike those of its training, or its statistics are not trained"
            if not 1 / UNLIKE <= reached.spread <= UNLIKE
            else ""
        )
        lines.append(
            f"Inputs of batch norms spread {reached.spread:.2g} times as much as the checkpoint's "
            f"statistics expect (median), and reach {reached.deviations:.3g} deviations at "
            f"{reached.deviations_node}{unlike}."
        )
    if reached.score is not None:
        lines.append(_score_text(reached.score))
    return [*lines, *coverage.notes]


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
    inputs: Sequence[InputResult],
    assumed: Sequence[str],
    notes: Sequence[str],
) -> Coverage:
    """What a comparison covers.

    Args:
        by_input: The results of each input.
        merged: The worst result of each node.
        reach: For each input what its batch norms were given.
        peaks: For each input the highest class logit.
        inputs: What both sides were run on.
        assumed: What no tensor and no file says.
        notes: What else the verdict leaves out or depends on.
    """
    unshown = (Verdict.NOT_COVERED, Verdict.OWN_INPUTS)
    covered = [node for node in merged if node.verdict not in unshown]
    sharpest: dict[str, float] = {}
    for node in (node for nodes in by_input for node in nodes):
        if node.detectable is not None and node.verdict not in unshown:
            sharpest[node.name] = min(sharpest.get(node.name, math.inf), node.detectable)
    names = {node.name for node in covered}
    bluntest = max(
        ((value, name) for name, value in sharpest.items() if name in names), default=None
    )
    given = [(name, item) for found in reach for name, item in found.items()]
    farthest = max(((item.largest, name) for name, item in given), default=None)
    highest = max(peaks, default=None)
    coverage = Coverage(
        nodes=len(merged),
        covered=len(covered),
        own_inputs=sum(node.verdict is Verdict.OWN_INPUTS for node in merged),
        detectable=bluntest[0] if bluntest else None,
        detectable_node=bluntest[1] if bluntest else None,
        reached=Reached(
            spread=statistics.median(item.spread for _, item in given) if given else None,
            deviations=farthest[0] if farthest else None,
            deviations_node=farthest[1] if farthest else None,
            score=None if highest is None else _sigmoid(highest),
        ),
        assumed=tuple(assumed),
        notes=tuple(notes),
    )
    return structs.replace(coverage, text=sentences(coverage, inputs))


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
    """Orders results of one node: by verdict, then by distance.

    What an input does not show for its values alone is the least: another input may show it.
    """
    value = node.roundings
    return -1 if node.silent else severity(node.verdict), 0.0 if math.isnan(value) else value


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
