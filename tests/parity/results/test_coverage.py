"""What a verdict covers: the worst of all inputs, what could go unseen, and its sentences."""

import json
from dataclasses import replace

import pytest
from handmade import covered, given, node, report

from parity.judge.reach import Reach
from parity.judge.verdict import Verdict
from parity.results.coverage import coverage_of, merged_nodes, sentences, wiring_notes
from parity.results.records.nodes import Contribution, Coverage
from parity.results.records.record import plain


def of(*by_input, reach=(), peaks=(), assumed=(), notes=()):
    """The coverage of some inputs' results."""
    merged = merged_nodes(by_input)
    return coverage_of(
        by_input, merged, reach, peaks, inputs=[given()], assumed=assumed, notes=notes
    )


def measured(name, roundings, verdict=Verdict.ROUNDING, **other):
    result = node(name, verdict, **other)
    return replace(result, from_exact=replace(result.from_exact, roundings=roundings))


# The worst node wins over inputs


def test_each_node_has_its_worst_result_of_all_inputs():
    order = [Verdict.EXACT, Verdict.ROUNDING, Verdict.NOT_COVERED, Verdict.FUNCTION_DIFFERS]
    for better, worse in zip(order[:-1], order[1:], strict=True):
        # However many roundings the better one has.
        one, other = measured("a", 15.0, better, input=0), measured("a", 1.0, worse, input=1)
        assert merged_nodes([[one], [other]]) == [other]
        assert merged_nodes([[other], [one]]) == [other]


@pytest.mark.parametrize(
    "verdict", [Verdict.CANDIDATE_DIFFERS, Verdict.REFERENCE_DIFFERS, Verdict.FUNCTION_DIFFERS]
)
def test_a_difference_of_any_kind_outweighs_what_is_not_covered(verdict):
    differs, gone = node("a", verdict), node("a", Verdict.NOT_COVERED)
    assert merged_nodes([[gone], [differs]]) == merged_nodes([[differs], [gone]]) == [differs]


def test_of_equal_verdicts_the_farther_from_exact_is_the_worse():
    near, far = measured("a", 1.5, input=0), measured("a", 2.5, input=1)
    assert merged_nodes([[near], [far]]) == merged_nodes([[far], [near]]) == [far]
    # What was not measured is no worse than what was, and the first of two equal ones stays.
    unmeasured = node("a", from_exact=None, input=1)
    assert merged_nodes([[near], [unmeasured]]) == [near]
    assert merged_nodes([[near], [replace(near, input=1)]]) == [near]


def test_nodes_keep_the_order_in_which_they_come():
    first = [node("a"), node("b"), node("c", Verdict.EXACT)]
    second = [node("a", Verdict.NOT_COVERED), node("c"), node("extra", Verdict.NOT_COVERED)]
    merged = merged_nodes([first, second])
    assert [item.name for item in merged] == ["a", "b", "c", "extra"]
    assert [item.verdict for item in merged] == [
        Verdict.NOT_COVERED, Verdict.ROUNDING, Verdict.ROUNDING, Verdict.NOT_COVERED,
    ]  # fmt: skip


# What could go unseen


def test_an_error_is_seen_if_one_input_shows_it_and_must_be_at_every_node():
    first = [node("a", detectable=1e-5), node("b", detectable=3e-4)]
    second = [node("a", detectable=2e-6), node("b", detectable=5e-4)]
    found = of(first, second)
    # Of each node the sharper input counts, of all nodes the blunter one.
    assert (found.detectable, found.detectable_node) == (3e-4, "b")
    assert (found.nodes, found.covered) == (2, 2)


def test_what_is_not_covered_counts_neither_as_covered_nor_as_sharp():
    gone = node("gone", Verdict.NOT_COVERED, detectable=0.5)
    found = of([node("a", detectable=1e-5), gone])
    assert (found.detectable, found.detectable_node) == (1e-5, "a")
    assert (found.nodes, found.covered) == (2, 1)
    # Not covered on one input is not covered, however sharp another is.
    found = of([gone], [node("gone", detectable=1e-5)])
    assert (found.detectable, found.detectable_node, found.covered) == (None, None, 0)
    # A difference is a thing shown.
    found = of([node("a", Verdict.FUNCTION_DIFFERS, detectable=1e-4)])
    assert (found.detectable, found.covered) == (1e-4, 1)


def test_no_node_at_all_has_no_sharpness():
    nothing = Coverage(0, 0, text=["0 of 0 nodes, on 1 input (96x128)."])
    assert of([]) == nothing
    assert of() == nothing


# How far inputs reached


def test_reach_is_the_median_spread_and_the_farthest_of_all_inputs():
    first = {"bn": Reach(1.0, 5.0), "bn2": Reach(1.5, 90.0)}
    second = {"bn": Reach(9.0, 7.0), "bn2": Reach(1.2, 6.0), "bn3": Reach(1.4, 8.0)}
    found = of([node("bn")], reach=[first, second], peaks=[-3.0, 0.0, -1.0])
    reached = found.reached
    assert reached.spread == 1.4
    assert (reached.deviations, reached.deviations_node) == (90.0, "bn2")
    assert reached.score == 0.5


