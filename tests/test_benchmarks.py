"""The benchmarks' suite on the tiny model: wrong ways are refused, and results are compared."""

import dataclasses
import os
import sys
import time
import types

import msgspec
import numpy as np
import pytest

from benchmarks import charting, records, run, showing
from benchmarks.agreement import MAX_APART, detections_apart, network_apart, refused
from benchmarks.material import Case, Material
from benchmarks.measurements import plan as planning
from benchmarks.measurements.growth import CURVES, cases
from benchmarks.measurements.network import of_case
from benchmarks.measurements.processes import peak
from benchmarks.previous import changes
from benchmarks.runtimes import RUNTIMES, runtime
from benchmarks.turns import Effort, ratios, spread, take_turns
from benchmarks.workers import WayFailed, Worker
from efficientdet_spec import InputError

WRONG = ("epsilon", "bfloat16", "failing", "ending")

SIZE = (256, 256)
"""The tiny model's own is too small for the optimised form."""


@pytest.fixture
def plan(tiny_checkpoint, tiny_pth, tmp_path):
    (tmp_path / "efficientdet-tiny").symlink_to(tiny_checkpoint)
    (tmp_path / "efficientdet-tiny.pth").symlink_to(tiny_pth)
    return planning.Plan(
        material=Material(tmp_path, {}),
        effort=Effort(2, 1, 2),
        threads=1,
        models=("efficientdet-tiny",),
        ways=RUNTIMES,
    )


def made(way_seconds, reference="a", subject="s", what="network"):
    rows = records.rows(way_seconds, reference)
    return records.Measurement(
        what=what,
        subject=subject,
        settings={},
        unit="a call",
        reference=reference,
        checked="",
        rows=rows,
    )


def suite(*measurements, **environment):
    return records.SuiteResult(
        environment={"threads": 1, **environment},
        ways={},
        repeats=3,
        seconds_at_most=1.0,
        measurements=measurements,
    )


# -- what is measured --


def test_what_is_measured_again_takes_the_place_of_what_was(plan, monkeypatch):
    old, other = made({"a": [1.0]}, what="nodes"), made({"a": [1.0]})
    new = made({"a": [2.0]}, what="nodes")
    module = types.SimpleNamespace(measure=lambda plan: [new])
    monkeypatch.setitem(sys.modules, "benchmarks.measurements.nodes", module)
    plan.made += [old, other]
    assert run.measured(plan, ["nodes"], lambda found: None) == [other, new]


def test_ways_of_a_network_are_measured_and_what_is_missing_is_said(plan, monkeypatch):
    monkeypatch.setattr(runtime("effdet"), "missing", lambda: "effdet cannot be imported")
    case = Case("efficientdet-tiny", SIZE, 1, 1)
    found = of_case(plan, case, ("eager", "optimised", "effdet"))
    assert [row.way for row in found.rows] == ["eager", "optimised"]
    assert [(item.way, item.reason) for item in found.left_out] == [
        ("effdet", "effdet cannot be imported")
    ]
    eager, optimised = found.rows
    assert eager.apart == 0 and 0 < optimised.apart <= MAX_APART
    assert eager.ratio.median == 1 and len(eager.seconds) == 2
    assert min(eager.seconds) > 0 and eager.peak_memory_bytes > 0
    assert {profile.way for profile in found.profiles} == {"eager", "optimised"}
    plan.made.append(found)
    # A curve's point that has been measured is not measured again.
    assert of_case(plan, case, ("optimised", "eager")) is found


def test_wrong_runtimes_are_refused(plan):
    case = Case("efficientdet-tiny", SIZE, 1, 1)
    images = plan.material.images(case)
    right = {"case": case, "images": images, "source": plan.material.converted(case.model)}
    ways = {"right": planning.Way("benchmarks.runtimes.eager:open", lambda: right)}
    for wrong in WRONG:
        ways[wrong] = planning.Way(
            "wrong_runtimes:open_wrong", lambda wrong=wrong: {**right, "wrong": wrong}
        )
    work = planning.Work(
        what="network",
        subject="tiny",
        settings={},
        unit="a forward pass",
        per=1,
        expected="right",
        apart=network_apart,
        bound=MAX_APART,
        checked="",
        reference="right",
    )
    found = planning.measured(plan, work, ways, {})
    assert [row.way for row in found.rows] == ["right"]
    reasons = {item.way: item.reason for item in found.left_out}
    assert reasons.keys() == set(WRONG)
    assert "ZeroDivisionError" in reasons.pop("failing")
    assert "ended with exit code 7" in reasons.pop("ending")
    assert all("it computes something else" in reason for reason in reasons.values())


