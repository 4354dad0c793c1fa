"""The part of a page on detections: metrics side by side, what moves them, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parity.coco.titles import titles
from parity.results.records.coco import (
    Bootstrap,
    CocoResult,
    MatchingResult,
    StageSwapResult,
    SwapOrigin,
)
from parity.results.records.stages import StageValues
from reports.charts import coco_charts
from reports.charts.chart import Chart
from reports.pages.elements import Table
from reports.words.texts import metric, plural, scientific

_METRICS = {
    "AP": "average precision, IoU 0.50 to 0.95",
    "AP50": "average precision at IoU 0.50",
    "AP75": "average precision at IoU 0.75",
    "APs": "AP of small objects, below 32² pixels",
    "APm": "AP of medium objects, 32² to 96² pixels",
    "APl": "AP of large objects, above 96² pixels",
    "AR1": "average recall with 1 detection per image",
    "AR10": "average recall with 10 detections per image",
    "AR100": "average recall with 100 detections per image",
    "ARs": "AR of small objects",
    "ARm": "AR of medium objects",
    "ARl": "AR of large objects",
}
_SHOWN = 8


@dataclass(frozen=True)
class CocoSection:
    """Everything on the evaluation.

    Attributes:
        sides: What was detected with, in a sentence.
        profile: Which stages surround the network.
        images: How many images, and how many failed.
        metrics: Side by side with the difference.
        interval: Of the difference of AP; may be empty.
        published: What the published figure says; may be empty.
        charts: All charts.
        categories: Those whose AP differs most; None where none does.
        swap: What exchanging single stages does; None where that was not tried.
        matching: Detections matched one to one, in sentences.
        worst: Images that differ most; None where none does.
        failures: Images that failed.
        notes: How a candidate returns its outputs, in sentences.
    """

    sides: str
    profile: str
    images: str
    metrics: Table
    interval: str
    published: str
    charts: Sequence[Chart]
    categories: Table | None
    swap: Table | None
    matching: Sequence[str]
    worst: Table | None
    failures: Sequence[str]
    notes: Sequence[str]


def coco_section(coco: CocoResult) -> CocoSection:
    """The evaluation as ready texts.

    Args:
        coco: ``coco.json``.
    """
    called = titles(coco.candidate)
    return CocoSection(
        sides=_sides(coco.candidate),
        profile=_profile(coco.profile, coco.stages),
        images=_images(coco),
        metrics=_metrics(coco),
        interval=_interval(coco.bootstrap),
        published=coco.published.text if coco.published else "",
        charts=coco_charts(coco),
        categories=_categories(coco),
        swap=_swap(coco.stage_swap),
        matching=_matching(coco.matching, called),
        worst=_worst(coco.matching),
        failures=[
            f"{called.get(side, side)}, {item.file_name}: {item.reason}"
            for side, counts in coco.images.items()
            for item in counts.failures
        ],
        notes=coco.notes,
    )


def _sides(candidate: str | None) -> str:
    if candidate is None:
        return "Both frameworks over the same images, each with stages of its own."
    return (
        f"TensorFlow and the candidate {candidate} over the same images, the candidate's network "
        f"between official pre- and postprocessing."
    )


def _profile(profile: Mapping[str, str], values: StageValues | None) -> str:
    stages = ", ".join(f"{name} {value}" for name, value in profile.items() if name != "name")
    told = f"; {values.told()}" if values is not None else ""
    named = f"{profile.get('name', 'unnamed')} ({stages})" if stages else str(profile.get("name"))
    return named + told


def _images(coco: CocoResult) -> str:
    counts = [
        f"{titles(coco.candidate).get(side, side)} {item.all - item.failed:,} of {item.all:,}"
        for side, item in coco.images.items()
    ]
    return f"images evaluated: {', '.join(counts)}; annotations {coco.annotations}"


def _metrics(coco: CocoResult) -> Table:
    called = titles(coco.candidate)
    sides = [side for side in called if side in coco.metrics]
    _, judged = called.values()
    deltas = coco.metric_deltas
    names = list(coco.metrics[sides[0]]) if sides else []
    rows = [
        [
            name,
            *(metric(coco.metrics[side].get(name)) for side in sides),
            metric(deltas.get(name), signed=True),
            _METRICS.get(name, ""),
        ]
        for name in names
    ]
    head = ["Metric", *(called[side] for side in sides), "Difference", "What it is"]
    return Table(
        f"COCO metrics, 0 to 1; difference is {judged} minus TensorFlow, of at most "
        f"{coco.metric_limit}",
        head,
        rows,
        [False, *(True for _ in sides), True, False],
    )


def _interval(bootstrap: Bootstrap | None) -> str:
    if bootstrap is None or bootstrap.low is None:
        return ""
    return (
        f"{100 * bootstrap.level:g} % of {bootstrap.resamples} resamples of the "
        f"images give a difference of AP from {metric(bootstrap.low, signed=True)} to "
        f"{metric(bootstrap.high, signed=True)}."
    )


def _categories(coco: CocoResult) -> Table | None:
    rows = [row for row in coco.categories if row.delta]
    rows.sort(key=lambda row: (-abs(row.delta or 0.0), row.id))
    if not rows:
        return None
    called = titles(coco.candidate)
    return Table(
        "Categories whose AP differs most",
        ["Category", *called.values(), "Difference"],
        [
            [
                row.name,
                *(metric(row.AP.get(side)) for side in called),
                metric(row.delta, signed=True),
            ]
            for row in rows[:_SHOWN]
        ],
        [False, True, True, True],
    )


def _swap(swap: StageSwapResult | None) -> Table | None:
    if swap is None:
        return None
    origins = {SwapOrigin.TENSORFLOW: "TensorFlow's", SwapOrigin.MISTAKE: "a common mistake"}
    rows = [
        [
            row.title,
            row.stage,
            origins[row.origin],
            metric(row.metrics.get("AP")),
            metric(row.AP_delta, signed=True),
        ]
        for row in swap.rows
    ]
    baseline = metric(swap.baseline.get("AP"))
    return Table(
        f"AP with one stage of the PyTorch pipeline exchanged; {baseline} without an exchange",
        ["What takes its place", "Stage", "Origin", "AP", "Difference"],
        rows,
        [False, False, False, True, True],
    )


def _matching(matching: MatchingResult | None, called: Mapping[str, str]) -> list[str]:
    if matching is None:
        return []
    reference, judged = called.values()
    return [
        f"{plural(matching.matched, 'detection')} matched one to one, "
        f"{matching.reference_only:,} only {reference}'s, "
        f"{matching.candidate_only:,} only {judged}'s.",
        f"Largest differences of matched ones: score "
        f"{scientific(matching.largest_score_difference)}, box "
        f"{scientific(matching.largest_box_difference_pixels)} pixels; "
        f"{plural(matching.rank_flips, 'pair')} in another order.",
        *(
            [
                f"{plural(matching.ties, 'detection')} that differ are ties: {reference} itself "
                f"takes {judged}'s boxes where scores are changed by no more than those of other "
                f"pairs differ."
            ]
            if matching.ties
            else []
        ),
    ]


def _worst(matching: MatchingResult | None) -> Table | None:
    if matching is None or not matching.worst_images:
        return None
    return Table(
        "Images that differ most",
        ["Image id", "Without a partner", "Score", "Box, pixels", "Pairs in another order"],
        [
            [
                str(item.image_id),
                str(item.reference_only + item.candidate_only),
                scientific(item.largest_score_difference),
                scientific(item.largest_box_difference_pixels),
                str(item.rank_flips),
            ]
            for item in matching.worst_images[:_SHOWN]
        ],
        [True] * 5,
    )
