"""Nodes that a candidate makes together with those that read them, by one span of operations.

A convolution that a batch norm was folded into makes two nodes and shows one of them. Where every
operation of a candidate is seen, and what can be seen of it behind such a node is right, so is the
node. Where that is wrong, nobody can say which of the nodes of its span is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from parity.judge.referee import Referee
from parity.judge.verdict import NodeResult, Verdict
from parity.sides.side import Candidate


def judged_together(
    nodes: Sequence[NodeResult], referee: Referee, candidate: Candidate
) -> list[NodeResult]:
    """The results, with a verdict on nodes that lie inside of spans.

    Args:
        nodes: All results, in the order of computation.
        referee: Knows what each node reads, and whether that matters.
        candidate: Has been seen operation by operation.
    """
    left_out, not_found = candidate.left_out(), candidate.not_found()
    results = {node.name: node for node in nodes}
    ends: dict[str, tuple[str, ...]] = {}
    readers: dict[str, list[str]] = {}
    for name, read in referee.wiring.items():
        for number, source in enumerate(read):
            if referee.operation(name).depends_on(number):
                readers.setdefault(source, []).append(name)
    # Backwards, so that what lies behind a node is known before it.
    for node in reversed(nodes):
        if node.kind is None or node.shape is not None:
            continue
        behind: dict[str, None] = {}
        for reader in readers.get(node.name, ()):
            found = results[reader]
            behind |= dict.fromkeys((reader,) if found.shape else ends.get(reader, ()))
        ends[node.name] = tuple(behind)
        results[node.name] = _judged(
            node,
            [results[end] for end in behind],
            left_out.get(node.name, ""),
            not_found.get(node.name, ""),
        )
    return [results[node.name] for node in nodes]


def _judged(
    node: NodeResult, behind: Sequence[NodeResult], left_out: str, not_found: str
) -> NodeResult:
    if not behind:
        return replace(node, reason=f"not found: {not_found}") if not_found else node
    names = ", ".join(item.name for item in behind[:2]) + (" ..." if len(behind) > 2 else "")
    together = f"the candidate makes it together with {names}, in one span of operations"
    if all(item.verdict.passes for item in behind):
        return replace(
            node,
            verdict=Verdict.ROUNDING,
            reason=f"{together}, whose result is right",
            within=behind[0].name,
        )
    without = next((item for item in behind if node.name in item.passed_over), None)
    if without is not None:
        proof = (
            f"{without.name}, which is made of it in the model, is right on what is there without "
            f"it"
        )
        told = f"{left_out}, and {proof}" if left_out else proof
        reason = f"the candidate leaves it out: {told}"
        return replace(node, verdict=Verdict.FUNCTION_DIFFERS, reason=reason)
    if all(item.verdict.passes or item.verdict is Verdict.OWN_INPUTS for item in behind):
        return replace(
            node,
            verdict=Verdict.OWN_INPUTS,
            reason=f"{together}, which is right on its own inputs",
            within=behind[0].name,
        )
    if left_out:
        reason = f"the candidate leaves it out: {left_out}"
        return replace(node, verdict=Verdict.FUNCTION_DIFFERS, reason=reason)
    wrong = next(item.name for item in behind if not item.verdict.passes)
    alone = f"; by itself it is not found: {not_found}" if not_found else ""
    return replace(node, reason=f"{together}, and {wrong} is not right{alone}", within=wrong)