def test_what_a_way_has_started_waits_as_it_does(tmp_path):
    path = tmp_path / "counted"
    worker = Worker("wrong_runtimes:open_counting", {"path": path})
    try:
        worker.opened()
        counting = worker.outputs(0)
        for _ in range(2):
            before = path.stat().st_size
            time.sleep(0.2)
            assert path.stat().st_size == before
            assert worker.seconds(0) > 0
            assert path.stat().st_size > before
    finally:
        worker.close()
    with pytest.raises(ProcessLookupError):
        for _ in range(200):
            os.kill(counting, 0)
            time.sleep(0.05)


def test_without_the_expected_results_nothing_is_measured(plan):
    case = Case("efficientdet-tiny", SIZE, 1, 1)
    with pytest.raises(WayFailed, match="eager: it was not asked for"):
        of_case(plan, case, ("optimised",))


def test_every_runtime_says_what_it_is_and_whether_it_is_there():
    names = [runtime(name).NAME for name in RUNTIMES]
    assert len(set(names)) == len(names)
    for name in RUNTIMES:
        module = runtime(name)
        assert module.SETTINGS and module.missing() is None or isinstance(module.missing(), str)


def test_every_curve_goes_through_one_point():
    points = [set(cases(curve, 2)) for curve in CURVES]
    assert set.intersection(*points) == {Case.native("d0", 2)}


# -- what is alike --


def test_outputs_are_alike_within_the_bound_and_not_otherwise():
    expected = [np.ones((1, 2)), np.full((3,), 5.0)]
    near = [expected[0], expected[1] + 5 * 0.9 * MAX_APART]
    far = [expected[0], expected[1] + 5 * 1.1 * MAX_APART]
    assert network_apart(expected, expected) == 0
    assert not refused({"near": network_apart(near, expected)}, MAX_APART)
    assert refused({"far": network_apart(far, expected)}, MAX_APART)
    for wrong in ([expected[0]], [expected[0], np.ones(4)], [expected[0], np.full(3, np.nan)]):
        assert refused({"wrong": network_apart(wrong, expected)}, MAX_APART)


def test_detections_are_alike_within_the_bounds_and_not_otherwise():
    boxes = np.array([[0.0, 0, 10, 10], [5, 5, 50, 50]])
    expected = [(boxes, np.array([0.9, 0.002]), np.array([3, 4]))]

    def apart(boxes=boxes, scores=(0.9, 0.002), classes=(3, 4)):
        return detections_apart([(boxes, np.array(scores), np.array(classes))], expected)

    assert apart() == 0 and apart(boxes + 0.1) < 1
    assert apart(boxes[:1], (0.9,), (3,)) <= 1, "what is left out scores next to nothing"
    assert apart(boxes + [[0.6], [0]]) > 1
    assert apart(classes=(2, 4)) > 1
    assert apart(scores=(0.9, 0.004)) > 1
    assert detections_apart([], expected) > 1


# -- turns --


def test_ways_take_turns_in_changing_order_and_ratios_are_those_of_a_round():
    order = []
    effort = Effort(repeats=3, seconds=60)
    ways = {
        "a": lambda turn: order.append(("a", turn)) or 1.0 + turn,
        "b": lambda turn: order.append(("b", turn)) or 2.0 + 2 * turn,
    }
    taken = take_turns(ways, effort)
    assert order == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert taken == {"a": [1, 2, 3], "b": [2, 4, 6]}
    # The machine became slower from round to round, and the ratio stayed.
    assert ratios(taken["b"], taken["a"]) == [2, 2, 2]
    assert records.ratio(taken, "b", "a") == records.Ratio("a", 2, 2, 2, 2)
    assert spread([1, 2, 3, 4, 5]).low == 2 and spread([7.0]).median == 7


def test_the_time_that_is_given_ends_the_rounds_but_not_before_there_is_a_middle():
    counted = []
    take_turns({"a": lambda turn: counted.append(turn) or 1.0}, Effort(repeats=9, seconds=0))
    assert counted == [0, 1, 2]


def test_ours_are_held_against_the_fastest_of_the_others():
    taken = {"ours": [3.0, 3.0], "x": [2.0, 2.0], "y": [1.5, 1.5]}
    ours, x, y = records.rows(taken, "x", ours=["ours"], others=["x", "y", "absent"])
    assert ours.to_fastest.other == "y" and ours.to_fastest.median == 2
    assert ours.ratio.median == 1.5 and x.to_fastest is None and y.to_fastest is None


# -- results --


