"""The verdict on a model and its figures, in every form that they are given."""

import json
from xml.etree import ElementTree

import made_results as made
import pytest
from handmade import distance, finding, gradients, node

from parity.judge.limits import Limit
from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from parity.results.records.record import plain
from reports.pages.checks import checks, not_asked_for
from reports.pages.key_figures import facts
from reports.pages.suspects import findings_table
from reports.reading.results import read_results
from reports.tables.all_models import COLUMNS, matrix, overview
from reports.tables.judgement import judge
from reports.tables.junit import junit
from reports.tables.markdown import markdown
from reports.tables.summary import Summary, summarise


def read(tmp_path, **other):
    made.write_all(tmp_path, **other)
    return read_results(tmp_path)[0]


def only(tmp_path, run=None, **results):
    made.write(tmp_path, run_values=run, **results)
    return read_results(tmp_path)[0]


def test_parity(tmp_path):
    judgement = judge(read(tmp_path))
    assert judgement.outcome is Outcome.PARITY and judgement.node is None
    told = (
        "4 of 4 nodes agree on 1 input",
        "float64 by at most 3.0e-04 of rms",
        "all COCO metrics and detections",
    )
    for part in told:
        assert part in judgement.sentence


def test_a_difference_names_the_node_and_what_is_wrong(tmp_path):
    judgement = judge(read(tmp_path, nodes=made.nodes(failing=True)))
    assert judgement.outcome is Outcome.DIFFERENCE
    assert judgement.sentence == "4 of 5 nodes agree, 1 differs"
    assert (judgement.node, judgement.diagnosis) == ("fpn.resample_p6.pool", "padded with zeros")


def test_a_failing_node_without_a_suspect(tmp_path):
    lost = node("lost", Verdict.CANDIDATE_DIFFERS, "far off")
    judgement = judge(read(tmp_path, nodes=made.nodes(lost)))
    assert judgement.outcome is Outcome.DIFFERENCE
    assert (judgement.node, judgement.diagnosis) == ("lost", None)


def test_a_node_that_is_not_covered_is_no_difference(tmp_path):
    lost = node("lost", Verdict.NOT_COVERED, "no partner")
    judgement = judge(read(tmp_path, nodes=made.nodes(lost)))
    assert judgement.outcome is Outcome.NOT_SHOWN
    assert (judgement.node, judgement.diagnosis) == ("lost", "no partner")
    told = "4 of 5 nodes agree, 1 is not covered; nothing was found to differ"
    assert judgement.sentence == told


def test_on_which_inputs_nodes_differ(tmp_path):
    values = made.nodes(node("lost", Verdict.NOT_COVERED), failing=True)
    second = {**values["inputs"][0], "outcome": "difference", "source": "photo.jpg", "batch": 2}
    values["inputs"].append(second)
    told = "4 of 6 nodes agree, 1 differs on 2 of 96x128 (photo.jpg), 1 is not covered"
    assert judge(read(tmp_path, nodes=values)).sentence == told


@pytest.mark.parametrize(
    "results, state, told",
    [
        (
            {"structure": made.nodes(failing=True)},
            Outcome.DIFFERENCE,
            "float64: 4 of 5 nodes agree",
        ),
        (
            {"nodes": made.nodes(findings=[finding()])},
            Outcome.DIFFERENCE,
            "but stem_bn: its momentum",
        ),
        (
            {
                "nodes": made.nodes(
                    gradients=gradients(False, {"training": {"candidate differs": 1}})
                )
            },
            Outcome.DIFFERENCE,
            "gradients differ",
        ),
        ({"coco": made.coco(delta=-0.01)}, Outcome.DIFFERENCE, "as made for difference"),
        ({"coco": made.coco(complete=False)}, Outcome.NOT_SHOWN, "as made for not shown"),
        (
            {"detect": made.detect(**made.outcome("difference"))},
            Outcome.DIFFERENCE,
            "as made for difference",
        ),
        (
            {"detect": made.detect(**made.outcome("not shown"))},
            Outcome.NOT_SHOWN,
            "as made for not shown",
        ),
        (
            {"self_check": made.self_check(missed=True)},
            Outcome.NOT_SHOWN,
            "self-check missed a fau",
        ),
    ],
)
def test_whatever_is_found_decides(tmp_path, results, state, told):
    judgement = judge(read(tmp_path, **results))
    assert judgement.outcome is state and told in judgement.sentence


