"""Tables of nodes: one line a node."""

from __future__ import annotations

import math
from collections.abc import Sequence

from parity.results import ranking
from parity.results.records.nodes import (
    Contribution,
    DifferenceResult,
    Node,
    largest_of,
    rms_of,
    roundings_of,
)
from parity.results.text.layout import Column, figure, roundings, table


def node_table(nodes: Sequence[Node], width: int) -> list[str]:
    """Nodes with their figures; how many columns there are depends on the width.

    Args:
        nodes: What to list, in order.
        width: Columns of a line.
    """
    free = [node.free for node in nodes]
    return table(
        [
            Column("node", [node.name for node in nodes]),
            Column("verdict", [node.verdict.value for node in nodes]),
            Column("free", [figure(largest_of(item)) for item in free], right=True),
            Column("free rms", [figure(rms_of(item)) for item in free], 4, right=True),
            Column("candidate", [_candidate(node) for node in nodes], right=True),
            Column("reference", [_reference(node) for node in nodes], 1, right=True),
            Column("shape", [_shape(node) for node in nodes], 2),
            Column("largest at", [_place(item) for item in free], 3),
        ],
        width,
    )


def nearest_table(nodes: Sequence[Node], width: int) -> list[str]:
    """Nodes with how near they are to their limits, and how small an error would be seen.

    Args:
        nodes: The nearest first.
        width: Columns of a line.
    """
    return table(
        [
            Column("node", [node.name for node in nodes]),
            Column("kind", [_kind(node) for node in nodes], 2),
            Column("candidate", [_candidate(node) for node in nodes], right=True),
            Column("reference", [_reference(node) for node in nodes], right=True),
            Column("would be seen", [figure(node.detectable) for node in nodes], 1, right=True),
        ],
        width,
    )


def source_table(
    nodes: Sequence[Node], contributions: Sequence[Contribution], width: int
) -> list[str]:
    """Nodes with the differences that they make themselves, and what of the outputs' they explain.

    Args:
        nodes: Those with the largest differences of their own.
        contributions: What was measured of them, and of all together.
        width: Columns of a line.
    """
    shares = {item.nodes[0]: _share(item) for item in contributions if len(item.nodes) == 1}
    together = [item for item in contributions if len(item.nodes) > 1]
    names = [node.name for node in nodes] + ["all of these together" for _ in together]
    own = [figure(ranking.own(node)) for node in nodes] + ["" for _ in together]
    parts = [shares.get(node.name, "-") for node in nodes]
    parts += [_share(item) for item in together]
    blank = ["" for _ in together]
    columns = [
        Column("node", names),
        Column("own", own, right=True),
        Column("share", parts, right=True),
        Column("candidate", [*map(_candidate, nodes), *blank], 1, right=True),
        Column("reference", [*map(_reference, nodes), *blank], 2, right=True),
        Column("kind", [*map(_kind, nodes), *blank], 3),
    ]
    return table(columns if contributions else [*columns[:2], *columns[3:]], width)


def _share(item: Contribution) -> str:
    # Outputs that the candidate does not return differ by no number.
    return f"{item.share:.1%}" if math.isfinite(item.share) else "-"


def _kind(node: Node) -> str:
    return node.kind.value if node.kind else "-"


def _shape(node: Node) -> str:
    return "x".join(map(str, node.shape)) if node.shape else "-"


def _place(distance: DifferenceResult | None) -> str:
    if distance is None or distance.max_difference == 0:
        return "-"
    return "[" + ",".join(map(str, distance.max_index)) + "]"


def _candidate(node: Node) -> str:
    return _of(roundings_of(node.from_exact), node.limit.candidate if node.limit else None)


def _reference(node: Node) -> str:
    value = roundings_of(node.reference_from_exact)
    return _of(value, node.limit.reference if node.limit else None)


def _of(value: float | None, limit: float | None) -> str:
    return "-" if value is None or limit is None else f"{roundings(value)}/{limit:.3g}"