def test_a_result_is_written_and_read(tmp_path):
    found = suite(made({"a": [1.0, 2.0], "b": [2.0, 2.0]}))
    records.write(tmp_path / "r.json", found)
    read = records.read(tmp_path / "r.json")
    assert msgspec.json.encode(read) == msgspec.json.encode(found)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"version": 99}, "expected efficientdet-parity/benchmarks version 1"),
        ({"measurements": [{}]}, "has no what"),
        ({"repeats": "many"}, "expected a whole number"),
    ],
)
def test_what_is_no_result_is_refused_in_a_sentence(tmp_path, change, told):
    values = msgspec.to_builtins(suite(made({"a": [1.0]}))) | change
    (tmp_path / "r.json").write_bytes(msgspec.json.encode(values))
    with pytest.raises(InputError, match=told):
        records.read(tmp_path / "r.json")


def test_rows_whose_ratio_moved_by_more_than_its_spread_are_named():
    before = suite(made({"a": [1.0, 1.0, 1.0], "b": [2.0, 2.1, 2.2], "c": [1.0, 1.0, 1.0]}), cpus=2)
    # Both are slower, but b in proportion; c is not.
    now = suite(made({"a": [2.0, 2.0, 2.0], "b": [4.1, 4.2, 4.3], "c": [3.0, 3.0, 3.0]}), cpus=4)
    found = changes(before, now)
    assert [change.way for change in found.rows] == ["c"] and found.compared == 3
    assert "c is slower: 1.5 times a, 1 before" in showing.changed(found)
    assert "cpus: 2 before, 4 now" in showing.changed(found)
    same = showing.changed(changes(before, before))
    assert "no ratio has changed" in same and "not comparable" not in same
    fewer = changes(before, suite(made({"a": [1.0, 1.0, 1.0]})))
    assert len(fewer.only_before) == 2


def test_the_chart_shows_ways_and_curves():
    def point(case, factor):
        return dataclasses_replaced(
            {"eager": [2 * factor], "optimised": [factor], "TensorFlow": [1.5 * factor]}, case
        )

    curves = [
        point(case, place + 1.0) for curve in CURVES for place, case in enumerate(cases(curve, 1))
    ]
    whole = made({"eager": [2.0], "x<y": [1.0], "z": [1.0], "w": [1.5]}, "eager")
    whole = msgspec.structs.replace(whole, settings=Case.native("d0", 1).settings)
    drawn = charting.chart(suite(whole, *curves))
    assert drawn.startswith("<svg") and "x&lt;y" in drawn and "nan" not in drawn
    assert drawn.count("<polyline") == 3 * len(CURVES)
    text = showing.markdown(suite(whole, *curves))
    assert "Growth by model" in text and "| D7x | " in text


def dataclasses_replaced(taken, case):
    found = made(taken, "TensorFlow", case.subject)
    return msgspec.structs.replace(found, settings=dataclasses.asdict(case))


@pytest.mark.parametrize("low, high", [(0.6, 0.7), (1, 9000), (47, 101), (300, 300.5)])
def test_an_axis_holds_what_it_shows(low, high):
    marks = charting.ticks(low, high)
    assert marks[0] <= low and marks[-1] >= high and len(marks) >= 2
    assert marks == sorted(marks)


# -- the command line --


@pytest.mark.parametrize(
    "options", [["--what", "speed"], ["--models", "d99"], ["--repeats", "1"], ["--ways", "caffe"]]
)
def test_a_wrong_option_is_one_line(options, capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(options)
    assert ended.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_a_measurement_that_cannot_be_made_is_said(capsys, tmp_path):
    assert run.main(["--what", "coco", "--folder", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "coco was left out: coco needs --images" in told and "Nothing could be measured" in told


def test_the_memory_of_a_process_is_its_own(tmp_path):
    held = bytearray(300 << 20)
    held[::4096] = b"x" * len(held[::4096])
    taken, most = peak([sys.executable, "-S", "-c", "import time; time.sleep(0.2)"], tmp_path)
    assert 0.2 < taken < 20 and 5 << 20 < most < 200 << 20
    with pytest.raises(WayFailed, match="-S failed: SystemExit|-S failed: it broke"):
        peak([sys.executable, "-S", "-c", "import sys; sys.exit('it broke')"], tmp_path)
    del held


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            [
                sys.executable,
                "-c",
                "import sys; sys.stderr.buffer.write(b'oh' + bytes([255])); sys.exit(2)",
            ],
            "oh",
        ),
        (["/no/such/program", "x"], "No such file"),
    ],
)
def test_a_process_that_fails_is_told_whatever_it_says(command, said, tmp_path):
    with pytest.raises(WayFailed, match=said):
        peak(command, tmp_path)
