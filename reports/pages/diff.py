"""The page of what changed between two comparisons of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parity.process.files import check_writable, make_folder
from parity.process.outcome import Outcome
from parity.results.changes.comparison import compare_files
from parity.results.changes.outcome import by_kind
from parity.results.changes.words import figure, number, ratio
from parity.results.records.nodes import Suspect
from parity.results.records.nodes_diff import (
    ComparedResult,
    Condition,
    DiffOutcome,
    KeyFigure,
    NodeChange,
    NodesDiff,
)
from parity.results.signs import OUTCOMES, Sign
from reports.pages.elements import Table
from reports.pages.render import render_alone
from reports.words.texts import NONE, plural

_PAGE = "diff.html"

_SHOWN = 200
"""Rows of a table; the result file beside the page has all."""

_LIKE = {
    DiffOutcome.NOT_WORSE: Outcome.PARITY,
    DiffOutcome.WORSE: Outcome.DIFFERENCE,
    DiffOutcome.NOT_COMPARABLE: Outcome.NOT_SHOWN,
}
"""Whose colour and sign an outcome has."""


@dataclass(frozen=True)
class Side:
    """One of the two results.

    Attributes:
        title: Which of them.
        file: Where it was read.
        word: Its outcome as a word.
        sign: Its outcome as a sign.
        sentence: What it says.
    """

    title: str
    file: str
    word: str
    sign: Sign
    sentence: str


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: Of its place on the page.
        title: Its heading.
        lead: What a reader should know before the tables; may be empty.
        tables: What changed.
    """

    id: str
    title: str
    lead: str
    tables: Sequence[Table]


@dataclass(frozen=True)
class DiffPage:
    """The page.

    Attributes:
        sign: Of the outcome.
        word: The outcome as a word.
        sentence: Why.
        sides: The old and the new result.
        conditions: What forbids to compare them; None where nothing does.
        sections: What changed; none that is empty.
        result: The file with all figures.
    """

    sign: Sign
    word: str
    sentence: str
    sides: Sequence[Side]
    conditions: Table | None
    sections: Sequence[Section]
    result: str


def render_diff(old: Path, new: Path, out: Path) -> NodesDiff:
    """Make the page of what changed from one result file to another.

    Args:
        old: Written by ``compare.py nodes --json`` before a change.
        new: Written after it.
        out: For ``diff.html``, ``diff.json`` and what the page needs; made if need be.

    Returns:
        The changes, as ``diff.json`` holds them.

    Raises:
        InputError: A file cannot be read or holds something else, or one cannot be written.
    """
    page = out / _PAGE
    diff = compare_files(old, new)
    make_folder(out)
    for target in (page, page.with_suffix(".json")):
        check_writable(target, (old, new))
    render_alone("diff.html.j2", diff_page(diff), page, diff)
    return diff


def diff_page(diff: NodesDiff) -> DiffPage:
    """Everything that the page shows, as ready texts.

    Args:
        diff: The changes.
    """
    sections = [
        Section("verdicts", "Verdicts", "", [*_nodes(diff), *_filled(_gradients(diff))]),
        Section("culprits", "Findings and suspects", "", _filled(_findings(diff), _suspects(diff))),
        Section(
            "figures",
            "Figures",
            _figures_lead(diff),
            _filled(_figures(diff), _key_figures("Of all nodes together", diff.key_figures)),
        ),
        Section(
            "settings",
            "What else differs",
            "It forbids no comparison, but figures may have changed for it alone.",
            _filled(_conditions("Settings and versions", diff.settings)),
        ),
        Section(
            "costs",
            "Time and memory",
            "They also depend on what else the machine did, and make no change better or worse.",
            _filled(_key_figures("Of both results", diff.costs)),
        ),
    ]
    return DiffPage(
        sign=OUTCOMES[_LIKE[diff.outcome]],
        word=diff.outcome.value.capitalize(),
        sentence=diff.sentence.partition(": ")[2],
        sides=[_side("Old", diff.before), _side("New", diff.after)],
        conditions=_conditions("Not the same in both results", diff.conditions),
        sections=[section for section in sections if section.tables],
        result=Path(_PAGE).with_suffix(".json").name,
    )


def _filled(*tables: Table | None) -> list[Table]:
    return [table for table in tables if table is not None]


def _side(title: str, told: ComparedResult) -> Side:
    outcome = told.outcome or Outcome.NOT_SHOWN
    word = outcome.value if told.outcome else "no result"
    # The sentence of a result begins with its outcome, which the sign says already.
    sentence = told.sentence.removeprefix(f"{outcome.value.upper()}: ")
    return Side(title, told.file, word, OUTCOMES[outcome], sentence)