def test_a_step_that_failed(tmp_path):
    steps = [made.step("convert", "failed", 2, "no such file", result=None)]
    failed = only(tmp_path, made.run("efficientdet-d0", steps=steps))
    judgement = judge(failed)
    assert judgement.outcome is Outcome.NOT_SHOWN
    assert judgement.sentence == "the step “Do convert” failed: no such file"
    row = summarise(failed)
    figures = row.figures
    assert figures.nodes is figures.largest_own_error is figures.convert_seconds is None
    assert Summary([row]).text.startswith("efficientdet-d0: NOT SHOWN: the step")


def test_a_failed_step_does_not_hide_a_difference(tmp_path):
    steps = [made.step("nodes", exit_code=1), made.step("coco", "failed", -9, "killed")]
    run = made.run("efficientdet-d0", steps=steps)
    judgement = judge(only(tmp_path, run, nodes=made.nodes(failing=True)))
    assert judgement.outcome is Outcome.DIFFERENCE


def test_no_comparison_is_no_parity(tmp_path):
    run = made.run("efficientdet-d0", steps=[made.step("convert")])
    judgement = judge(only(tmp_path, run, conversion=made.conversion()))
    assert (judgement.outcome, judgement.sentence) == (
        Outcome.NOT_SHOWN,
        "no comparison of nodes was made",
    )


def planned(*names):
    return [{"name": name, "title": f"Do {name}"} for name in names]


def test_a_run_that_was_interrupted_is_no_parity(tmp_path):
    """What it had come to is fine, what it was asked for besides is missing."""
    steps = [made.step("convert"), made.step("nodes"), made.step("structure", earlier=True)]
    names = ("convert", "nodes", "structure", "coco")
    run = made.run("efficientdet-d0", steps=steps, complete=False, planned=planned(*names))
    results = only(tmp_path, run, nodes=made.nodes(), structure=made.nodes(dtype="float64"))
    judgement = judge(results)
    assert judgement.outcome is Outcome.NOT_SHOWN
    assert judgement.sentence == (
        "the step “Do structure” was not made: the run was interrupted before it"
    )
    # What an earlier run has left is no result of this one.
    assert results.structure is None
    summary = Summary([summarise(results)])
    assert summary.outcome.exit_code == 3
    (model,) = summary.result().models
    assert [item.name for item in model.not_made] == ["structure", "coco"]
    assert model.complete is False
    assert "The run did not come to its end." in summary.text
    (suite,) = ElementTree.fromstring(junit([results]).encode())
    assert suite.get("errors") == "3" and suite.get("skipped") == "0"
    states = {item.title: (item.state, item.text) for item in checks(results)}
    assert states["COCO metrics and detections"] == (
        "open",
        "not made: the run was interrupted before it",
    )


def test_an_interruption_behind_the_last_step_is_one(tmp_path):
    run = made.run("efficientdet-d0", complete=False)
    judgement = judge(only(tmp_path, run, nodes=made.nodes()))
    assert judgement.sentence == "the run did not come to its end"


