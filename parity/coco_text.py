"""A comparison on a data set for the console: both frameworks' metrics side by side."""

from __future__ import annotations

from parity.coco.metrics import METRICS
from parity.coco.report import CocoReport

TITLES = {"tensorflow": "TensorFlow", "torch": "PyTorch"}
"""What people call each framework."""

_SHOWN = 5
"""How many categories, images and failures are named; the result file has all."""


def coco_text(report: CocoReport) -> str:
    """The whole report as text."""
    parts = [_metrics(report), _categories(report), _matching(report), _seconds(report)]
    parts += [_failures(report), _conclusion(report)]
    return "\n\n".join(part for part in parts if part)


def _number(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    # Rounded first, so that no zero has a minus.
    return f"{round(value, 6) + 0.0:{'+' if signed else ''}.6f}"


def _row(cells: list[str]) -> str:
    return f"{cells[0]:<20.20}" + "".join(f"{cell:>14}" for cell in cells[1:])


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
    titles = ["metric", *(TITLES[name] for name in found)]
    lines = [head, _row([*titles, *(["difference"] if deltas else [])])]
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
    values = report.matching.to_dict()
    lines = [
        f"detections: {values['matched']} matched, {values['reference_only']} only TensorFlow's, "
        f"{values['candidate_only']} only PyTorch's; largest differences of matched ones: "
        f"score {values['largest_score_difference']:.2e}, "
        f"box {values['largest_box_difference_pixels']:.2e} pixels; "
        f"{values['rank_flips']} pairs in another order"
    ]
    lines += [
        f"  {report.file_names[item.image_id]}: {item.unmatched} without a partner, "
        f"score {item.score:.2e}, box {item.box:.2e} pixels"
        for item in report.matching.worst
    ]
    return "\n".join(lines)


def _seconds(report: CocoReport) -> str:
    return "\n".join(
        f"{TITLES[name]}, milliseconds per image: "
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
            lines.append(f"{len(failures)} of {outcome.images} images failed in {TITLES[name]}:")
            lines += [
                f"  {report.file_names[number]}: {failures[number]}"
                for number in list(failures)[:_SHOWN]
            ]
            if len(failures) > _SHOWN:
                lines.append(f"  and {len(failures) - _SHOWN} more, all named in coco.json")
    return "\n".join(lines)


def _conclusion(report: CocoReport) -> str:
    if not report.complete:
        return "incomplete: the metrics are of the images that no framework failed on"
    if not report.deltas():
        return "complete"
    return "parity" if report.passes else "the metrics differ"
