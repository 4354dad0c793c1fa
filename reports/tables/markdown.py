"""The table of all models as Markdown, for a README or a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reports.tables.all_models import COLUMNS, matrix
from reports.tables.summary import Summary

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+.!|<>~&-])")


def markdown(summary: Summary) -> str:
    """The table and, below it, what each column shows and why models fail.

    Args:
        summary: All models.
    """
    rows = matrix(summary)
    head = ["Model", "Verdict", *(column.title for column in COLUMNS)]
    lines = [_line(head), _line(["---", "---", *("---:" for _ in COLUMNS)])]
    for row in rows:
        verdict = f"{row.symbol} {row.state}" + (" (seeded weights)" if row.seeded else "")
        cells = [f"[{_text(row.model)}]({row.slug}.html)", verdict, *map(_text, row.cells)]
        lines.append(_line(cells))
    failing = [row for row in rows if row.state != "parity"]
    reasons = [
        f"- **{_text(row.model)}**: {_text(row.reason)}"
        + (f"; {_text(row.node)}" if row.node else "")
        + (f": {_text(row.diagnosis)}" if row.diagnosis else "")
        for row in failing
    ]
    reasons += [
        f"- {_text(row.model)}: {_text(' '.join(row.remarks))}" for row in rows if row.remarks
    ]
    explanations = [f"- {column.title}: {column.explanation}." for column in COLUMNS]
    parts = ["\n".join(lines), *(["\n".join(reasons)] if reasons else []), "\n".join(explanations)]
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(value: str) -> str:
    """A text that Markdown takes as it is; a line break would end a table's row."""
    return _SPECIAL.sub(r"\\\1", " ".join(value.split()))
