"""Charts of a closer look at one node: where it differs, in which channels, which values."""

from __future__ import annotations

import math

from parity.coco.titles import TITLES
from parity.results.ranking import ordered
from parity.results.records.closeups import CloseupResult, Histogram, PlaneMap, Scatter, Values
from parity.results.records.nodes import NodesResult
from reports.charts.chart import (
    TABLE_ROWS,
    Chart,
    base,
    category_axis,
    edge,
    grid,
    legend,
    short,
    text,
    value_axis,
    whole,
)

_BARS = 4096
_LEAST_CHANNELS = 2

_BINS = 18
"""Most bars of a histogram: as many names as stand beside each other on a narrow screen."""


def closeup_charts(closeup: CloseupResult, nodes: NodesResult) -> list[Chart]:
    """Map, channels, values and distances of one node.

    Args:
        closeup: An entry of ``closeups``.
        nodes: The result that it is from.

    Returns:
        What the tensor's shape allows: no map of a single position, no channels of one channel.
    """
    place = [item.node for item in nodes.closeups].index(closeup.node)
    charts = []
    if closeup.plane.rows * closeup.plane.columns > 1:
        charts.append(_map(closeup.plane, f"map-{place}"))
    if len(closeup.channels) >= _LEAST_CHANNELS:
        charts.append(_channels(closeup.channels, f"channels-{place}"))
    charts.append(_scatter(closeup.scatter, f"values-{place}"))
    charts.append(_histogram(closeup.histogram, f"distances-{place}"))
    return charts


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _map(values: PlaneMap, name: str) -> Chart:
    rows, columns = values.rows, values.columns
    cells = [
        [column, row, _finite(value)]
        for row, line in enumerate(values.values)
        for column, value in enumerate(line)
    ]
    known = [cell[2] for cell in cells if cell[2] is not None]
    top = max(known, default=0.0) or 1.0
    worst = sorted(cells, key=lambda cell: -math.inf if cell[2] is None else -cell[2])
    return Chart(
        id=name,
        title="Where in the plane",
        explanation=(
            f"The largest difference of PyTorch from TensorFlow over all channels, in units of the "
            f"node's rms; {values.height} x {values.width} positions in {rows} x {columns} "
            f"cells. Cells without a value hold something that is not finite."
        ),
        option=base(
            grid=grid(left=30, right=14, top=10, bottom=64),
            xAxis=category_axis([str(i) for i in range(columns)], axisLabel={"show": False}),
            yAxis=category_axis(
                [str(i) for i in range(rows)], inverse=True, axisLabel={"show": False}
            ),
            visualMap={
                "min": 0,
                "max": top,
                "orient": "horizontal",
                "left": "center",
                "bottom": 4,
                "precision": 8,
                "calculable": False,
                "text": [f"{top:.2g} of rms", "0"],
                "textStyle": {"color": "var(--muted)"},
                "inRange": {
                    "color": ["var(--surface)", "var(--rounding)", "var(--candidate-differs)"]
                },
            },
            series=[{"name": "difference", "type": "heatmap", "data": cells}],
        ),
        height=320,
        table=[
            ["row", "column", "largest difference, of rms"],
            *([str(y), str(x), text(value)] for x, y, value in worst[: TABLE_ROWS - 1]),
        ],
    )


def _channels(values: Values, name: str) -> Chart:
    found = [_finite(value) for value in values[:_BARS]]
    order = sorted(range(len(values)), key=lambda i: -ordered(values[i]))
    return Chart(
        id=name,
        title="In which channels",
        explanation=(
            "Root mean square of the difference in each channel, in units of the node's rms; a "
            "single high bar is one wrong channel, equal bars are one common cause."
        ),
        option=base(
            tooltip={"trigger": "axis", "confine": True},
            grid=grid(top=12, bottom=40),
            xAxis=category_axis(
                [str(i) for i in range(len(found))],
                name="channel",
                nameGap=24,
                axisLabel={"color": "var(--muted)", "hideOverlap": True},
            ),
            yAxis=value_axis("of rms", nameGap=48),
            series=[
                {
                    "name": "rms of the difference",
                    "type": "bar",
                    "itemStyle": {"color": "var(--torch)"},
                    "data": [None if value is None else short(value) for value in found],
                }
            ],
        ),
        height=240,
        table=[
            ["channel", "rms of the difference, of the node's rms"],
            *([str(i), text(values[i])] for i in order[: TABLE_ROWS - 1]),
        ],
    )


