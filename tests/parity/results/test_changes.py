"""What changed between two results: what is comparable, what is worse, and every figure."""

import json
import math

import handmade
import pytest
from handmade import distance, finding, given, node, suspect
from msgspec import structs

from efficientdet_spec import InputError
from parity.judge.verdict import Verdict
from parity.results.changes.comparison import compare_files, compare_results
from parity.results.changes.text import changes_text
from parity.results.records.failure import Failure
from parity.results.records.nodes_diff import ChangeKind, DiffOutcome, NodesDiff
from parity.results.records.record import made, plain, write
from parity.results.records.shared import Checkpoint, Weights

NAMES = ("stem", "middle", "last")


def result(verdicts=(), **other):
    """A comparison of three nodes, with these verdicts where they are given."""
    found = dict(zip(NAMES, [Verdict.ROUNDING] * 3, strict=True)) | dict(verdicts)
    changed = other.pop("changed", {})
    nodes = [node(name, verdict, **changed.get(name, {})) for name, verdict in found.items()]
    return handmade.report(nodes, **other)


def diff(before, after):
    found = compare_results(before, after, "old.json", "new.json")
    # Whatever it says can be written and read again.
    assert plain(made(NodesDiff, plain(found))) == plain(found)
    return found


def test_the_same_twice_is_no_change():
    found = diff(result(), result())
    assert found.outcome is DiffOutcome.NOT_WORSE and found.outcome.exit_code == 0
    assert found.sentence == "NOT WORSE: the figures of all 3 nodes are the same bit for bit"
    assert not (found.nodes or found.figures or found.settings or found.conditions)
    assert found.unchanged == 3


@pytest.mark.parametrize(
    ("before", "after", "kind", "worse"),
    [
        (Verdict.EXACT, Verdict.FUNCTION_DIFFERS, ChangeKind.FAILS, True),
        (Verdict.ROUNDING, Verdict.REFERENCE_DIFFERS, ChangeKind.FAILS, True),
        (Verdict.NOT_COVERED, Verdict.CANDIDATE_DIFFERS, ChangeKind.FOUND, True),
        (Verdict.EXACT, Verdict.NOT_COVERED, ChangeKind.LOST, True),
        (Verdict.CANDIDATE_DIFFERS, Verdict.NOT_COVERED, ChangeKind.UNDECIDED, False),
        (Verdict.CANDIDATE_DIFFERS, Verdict.EXACT, ChangeKind.MENDED, False),
        (Verdict.NOT_COVERED, Verdict.ROUNDING, ChangeKind.COVERED, False),
        (Verdict.EXACT, Verdict.ROUNDING, ChangeKind.OTHER, False),
        (Verdict.CANDIDATE_DIFFERS, Verdict.FUNCTION_DIFFERS, ChangeKind.OTHER, False),
    ],
)
def test_every_change_of_a_verdict(before, after, kind, worse):
    # Another node fails on both sides, so that the outcome alone tells nothing.
    other = {"last": Verdict.FUNCTION_DIFFERS}
    found = diff(result({"stem": before, **other}), result({"stem": after, **other}))
    (change,) = found.nodes
    assert (change.name, change.change, change.worse) == ("stem", kind, worse)
    assert (change.before, change.after) == (before, after)
    assert found.outcome is (DiffOutcome.WORSE if worse else DiffOutcome.NOT_WORSE)
    assert found.outcome.exit_code == worse
    assert found.counts[kind] == 1 and found.unchanged == 2


def test_the_sentence_counts_losses_before_gains():
    before = result({"stem": Verdict.CANDIDATE_DIFFERS})
    after = result({"middle": Verdict.FUNCTION_DIFFERS, "last": Verdict.CANDIDATE_DIFFERS})
    found = diff(before, after)
    assert found.sentence == (
        "WORSE: 2 nodes that agreed differ now, first middle; 1 node was mended: stem"
    )
    assert diff(after, before).sentence.startswith("WORSE: 1 node that agreed differs now: stem")


@pytest.mark.parametrize(
    ("verdict", "came_worse", "left_worse"),
    [(Verdict.EXACT, False, True), (Verdict.NOT_COVERED, True, False)],
)
def test_nodes_that_come_and_leave(verdict, came_worse, left_worse):
    less, more = result(), result({"extra": verdict})
    (came,), (left,) = diff(less, more).nodes, diff(more, less).nodes
    assert (came.change, came.worse) == (ChangeKind.CAME, came_worse)
    assert (left.change, left.worse) == (ChangeKind.LEFT, left_worse)
    assert ("that agreed is gone" in diff(more, less).sentence) == left_worse
    assert ("came without parity" in diff(less, more).sentence) == came_worse