def test_what_was_asked_for_and_not_made_is_not_shown(tmp_path):
    reason = "the weights are not trained"
    steps = [made.step("nodes"), made.step("coco", "skipped", None, reason, result=None)]
    run = made.run("efficientdet-d0", steps=steps)
    place = made.write(tmp_path, run_values=run, nodes=made.nodes())
    # Of an earlier run, with trained weights.
    (place / "coco").mkdir()
    (place / "coco" / "coco.json").write_text(json.dumps(made.coco()))
    (results,) = read_results(tmp_path)
    assert results.coco is None and judge(results).outcome is Outcome.NOT_SHOWN
    assert reason in judge(results).sentence
    found = {fact.label: fact for fact in facts(results, summarise(results))}
    assert "AP PyTorch" not in found
    states = {item.title: (item.state, item.text) for item in checks(results)}
    assert states["COCO metrics and detections"] == ("open", f"not made: {reason}")
    (suite,) = ElementTree.fromstring(junit([results]).encode())
    cases = {case.get("name"): case for case in suite}
    assert cases["coco"].find("error").get("type") == "not made"
    assert cases["verdict"].find("error").get("type") == "not shown"


def test_what_was_reused_is_said(tmp_path):
    steps = [made.step("convert"), made.step("nodes", reused=True), made.step("structure")]
    run = made.run("efficientdet-d0", steps=steps)
    row = summarise(only(tmp_path, run, nodes=made.nodes(), structure=made.nodes()))
    told = "Reused from an earlier run, whose inputs were the same: “Do nodes”."
    assert row.judgement.outcome is Outcome.PARITY
    assert told in Summary([row]).text and list(row.figures.reused) == ["Do nodes"]
    assert told in markdown(Summary([row])).replace("\\", "")
    (suite,) = ElementTree.fromstring(junit(read_results(tmp_path)).encode())
    cases = {case.get("name"): case for case in suite}
    assert cases["nodes"].find("system-out").text == "reused from an earlier run"
    assert told in cases["verdict"].find("system-out").text


def test_a_result_that_was_changed_afterwards_shows_nothing(tmp_path):
    steps = [made.step("nodes", outputs={"nodes.json": "0" * 64})]
    results = only(tmp_path, made.run("efficientdet-d0", steps=steps), nodes=made.nodes())
    assert judge(results).outcome is Outcome.NOT_SHOWN
    assert "nodes.json is not as its step wrote it" in judge(results).sentence


def test_figures(tmp_path):
    row = summarise(read(tmp_path)).figures
    assert (row.nodes, row.nodes_without_parity, row.structure.passes) == (4, 0, True)
    output, own, precision = row.largest_output_difference, row.largest_own_error, row.AP
    assert (output.relative_max, output.node) == (3e-4, "class_head.predict.pointwise@P3")
    assert (own.roundings, own.limit, row.convert_seconds) == (2.5, 16.0, 1.5)
    assert (precision.torch, precision.tensorflow, precision.delta) == (0.25, 0.25, 0.0)
    assert (precision.official, precision.official_comparable, precision.images) == (
        0.343,
        False,
        80,
    )


@pytest.mark.parametrize(
    "roundings, most, worst",
    [(1.0, 0, True), (0.0, 0, False), (float("nan"), 16, True), (3.0, 16, True), (2.0, 16, False)],
)
def test_the_worst_own_error_is_by_its_limit(tmp_path, roundings, most, worst):
    other = node("other", from_exact=distance(1e-6, roundings), limit=Limit(most, 16, "so"))
    own = summarise(read(tmp_path, nodes=made.nodes(other))).figures.largest_own_error
    assert (own.node == "other") is worst


def test_report_json(tmp_path):
    for slug in ("efficientdet-d7x", "efficientdet-d0"):
        made.write_all(tmp_path, slug, nodes=made.nodes(failing=slug.endswith("x")))
    summary = Summary([summarise(item) for item in read_results(tmp_path)])
    values = json.loads(json.dumps(plain(summary.result()), allow_nan=False))
    assert (values["schema"], values["version"]) == ("efficientdet-parity/report", 2)
    assert values["passes"] is False and values["outcome"] == "difference"
    first, last = values["models"]
    assert (first["model"], first["outcome"]) == ("efficientdet-d0", "parity")
    assert (last["outcome"], last["node"]) == ("difference", "fpn.resample_p6.pool")
    assert last["suspects"] == [
        {
            "nodes": ["fpn.resample_p6.pool"],
            "verdict": "function differs",
            "slug": "zero-pad",
            "diagnosis": "padded with zeros",
        }
    ]
    assert last["largest_own_error"]["roundings"] == 1.68e7
    assert first["AP"]["official"] == 0.343 and first["structure"]["passes"] is True


