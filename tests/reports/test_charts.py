"""Charts say what the results say, in few bytes, and never more than a page can hold."""

import hashlib
import json
import math
from pathlib import Path

import made_results as made
import pytest

import reports
from reports.charts import closeup_charts, coco_charts, node_charts, timing_charts
from reports.charts.chart import TABLE_ROWS, edge, log_range, nice, on_log_axis

STATIC = Path(reports.__file__).parent / "static"
ECHARTS_SHA256 = "b66b25aeb4df84e33199dc21694014d336d222cbd9deb0e5a7c14bd6aa0d0fd0"


def nodes(**other):
    values = made.nodes(failing=True, **other)
    values |= {"closeups": [made.closeup(values["nodes"][0]["name"])]}
    # A copy of its own, to be changed.
    return json.loads(json.dumps(values))


def run(*steps):
    return made.as_record(made.run("d0", steps=list(steps)))


STEPS = (
    made.step("nodes", seconds=12.5, peak_memory_bytes=1_500_000_000),
    made.step("coco", seconds=None),
)


def swap(delta=-0.01):
    values = made.coco()["stage_swap"]
    row = {"slug": "bgr", "title": "BGR", "stage": "preprocess", "origin": "mistake"}
    return {**values, "rows": [{**values["rows"][0], **row, "AP_delta": delta}]}


def coco(**other):
    return made.as_record(made.coco(**other))


def looks(values):
    """The charts of the first closer look of a result."""
    result = made.as_record(values)
    return closeup_charts(result.closeups[0], result)


def everything():
    values = nodes()
    return [
        *node_charts(made.as_record(values)),
        *looks(values),
        *coco_charts(coco(stage_swap=swap())),
        *timing_charts(run(*STEPS), coco()),
    ]


def test_each_is_plain_distinct_and_has_its_text():
    charts = everything()
    assert len({chart.id for chart in charts}) == len(charts) >= 12
    for chart in charts:
        json.dumps(chart.option, allow_nan=False)
        assert chart.title and chart.explanation.endswith(".") and chart.height > 50, chart.id
        assert 2 <= len(chart.table) <= TABLE_ROWS, chart.id
        assert len({len(row) for row in chart.table}) == 1, chart.id


def by_id(charts, name):
    return next(chart for chart in charts if chart.id == name)


def test_what_fails_is_named_and_comes_first():
    values = nodes()
    chart = by_id(node_charts(made.as_record(values)), "depth-roundings")
    wrong = next(node["name"] for node in values["nodes"] if node["verdict"] == "function differs")
    assert chart.table[1][0] == wrong
    series = {item["name"]: item for item in chart.option["series"]}
    (point,) = series["PyTorch: function differs"]["data"]
    assert point["label"]["formatter"] == wrong
    assert chart.option["xAxis"]["data"][point["value"][0]] == wrong


def test_what_no_logarithm_holds_is_drawn_at_the_edge():
    assert on_log_axis(0.0, 0.1, 100.0) == 0.1 and on_log_axis(None, 0.1, 100.0) is None
    assert on_log_axis(math.inf, 0.1, 100.0) == on_log_axis(math.nan, 0.1, 100.0) == 100.0
    low, high = log_range([0.0, 3e-5, 0.2, math.inf, None])
    assert (low, high) == pytest.approx((1e-5, 10.0))
    assert log_range([0.0, None]) == (1e-3, 1.0)


def test_values_that_are_no_numbers_leave_gaps():
    values = nodes()
    look = values["closeups"][0]
    look["map"]["values"][0][1] = "nan"
    look["scatter"]["candidate"][1] = "inf"
    look["channels"][0] = "nan"
    charts = looks(values)
    cells = by_id(charts, "map-0").option["series"][0]["data"]
    assert [cell[2] for cell in cells].count(None) == 1
    assert len(by_id(charts, "values-0").option["series"][0]["data"]) == 1
    assert by_id(charts, "channels-0").option["series"][0]["data"][0] is None