OTHER_INPUT = given("other.png", sha256="1" * 64)


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("model", {"model": "efficientdet-d0"}),
        (
            "checkpoint fingerprint",
            {"checkpoint": Checkpoint("here", "f" * 64, Weights.EMA)},
        ),
        ("weights", {"checkpoint": structs.replace(handmade.CHECKPOINT, weights=Weights.RAW)}),
        ("type", {"dtype": "float64"}),
        ("kind of reference", {"reference": {"kind": "trace", "source": "built in"}}),
        ("inputs", {"inputs": [OTHER_INPUT]}),
        ("inputs", {"inputs": [given(), OTHER_INPUT]}),
        ("inputs", {"inputs": [given(), given()]}),
    ],
)
@pytest.mark.parametrize("worse", [False, True])
def test_results_of_other_things_are_never_a_good_change(what, other, worse):
    verdicts = {"stem": Verdict.FUNCTION_DIFFERS} if worse else {}
    found = diff(result(), result(verdicts, **other))
    assert found.outcome is DiffOutcome.NOT_COMPARABLE and found.outcome.exit_code == 3
    assert [item.what for item in found.conditions] == [what]
    assert found.sentence.startswith(f"NOT COMPARABLE: {what} ")
    # What changed is told all the same where it has a meaning.
    assert bool(found.nodes) == (worse and what != "model")
    text = changes_text(found)
    assert "need not be the code's doing" in text
    if found.nodes:
        assert text.index(f"  {what}: ") < text.index("Nodes whose")


def test_the_order_of_inputs_and_the_path_of_a_checkpoint_do_not_matter():
    elsewhere = structs.replace(handmade.CHECKPOINT, source="a/copy")
    before = result(inputs=[given(), OTHER_INPUT])
    after = result(inputs=[OTHER_INPUT, given()], checkpoint=elsewhere)
    assert diff(before, after).outcome is DiffOutcome.NOT_WORSE


def test_settings_are_told_and_forbid_nothing():
    before = result(environment={"device": "cpu", "packages": {"torch": "2.12"}, "threads": None})
    after = result(
        environment={"device": "cpu", "packages": {"torch": "2.13"}, "threads": 1},
        candidate="other.py:build",
    )
    found = diff(before, after)
    assert found.outcome is DiffOutcome.NOT_WORSE
    assert [(item.what, item.before, item.after) for item in found.settings] == [
        ("candidate", "model.py:build", "other.py:build"),
        ("packages.torch", "2.12", "2.13"),
        ("threads", "none", "1"),
    ]


def test_any_change_of_a_figure_is_one_and_the_largest_comes_first():
    little = math.nextafter(3e-6, 1)
    changed = {"middle": {"own": distance(little)}, "last": {"own": distance(1e-4)}}
    found = diff(result(), result(changed=changed))
    assert [item.name for item in found.figures] == ["last", "middle"]
    assert found.first_changed == "middle" and found.unchanged == 1
    assert found.figures[0].own_before == 3e-6 and found.figures[0].own_after == 1e-4
    assert "no verdict got worse; own figures changed at 2 nodes, first middle" in found.sentence


@pytest.mark.parametrize(
    ("changed", "side"),
    [
        ({"from_exact": distance(2e-6, 5.0)}, "candidate"),
        ({"reference_from_exact": distance(2e-6, 5.0)}, "reference"),
        (
            {"from_exact": distance(2e-6, 5.0), "reference_from_exact": distance(2e-6, 5.0)},
            "both",
        ),
        ({"own": distance(2e-6)}, "neither"),
        ({"own": None}, "neither"),
    ],
)
def test_whose_figures_changed(changed, side):
    (item,) = diff(result(), result(changed={"stem": changed})).figures
    assert (item.name, item.side) == ("stem", side)


def test_what_only_accumulates_is_counted_apart():
    found = diff(result(), result(changed={"last": {"free": distance(5e-5)}}))
    assert not found.figures and found.accumulated_only == 1 and found.unchanged == 2
    assert "what accumulates did at 1 of them" in found.sentence
    (largest,) = found.key_figures
    assert largest.what == "largest accumulated difference" and largest.ratio == pytest.approx(2.5)


def test_nan_is_the_largest_change_and_the_same_as_nan():
    nan = {"middle": {"own": distance(math.nan)}}
    found = diff(result(), result(changed={"stem": {"own": distance(9.0)}, **nan}))
    assert [item.name for item in found.figures] == ["middle", "stem"]
    assert not diff(result(changed=nan), result(changed=nan)).figures


def test_a_node_that_is_worst_on_another_input_says_so():
    inputs = [given(), OTHER_INPUT]
    changed = {"stem": {"own": distance(1e-5), "input": 1}}
    found = diff(result(inputs=inputs), result(inputs=inputs, changed=changed))
    assert [item.same_input for item in found.figures] == [False]
    assert "worst on another input" in changes_text(found)


