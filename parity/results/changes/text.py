"""What changed from one comparison of nodes to another, as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from parity.results.changes.outcome import by_kind
from parity.results.changes.words import figure, number, ratio
from parity.results.records.nodes_diff import (
    ChangedFigures,
    Condition,
    KeyFigure,
    NodeChange,
    NodesDiff,
)

_SHOWN = 10
"""Rows of a list; the result file has all."""


def changes_text(diff: NodesDiff, width: int = 100) -> str:
    """The sentence first, then what forbids a comparison, then what changed.

    Args:
        diff: The changes.
        width: Columns of the terminal; no line is longer unless one word is.
    """
    sections = [
        [diff.sentence],
        [f"old {_told(diff, old=True)}", f"new {_told(diff, old=False)}"],
        _section(
            "Not the same, so that what follows need not be the code's doing",
            _conditions(diff.conditions),
        ),
        _section("What else differs, and may change figures", _conditions(diff.settings)),
        _section("Nodes whose verdict changed", _nodes(diff.nodes)),
        _section("Findings and suspects", _named(diff)),
        _section(
            "Gradients whose verdict changed",
            _cut(
                [f"{item.name} ({item.mode.value}): {item.change.value}" for item in diff.gradients]
            ),
        ),
        _section(_figures_title(diff), _figures(diff.figures)),
        _section("As a whole", [_key_figure(item) for item in diff.key_figures]),
        _section(
            "Seconds and memory, which also depend on what else the machine did",
            [_key_figure(item) for item in diff.costs],
        ),
    ]
    return "\n\n".join(
        "\n".join(wrapped for line in section for wrapped in _wrapped(line, width))
        for section in sections
        if section
    )


def _wrapped(line: str, width: int) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    ) or [""]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines)] if lines else []


def _told(diff: NodesDiff, *, old: bool) -> str:
    item = diff.before if old else diff.after
    return f"{item.file}: {item.sentence}"


def _conditions(items: Sequence[Condition]) -> list[str]:
    return [f"{item.what}: {item.before} -> {item.after}" for item in items]


def _nodes(changes: Sequence[NodeChange]) -> list[str]:
    lines = []
    for kind, items in by_kind(changes).items():
        lines.append(f"{kind.value}: {len(items)}")
        lines += [f"  {line}" for line in _cut([_node(item) for item in items])]
    return lines


def _node(item: NodeChange) -> str:
    verdicts = [verdict.value for verdict in (item.before, item.after) if verdict]
    told = f"{item.name}: {' -> '.join(verdicts)}"
    passes = item.after is not None and item.after.passes
    return told if passes else f"{told}: {item.reason}"


def _named(diff: NodesDiff) -> list[str]:
    found = [
        *(f"came: {item.place}: {item.text}" for item in diff.findings_came),
        *(f"went: {item.place}: {item.text}" for item in diff.findings_left),
    ]
    for word, suspects in (("came", diff.suspects_came), ("went", diff.suspects_left)):
        for item in suspects:
            why = item.diagnosis or "no diagnosis"
            found.append(f"suspect {word}: {item.nodes[0] if item.nodes else '-'}: {why}")
    found += [f"cannot be compared any more: {text}" for text in diff.not_shown_came]
    found += [f"can be compared now: {text}" for text in diff.not_shown_left]
    return _cut(found)


def _figures_title(diff: NodesDiff) -> str:
    return (
        f"Own figures that changed, at {len(diff.figures)} of {diff.after.nodes} nodes, the "
        f"largest change first; the first in the order of computation is {diff.first_changed}"
    )


def _figures(items: Sequence[ChangedFigures]) -> list[str]:
    return _cut(list(_figure_lines(items)))


def _figure_lines(items: Sequence[ChangedFigures]) -> Iterator[str]:
    for item in items:
        where = f"on {item.side}" if item.side == "neither" else f"{item.side}"
        other = "" if item.same_input else "; worst on another input"
        yield (
            f"{item.name}: {number(item.own_before)} -> {number(item.own_after)} of rms, "
            f"{number(item.roundings_before)} -> {number(item.roundings_after)} of "
            f"{number(item.limit)} roundings ({where}{other})"
        )


def _key_figure(item: KeyFigure) -> str:
    told = ratio(item)
    return (
        f"{item.what}: {figure(item.before, item.unit)} -> {figure(item.after, item.unit)}"
        f"{f' ({told})' if told else ''}"
    )


def _cut(lines: Sequence[str]) -> list[str]:
    if len(lines) <= _SHOWN:
        return list(lines)
    return [*lines[:_SHOWN], f"and {len(lines) - _SHOWN} more, all in the JSON result"]
