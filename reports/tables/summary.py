"""The figures of each model that a table of all models has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from efficientdet_spec import printable
from parity.coco.titles import titles
from parity.process.outcome import Outcome
from parity.results import ranking
from parity.results.records.coco import Agreement, CocoResult
from parity.results.records.nodes import Node, NodesResult
from parity.results.records.record import made
from parity.results.records.report import (
    LackResult,
    ModelFigures,
    OutputDifference,
    OwnError,
    Precision,
    ReportResult,
    StructureResult,
    SuspectOutline,
)
from parity.results.records.run import Status
from parity.results.signs import in_capitals
from parity.settings.coco import CANDIDATE
from reports.reading.results import ModelResults
from reports.run.account import Account
from reports.tables.judgement import Judgement, judge


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        figures: What ``report.json`` says of it.
        judgement: The verdict.
        account: What became of the run's steps.
    """

    figures: ModelFigures
    judgement: Judgement
    account: Account


@dataclass(frozen=True)
class Summary:
    """All models.

    Attributes:
        rows: In the order of display.
    """

    rows: Sequence[Row]

    @property
    def outcome(self) -> Outcome:
        """The worst of all models'."""
        return Outcome.worst(row.judgement.outcome for row in self.rows)

    @property
    def passes(self) -> bool:
        """Whether every model has parity."""
        return self.outcome is Outcome.PARITY

    @property
    def text(self) -> str:
        """One line for each model, for a terminal."""
        return "\n".join(_line(row) for row in self.rows)

    def result(self) -> ReportResult:
        """What is written of it, as ``report.json``."""
        models = [row.figures for row in self.rows]
        return ReportResult(outcome=self.outcome, passes=self.passes, models=models)


def summarise(results: ModelResults) -> Row:
    """The figures of one model."""
    nodes, structure, run = results.nodes, results.structure, results.run
    judgement, account = judge(results), results.account
    failing = sum(not node.verdict.passes for node in nodes.nodes) if nodes else None
    figures = ModelFigures(
        model=results.model,
        slug=results.slug,
        page=f"{results.slug}.html",
        source=run.source,
        trained=run.trained,
        outcome=judgement.outcome,
        reason=judgement.sentence,
        node=judgement.node,
        diagnosis=judgement.diagnosis,
        complete=account.complete,
        reused=account.reused,
        failed=[made(LackResult, lack) for lack in account.lacks if lack.failed],
        not_made=[made(LackResult, lack) for lack in account.lacks if not lack.failed],
        nodes=len(nodes.nodes) if nodes else None,
        nodes_without_parity=failing,
        structure=(
            StructureResult(structure.passes, structure.largest_relative_max) if structure else None
        ),
        largest_own_error=_largest_own(nodes) if nodes else None,
        largest_output_difference=_largest_output(nodes) if nodes else None,
        AP=_precision(results.coco) if results.coco else None,
        convert_seconds=_step_seconds(results, "convert"),
        suspects=[made(SuspectOutline, item) for item in nodes.suspects] if nodes else [],
    )
    return Row(figures, judgement, account)


def _largest_output(nodes: NodesResult) -> OutputDifference | None:
    largest = ranking.most_accumulated(nodes.output_nodes())
    if largest is None or largest.free is None:
        return None
    return OutputDifference(largest.free.relative_max, largest.name)


def _largest_own(nodes: NodesResult) -> OwnError | None:
    """The node with most roundings for its limit; any at all where none are allowed come first."""

    def place(node: Node) -> tuple[float, float]:
        return ranking.share(node), ranking.roundings(node)

    found = [
        node
        for node in nodes.nodes
        if node.from_exact and node.from_exact.roundings is not None and node.limit
    ]
    worst = max(found, key=place, default=None)
    if worst is None or worst.limit is None or worst.from_exact is None:
        return None
    roundings = worst.from_exact.roundings
    return OwnError(math.nan if roundings is None else roundings, worst.limit.candidate, worst.name)


def _precision(coco: CocoResult) -> Precision:
    published = coco.published
    counts = [side.all - side.failed for side in coco.images.values()]
    return Precision(
        torch=coco.metrics.get("torch", {}).get("AP"),
        candidate=coco.metrics.get(CANDIDATE, {}).get("AP"),
        title=list(titles(coco.candidate).values())[-1],
        tensorflow=coco.metrics.get("tensorflow", {}).get("AP"),
        delta=coco.metric_deltas.get("AP"),
        official=published.rows[0].ap if published and published.rows else None,
        official_comparable=published is not None
        and published.verdict is not Agreement.NOT_COMPARABLE,
        official_verdict=published.verdict if published else None,
        official_text=published.text if published else "",
        images=min(counts, default=0),
    )


def _step_seconds(results: ModelResults, name: str) -> float | None:
    steps = [step for step in results.run.steps if step.name == name and step.status is Status.DONE]
    return steps[-1].seconds if steps else None


def _line(row: Row) -> str:
    text = f"{row.figures.slug}: {in_capitals(row.judgement.outcome)}: {row.judgement.sentence}"
    if row.judgement.node:
        text += f"; {row.judgement.node}"
    if row.judgement.diagnosis:
        text += f": {row.judgement.diagnosis}"
    if not row.figures.trained:
        text += " (seeded weights)"
    precision = row.figures.AP
    published = [precision.official_text] if precision and precision.official_text else []
    # Names of other people's files begin no line of their own.
    return "\n  ".join(map(printable, [text, *published, *further_remarks(row)]))


def further_remarks(row: Row) -> list[str]:
    """What was reused, not made, or failed, without what the verdict's sentence says already."""
    sentence = row.judgement.sentence
    return [text for text in row.account.remarks if sentence != f"{text[:1].lower()}{text[1:-1]}"]
