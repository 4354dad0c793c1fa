"""A comparison on a data set for the console: both sides' metrics side by side."""

from __future__ import annotations

from efficientdet_spec import printable
from parity.coco.metrics import METRICS
from parity.coco.report import CocoReport
from parity.coco.swaps import MISTAKE, SwapRow
from parity.pipelines.text import explanation_text

_WIDTH = 13
"""Of a column of figures, a name of a side above it included."""

_SHOWN = 5
"""How many categories, images and failures are named; the result file has all."""


def coco_text(report: CocoReport) -> str:
    """The whole report as text."""
    parts = [_metrics(report), _categories(report), _matching(report), _seconds(report)]
    parts.append("\n".join(map(printable, report.notes)))
    if report.explanation is not None:
        parts.append(explanation_text(report.explanation, report.file_names))
    published = report.published()
    parts += [_stage_swap(report), published.text if published else "", _failures(report)]
    told = report.checkpoint.told
    parts += [f"hyperparameters {told}" if told else "", _conclusion(report)]
    return "\n\n".join(part for part in parts if part)


def _number(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    # Rounded first, so that no zero has a minus.
    return f"{round(value, 6) + 0.0:{'+' if signed else ''}.6f}"


def _row(cells: list[str]) -> str:
    return f"{cells[0]:<20.20}" + "".join(f" {cell:>{_WIDTH}}" for cell in cells[1:])


def _metrics(report: CocoReport) -> str:
    found = {
        name: outcome.evaluation.metrics
        for name, outcome in report.outcomes.items()
        if outcome.evaluation is not None
    }
    head = f"{report.model}, profile {report.profile['name']}, {report.annotations}"
    if not found:
        return f"{head}: no annotations, so no metrics"
    deltas = report.deltas()
    titles = ["metric", *(_heading(report, name) for name in found)]
    columns = _row([*titles, *(["difference"] if deltas else [])])
    told = [] if report.stages is None else [report.stages.told()]
    lines = [head, *told, *_candidate(report), columns]
    for name in METRICS:
        cells = [name, *(_number(metrics[name]) for metrics in found.values())]
        lines.append(_row([*cells, *([_number(deltas[name], signed=True)] if deltas else [])]))
    if report.interval:
        interval = report.interval
        lines.append(
            f"difference of AP, 95 % of {interval.resamples} resamples of the images: "
            f"{_number(interval.low, signed=True)} to {_number(interval.high, signed=True)}"
        )
    return "\n".join(lines)


def _heading(report: CocoReport, side: str) -> str:
    """A side's name, or what stands for one that is too long for a column."""
    title = report.titles[side]
    return title if len(title) <= _WIDTH else side


def _candidate(report: CocoReport) -> list[str]:
    """A line that says what the candidate is; none where the converted model is judged."""
    return [] if report.candidate is None else [f"candidate: {printable(report.candidate)}"]


def _categories(report: CocoReport) -> str:
    deltas = {number: delta for number, delta in report.category_deltas().items() if delta}
    if not deltas:
        return ""
    largest = sorted(deltas, key=lambda number: (-abs(deltas[number]), number))[:_SHOWN]
    lines = ["categories whose AP differs most"]
    for number in largest:
        values = [
            _number(outcome.evaluation.categories[number])
            for outcome in report.outcomes.values()
            if outcome.evaluation is not None
        ]
        name = report.categories[number]
        lines.append(_row([name, *values, _number(deltas[number], signed=True)]))
    return "\n".join(lines)


def _matching(report: CocoReport) -> str:
    if report.matching is None:
        return ""
    values = report.matching.result()
    reference, judged = report.titles.values()
    lines = [
        f"detections: {values.matched} matched, {values.reference_only} only {reference}'s, "
        f"{values.candidate_only} only {judged}'s; largest differences of matched ones: "
        f"score {values.largest_score_difference:.2e}, "
        f"box {values.largest_box_difference_pixels:.2e} pixels; "
        f"{values.rank_flips} pairs in another order; beyond what rounding, ties and the cut "
        f"explain: {values.apart} pairs, {values.reference_unexplained} only {reference}'s, "
        f"{values.candidate_unexplained} only {judged}'s"
    ]
    if values.ties:
        lines.append(
            f"  {values.ties} of these that differ are ties: {reference} itself takes {judged}'s "
            f"boxes where scores are changed by no more than those of other pairs differ"
        )
    lines += [
        f"  {report.file_names[item.image_id]}: {item.unmatched} without a partner, "
        f"score {item.score:.2e}, box {item.box:.2e} pixels"
        for item in report.matching.worst
    ]
    return "\n".join(lines)


def _stage_swap(report: CocoReport) -> str:
    table = report.stage_swap
    if table is None:
        return ""
    frameworks = [row for row in table.rows if row.swap.origin != MISTAKE]
    mistakes = [row for row in table.rows if row.swap.origin == MISTAKE]
    mistakes.sort(key=lambda row: -abs(row.deltas["AP"] or 0.0))
    head = ["PyTorch's pipeline with one stage exchanged", "stage", "AP", "difference"]
    lines = [
        _swap_line([*head, "largest of the 12", "lone boxes"]),
        _swap_line(["none", "", _number(table.baseline["AP"]), "", "", ""]),
        *(_swap_line(_swap_cells(row)) for row in [*frameworks, *mistakes]),
        f"of {table.images} images; lone boxes: detections that only one of the two has",
    ]
    lines += [
        f"{len(row.failures)} images failed with {row.swap.title}; the first: "
        f"{printable(next(iter(row.failures.values())))}"
        for row in table.rows
        if row.failures
    ]
    return "\n".join(lines)


def _swap_cells(row: SwapRow) -> list[str]:
    largest = row.largest
    return [
        row.swap.title,
        row.swap.stage,
        _number(row.metrics["AP"]),
        _number(row.deltas["AP"], signed=True),
        f"{largest[0]} {_number(largest[1], signed=True)}" if largest else "-",
        str(row.baseline_only + row.swap_only),
    ]


def _swap_line(cells: list[str]) -> str:
    title, stage, value, delta, largest, lone = cells
    return f"{title:<45}{stage:<13}{value:>8}{delta:>12}{largest:>19}{lone:>12}"


def _seconds(report: CocoReport) -> str:
    return "\n".join(
        f"{report.titles[name]}, milliseconds per image: "
        + ", ".join(
            f"{stage} {1000 * seconds:.1f}" for stage, seconds in item.seconds_per_image().items()
        )
        for name, item in report.outcomes.items()
    )


def _failures(report: CocoReport) -> str:
    lines = []
    for name, outcome in report.outcomes.items():
        failures = outcome.failures
        if failures:
            title = report.titles[name]
            lines.append(f"{len(failures)} of {outcome.images} images failed in {title}:")
            lines += [
                printable(f"  {report.file_names[number]}: {failures[number]}")
                for number in list(failures)[:_SHOWN]
            ]
            if len(failures) > _SHOWN:
                lines.append(f"  and {len(failures) - _SHOWN} more, all named in coco.json")
    return "\n".join(lines)


def _conclusion(report: CocoReport) -> str:
    if len(report.outcomes) == 1 and report.complete:
        name = report.titles[next(iter(report.outcomes))]
        return f"complete with {name} alone: nothing was compared"
    return f"{report.outcome.value}: {printable(report.sentence)}"
