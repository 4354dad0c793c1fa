"""The table of all models as ready texts, for the index page and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parity.process.outcome import Outcome
from parity.results.records.report import ModelFigures, Precision
from parity.results.signs import OUTCOMES
from reports.tables.summary import Row, Summary, further_remarks
from reports.words.texts import NONE, metric, plural, scientific, seconds, short


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
        state: ``parity``, ``difference`` or ``not shown``.
        css: The same as the name of a class.
        symbol: The same as a sign.
        reason: Why, in a sentence.
        node: The node to blame; may be empty.
        diagnosis: What is wrong there; may be empty.
        remarks: What was reused, not made, or failed, beyond the reason.
        seeded: Whether the weights are not trained ones.
        cells: Texts of the further columns.
    """

    slug: str
    model: str
    state: str
    css: str
    symbol: str
    reason: str
    node: str
    diagnosis: str
    remarks: Sequence[str]
    seeded: bool
    cells: Sequence[str]


COLUMNS = (
    Column("Nodes that agree", "of all nodes compared one by one"),
    Column(
        "Float64",
        "largest difference when both sides compute in float64, relative to the node's rms: "
        "rounding all but vanishes there, so that another function or other values are left",
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
    Column(
        "AP candidate",
        "COCO average precision, 0 to 1, of the candidate; of the converted model where none is "
        "given",
    ),
    Column("AP TensorFlow", "COCO average precision, 0 to 1"),
    Column("ΔAP", "AP of the candidate minus that of TensorFlow on the same images"),
    Column(
        "AP official",
        "published for the 5000 images of val2017; in brackets where ours is "
        "of other images, inputs, stages or weights",
    ),
    Column("Convert", "wall time of the conversion"),
)
"""All columns but the model's and the verdict's."""


@dataclass(frozen=True)
class Overview:
    """What is to be said of all models together.

    Attributes:
        css: Name of the outcome's class.
        symbol: The same as a sign.
        word: The same as a word.
        sentence: Why.
    """

    css: str
    symbol: str
    word: str
    sentence: str


def overview(summary: Summary) -> Overview:
    """The verdict on all models, which is the worst of them."""
    outcome = summary.outcome
    numbers = {item: sum(row.judgement.outcome is item for row in summary.rows) for item in Outcome}
    parity = f"{numbers[Outcome.PARITY]} of {plural(len(summary.rows), 'model')} with parity"
    words = {Outcome.DIFFERENCE: "with a difference", Outcome.NOT_SHOWN: "not shown"}
    others = [f"{numbers[item]} {word}" for item, word in words.items() if numbers[item]]
    sentence = ", ".join([parity, *others])
    sign = OUTCOMES[outcome]
    return Overview(sign.css, sign.symbol, outcome.value.capitalize(), sentence)


def matrix(summary: Summary) -> list[MatrixRow]:
    """The rows of the table of all models."""
    return [_row(row) for row in summary.rows]


def _row(row: Row) -> MatrixRow:
    judgement = row.judgement
    return MatrixRow(
        slug=row.figures.slug,
        model=row.figures.slug,
        state=judgement.outcome.value,
        css=OUTCOMES[judgement.outcome].css,
        symbol=OUTCOMES[judgement.outcome].symbol,
        reason=judgement.sentence,
        node=judgement.node or "",
        diagnosis=judgement.diagnosis or "",
        remarks=further_remarks(row),
        seeded=not row.figures.trained,
        cells=_cells(row),
    )


def _cells(row: Row) -> list[str]:
    figures = row.figures
    structure, own, output, precision = (
        figures.structure,
        figures.largest_own_error,
        figures.largest_output_difference,
        figures.AP,
    )
    return [
        _agreeing(figures),
        scientific(structure.largest_relative_max if structure else None),
        f"{short(own.roundings)} / {own.limit:g}" if own else NONE,
        scientific(output.relative_max if output else None),
        metric(precision.judged) if precision else NONE,
        metric(precision.tensorflow) if precision else NONE,
        metric(precision.delta, signed=True) if precision else NONE,
        official(precision),
        seconds(figures.convert_seconds),
    ]


def _agreeing(figures: ModelFigures) -> str:
    if figures.nodes is None:
        return NONE
    return f"{figures.nodes - (figures.nodes_without_parity or 0):,} of {figures.nodes:,}"


def official(precision: Precision | None) -> str:
    """The published AP, in brackets where it cannot be compared with ours."""
    if precision is None or precision.official is None:
        return NONE
    text = f"{precision.official:.3f}"
    return text if precision.official_comparable else f"({text})"