def test_findings_and_suspects_that_come_and_go():
    one = suspect("stem", slug="eps", diagnosis="epsilon 1e-05 in the place of 1e-03")
    again = structs.replace(one, diagnosis="epsilon 2e-05 in the place of 1e-03")
    two = suspect("last", slug=None)
    fails = {"stem": Verdict.FUNCTION_DIFFERS}
    before = result(fails, suspects=[one], findings=[finding("eps", "a"), finding("momentum")])
    after = result(fails, suspects=[again, two], findings=[finding("training", "model")])
    found = diff(before, after)
    assert [item.place for item in found.findings_came] == ["model"]
    assert [item.place for item in found.findings_left] == ["a", "stem_bn"]
    assert found.suspects_came == [two] and not found.suspects_left
    assert found.sentence == (
        "WORSE: 1 finding came: model (training); 2 findings went, first a (eps)"
    )
    text = changes_text(found)
    assert "came: model: " in text and "went: a: " in text and "suspect came: last" in text


def test_what_cannot_be_shown_any_more_is_worse():
    found = diff(result(), result(not_shown=["compiled code was not compared"]))
    assert found.outcome is DiffOutcome.WORSE
    assert "1 thing cannot be compared any more besides nodes" in found.sentence


def gradients(passes, **verdicts):
    from parity.results.records.gradients import Gradient

    result = handmade.gradients(passes, {"inference": {"exact": 1}, "training": {"exact": 1}})
    items = [
        Gradient(
            name=name,
            mode="inference",
            shape=None,
            verdict=verdict,
            reason="",
            norm=1.0,
            structure=None,
            unit=None,
            candidate_units=None,
            reference_units=None,
            candidate_limit=4.0,
            reference_limit=4.0,
        )
        for name, verdict in verdicts.items()
    ]
    return structs.replace(result, gradients=items)


def test_gradients_are_compared_too():
    good, bad = (
        result(gradients=gradients(passes, a=Verdict.EXACT, b=verdict))
        for passes, verdict in ((True, Verdict.EXACT), (False, Verdict.CANDIDATE_DIFFERS))
    )
    found = diff(good, bad)
    assert found.sentence == "WORSE: 1 gradient got worse: b"
    assert "1 gradient agrees now: b" in diff(bad, good).sentence
    lost = diff(good, result())
    assert lost.outcome is DiffOutcome.WORSE
    assert "gradients are not compared any more" in lost.sentence
    assert diff(result(), good).outcome is DiffOutcome.NOT_WORSE


def test_the_outcome_counts_where_nothing_else_tells():
    before = result()
    after = structs.replace(result(), outcome=handmade.Outcome.NOT_SHOWN)
    found = diff(before, after)
    assert found.sentence == "WORSE: the outcome was parity and is not shown now"


def test_costs_are_ratios():
    before = result(seconds={"load": 2.0, "old": 0.0}, peak_memory_bytes=10**9)
    after = result(seconds={"load": 1.0, "new": 3.0}, peak_memory_bytes=3 * 10**9)
    found = diff(before, after)
    told = {item.what: item.ratio for item in found.costs}
    assert told == {"load": 0.5, "old": None, "new": None, "all phases": 2.0, "peak memory": 3.0}
    # They are for people to read: no cost makes a change worse.
    assert found.outcome is DiffOutcome.NOT_WORSE
    assert "peak memory: 1.00 GB -> 3.00 GB (3 times)" in changes_text(found)


@pytest.mark.parametrize("width", [40, 72, 100])
def test_the_text_has_the_sentence_first_and_keeps_to_its_width(width):
    many = {f"node.number{number}": Verdict.FUNCTION_DIFFERS for number in range(30)}
    before = result({name: Verdict.EXACT for name in many})
    found = diff(before, result(many, candidate="a" * 20))
    text = changes_text(found, width)
    assert text.replace("\n    ", " ").startswith(found.sentence)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "and 20 more, all in the JSON result" in text.replace("\n", " ").replace("  ", " ")


def test_files_and_failures(tmp_path):
    good, failed, other = (tmp_path / name for name in ("good.json", "failed.json", "x.json"))
    write(good, result())
    assert compare_files(good, good).outcome is DiffOutcome.NOT_WORSE
    write(
        failed,
        Failure(
            command="compare.py nodes", cause="candidate", message="it is no model.", exit_code=2
        ),
    )
    for old, new in ((good, failed), (failed, good), (failed, failed)):
        found = compare_files(old, new)
        assert found.outcome is DiffOutcome.NOT_COMPARABLE
        assert f"{failed} holds no result" in found.sentence
        assert "(it is no model)" in found.sentence
        assert changes_text(found) and not found.nodes
    other.write_text(json.dumps({"schema": "something else"}))
    for path in (other, tmp_path / "missing.json"):
        with pytest.raises(InputError):
            compare_files(good, path)


def test_what_neither_result_covers_is_not_called_the_same():
    gaps = {"stem": Verdict.NOT_COVERED, "last": Verdict.NOT_COVERED}
    found = diff(result(gaps), result(gaps))
    assert (found.unchanged, found.uncovered) == (1, 2)
    assert found.sentence == (
        "NOT WORSE: the figures of 1 of 3 nodes are the same bit for bit; 2 are not covered in "
        "either"
    )
    nothing = dict.fromkeys(NAMES, Verdict.NOT_COVERED)
    told = diff(result(nothing), result(nothing)).sentence
    assert told == "NOT WORSE: no node has figures in both; 3 are not covered in either"
