"""Charts of a comparison of nodes: along depth, contributions, how many are how far off."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from parity.coco.titles import TITLES
from parity.judge.verdict import Verdict
from parity.results import ranking
from parity.results.records.nodes import Node, NodesResult, largest_of, rms_of, roundings_of
from reports.charts.chart import (
    SIGNS,
    TABLE_ROWS,
    Chart,
    base,
    category_axis,
    edge,
    grid,
    legend,
    log_axis,
    log_range,
    named_bars,
    named_height,
    on_log_axis,
    text,
    value_axis,
    whole,
)
from reports.reading.bands import Band, bands

_ROUNDINGS_FLOOR = 0.01
_LABELS = 12
"""Most failing nodes that are named in a chart; all are in the table of nodes."""


def node_charts(nodes: NodesResult) -> list[Chart]:
    """Charts of ``nodes.json``.

    Args:
        nodes: The result, schema ``efficientdet-parity/nodes``.

    Returns:
        Distance from the exact value along depth, own and accumulated difference along depth,
        the histogram of distances, and contributions where there are any.
    """
    found = nodes.nodes
    areas = _mark_area(bands(nodes))
    charts = [_roundings(found, areas), _relative(found, areas), _histogram(found)]
    return [*charts, _contributions(nodes)] if nodes.contributions else charts


def _roundings(nodes: Sequence[Node], areas: Mapping[str, Any]) -> Chart:
    torch = [roundings_of(node.from_exact) for node in nodes]
    tensorflow = [roundings_of(node.reference_from_exact) for node in nodes]
    # Where none are allowed there is no line.
    ours = [node.limit.candidate or None if node.limit else None for node in nodes]
    limits = [node.limit.candidate if node.limit else None for node in nodes]
    theirs = [node.limit.reference or None if node.limit else None for node in nodes]
    low, high = log_range([*torch, *tensorflow, *ours], _ROUNDINGS_FLOOR)
    high = max(high, 100.0)

    def place(value: float | None) -> float | None:
        return on_log_axis(value, low, high)

    series = [
        _limit("limit of PyTorch", "var(--torch)", map(place, ours)),
        _limit("limit of TensorFlow", "var(--tensorflow)", map(place, theirs)),
        {
            "name": "TensorFlow",
            "type": "scatter",
            "symbol": "rect",
            "symbolSize": 3,
            "itemStyle": {"color": "var(--tensorflow)", "borderWidth": 1},
            "data": _points(map(place, tensorflow)),
        },
        *_verdict_points(nodes, [place(value) for value in torch], "PyTorch: "),
    ]
    series[0]["markArea"] = areas
    order = sorted(
        range(len(nodes)), key=lambda i: (nodes[i].verdict.passes, -ranking.share(nodes[i]))
    )
    return Chart(
        id="depth-roundings",
        title="Distance from the exact value along the network",
        explanation=(
            "Each mark is one node, in the order of computation: its largest distance from the "
            "exact value on TensorFlow's tensors as inputs, in roundings (multiples of the unit "
            "roundoff times the magnitude that roundings act on). Lines are the limits; where "
            "there is none the node must be exact. "
            f"Values below {low:g}, zero among them, are drawn there; what is not finite, on top."
        ),
        option=_depth_option(nodes, series, log_axis("roundings (log)", low, high)),
        height=460,
        table=[
            ["node", "verdict", "PyTorch, roundings", "TensorFlow, roundings", "limit of PyTorch"],
            *(
                [
                    nodes[i].name,
                    nodes[i].verdict.value,
                    text(torch[i]),
                    text(tensorflow[i]),
                    text(limits[i]),
                ]
                for i in order[: TABLE_ROWS - 1]
            ),
        ],
    )


def _relative(nodes: Sequence[Node], areas: Mapping[str, Any]) -> Chart:
    columns = {
        "accumulated, largest": [largest_of(node.free) for node in nodes],
        "accumulated, rms": [rms_of(node.free) for node in nodes],
        "own, largest": [largest_of(node.own) for node in nodes],
        "own, rms": [rms_of(node.own) for node in nodes],
    }
    everything = [value for column in columns.values() for value in column]
    low, high = log_range(everything)

    def place(column: str) -> list[float | None]:
        return [on_log_axis(value, low, high) for value in columns[column]]

    series: list[dict[str, Any]] = [
        {
            "name": name,
            "type": "line",
            "symbol": "circle",
            "showSymbol": False,
            "lineStyle": {"width": width, "type": style, "color": colour},
            "itemStyle": {"color": colour},
            "data": place(name),
        }
        for name, width, style, colour in (
            ("accumulated, largest", 1.75, "solid", "var(--accent)"),
            ("accumulated, rms", 1.25, "dashed", "var(--accent)"),
            ("own, rms", 1, "dotted", "var(--muted)"),
        )
    ]
    series += _verdict_points(nodes, place("own, largest"), "own, largest: ")
    series[0]["markArea"] = areas
    order = sorted(
        range(len(nodes)),
        key=lambda i: (nodes[i].verdict.passes, -ranking.own(nodes[i])),
    )
    return Chart(
        id="depth-relative",
        title="Own and accumulated difference along the network",
        explanation=(
            "PyTorch minus TensorFlow in units of the rms of TensorFlow's tensor. Marks: what a "
            "node itself makes of TensorFlow's tensors; lines: what has accumulated when both "
            "networks run on their own. "
            f"Values below {low:g}, zero among them, are drawn there; what is not finite, on top."
        ),
        option=_depth_option(nodes, series, log_axis("of rms (log)", low, high)),
        height=460,
        table=[
            ["node", "verdict", *(f"{name}, of rms" for name in columns)],
            *(
                [
                    nodes[i].name,
                    nodes[i].verdict.value,
                    *(text(column[i]) for column in columns.values()),
                ]
                for i in order[: TABLE_ROWS - 1]
            ),
        ],
    )


def _or_zero(value: float | None) -> float:
    return 0.0 if value is None or math.isnan(value) else value


def _points(values: Iterable[float | None]) -> list[list[float]]:
    return [[index, value] for index, value in enumerate(values) if value is not None]


def _verdict_points(
    nodes: Sequence[Node], values: Sequence[float | None], prefix: str
) -> list[dict[str, Any]]:
    """One series for each verdict that occurs; the first failing nodes bear their names."""
    named = [i for i, node in enumerate(nodes) if not node.verdict.passes][:_LABELS]
    series = []
    for verdict, sign in SIGNS.items():
        data: list[Any] = []
        for index, (node, value) in enumerate(zip(nodes, values, strict=True)):
            if node.verdict is not verdict or value is None:
                continue
            label = {"show": True, "formatter": node.name} if index in named else None
            point = [index, value]
            data.append({"value": point, "label": label} if label else point)
        if data:
            series.append(
                {
                    "name": prefix + verdict.value,
                    "type": "scatter",
                    "symbol": sign.symbol,
                    "symbolSize": sign.size,
                    "itemStyle": {"color": sign.colour, "borderWidth": 2},
                    "label": {"position": "top", "color": "var(--ink)", "fontWeight": "bold"},
                    "labelLayout": {"hideOverlap": True},
                    "z": 3 if verdict.passes else 4,
                    "data": data,
                }
            )
    return series


def _limit(name: str, colour: str, values: Iterable[float | None]) -> dict[str, Any]:
    return {
        "name": name,
        "type": "line",
        "step": "middle",
        "symbol": "circle",
        "showSymbol": False,
        "lineStyle": {"width": 1, "color": colour, "opacity": 0.7},
        "itemStyle": {"color": colour},
        "data": list(values),
    }


def _mark_area(found: Sequence[Band]) -> dict[str, Any]:
    """Shaded sections, each with its name above."""
    areas = []
    for number_, band in enumerate(found):
        shaded = {"color": "var(--ink)", "opacity": 0.06 if number_ % 2 else 0.02}
        areas.append(
            [
                {
                    "name": band.section,
                    "xAxis": band.first,
                    "itemStyle": shaded,
                    "label": {"color": "var(--muted)", "fontSize": 11},
                },
                {"xAxis": band.last},
            ]
        )
    return {"silent": True, "data": areas}


def _depth_option(
    nodes: Sequence[Node], series: Sequence[Mapping[str, Any]], y: dict[str, Any]
) -> dict[str, Any]:
    names = category_axis(
        [node.name for node in nodes],
        name="nodes in the order of computation",
        nameGap=8,
        axisLabel={"show": False},
    )
    return base(
        nodes_on_axis=True,
        tooltip={"trigger": "axis", "confine": True, "axisPointer": {"type": "line"}},
        legend=legend([item["name"] for item in series]),
        grid=grid(bottom=72),
        xAxis=names,
        yAxis=y,
        dataZoom=[
            {"type": "inside", "zoomOnMouseWheel": "ctrl", "moveOnMouseWheel": False},
            {"type": "slider", "height": 22, "bottom": 8, "showDetail": False},
        ],
        series=list(series),
    )


def _histogram(nodes: Sequence[Node]) -> Chart:
    distances = {
        "PyTorch": [roundings_of(node.from_exact) for node in nodes],
        "TensorFlow": [roundings_of(node.reference_from_exact) for node in nodes],
    }
    # Fine up to the least limit, 16; beyond it only the size is of interest.
    edges = [2.0**power for power in range(-4, 5)]
    top = max((_or_zero(value) for column in distances.values() for value in column), default=0.0)
    while math.isfinite(top) and edges[-1] < top:
        edges.append(100.0 if edges[-1] == 16.0 else edges[-1] * 10)
    names = ["0", *(f"≤ {edge(value)}" for value in edges)]
    if any(not math.isfinite(_or_zero(value)) for column in distances.values() for value in column):
        names.append("not finite")
    counts = {
        title: [sum(_bin(value, edges) == place for value in column) for place in range(len(names))]
        for title, column in distances.items()
    }
    series = [
        {
            "name": title,
            "type": "bar",
            "itemStyle": {"color": f"var(--{framework})"},
            "data": counts[title],
        }
        for framework, title in TITLES.items()
    ]
    return Chart(
        id="histogram",
        title="How many nodes are how far from the exact value",
        explanation=(
            "Number of nodes by their largest distance from the exact value, in roundings; each "
            "bar holds the values above the bar before it, up to and including its own."
        ),
        option=base(
            tooltip={"trigger": "axis", "confine": True, "axisPointer": {"type": "shadow"}},
            legend=legend(list(counts)),
            grid=grid(bottom=54),
            xAxis=category_axis(
                names,
                name="roundings from the exact value",
                nameGap=30,
                axisLabel=whole(),
            ),
            yAxis=value_axis("nodes", nameGap=46, minInterval=1),
            series=series,
        ),
        height=300,
        table=_shortened(
            [
                ["roundings", *counts],
                *(
                    [name, *(str(counts[title][place]) for title in counts)]
                    for place, name in enumerate(names)
                ),
            ]
        ),
    )


def _shortened(table: list[list[str]]) -> list[list[str]]:
    return table[:TABLE_ROWS]


def _bin(value: float | None, edges: Sequence[float]) -> int | None:
    """Index of the bin: 0 is zero, then one for each upper end, then what is not finite."""
    if value is None:
        return None
    if not math.isfinite(value):
        return len(edges) + 1
    return 0 if value == 0 else 1 + bisect_left(edges, value)


def _contributions(nodes: NodesResult) -> Chart:
    rows = []
    for entry in nodes.contributions:
        names = list(entry.nodes)
        title = names[0] if len(names) == 1 else f"these {len(names)} together"
        rows.append((title, names, _or_zero(entry.share), entry.size))
    titles = [row[0] for row in rows]
    verdicts = {node.name: node.verdict for node in nodes.nodes}
    data = []
    for _, names, share, _ in rows:
        alone = len(names) == 1
        sign = SIGNS[verdicts.get(names[0], Verdict.ROUNDING) if names else Verdict.ROUNDING]
        data.append(
            {
                "value": share if math.isfinite(share) else None,
                "itemStyle": {"color": sign.colour if alone else "var(--muted)"},
                **({"node": names[0]} if alone else {}),
            }
        )
    return Chart(
        id="contributions",
        title="What the largest own differences do to the outputs",
        explanation=(
            "Each node's own difference put alone into an undisturbed run: the share of the "
            "outputs' difference that this reproduces. 100 % is all of it; shares need not add up."
        ),
        option={
            **named_bars(titles, data, value_axis(""), name="share of the outputs' difference"),
            "formats": {"x": "percent"},
        },
        height=named_height(titles),
        table=_shortened(
            [
                ["nodes", "share of the outputs' difference", "size of the effect, relative"],
                *([title, f"{share:.1%}", text(size)] for title, _, share, size in rows),
            ]
        ),
    )
