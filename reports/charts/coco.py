"""Charts of an evaluation: metrics side by side, categories, curves, what each stage costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parity.coco.text import TITLES
from parity.results.records.coco import CocoResult, StageSwapResult
from reports.charts.chart import (
    TABLE_ROWS,
    Chart,
    base,
    category_axis,
    grid,
    legend,
    short,
    text,
    value_axis,
)

_DWARFS = 5
"""A bar so many times as long as the next would leave nothing of the others to be seen."""

_CURVES = {"AP": "solid", "AP50": "dashed", "AP75": "dotted"}


def coco_charts(coco: CocoResult) -> list[Chart]:
    """Charts of ``coco.json``; none where nothing is known to be found."""
    if not coco.metrics:
        return []
    charts = [_metrics(coco)]
    if len(coco.metrics) > 1:
        charts.append(_categories(coco))
    if any(coco.precision_by_recall.values()):
        charts.append(_curves(coco.precision_by_recall))
    if coco.stage_swap:
        charts.append(_swaps(coco.stage_swap))
    return charts


def _metrics(coco: CocoResult) -> Chart:
    found = {side: coco.metrics[side] for side in TITLES if side in coco.metrics}
    names = list(next(iter(found.values())))
    return Chart(
        id="coco-metrics",
        title="COCO metrics side by side",
        explanation="The twelve metrics of each side, from 0 to 1; differences are in the table.",
        option=base(
            tooltip={"trigger": "axis", "confine": True, "axisPointer": {"type": "shadow"}},
            legend=legend([TITLES[side] for side in found]),
            grid=grid(bottom=30),
            xAxis=category_axis(names, axisLabel={"color": "var(--ink)", "hideOverlap": True}),
            yAxis=value_axis("", min=0),
            series=[
                {
                    "name": TITLES[side],
                    "type": "bar",
                    "itemStyle": {"color": f"var(--{side})"},
                    "data": [_rounded(metrics.get(name)) for name in names],
                }
                for side, metrics in found.items()
            ],
        ),
        height=300,
        table=[
            ["metric", *(TITLES[side] for side in found)],
            *([name, *(_figure(found[side].get(name)) for side in found)] for name in names),
        ],
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"


def _categories(coco: CocoResult) -> Chart:
    rows = [
        (
            item.name,
            item.AP.get("tensorflow"),
            item.AP.get("torch"),
        )
        for item in coco.categories
    ]
    known = [row for row in rows if row[1] is not None and row[2] is not None]
    known.sort(key=lambda row: -abs((row[2] or 0.0) - (row[1] or 0.0)))
    return Chart(
        id="coco-categories",
        title="Average precision of each category",
        explanation=(
            "One mark for each category: AP of TensorFlow across, of PyTorch up, from 0 to 1. On "
            "the line both are equal."
        ),
        option=base(
            grid=grid(bottom=46, top=12),
            xAxis=value_axis("AP, TensorFlow", nameGap=28, min=0, max=1),
            yAxis=value_axis("AP, PyTorch", nameGap=40, min=0, max=1),
            series=[
                {
                    "name": "category",
                    "type": "scatter",
                    "symbolSize": 8,
                    "itemStyle": {"color": "var(--torch)", "opacity": 0.7},
                    "data": [
                        {"name": name, "value": [_rounded(one), _rounded(other)]}
                        for name, one, other in known
                    ],
                },
                {
                    "name": "equal",
                    "type": "line",
                    "showSymbol": False,
                    "silent": True,
                    "lineStyle": {"color": "var(--muted)", "type": "dashed", "width": 1},
                    "data": [[0, 0], [1, 1]],
                },
            ],
        ),
        height=380,
        table=[
            ["category", "TensorFlow", "PyTorch"],
            *([name, text(one), text(other)] for name, one, other in known[: TABLE_ROWS - 1]),
        ],
    )


def _curves(found: Mapping[str, Mapping[str, Sequence[float]]]) -> Chart:
    series: list[dict[str, Any]] = []
    names: list[str] = []
    for side, title in TITLES.items():
        for curve, style in _CURVES.items():
            values = found.get(side, {}).get(curve)
            if values:
                names.append(f"{title} {curve}")
                series.append(
                    {
                        "name": names[-1],
                        "type": "line",
                        "showSymbol": False,
                        "itemStyle": {"color": f"var(--{side})"},
                        "lineStyle": {"color": f"var(--{side})", "type": style, "width": 2},
                        "data": [
                            [round(place / (len(values) - 1), 2), short(value)]
                            for place, value in enumerate(values)
                        ],
                    }
                )
    return Chart(
        id="coco-curves",
        title="Precision by recall",
        explanation=(
            "Precision at each recall, averaged over the categories: over all IoU thresholds (AP), "
            "at 0.5 and at 0.75. The mean of a curve is the metric of its name."
        ),
        option=base(
            tooltip={"trigger": "axis", "confine": True},
            legend=legend(names),
            grid=grid(bottom=46),
            xAxis=value_axis("recall", nameGap=28, min=0, max=1),
            yAxis=value_axis("precision", nameGap=40, min=0, max=1),
            series=series,
        ),
        height=360,
        table=[
            ["recall", *names],
            *(
                [f"{place / 20:.2f}", *(text(item["data"][5 * place][1]) for item in series)]
                for place in range(21)
                if all(len(item["data"]) == 101 for item in series)
            ),
        ],
    )


def _swaps(swap: StageSwapResult) -> Chart:
    rows = [(row.title, row.origin.value, row.AP_delta) for row in swap.rows]
    colours = {"tensorflow": "var(--tensorflow)", "mistake": "var(--candidate-differs)"}
    return Chart(
        id="coco-swaps",
        title="What each stage costs",
        explanation=(
            "AP with one stage exchanged minus AP of the PyTorch pipeline, in points of 0.01: by "
            "TensorFlow's own stage, which should change nothing, or by a common mistake. A bar "
            "that would dwarf all others ends at the edge; its figure is the whole."
        ),
        option=base(
            grid=grid(left=8, top=8, right=70, bottom=34, containLabel=True),
            xAxis=value_axis("difference of AP, in points", nameGap=24, **_range(rows)),
            yAxis=category_axis(
                [title for title, _, _ in rows],
                inverse=True,
                axisLabel={"color": "var(--ink)", "width": 190, "overflow": "break"},
            ),
            series=[
                {
                    "name": "difference of AP",
                    "type": "bar",
                    "barMaxWidth": 16,
                    "label": {"show": True, "position": "right", "color": "var(--ink)"},
                    "data": [
                        {
                            "value": None if delta is None else round(100 * delta, 3) + 0.0,
                            "itemStyle": {"color": colours.get(origin, "var(--muted)")},
                        }
                        for _, origin, delta in rows
                    ],
                }
            ],
        ),
        height=70 + 30 * len(rows),
        table=[
            ["stage", "from", "difference of AP"],
            *(
                [title, origin, "-" if delta is None else f"{delta:+.6f}"]
                for title, origin, delta in rows[: TABLE_ROWS - 1]
            ),
        ],
    )


def _range(rows: Sequence[tuple[str, str, float | None]]) -> dict[str, float]:
    """Ends of the axis where one bar is much longer than all others; else none."""
    longest = sorted((abs(100 * delta) for _, _, delta in rows if delta is not None), reverse=True)
    if len(longest) < 2 or not longest[1] or longest[0] <= _DWARFS * longest[1]:
        return {}
    end = float(f"{1.2 * longest[1]:.2g}")
    return {"min": -end, "max": end}
