"""All nodes as a table for spreadsheets."""

from __future__ import annotations

import csv
import io

from parity.results.records.nodes import NodesResult
from reports.tables.node_table import FIGURES

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet computes a cell that begins with one of these."""


def node_csv(nodes: NodesResult) -> str:
    """One line for each node: what it is, all figures in full precision, the verdict and why.

    Args:
        nodes: The comparison.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ["node", "tensor", "kind", "shape", "verdict", "input"]
    writer.writerow([*head, *(item.key for item in FIGURES), "reason"])
    for node in nodes.nodes:
        shape = "x".join(map(str, node.shape or ()))
        source = nodes.inputs[node.input].source
        kind = node.kind.value if node.kind else None
        texts = [node.name, node.tensor, kind, shape, node.verdict.value, source]
        figures = [_full(item.of(node)) for item in FIGURES]
        writer.writerow([*map(_text, texts), *figures, _text(node.reason)])
    return stream.getvalue()


def _full(value: float | None) -> float | str:
    return "" if value is None else value


def _text(value: str | None) -> str:
    found = value or ""
    return f"'{found}" if found.startswith(_FORMULA) else found
