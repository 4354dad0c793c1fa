"""What the columns mean, and why a node may be exact beside a large difference."""

from __future__ import annotations

from parity.judge.verdict import Verdict
from parity.results import ranking
from parity.results.records.nodes import Node, NodesResult
from parity.results.signs import VERDICTS
from parity.results.text.layout import figure, labelled

_LARGE = 1000
"""Times its own difference that an accumulated one is large beside it."""

_FREE = (
    "The largest difference where both sides run on their own from the image on, relative to the "
    "rms (root mean square) of the reference's tensor"
)
_EXACT = (
    "How far the candidate is from the exact value, computed in float64, when each node is given "
    "the reference's own tensors: in roundings / how many are allowed"
)
_JUDGED = (
    "Rests on those identical inputs alone. A node can be exact although its free difference is "
    "large: what earlier nodes do differently comes in with its inputs and adds up, and is not its "
    "fault"
)


def legend_lines(report: NodesResult, width: int, *, verbose: bool) -> list[str]:
    """How to read the tables.

    Args:
        report: The comparison.
        width: Columns of a line.
        verbose: Whether every column and every verdict is explained.
    """
    example = _example(report)
    lines = [
        *labelled("free", f"{_FREE}.", width),
        *labelled("candidate", f"{_EXACT}.", width),
        *labelled("reference", "The same of the reference.", width),
        *labelled("verdict", f"{_JUDGED}{example}.", width),
    ]
    if not verbose:
        return lines
    for verdict in Verdict:
        lines += labelled("", f"- {verdict.value}: {VERDICTS[verdict].meaning}", width)
    for column, meaning in _FURTHER:
        lines += labelled(column, meaning, width)
    return lines


_FURTHER = (
    ("free rms", "The root mean square of the same difference, relative to the same rms."),
    ("largest at", "Where the largest free difference is, [image, row, column, channel]."),
    ("own", "The largest difference that the node itself makes on identical inputs, of its rms."),
    ("shape", "Of the candidate's tensor: images x height x width x channels."),
    (
        "rounding",
        "One rounding is 2^-24 (float32) or 2^-53 (float64) of the magnitudes that are added up at "
        "an element; a correct sum of K terms stays within a multiple of the root of K.",
    ),
)


def _example(report: NodesResult) -> str:
    """A node of this comparison that agrees, and whose accumulated difference is large."""
    found = [node for node in report.nodes if node.verdict.passes and _is_large(node)]
    node = ranking.most_accumulated(found)
    if node is None or node.free is None:
        return ""
    size = figure(node.free.relative_max)
    return f"; so {node.name} here is {node.verdict.value} beside a free difference of {size}"


def _is_large(node: Node) -> bool:
    """Whether what has accumulated is far more than the node's own rounding."""
    return ranking.accumulated(node) > max(_LARGE * ranking.own(node), 1e-3)