def _table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: str = ""
) -> Table | None:
    """A table; None where it would have no rows.

    Args:
        caption: What it shows.
        head: Titles of the columns.
        rows: Cells of each row.
        numeric: A letter for each column, ``n`` for those that hold figures.
    """
    if not rows:
        return None
    if len(rows) > _SHOWN:
        caption = f"{caption}: the first {_SHOWN} of {len(rows):,}, all are in the result file"
    kinds = numeric or "t" * len(head)
    return Table(caption, head, rows[:_SHOWN], [kind == "n" for kind in kinds])


def _conditions(caption: str, items: Sequence[Condition]) -> Table | None:
    rows = [(item.what, item.before, item.after) for item in items]
    return _table(caption, ("What", "Old", "New"), rows)


def _nodes(diff: NodesDiff) -> list[Table]:
    """A table for each kind of change, losses first."""
    tables = []
    for kind, items in by_kind(diff.nodes).items():
        caption = f"{plural(len(items), 'node')}: {kind.value}"
        told = any(item.after is None or not item.after.passes for item in items)
        # Why a verdict is a good one is in the results themselves.
        head = ("Node", "Old verdict", "New verdict", "Why")[: 4 if told else 3]
        tables.append(_table(caption, head, [_node(item)[: len(head)] for item in items]))
    return _filled(*tables)


def _node(item: NodeChange) -> tuple[str, ...]:
    verdicts = [verdict.value if verdict else NONE for verdict in (item.before, item.after)]
    return (item.name, *verdicts, item.reason)


def _gradients(diff: NodesDiff) -> Table | None:
    rows = [
        (
            item.name,
            item.mode.value,
            item.change.value,
            *(verdict.value if verdict else NONE for verdict in (item.before, item.after)),
        )
        for item in diff.gradients
    ]
    head = ("Gradient of", "Batch norms in", "Change", "Old verdict", "New verdict")
    return _table("Gradients whose verdict changed", head, rows)


def _findings(diff: NodesDiff) -> Table | None:
    rows = [
        (word, place, text)
        for word, items in (("came", diff.findings_came), ("went", diff.findings_left))
        for place, text in ((item.place, item.text) for item in items)
    ]
    rows += [("cannot be compared now", NONE, text) for text in diff.not_shown_came]
    rows += [("can be compared now", NONE, text) for text in diff.not_shown_left]
    return _table("What is wrong whatever the tensors are", ("", "Place", "Finding"), rows)


def _suspects(diff: NodesDiff) -> Table | None:
    rows = [
        (word, _place(item), item.diagnosis or "no diagnosis")
        for word, items in (("came", diff.suspects_came), ("went", diff.suspects_left))
        for item in items
    ]
    return _table("Where what fails begins", ("", "Nodes", "Diagnosis"), rows)


def _place(suspect: Suspect) -> str:
    others = len(suspect.nodes) - 1
    first = suspect.nodes[0] if suspect.nodes else NONE
    return f"{first} and {others} more" if others > 0 else first


def _figures_lead(diff: NodesDiff) -> str:
    lead = (
        f"There is no threshold: the same code on the same machine gives the same bits. "
        f"{plural(diff.unchanged, 'node')} of {diff.after.nodes:,} did not change at all; at "
        f"{diff.accumulated_only:,} only what accumulates changed."
    )
    if diff.first_changed is None:
        return lead
    return (
        f"{lead} The first in the order of computation whose own figures changed is "
        f"{diff.first_changed}."
    )


def _figures(diff: NodesDiff) -> Table | None:
    rows = [
        (
            item.name,
            number(item.own_before),
            number(item.own_after),
            number(item.roundings_before),
            number(item.roundings_after),
            number(item.limit),
            item.side if item.same_input else f"{item.side}; worst on another input",
        )
        for item in diff.figures
    ]
    head = ("Node", "Own, old", "Own, new", "Roundings, old", "Roundings, new", "Of", "Side")
    caption = (
        "Own difference of a node on identical inputs, of its rms, and roundings of the "
        "candidate from the exact value, the largest change first"
    )
    return _table(caption, head, rows, numeric="tnnnnnt")


def _key_figures(caption: str, items: Sequence[KeyFigure]) -> Table | None:
    rows = [
        (
            item.what,
            figure(item.before, item.unit),
            figure(item.after, item.unit),
            ratio(item) or NONE,
        )
        for item in items
    ]
    return _table(caption, ("What", "Old", "New", "New by old"), rows, numeric="tnnn")