def test_one_position_has_no_map():
    values = nodes()
    look = values["closeups"][0]
    look["map"] |= {"rows": 1, "columns": 1, "values": [[0.5]]}
    look["channels"] = [0.1]
    assert [chart.id for chart in looks(values)] == ["values-0", "distances-0"]


def test_a_histogram_counts_every_element():
    values = nodes()
    chart = by_id(looks(values), "distances-0")
    for series in chart.option["series"]:
        assert sum(series["data"]) == 8


def test_metrics_stages_and_times_are_those_of_the_results():
    charts = coco_charts(coco(delta=0.01, stage_swap=swap()))
    metrics = by_id(charts, "coco-metrics")
    (series,) = metrics.option["series"]
    assert {item["value"] for item in series["data"]} == {0.01} and len(series["data"]) == 12
    assert metrics.table[1] == ["AP", "0.250000", "0.260000", "0.010000"]
    (bar,) = by_id(charts, "coco-swaps").option["series"][0]["data"]
    assert bar["value"] == -1.0
    assert [row[0] for row in by_id(charts, "coco-categories").table[1:]] == ["cat"]
    assert len(by_id(charts, "coco-curves").option["series"]) == 6
    assert coco_charts(coco(metrics={}, metric_deltas={})) == []
    assert "coco-swaps" not in [chart.id for chart in coco_charts(coco(stage_swap=None))]
    times = timing_charts(run(*STEPS), None)
    assert times[0].table == [["step", "seconds"], ["nodes", "12.5"]]
    assert times[1].table == [["step", "GB"], ["nodes", "1.5"]]
    assert timing_charts(run(), None) == []


@pytest.mark.parametrize(
    "delta, end, side", [(0.0, 2e-4, "right"), (-0.01, 0.02, "left"), (5e-6, 2e-4, "right")]
)
def test_differences_of_metrics_have_a_scale_of_their_own(delta, end, side):
    """From the limit on, so that neither zeros nor a thousandth of the limit fill the chart."""
    chart = by_id(coco_charts(coco(delta=delta)), "coco-metrics")
    axis, (series,) = chart.option["xAxis"], chart.option["series"]
    assert (axis["min"], axis["max"]) == pytest.approx((-end, end))
    assert {item["label"]["position"] for item in series["data"]} == {side}
    assert [line["xAxis"] for line in series["markLine"]["data"]] == [1e-4, -1e-4]
    assert ("All of them are 0." in chart.explanation) == (delta == 0)


def test_one_side_alone_has_no_differences():
    charts = coco_charts(coco(metric_deltas={}))
    assert "coco-metrics" not in [chart.id for chart in charts]


def test_edges_and_ends_are_round():
    edges = [edge(value) for value in (0.0625, 16, 1000, 1e5, 316.2)]
    assert edges == ["0.0625", "16", "1,000", "1e+05", "316"]
    assert [nice(value) for value in (1.3e-4, 2.0, 0.012, 7)] == pytest.approx([2e-4, 2, 0.02, 10])


def test_one_long_bar_does_not_hide_the_others():
    def axis(*deltas):
        rows = [swap(delta)["rows"][0] for delta in deltas]
        values = coco(stage_swap={**swap(), "rows": rows})
        return by_id(coco_charts(values), "coco-swaps").option["xAxis"]

    assert "min" not in axis(-0.03, 0.01, None) and "min" not in axis(-0.4)
    found = axis(-0.4, 0.0, -0.03)
    assert (found["min"], found["max"]) == pytest.approx((-3.6, 3.6))


def test_echarts_is_the_release_that_was_looked_at():
    script = (STATIC / "vendor" / "echarts.min.js").read_bytes()
    assert hashlib.sha256(script).hexdigest() == ECHARTS_SHA256
    assert b"6.1.0" in script
    assert "Apache License" in (STATIC / "vendor" / "LICENSE").read_text()
