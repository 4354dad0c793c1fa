"""Charts of an evaluation: differences of metrics, categories, curves, what each stage costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parity.coco.titles import REFERENCE, titles
from parity.results.records.coco import CocoResult, StageSwapResult
from reports.charts.chart import (
    TABLE_ROWS,
    Chart,
    base,
    category_axis,
    grid,
    legend,
    named_bars,
    named_height,
    nice,
    short,
    text,
    value_axis,
    whole,
)

_DWARFS = 5
"""A bar so many times as long as the next would leave nothing of the others to be seen."""

_CURVES = {"AP": "solid", "AP50": "dashed", "AP75": "dotted"}


def coco_charts(coco: CocoResult) -> list[Chart]:
    """Charts of ``coco.json``; none where nothing is known to be found."""
    if not coco.metrics:
        return []
    charts = [_metrics(coco)] if coco.metric_deltas else []
    if len(coco.metrics) > 1:
        charts.append(_categories(coco))
    if any(coco.precision_by_recall.values()):
        charts.append(_curves(coco.precision_by_recall, titles(coco.candidate)))
    if coco.stage_swap:
        charts.append(_swaps(coco.stage_swap))
    return charts


def _metrics(coco: CocoResult) -> Chart:
    """Differences on a scale of their own: of equal bars nobody sees what is not equal."""
    called = titles(coco.candidate)
    reference, judged = called.values()
    minus = f"{judged} minus {reference}"
    found = {side: coco.metrics[side] for side in called}
    names = list(coco.metric_deltas)
    deltas = [coco.metric_deltas[name] for name in names]
    known = [abs(delta) for delta in deltas if delta is not None]
    end = nice(1.3 * max([coco.metric_limit, *known]))
    equal = " All of them are 0." if known and not any(known) else ""
    return Chart(
        id="coco-metrics",
        title="Differences of the COCO metrics",
        explanation=(
            f"{minus}, metrics being from 0 to 1. Dashed lines: as far as a metric "
            f"may be off, {coco.metric_limit:g}. The metrics themselves are in the table.{equal}"
        ),
        option=base(
            formats={"x": "signed"},
            grid=grid(left=56, right=24, top=12, bottom=44),
            xAxis=value_axis(minus, nameGap=26, min=-end, max=end, interval=end / 2),
            yAxis=category_axis(
                names,
                inverse=True,
                axisLabel=whole(),
                axisLine={"onZero": False, "lineStyle": {"color": "var(--line)"}},
            ),
            series=[
                {
                    "name": "difference",
                    "type": "bar",
                    "barMaxWidth": 16,
                    "itemStyle": {"color": "var(--torch)"},
                    "label": {"show": True, "color": "var(--ink)"},
                    "data": [_signed_bar(delta) for delta in deltas],
                    "markLine": _limits(coco.metric_limit),
                }
            ],
        ),
        height=70 + 26 * len(names),
        table=[
            ["metric", *(called[side] for side in found), "difference"],
            *(
                [name, *(_figure(side.get(name)) for side in found.values()), _figure(delta)]
                for name, delta in zip(names, deltas, strict=True)
            ),
        ],
    )


def _signed_bar(delta: float | None) -> dict[str, Any]:
    """A bar to either side, with its figure outside of it."""
    side = "left" if delta is not None and delta < 0 else "right"
    value = None if delta is None else float(f"{delta:.3g}") + 0.0
    return {"value": value, "label": {"position": side}}


def _limits(most: float) -> dict[str, Any]:
    return {
        "silent": True,
        "symbol": "none",
        "label": {"show": False},
        "lineStyle": {"color": "var(--muted)", "type": "dashed", "width": 1},
        "data": [{"xAxis": most}, {"xAxis": -most}],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"


def _categories(coco: CocoResult) -> Chart:
    called = titles(coco.candidate)
    reference, judged = called.values()
    one, other = called
    rows = [(item.name, item.AP.get(one), item.AP.get(other)) for item in coco.categories]
    known = [row for row in rows if row[1] is not None and row[2] is not None]
    known.sort(key=lambda row: -abs((row[2] or 0.0) - (row[1] or 0.0)))
    return Chart(
        id="coco-categories",
        title="Average precision of each category",
        explanation=(
            f"One mark for each category: AP of {reference} across, of {judged} up, from 0 to 1. "
            f"On the line both are equal."
        ),
        option=base(
            grid=grid(bottom=46, top=12),
            xAxis=value_axis(f"AP, {reference}", nameGap=28, min=0, max=1),
            yAxis=value_axis(f"AP, {judged}", nameGap=40, min=0, max=1),
            series=[
                {
                    "name": "category",
                    "type": "scatter",
                    "symbolSize": 8,
                    "itemStyle": {"color": "var(--torch)", "opacity": 0.7},
                    "data": [
                        {"name": name, "value": [_rounded(across), _rounded(up)]}
                        for name, across, up in known
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
            ["category", reference, judged],
            *([name, text(across), text(up)] for name, across, up in known[: TABLE_ROWS - 1]),
        ],
    )


def colour_of(side: str) -> str:
    """The colour of a side's marks; a candidate has the converted model's, whose place it takes.

    Args:
        side: Its name in results.
    """
    return "var(--tensorflow)" if side == REFERENCE else "var(--torch)"


def _curves(found: Mapping[str, Mapping[str, Sequence[float]]], called: Mapping[str, str]) -> Chart:
    series: list[dict[str, Any]] = []
    names: list[str] = []
    for side, title in called.items():
        for curve, style in _CURVES.items():
            values = found.get(side, {}).get(curve)
            if values:
                names.append(f"{title} {curve}")
                series.append(
                    {
                        "name": names[-1],
                        "type": "line",
                        "symbol": "circle",
                        "showSymbol": False,
                        "itemStyle": {"color": colour_of(side)},
                        "lineStyle": {"color": colour_of(side), "type": style, "width": 2},
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
    titles = [title for title, _, _ in rows]
    colours = {"tensorflow": "var(--tensorflow)", "mistake": "var(--candidate-differs)"}
    bars = [
        {
            "value": None if delta is None else round(100 * delta, 3) + 0.0,
            "itemStyle": {"color": colours.get(origin, "var(--muted)")},
        }
        for _, origin, delta in rows
    ]
    axis = value_axis("difference of AP, in points", nameGap=24, **_range(rows))
    return Chart(
        id="coco-swaps",
        title="What each stage costs",
        explanation=(
            "AP with one stage exchanged minus AP of the PyTorch pipeline, in points of 0.01: by "
            "TensorFlow's own stage, which should change nothing, or by a common mistake. A bar "
            "that would dwarf all others ends at the edge; its figure is the whole."
        ),
        option=named_bars(titles, bars, axis, name="difference of AP"),
        height=named_height(titles),
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