@pytest.mark.parametrize("logit, score", [(-800.0, 0.0), (800.0, 1.0), (-4.0, 0.017986)])
def test_scores_of_any_logit(logit, score):
    assert of([node("a")], peaks=[logit]).reached.score == pytest.approx(score, abs=1e-6)


# Sentences


def text(*inputs, **changed):
    return sentences(covered([node("stem"), node("stem_bn")], **changed), inputs or [given()])


def test_everything_known_has_its_sentence():
    assert text() == [
        "2 of 2 nodes, on 1 input (96x128).",
        "An error of 1.0e-05 of a tensor's rms would be seen at every covered node (least sharp: "
        "stem).",
        "Inputs of batch norms spread 1.2 times as much as the checkpoint's statistics expect "
        "(median), and reach 7.5 deviations at stem_bn.",
        "Class scores reach 0.75.",
        "A note.",
    ]


def test_what_is_not_known_has_none():
    nothing = {"detectable": None, "spread": None, "score": None, "assumed": (), "notes": ()}
    assert text(**nothing) == ["2 of 2 nodes, on 1 input (96x128)."]


def test_inputs_are_counted_by_size():
    inputs = [given("a"), given("b"), given("c", batch=2, height=51, width=65)]
    assert text(*inputs)[0] == "2 of 2 nodes, on 3 inputs (2 times 96x128, 2 of 51x65)."


@pytest.mark.parametrize(
    "spread, unlike", [(0.2, True), (0.26, False), (1.0, False), (3.9, False), (4.1, True)]
)
def test_images_unlike_those_of_the_training_are_called_so(spread, unlike):
    (line,) = [line for line in text(spread=spread) if line.startswith("Inputs of batch norms")]
    assert line.endswith("or its statistics are not trained.") == unlike
    assert (": these images are unlike those of its training" in line) == unlike


@pytest.mark.parametrize("score, enough", [(0.02, False), (0.49, False), (0.5, True), (0.9, True)])
def test_low_scores_are_said_to_leave_faults_unseen(score, enough):
    (line,) = [line for line in text(score=score) if "lass score" in line]
    if enough:
        assert line == f"Class scores reach {score:.2g}."
    else:
        assert line.startswith(f"No class score is above {score:.2g}: a fault that acts only on ")
        assert line.endswith("would go unseen; give photographs with --image.")


# Wiring that makes no difference


def test_other_wiring_that_makes_no_difference_is_noted():
    swapped = node("b", wrong_inputs=("x", "y"))
    failing = node("c", Verdict.FUNCTION_DIFFERS, wrong_inputs=("x",))
    assert wiring_notes([node("a"), swapped, failing], {}) == [
        "b reads x, y instead of what it should, which makes no difference on these inputs."
    ]


def test_fusion_inputs_without_weight_are_noted():
    assert wiring_notes([node("a")], {}) == []
    assert wiring_notes([], {"fuse": [1]}) == [
        "1 fusion input has a weight that relu makes 0 (first fuse, input 1): what is wired there "
        "cannot be seen."
    ]
    assert wiring_notes([], {"fuse": [0, 2], "fuse2": [1]}) == [
        "3 fusion inputs have a weight that relu makes 0 (first fuse, input 0, 2): what is wired "
        "there cannot be seen."
    ]


# JSON


def strict(values):
    """What JSON makes of values; none may be NaN or infinite."""
    return json.loads(json.dumps(values, allow_nan=False))


def test_coverage_as_json():
    whole = report([node("stem"), node("stem_bn")])
    values = strict(plain(whole))
    assert (values["version"], values["outcome"], values["passes"]) == (3, "parity", True)
    assert values["sentence"] == whole.sentence
    assert values["coverage"] == {
        "nodes": 2,
        "covered": 2,
        "own_inputs": 0,
        "detectable": 1e-5,
        "detectable_node": "stem",
        "reached": {
            "spread": 1.25, "deviations": 7.5, "deviations_node": "stem_bn", "score": 0.75,
        },
        "assumed": ["swish activations"],
        "notes": ["A note."],
        "text": sentences(covered([node("stem"), node("stem_bn")]), [given()]),
    }  # fmt: skip
    (item,) = values["inputs"]
    assert item == {
        "source": "photo.png", "height": 96, "width": 128, "batch": 1, "sha256": "0" * 64,
        "outcome": "parity", "counts": {"exact": 1, "rounding": 1}, "largest_relative_max": 2e-5,
        "largest_node": "stem", "seconds": {"free pass": 0.25},
    }  # fmt: skip
    assert [item["input"] for item in values["nodes"]] == [0, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_figures_that_json_cannot_hold_are_texts(value):
    nodes = [node("stem", detectable=value)]
    figures = covered(nodes, detectable=value, spread=value, deviations=value, score=value)
    share = Contribution(("stem",), value, value)
    whole = report(
        nodes,
        coverage=figures,
        inputs=[given(largest_relative_max=value)],
        contributions=[share],
    )
    values = strict(plain(whole))
    assert values["coverage"]["detectable"] == values["coverage"]["reached"]["score"] == str(value)
    assert values["inputs"][0]["largest_relative_max"] == str(value)