def test_report_json_holds_what_is_not_finite(tmp_path):
    odd = node("odd", from_exact=distance(1.0, float("nan")))
    row = summarise(read(tmp_path, nodes=made.nodes(odd)))
    assert plain(row.figures)["largest_own_error"]["roundings"] == "nan"


def test_the_table_of_all_models(tmp_path):
    row = summarise(read(tmp_path))
    (shown,) = matrix(Summary([row]))
    assert len(shown.cells) == len(COLUMNS)
    assert shown.cells == [
        "4 of 4",
        "3.0e-04",
        "2.5 / 16",
        "3.0e-04",
        "0.250000",
        "0.250000",
        "0.000000",
        "(0.343)",
        "1.5 s",
    ]
    assert (shown.state, shown.symbol, shown.seeded) == ("parity", "✓", False)


def test_all_models_together(tmp_path):
    made.write_all(tmp_path, "good")
    assert overview(Summary([summarise(item) for item in read_results(tmp_path)])).word == "Parity"
    made.write(tmp_path, "none")
    found = overview(Summary([summarise(item) for item in read_results(tmp_path)]))
    assert (found.word, found.css) == ("Not shown", "not-shown")
    made.write_all(tmp_path, "bad", nodes=made.nodes(failing=True))
    found = overview(Summary([summarise(item) for item in read_results(tmp_path)]))
    assert found.word == "Difference"
    assert found.sentence == "1 of 3 models with parity, 1 with a difference, 1 not shown"


def test_markdown(tmp_path):
    hostile = "a|b\n| <img src=x> `c` *d* [e](f)"
    step = made.step("convert", "failed", 2, hostile)
    made.write_all(tmp_path, "good")
    made.write(tmp_path, "seeded", made.run("seeded", trained=False, steps=[step]))
    summary = Summary([summarise(item) for item in read_results(tmp_path)])
    lines = markdown(summary).splitlines()
    head, rule, good, seeded = lines[:4]
    assert head.count("|") == rule.count("|") == good.count("|") == len(COLUMNS) + 3
    assert "[good](good.html)" in good and "✓ parity" in good
    assert "! not shown (seeded weights)" in seeded
    (reason,) = [line for line in lines if line.startswith("- **seeded**")]
    assert r"a\|b \| \<img src=x\> \`c\` \*d\* \[e\]\(f\)" in reason


def test_junit(tmp_path):
    hostile = 'broken "<&>\0'
    steps = [
        made.step("convert"),
        made.step("nodes", exit_code=1),
        made.step("structure", "failed", 2, hostile),
        made.step("coco", "skipped", None, "no images", seconds=None),
    ]
    run = made.run("efficientdet-d0", steps=steps)
    models = [only(tmp_path, run, nodes=made.nodes(failing=True))]
    (suite,) = ElementTree.fromstring(junit(models).encode())
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "2", "errors": "2", "skipped": "0"}
    cases = {case.get("name"): case for case in suite}
    assert list(cases) == ["convert", "nodes", "structure", "coco", "verdict"]
    assert len(cases["convert"]) == 0
    assert cases["structure"].find("error").text == 'broken "<&>?'
    assert cases["coco"].find("error").get("message") == "no images"
    assert "fpn.resample_p6.pool; padded with zeros" in cases["verdict"].find("failure").text
    assert suite.get("time") == "4.500"


def test_junit_where_all_is_well(tmp_path):
    (suite,) = ElementTree.fromstring(junit([read(tmp_path)]).encode())
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    assert suite.findall(".//failure") == suite.findall(".//error") == []


