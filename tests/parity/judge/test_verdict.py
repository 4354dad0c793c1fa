"""Verdicts follow from measurements alone; each has its reason."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from efficientdet_spec import NodeKind
from parity.judge.limits import INSENSITIVE, SAME_FUNCTION, SIDE_LIMIT, limit_of
from parity.judge.measure import Difference, ThreeWay
from parity.judge.verdict import Measurement, Problem, Verdict, judge, with_history
from parity.results.conclusion import node_record
from parity.results.records.record import plain

SHAPE = (1, 4, 4, 8)
FLOAT32, FLOAT64 = np.dtype("float32"), np.dtype("float64")


def distance(roundings=1.0, rms=1e-7, largest=1e-6, finite=True, constant=False):
    return Difference(1.0, rms, largest, (0, 0, 0, 0), finite, constant, roundings, (0, 0, 0, 0))


def sides(ours=1.0, theirs=2.0, own=None, **other):
    exact = ThreeWay(
        own=own or distance(None),
        candidate=None if ours is None else distance(ours),
        reference=None if theirs is None else distance(theirs),
        largest_gauge=1.0,
        constant_channels=0,
        saturated=False,
    )
    return replace(exact, **other)


def limit(kind=NodeKind.CONV, terms=1, dtype=FLOAT32, **other):
    return limit_of(kind, terms, factor=2.8, truth_is_wider=dtype == FLOAT32, **other)


def judged(exact=None, kind=NodeKind.CONV, dtype=FLOAT32, free=None, shape=SHAPE, terms=1, **other):
    bound = limit(kind, terms, dtype)
    isolated = Measurement(shape, exact=exact or sides(), **{"limit": bound, **other})
    return judge("node", kind, free or Measurement(shape, distance(None)), isolated, dtype)


def outcome(*arguments, **options):
    node = judged(*arguments, **options)
    return node.verdict, node.reason


@pytest.mark.parametrize(
    "ours, theirs, apart, verdict, reason",
    [
        (1.0, 2.0, None, Verdict.ROUNDING, "candidate is 1.0 of at most 16 roundings, the refer"),
        (SIDE_LIMIT, SIDE_LIMIT, None, Verdict.ROUNDING, "candidate is 16.0 of at most 16"),
        (0.0, 16.1, None, Verdict.REFERENCE_DIFFERS, "the reference is 16.1 roundings"),
        (0.0, math.inf, None, Verdict.REFERENCE_DIFFERS, "the reference is inf roundings"),
        (16.1, 0.0, 1.1, Verdict.FUNCTION_DIFFERS, "in exact arithmetic the two are 1.1 round"),
        (1.0, 0.0, 1.1, Verdict.FUNCTION_DIFFERS, "the candidate is 1 roundings"),
        (1e9, 0.0, SAME_FUNCTION, Verdict.CANDIDATE_DIFFERS, "its arithmetic is inaccurate"),
        (1e9, 0.0, None, Verdict.CANDIDATE_DIFFERS, "could not be computed in float64"),
        (1e9, 1e9, 1e9, Verdict.FUNCTION_DIFFERS, "1e+09 roundings apart"),
        (1e9, 1e9, None, Verdict.CANDIDATE_DIFFERS, "and the reference 1e+09"),
    ],
)
def test_whose_difference_it_is(ours, theirs, apart, verdict, reason):
    found, why = outcome(sides(ours, theirs), functions_apart=apart)
    assert found is verdict
    assert reason in why
    assert found.passes == (verdict is Verdict.ROUNDING)
    assert found.fails == (not found.passes)


def test_equal_bit_for_bit_is_exact_only_near_the_exact_value():
    equal = distance(None, 0.0, 0.0)
    verdict, reason = outcome(sides(3.0, 3.0, own=equal))
    assert verdict is Verdict.EXACT and verdict.passes
    assert reason.startswith("equal bit for bit on identical inputs; from the exact value the cand")
    assert not outcome(sides(1e9, 1e9, own=equal))[0].passes


NONE = Verdict.NOT_COVERED


def test_what_is_not_covered_says_why():
    shape, late = Problem("of another shape"), Problem("late")
    cases = {
        "nothing was measured": judge("node", NodeKind.CONV, None, Measurement(SHAPE), FLOAT32),
        "the candidate has no such node": judge(
            "node", NodeKind.CONV, None, Measurement(None, exact=sides(None)), FLOAT32
        ),
        "of another shape": judged(problem=shape),
        "late": judged(free=Measurement(SHAPE, problem=late), problem=shape),
        "extra": judge("node", None, Measurement(SHAPE, problem=Problem("extra")), None, FLOAT32),
    }
    for reason, node in cases.items():
        assert (node.verdict, node.reason) == (NONE, reason)
        assert not node.verdict.passes and not node.verdict.fails


def test_a_problem_says_what_follows_from_it():
    node = judged(problem=Problem("of another shape", Verdict.FUNCTION_DIFFERS))
    assert (node.verdict, node.reason) == (Verdict.FUNCTION_DIFFERS, "of another shape")
    assert not node.returned
    assert judged(problem=Problem("returns another tensor", returned=True)).returned


@pytest.mark.parametrize(
    "place, verdict, reason",
    [
        ("candidate", Verdict.CANDIDATE_DIFFERS, "a value of the candidate is NaN or infinite"),
        ("reference", NONE, "a value of the reference is NaN or infinite"),
        ("free", NONE, "where both sides run on their own a value is NaN or infinite"),
    ],
)
def test_not_a_number_anywhere_is_never_a_pass(place, verdict, reason):
    bad = distance(finite=False)
    exact = sides() if place == "free" else sides(**{place: bad})
    free = Measurement(SHAPE, bad if place == "free" else distance(None))
    found, why = outcome(exact, free=free)
    assert found is verdict and why.startswith(reason)


def test_not_a_number_of_both_sides_shows_nothing():
    bad = distance(finite=False)
    assert outcome(sides(candidate=bad, reference=bad))[0] is NONE


def test_a_function_that_makes_no_number_is_another():
    exact = sides(candidate=distance(finite=False))
    assert outcome(exact, functions_apart=math.inf)[0] is Verdict.FUNCTION_DIFFERS


def test_constant_tensors_prove_nothing_unless_they_are_one_value():
    constant = sides(own=distance(None, 0.0, 0.0, constant=True))
    verdict, reason = outcome(constant)
    assert verdict is NONE and "all values are equal" in reason
    assert outcome(constant, shape=(1, 1, 1, 1))[0] is Verdict.EXACT
    # What differs is worth saying, however constant.
    constant = sides(1e9, own=distance(None, constant=True))
    assert outcome(constant)[0] is Verdict.CANDIDATE_DIFFERS


def test_saturated_tensors_prove_nothing_unless_they_are_one_value():
    verdict, reason = outcome(sides(saturated=True))
    assert verdict is NONE and "saturated at 0 or 1" in reason
    assert outcome(sides(saturated=True), shape=(1, 1, 1, 1))[0] is Verdict.ROUNDING


def test_where_an_error_would_go_unseen_agreement_proves_nothing():
    enough = INSENSITIVE / (SIDE_LIMIT * 2**-24)
    node = judged(sides(largest_gauge=0.99 * enough))
    assert node.verdict is Verdict.ROUNDING
    assert node.detectable == pytest.approx(0.99 * INSENSITIVE)
    node = judged(sides(largest_gauge=1.01 * enough))
    assert node.verdict is NONE
    assert node.reason.startswith("an error of 0.001 of the rms would go unseen here")
    assert judged(sides(largest_gauge=math.inf)).verdict is NONE
    # The same magnitudes are enough in double precision.
    assert judged(sides(largest_gauge=1.01 * enough), dtype=FLOAT64).verdict.passes


def test_what_is_not_recorded_is_held_to_the_exact_value_alone():
    verdict, reason = outcome(sides(1.5, None))
    assert verdict is NONE
    assert reason == (
        "the reference's tensor is not recorded; the candidate is 1.5 of at most 16 roundings from "
        "the exact value"
    )
    assert outcome(sides(1e9, None), functions_apart=2.0)[0] is Verdict.FUNCTION_DIFFERS


@pytest.mark.parametrize("dtype, bound", [(FLOAT32, 280), (FLOAT64, 560)])
@pytest.mark.parametrize("kind", [NodeKind.MEAN, NodeKind.CONV])
def test_both_sides_have_the_limit_of_the_number_of_terms_and_the_type(kind, dtype, bound):
    node = judged(sides(bound, bound), kind, dtype, terms=10_000)
    assert node.limit.candidate == node.limit.reference == pytest.approx(bound)
    assert node.verdict is Verdict.ROUNDING
    more = judged(sides(bound + 1, bound), kind, dtype, terms=10_000)
    assert more.verdict is Verdict.CANDIDATE_DIFFERS
    more = judged(sides(bound, bound + 1), kind, dtype, terms=10_000)
    assert more.verdict is Verdict.REFERENCE_DIFFERS


def test_selections_have_no_roundings():
    assert not judged(sides(0.1, 0.0), NodeKind.POOL).verdict.passes
    assert judged(sides(0.0, 0.0), NodeKind.POOL).verdict.passes


def test_a_simulated_order_of_a_mean_allows_as_many_roundings_as_it_has_terms():
    far = sides(5000.0, 9000.0)
    assert judged(far, NodeKind.MEAN, terms=10_000).verdict is Verdict.CANDIDATE_DIFFERS
    one = judged(far, NodeKind.MEAN, terms=10_000, orders=("row by row", None))
    assert one.verdict is Verdict.REFERENCE_DIFFERS
    both = judged(far, NodeKind.MEAN, terms=10_000, orders=("row by row", "column by column"))
    assert both.verdict is Verdict.ROUNDING
    assert "the candidate adds row by row" in both.reason
    assert "the reference adds column by column" in both.reason
    assert both.limit.candidate == 10_016
    # What could go unseen is what may lie around the simulated order, not the order's own error.
    assert both.detectable == pytest.approx(280 * 2**-24)


def test_another_mean_is_another_function_however_close():
    found, why = outcome(
        sides(100.0, 1.0), NodeKind.MEAN, terms=10_000, another_mean="divides by 9"
    )
    assert found is Verdict.FUNCTION_DIFFERS and why.startswith("it divides by 9")


def test_what_was_measured_is_kept():
    free = Measurement(SHAPE, distance(None, 0.25))
    exact = sides(1e9, constant_channels=5)
    node = judged(
        exact, functions_apart=50.0, free=free, certain=False, wrong_inputs=("other", "again")
    )
    assert (node.name, node.kind, node.shape) == ("node", NodeKind.CONV, SHAPE)
    assert (node.free, node.own, node.functions_apart) == (free.distance, exact.own, 50.0)
    assert (node.from_exact, node.reference_from_exact) == (exact.candidate, exact.reference)
    assert (node.constant_channels, node.certain) == (5, False)
    assert node.roundings == 1e9
    values = plain(node_record(node, "tensor:0"))
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["tensor"] == "tensor:0"
    assert values["verdict"] == "function differs"
    assert values["kind"] == "convolution"
    assert values["wrong_inputs"] == ["other", "again"]
    assert values["identical_inputs"] is False
    assert values["from_exact"]["roundings"] == 1e9
    assert values["limit"]["candidate"] == 16 and values["limit"]["reference"] == 16
    assert math.isnan(judge("node", None, None, None, FLOAT32).roundings)


def test_json_has_no_numbers_that_are_none():
    node = judged(sides(math.inf, math.nan, largest_gauge=math.inf))
    values = plain(node_record(node, None))
    json.dumps(values, allow_nan=False)
    assert values["from_exact"]["roundings"] == "inf"
    assert values["reference_from_exact"]["roundings"] == "nan"


def test_history_tells_what_was_inherited_and_what_became_of_it():
    def node(name, free, own):
        measured = judged(
            sides(own=distance(None, own)), free=Measurement(SHAPE, distance(None, free))
        )
        return replace(measured, name=name)

    nodes = [node("a", 3.0, 3.0), node("b", 0.5, 0.5), node("c", 5.0, 3.0), node("d", 0.0, 0.0)]
    sources = {"a": (), "b": (), "c": ("a", "b", "images"), "d": ("c",)}
    a, b, c, d = with_history(nodes, sources)
    assert (a.inherited, a.amplification) == (0.0, None)
    # Of 5, squared 25, it makes 9 itself; what came is 4, of which the largest input had 3.
    assert c.inherited == pytest.approx(16 / 25)
    assert c.amplification == pytest.approx(4 / 3)
    assert (d.inherited, d.amplification) == (None, None)
    assert (b.inherited, b.amplification) == (0.0, None)
    assert [n.verdict for n in (a, b, c, d)] == [n.verdict for n in nodes]
