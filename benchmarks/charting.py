"""Networks' times as one SVG: ways beside each other, and how their cost grows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.measurements import growth
from benchmarks.records import Measurement, Ratio, SuiteResult
from benchmarks.runtimes import OURS, runtime
from benchmarks.showing import of_curve, point_name
from reports.charts.chart import nice

WIDTH = 960
_NAMES, _BAR, _HEAD = 190, 24, 66
_PANEL = (450, 250)
_AXIS, _TOP = 56, 34

_STYLE = """
text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.small{font-size:12px}
.muted{fill:#59636e}.line{stroke:#d1d9e0;stroke-width:1}.one{stroke:#59636e;stroke-dasharray:3 3}
.whisker{stroke:#24292f;stroke-width:1.5}.other{fill:#8c959f;stroke:#8c959f}
.w0{fill:#0969da;stroke:#0969da}.w1{fill:#1a7f37;stroke:#1a7f37}.w2{fill:#bc4c00;stroke:#bc4c00}
.curve{fill:none;stroke-width:2}.ground{fill:#fff}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.muted{fill:#9198a1}.ground{fill:#0d1117}
.line{stroke:#3d444d}.one{stroke:#9198a1}.whisker{stroke:#e6edf3}.other{fill:#656c76;stroke:#656c76}
.w0{fill:#4493f8;stroke:#4493f8}.w1{fill:#3fb950;stroke:#3fb950}.w2{fill:#f0883e;stroke:#f0883e}}
"""

_CURVES = {
    "model": "model, at its own size",
    "size": "side of D0's image, pixels",
    "batch": "images at once, D0",
    "threads": "threads, D0",
}


def chart(result: SuiteResult) -> str:
    """The drawing; it has colours for bright and dark pages.

    Args:
        result: A run in which networks were measured.
    """
    whole = [
        item
        for item in result.measurements
        if item.what == "network" and len(item.rows) > len(growth.WAYS)
    ]
    pieces: list[str] = []
    height = 10.0
    if whole:
        height += _bars(whole, height, pieces)
    curves = [(curve, of_curve(result, curve)) for curve in growth.CURVES]
    curves = [(curve, points) for curve, points in curves if len(points) > 1]
    if curves:
        height += _legend(height, pieces)
    for place, (curve, points) in enumerate(curves):
        x = 10 + (place % 2) * (_PANEL[0] + 40)
        _panel(curve, points, x, height + (place // 2) * (_PANEL[1] + 20), pieces)
    height += math.ceil(len(curves) / 2) * (_PANEL[1] + 20)
    label = f"Times of the network on {result.environment.get('processor')}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-label="{escape(label)}"><style>{_STYLE}</style>'
        f'<rect class="ground" width="{WIDTH}" height="{height:g}"/>{"".join(pieces)}</svg>\n'
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _colour(way: str) -> str:
    """The class of a way's colour; the ways of the curves have one each."""
    named = [runtime(name).NAME for name in growth.WAYS]
    if way in named:
        return f"w{named.index(way)}"
    return "w0" if way in OURS else "other"


def _bars(models: Sequence[Measurement], top: float, pieces: list[str]) -> float:
    """Ways as rows and models as columns: each way's time in units of the reference's."""
    ways = list(dict.fromkeys(row.way for item in models for row in item.rows))
    width = (WIDTH - _NAMES - 20) / len(models)
    reference = models[0].reference
    title = f"The network's time in units of {reference}: median of the rounds' ratios"
    pieces.append(_text(10, top + 16, title, "title"))
    pieces.append(_text(10, top + 34, "with their quartiles; shorter is faster", "muted small"))
    for number, way in enumerate(ways):
        pieces.append(_text(10, top + _HEAD + 17 + number * _BAR, way))
    for place, item in enumerate(models):
        x = _NAMES + place * width
        subject = f"{point_name('model', item)}, {point_name('size', item)} pixels"
        pieces.append(_text(x, top + _HEAD - 6, subject, "title small"))
        found = {row.way: row.ratio for row in item.rows}
        scale = (width - 60) / max(ratio.high for ratio in found.values())
        for number, way in enumerate(ways):
            y = top + _HEAD + number * _BAR
            if way in found:
                pieces += _bar(x, y, scale, found[way], _colour(way))
            else:
                pieces.append(_text(x + 4, y + 17, "not measured", "muted small"))
        one = x + scale
        pieces.append(_line(one, top + _HEAD, one, top + _HEAD + len(ways) * _BAR, "line one"))
    return _HEAD + len(ways) * _BAR + 26


def _bar(x: float, y: float, scale: float, ratio: Ratio, kind: str) -> Iterator[str]:
    place = f'x="{x:.1f}" y="{y + 4:.1f}" width="{ratio.median * scale:.1f}" height="16"'
    yield f'<rect class="{kind}" {place} rx="2"/>'
    yield _line(x + ratio.low * scale, y + 12, x + ratio.high * scale, y + 12, "whisker")
    yield _text(x + ratio.high * scale + 6, y + 17, f"{ratio.median:.2f}", "small")


def _legend(top: float, pieces: list[str]) -> float:
    pieces.append(_text(10, top + 16, "How the network's cost grows", "title"))
    x = 10.0
    for place, name in enumerate(growth.WAYS):
        way = runtime(name).NAME
        pieces.append(_mark(x + 6, top + 36, place))
        pieces.append(_text(x + 18, top + 40, way))
        x += 46 + 8 * len(way)
    return 60


def _mark(x: float, y: float, place: int) -> str:
    """A way's mark, by shape and colour."""
    if place == 0:
        return f'<circle class="w0" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    turned = f' transform="rotate(45 {x:.1f} {y:.1f})"' if place == 2 else ""
    return f'<rect class="w{place}" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"{turned}/>'


def ticks(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis, the first not above and the last not below.

    Args:
        low: The least value, above zero.
        high: The largest.
    """
    last = nice(high)
    found = [last]
    while found[0] > low:
        # The next lower of 1, 2 and 5 times a power of ten.
        leading = f"{found[0]:e}"[0]
        found.insert(0, found[0] / (2.5 if leading == "5" else 2))
    if found[-1] / found[0] > 60:
        found = [value for value in found if f"{value:e}"[0] == "1"] or found
        found = found if found[0] <= low else [found[0] / 10, *found]
        found = found if found[-1] >= high else [*found, found[-1] * 10]
    return found


def _panel(
    curve: str, points: Sequence[Measurement], left: float, top: float, pieces: list[str]
) -> None:
    """One curve for each way: both axes logarithmic, models side by side."""
    width, height = _PANEL[0] - _AXIS, _PANEL[1] - _TOP - 40
    named = [runtime(name).NAME for name in growth.WAYS]
    taken = [
        [1000 * row.median if (row := point.row(way)) else None for point in points]
        for way in named
    ]
    known = [value for values in taken for value in values if value is not None]
    marks = ticks(min(known), max(known))
    bottom = top + _TOP + height

    def y_of(value: float) -> float:
        share = math.log(value / marks[0]) / math.log(marks[-1] / marks[0])
        return bottom - share * height

    pieces.append(_text(left, top + 16, f"ms, by {_CURVES[curve]}", "small muted"))
    for value in marks:
        pieces.append(_line(left + _AXIS, y_of(value), left + _PANEL[0], y_of(value), "line"))
        pieces.append(_text(left + _AXIS - 8, y_of(value) + 4, _tick(value), "small muted", "end"))
    places = [left + _AXIS + 20 + share * (width - 40) for share in _places(curve, points)]
    for x, point in zip(places, points, strict=True):
        pieces.append(_text(x, bottom + 20, point_name(curve, point), "small muted", "middle"))
    for place, values in enumerate(taken):
        drawn = [(x, y_of(value)) for x, value in zip(places, values, strict=True) if value]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        pieces.append(f'<polyline class="curve w{place}" style="fill:none" points="{path}"/>')
        pieces += [_mark(x, y, place) for x, y in drawn]


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _places(curve: str, points: Sequence[Measurement]) -> list[float]:
    """Where the points are along the axis, from 0 to 1."""
    if curve == "model":
        values = [float(place) for place in range(len(points))]
    else:
        values = [math.log(float(point_name(curve, point))) for point in points]
    return [(value - values[0]) / (values[-1] - values[0]) for value in values]