def test_key_figures_say_what_they_are(tmp_path):
    results = read(tmp_path)
    found = {fact.label: fact for fact in facts(results, summarise(results))}
    assert all(fact.explanation.endswith(".") for fact in found.values())
    agree = found["Nodes that agree"]
    assert (agree.value, agree.unit, agree.tone) == ("4", "of 4", "good")
    assert found["Worst own error"].unit == "of 16 roundings"
    assert found["AP official"].value == "(0.343)"
    assert "not comparable" in found["AP official"].explanation
    assert "on 80 images" in found["AP PyTorch"].explanation


@pytest.mark.parametrize(
    ("verdict", "tone"), [("agrees", "good"), ("differs", "bad"), ("not comparable", "plain")]
)
def test_an_ap_is_green_only_where_it_agrees_with_the_published_one(tmp_path, verdict, tone):
    published = {**made.coco()["published"], "verdict": verdict, "text": f"AP 0.25 {verdict}"}
    row = summarise(read(tmp_path, coco=made.coco(published=published)))
    assert row.figures.AP.official_verdict == verdict
    assert f"AP 0.25 {verdict}" in Summary([row]).text
    found = {fact.label: fact for fact in facts(read(tmp_path), row)}["AP official"]
    assert found.tone == tone and found.explanation.endswith(f"val2017; AP 0.25 {verdict}.")


def test_an_older_result_is_not_green_either(tmp_path):
    row = summarise(read(tmp_path, coco=made.coco(published=None)))
    assert row.figures.AP.official_verdict is None and row.figures.AP.official_text == ""


def test_key_figures_of_a_fault(tmp_path):
    results = read(tmp_path, nodes=made.nodes(failing=True))
    found = {fact.label: fact for fact in facts(results, summarise(results))}
    own = found["Worst own error"]
    assert (own.value, own.tone) == ("1.7e+07", "bad") and "furthest beyond" in own.explanation
    assert own.link.href == "#node=fpn.resample_p6.pool"
    assert found["Nodes that agree"].tone == "bad"


def test_what_was_not_made_has_no_figure(tmp_path):
    """Nor a line of its own: what nobody asked for is said once, in a sentence."""
    seeded = only(tmp_path, made.run("efficientdet-d0", trained=False, steps=[]))
    assert facts(seeded, summarise(seeded)) == []
    assert checks(seeded) == []
    assert not_asked_for(seeded) == [
        "every node in float64",
        "COCO metrics and detections",
        "detections on single images",
        "a self-check with known faults",
    ]


def test_a_changed_weight_is_not_structure(tmp_path):
    findings = [finding("parameter-different"), finding("parameter-extra"), finding("momentum")]
    results = read(tmp_path, nodes=made.nodes(findings=findings))
    text = next(item.text for item in checks(results) if item.title == "Every node in float32")
    told = "1 finding (value of a parameter); 1 finding (structure); 1 finding (setting)"
    assert text.endswith(told)
    assert [row[1] for row in findings_table(results.nodes).rows] == [
        "value of a parameter",
        "structure",
        "setting",
    ]


def test_how_the_verdict_comes_about(tmp_path):
    results = read(tmp_path, nodes=made.nodes(failing=True), coco=made.coco(delta=0.01))
    states = {item.title: item.state for item in checks(results)}
    assert states == {
        "Every variable of the checkpoint": "pass",
        "Every node in float32": "fail",
        "Every node in float64": "pass",
        "COCO metrics and detections": "fail",
        "Detections on single images": "pass",
        "Self-check with known faults": "pass",
    }
    told = {item.title: item.text for item in checks(results)}
    assert told["Self-check with known faults"] == (
        "1 fault put in one at a time: 1 detected, 1 located, 1 given the right name; "
        "no alarm on the faithful model"
    )
    assert "2 of 3 variables used once, 1 excluded" in told["Every variable of the checkpoint"]