def _scatter(values: Scatter, name: str) -> Chart:
    pairs = list(zip(values.reference, values.candidate, strict=True))
    points = [
        [short(a), short(b)]
        for a, b in pairs
        if a is not None and b is not None and math.isfinite(a) and math.isfinite(b)
    ]
    ends = [value for point in points for value in point] or [0.0, 1.0]
    low, high = min(ends), max(ends)
    return Chart(
        id=name,
        title="Value against value",
        explanation=(
            "Elements of the tensor, those that differ most and an even sample: TensorFlow's value "
            "across, PyTorch's up. On the line both are equal; another straight line is a factor, "
            "a curve another function."
        ),
        option=base(
            grid=grid(top=12, bottom=46),
            xAxis=value_axis("TensorFlow", nameGap=28, scale=True),
            yAxis=value_axis("PyTorch", nameGap=48, scale=True),
            series=[
                {
                    "name": "element",
                    "type": "scatter",
                    "symbolSize": 5,
                    "itemStyle": {"color": "var(--torch)", "opacity": 0.6},
                    "data": points,
                },
                {
                    "name": "equal",
                    "type": "line",
                    "showSymbol": False,
                    "silent": True,
                    "lineStyle": {"color": "var(--muted)", "type": "dashed", "width": 1},
                    "data": [[low, low], [high, high]],
                },
            ],
        ),
        height=320,
        table=[
            ["TensorFlow", "PyTorch"],
            *(
                [f"{a:.7g}", f"{b:.7g}"]
                for a, b in pairs[: TABLE_ROWS - 1]
                if a is not None and b is not None
            ),
        ],
    )


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.7g}"


def _histogram(values: Histogram, name: str) -> Chart:
    edges = values.edges
    found = {"tensorflow": values.reference, "torch": values.candidate}
    zero = {"tensorflow": values.zero.reference, "torch": values.zero.candidate}
    used = [place for place in range(len(edges) - 1) if any(found[side][place] for side in TITLES)]
    last = (used[-1] if used else 0) + 1
    # Edges are four to a decade: as many together as leave few enough, all of a decade if need be.
    together = next((step for step in (1, 2, 4) if last <= step * (_BINS - 1)), 8)
    starts = range(0, last, together)
    labels = [f"< {edge(edges[0])}", *(f"≥ {edge(edges[place])}" for place in starts)]
    counts = {
        side: [zero[side], *(sum(found[side][place : place + together]) for place in starts)]
        for side in TITLES
    }
    return Chart(
        id=name,
        title="How many elements are how far off",
        explanation=(
            "Elements of the tensor by their distance from the exact value, in roundings, for each "
            "side, each bar from its own figure on up to the next; a correct implementation stays "
            "within its limit."
        ),
        option=base(
            tooltip={"trigger": "axis", "confine": True, "axisPointer": {"type": "shadow"}},
            legend=legend(list(TITLES.values())),
            grid=grid(bottom=46),
            xAxis=category_axis(
                labels,
                name="roundings from the exact value",
                nameGap=26,
                axisLabel=whole(),
            ),
            yAxis=value_axis("elements", nameGap=52),
            series=[
                {
                    "name": title,
                    "type": "bar",
                    "itemStyle": {"color": f"var(--{side})"},
                    "data": counts[side],
                }
                for side, title in TITLES.items()
            ],
        ),
        height=280,
        table=[
            ["roundings", *TITLES.values()],
            *(
                [label, *(str(counts[side][place]) for side in TITLES)]
                for place, label in enumerate(labels[: TABLE_ROWS - 1])
            ),
        ],
    )
