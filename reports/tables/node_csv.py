"""All nodes as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from reports.tables.node_table import FIGURES

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet computes a cell that begins with one of these."""


def node_csv(nodes: Mapping[str, Any]) -> str:
    """One line for each node: what it is, all figures in full precision, the verdict and why.

    Args:
        nodes: The comparison.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ["node", "tensor", "kind", "shape", "verdict", "input"]
    writer.writerow([*head, *(item.key for item in FIGURES), "reason"])
    for node in nodes["nodes"]:
        shape = "x".join(map(str, node["shape"] or ()))
        source = nodes["inputs"][node["input"]]["source"]
        texts = [node["name"], node["tensor"], node["kind"], shape, node["verdict"], source]
        figures = [_at(node, item.path) for item in FIGURES]
        writer.writerow([*map(_text, texts), *figures, _text(node["reason"])])
    return stream.getvalue()


def _at(node: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = node
    for name in path:
        value = value[name] if value is not None else None
    return "" if value is None else value


def _text(value: str | None) -> str:
    found = value or ""
    return f"'{found}" if found.startswith(_FORMULA) else found
