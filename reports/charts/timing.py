"""Charts of time and memory."""

from __future__ import annotations

from collections.abc import Mapping

from parity.coco.titles import titles
from parity.results.records.coco import CocoResult
from parity.results.records.run import RunResult
from reports.charts.chart import Chart, base, category_axis, grid, legend, value_axis, whole
from reports.charts.coco import colour_of

_STAGES = ("decode", "preprocess", "network", "postprocess")


def timing_charts(
    run: RunResult,
    coco: CocoResult | None,
) -> list[Chart]:
    """Wall time and memory of each step, and the time of an image on either side.

    Args:
        run: ``run.json``.
        coco: ``coco.json``.
    """
    steps = [step for step in run.steps if step.seconds is not None]
    charts = []
    if steps:
        charts = [
            _bars(
                "step-seconds",
                "Time of each step",
                "Wall time of each command, a process of its own, in seconds.",
                "seconds",
                {step.name: step.seconds or 0.0 for step in steps},
            ),
            _bars(
                "step-memory",
                "Memory of each step",
                "Largest resident memory of each command's process, in gigabytes (10^9 bytes).",
                "GB",
                {step.name: (step.peak_memory_bytes or 0) / 1e9 for step in steps},
            ),
        ]
    return [*charts, _stages(coco)] if coco and coco.seconds_per_image else charts


def _bars(name: str, title: str, explanation: str, unit: str, values: Mapping[str, float]) -> Chart:
    rounded = {key: round(value, 2) for key, value in values.items()}
    return Chart(
        id=name,
        title=title,
        explanation=explanation,
        option=base(
            grid=grid(left=8, top=8, right=64, bottom=30, containLabel=True),
            xAxis=value_axis(unit, nameGap=22, min=0),
            yAxis=category_axis(list(rounded), inverse=True),
            series=[
                {
                    "name": unit,
                    "type": "bar",
                    "barMaxWidth": 20,
                    "itemStyle": {"color": "var(--accent)"},
                    "label": {"show": True, "position": "right", "color": "var(--ink)"},
                    "data": list(rounded.values()),
                }
            ],
        ),
        height=70 + 30 * len(rounded),
        table=[["step", unit], *([key, f"{value:g}"] for key, value in rounded.items())],
    )


def _stages(coco: CocoResult) -> Chart:
    found = coco.seconds_per_image
    called = titles(coco.candidate)
    sides = [side for side in called if side in found]
    milliseconds = {
        side: [round(1000 * (found[side].get(stage) or 0.0), 2) for stage in _STAGES]
        for side in sides
    }
    return Chart(
        id="image-seconds",
        title="Time of an image, stage by stage",
        explanation=(
            "Milliseconds in which each stage was busy, for an image. Stages overlap: images are "
            "decoded while the network computes."
        ),
        option=base(
            tooltip={"trigger": "axis", "confine": True, "axisPointer": {"type": "shadow"}},
            legend=legend([called[side] for side in sides]),
            grid=grid(bottom=30),
            xAxis=category_axis(_STAGES, axisLabel=whole()),
            yAxis=value_axis("milliseconds", nameGap=46, min=0),
            series=[
                {
                    "name": called[side],
                    "type": "bar",
                    "barMaxWidth": 34,
                    "itemStyle": {"color": colour_of(side)},
                    "data": milliseconds[side],
                }
                for side in sides
            ],
        ),
        height=280,
        table=[
            ["stage", *(f"{called[side]}, ms" for side in sides)],
            *(
                [stage, *(f"{milliseconds[side][place]:g}" for side in sides)]
                for place, stage in enumerate(_STAGES)
            ),
        ],
    )
