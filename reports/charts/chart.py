"""A chart as plain values, and what all charts share: axes, numbers, verdicts' signs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parity.judge.verdict import Verdict

TABLE_ROWS = 30
"""Most rows of a chart's text alternative, the header included."""


_DECADES = 10
"""Most powers of ten that a logarithmic axis shows."""


@dataclass(frozen=True)
class Mark:
    """How a verdict is drawn: never by its colour alone.

    Attributes:
        colour: CSS variable.
        symbol: ECharts' name of the mark.
        size: Of the mark, in pixels.
    """

    colour: str
    symbol: str
    size: int


SIGNS: Mapping[Verdict, Mark] = {
    Verdict.EXACT: Mark("var(--exact)", "circle", 4),
    Verdict.ROUNDING: Mark("var(--rounding)", "circle", 4),
    Verdict.CANDIDATE_DIFFERS: Mark("var(--candidate-differs)", "triangle", 13),
    Verdict.REFERENCE_DIFFERS: Mark("var(--reference-differs)", "rect", 11),
    Verdict.FUNCTION_DIFFERS: Mark("var(--function-differs)", "diamond", 14),
    Verdict.OWN_INPUTS: Mark("var(--not-covered)", "emptyDiamond", 10),
    Verdict.NOT_COVERED: Mark("var(--not-covered)", "emptyCircle", 10),
}
"""By verdict, the least serious first. Those that fail are larger and have other shapes."""


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        id: Of its place on the page: letters, digits and hyphens; unique on the page.
        title: What is shown.
        explanation: One or two sentences: what is shown, in which unit.
        option: For ECharts; JSON-able. Colours are CSS variables such as ``var(--exact)``. Beside
            ECharts' own keys: ``nodes_on_axis``, whether the categories of the x axis are nodes;
            ``names_above``, whether the categories of the y axis stand above their bars; and
            ``formats``, by the axis ``x`` or ``y`` one of ``percent`` and ``signed``.
        height: In pixels, where all names fit in one line; the page's script adds what they need
            on a narrow screen.
        table: The same as text: a header, then rows, :data:`TABLE_ROWS` at most in all.
    """

    id: str
    title: str
    explanation: str
    option: dict[str, Any]
    height: int
    table: list[list[str]]


def short(value: float) -> float:
    """Rounded to three significant digits: enough for a drawing, and a third of the bytes."""
    found = float(f"{value:.3g}")
    return int(found) if found.is_integer() and abs(found) < 1e6 else found


def text(value: float | None) -> str:
    """A number for a table; a hyphen where there is none."""
    return "-" if value is None else f"{value:.3g}"


def edge(value: float) -> str:
    """The edge of a bin in few characters: no exponent where a reader needs none."""
    return f"{value:,.0f}" if 100 <= value < 1e5 else f"{value:.3g}"


def nice(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten that is not below a value above zero."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def on_log_axis(value: float | None, floor: float, ceiling: float) -> float | None:
    """Where a value is drawn on a logarithmic axis.

    What is below the floor, such as zero, is drawn on it; what is not finite, on the ceiling.
    """
    if value is None:
        return None
    if not math.isfinite(value):
        return ceiling
    return short(min(max(value, floor), ceiling))


def log_range(values: Sequence[float | None], floor: float = 0.0) -> tuple[float, float]:
    """Powers of ten that hold what a logarithmic axis shows: the lowest and the highest.

    Args:
        values: What is to be shown.
        floor: Nothing below it is of interest.

    Returns:
        The lowest is not below ``floor``, nor more than :data:`_DECADES` under the highest. That
        leaves a decade free for what is not finite.
    """
    known = [value for value in values if value is not None]
    finite = [abs(value) for value in known if math.isfinite(value)]
    positive = [value for value in finite if value > floor]
    if not positive:
        return floor or 1e-3, (floor or 1e-3) * 1000
    high = 10.0 ** math.ceil(math.log10(max(positive)) + 1e-9)
    low = max(floor, 10.0 ** math.floor(math.log10(min(positive))), high / 10**_DECADES)
    return low, high * (10 if len(finite) < len(known) else 1)


def value_axis(name: str, **other: Any) -> dict[str, Any]:
    """An axis of numbers with its name, that is its unit, along it."""
    return {
        "type": "value",
        "name": name,
        "nameLocation": "middle",
        "nameTextStyle": {"color": "var(--muted)"},
        "axisLabel": {"color": "var(--muted)", "hideOverlap": True},
        "axisLine": {"lineStyle": {"color": "var(--line)"}},
        "splitLine": {"lineStyle": {"color": "var(--line)"}},
        **other,
    }


def log_axis(name: str, low: float, high: float, **other: Any) -> dict[str, Any]:
    """A logarithmic axis between two powers of ten."""
    axis = value_axis(name, **{"nameGap": 46, **other})
    return {**axis, "type": "log", "min": low, "max": high, "minorTick": {"show": False}}


def category_axis(names: Sequence[str], **other: Any) -> dict[str, Any]:
    """An axis of names."""
    return {
        "type": "category",
        "data": list(names),
        "nameLocation": "middle",
        "nameTextStyle": {"color": "var(--muted)"},
        "axisLabel": {"color": "var(--ink)"},
        "axisTick": {"show": False},
        "axisLine": {"lineStyle": {"color": "var(--line)"}},
        **other,
    }


def whole(**other: Any) -> dict[str, Any]:
    """Labels of an axis of which none may be left out; on a narrow screen they are turned."""
    return {"color": "var(--ink)", "interval": 0, **other}


def named_bars(
    names: Sequence[str], values: Sequence[Mapping[str, Any]], x: Mapping[str, Any], **other: Any
) -> dict[str, Any]:
    """An option of bars to the right, with long names: each above its bar, whole at any width.

    Args:
        names: Of the bars, from above.
        values: Items of ECharts' data.
        x: The axis of the values.
        other: More of the series, among them its ``name``.
    """
    return base(
        names_above=True,
        grid=grid(left=8, right=70, top=4),
        xAxis=x,
        yAxis=category_axis(
            names,
            inverse=True,
            axisLabel=whole(inside=True, margin=0),
            axisLine={"onZero": False, "lineStyle": {"color": "var(--line)"}},
        ),
        series=[
            {
                "type": "bar",
                "barWidth": 16,
                "label": {"show": True, "position": "right", "color": "var(--ink)"},
                "data": list(values),
                **other,
            }
        ],
    )


def named_height(names: Sequence[str]) -> int:
    """The height of :func:`named_bars` where each name fits in one line, in pixels."""
    return 52 + 48 * len(names)


def legend(names: Sequence[str]) -> dict[str, Any]:
    """A legend above the drawing, in as many lines as it needs."""
    return {
        "top": 0,
        "left": 0,
        "icon": None,
        "data": list(names),
        "textStyle": {"color": "var(--ink)"},
        "inactiveColor": "var(--line)",
    }


def base(**other: Any) -> dict[str, Any]:
    """What every option begins with."""
    return {
        "animation": False,
        "textStyle": {"color": "var(--ink)", "fontFamily": "inherit"},
        "tooltip": {"trigger": "item", "confine": True},
        **other,
    }


def grid(**other: Any) -> dict[str, Any]:
    """The room around the drawing, in pixels."""
    return {"left": 62, "right": 18, "top": 40, "bottom": 44, **other}
