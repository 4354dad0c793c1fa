"""The table of all models as ready texts, for the index page and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.judgement import State
from reports.summary import Row, Summary
from reports.texts import NONE, metric, plural, scientific, seconds, short

SYMBOLS = {State.PARITY: "✓", State.MISMATCH: "✗", State.FAILED: "!"}
"""Stands beside each verdict, whose colour is never its only sign."""

WORDS = {State.PARITY: "Parity", State.MISMATCH: "Mismatch", State.FAILED: "Failed"}
"""Each verdict at the head of a page."""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: Its heading.
        explanation: What it shows, with the unit.
        numeric: Whether it holds figures.
    """

    title: str
    explanation: str
    numeric: bool = True


@dataclass(frozen=True)
class MatrixRow:
    """One model.

    Attributes:
        slug: Name of its page.
        model: What it is called.
        state: ``parity``, ``mismatch`` or ``failed``.
        symbol: The same as a sign.
        reason: Why, in a sentence.
        node: The node to blame; may be empty.
        diagnosis: What is wrong there; may be empty.
        seeded: Whether the weights are not trained ones.
        cells: Texts of the further columns.
    """

    slug: str
    model: str
    state: str
    symbol: str
    reason: str
    node: str
    diagnosis: str
    seeded: bool
    cells: Sequence[str]


COLUMNS = (
    Column("Nodes", "nodes without parity, of all nodes compared one by one"),
    Column(
        "Structure",
        "largest difference when both sides compute in float64, relative to the node's rms: "
        "rounding all but vanishes there and only structure is left",
    ),
    Column(
        "Worst own error",
        "roundings from the exact value on identical inputs, of as many as are allowed, at the "
        "node that comes nearest to its limit",
    ),
    Column(
        "Output difference",
        "largest difference accumulated up to any output of the network, relative to its rms",
    ),
    Column("AP PyTorch", "COCO average precision, 0 to 1"),
    Column("AP TensorFlow", "COCO average precision, 0 to 1"),
    Column("ΔAP", "AP of PyTorch minus that of TensorFlow on the same images"),
    Column(
        "AP official",
        "published for the 5000 images of val2017; in brackets where ours is "
        "of other images, inputs or weights",
    ),
    Column("Convert", "wall time of the conversion"),
)
"""All columns but the model's and the verdict's."""


@dataclass(frozen=True)
class Overview:
    """What is to be said of all models together.

    Attributes:
        state: ``parity``, ``mismatch`` or ``failed``.
        symbol: The same as a sign.
        word: The same as a word.
        sentence: Why.
    """

    state: str
    symbol: str
    word: str
    sentence: str


def overview(summary: Summary) -> Overview:
    """The verdict on all models: a mismatch outweighs a failure, either outweighs parity."""
    numbers = {state: sum(row.judgement.state is state for row in summary.rows) for state in State}
    state = next((item for item in (State.MISMATCH, State.FAILED) if numbers[item]), State.PARITY)
    parity = f"{numbers[State.PARITY]} of {plural(len(summary.rows), 'model')} with parity"
    others = [
        f"{numbers[item]} {item.value}" for item in (State.MISMATCH, State.FAILED) if numbers[item]
    ]
    return Overview(state.value, SYMBOLS[state], WORDS[state], ", ".join([parity, *others]))


def matrix(summary: Summary) -> list[MatrixRow]:
    """The rows of the table of all models."""
    return [_row(row) for row in summary.rows]


def _row(row: Row) -> MatrixRow:
    judgement = row.judgement
    return MatrixRow(
        slug=row.slug,
        model=row.slug,
        state=judgement.state.value,
        symbol=SYMBOLS[judgement.state],
        reason=judgement.sentence,
        node=judgement.node or "",
        diagnosis=judgement.diagnosis or "",
        seeded=not row.trained,
        cells=_cells(row),
    )


def _cells(row: Row) -> list[str]:
    precision = row.precision
    return [
        NONE if row.nodes is None else f"{row.failing:,} / {row.nodes:,}",
        scientific(row.structure),
        f"{short(row.own.roundings)} / {row.own.limit:g}" if row.own else NONE,
        scientific(row.output),
        metric(precision.torch) if precision else NONE,
        metric(precision.tensorflow) if precision else NONE,
        metric(precision.delta, signed=True) if precision else NONE,
        official(row),
        seconds(row.convert_seconds),
    ]


def official(row: Row) -> str:
    """The published AP, in brackets where it cannot be compared with ours."""
    precision = row.precision
    if precision is None or precision.official is None:
        return NONE
    text = f"{precision.official:.3f}"
    return text if precision.comparable else f"({text})"
