"""What a result accuses: each place with what is wrong there, in one line."""

from __future__ import annotations

from parity.results.records.nodes import NodesResult


def culprits(result: NodesResult) -> list[str]:
    """Each culprit as ``place: what is wrong``, the most harmful first.

    Args:
        result: The comparison.
    """
    reasons = {node.name: node.reason for node in result.nodes}
    found = []
    for suspect in result.suspects:
        first = suspect.nodes[0]
        what = suspect.diagnosis or reasons.get(first) or suspect.verdict.value
        found.append(f"{first}: {what}")
    found += [f"{item.place}: {item.text}" for item in result.findings]
    if found:
        return list(dict.fromkeys(found))
    failing = [node for node in result.nodes if not node.verdict.passes]
    return [f"{node.name}: {node.reason or node.verdict.value}" for node in failing]
