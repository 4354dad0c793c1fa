"""Verdicts follow from measurements alone; each has its reason."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from efficientdet_spec import NodeKind
from parity.limits import COMPOSED_LIMIT, INSENSITIVE, SIDE_LIMIT
from parity.measure import Difference, ThreeWay
from parity.verdict import Measurement, Verdict, judge, number, with_history

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


def judged(exact=None, kind=NodeKind.CONV, dtype=FLOAT32, free=None, shape=SHAPE, **other):
    isolated = Measurement(shape, exact=exact or sides(), **other)
    return judge("node", kind, free or Measurement(shape, distance(None)), isolated, dtype)


def outcome(*arguments, **options):
    node = judged(*arguments, **options)
    return node.verdict, node.reason


@pytest.mark.parametrize(
    "ours, theirs, own_exact, verdict, reason",
    [
        (1.0, 2.0, None, Verdict.ROUNDING, "PyTorch 1.0 of at most 16 roundings, TensorFlow 2.0"),
        (SIDE_LIMIT, SIDE_LIMIT, None, Verdict.ROUNDING, "PyTorch 16.0 of at most 16"),
        (0.0, 16.1, None, Verdict.REFERENCE_DIFFERS, "TensorFlow is 16.1 roundings"),
        (0.0, math.inf, None, Verdict.REFERENCE_DIFFERS, "TensorFlow is inf roundings"),
        (16.1, 0.0, 20.0, Verdict.FUNCTION_DIFFERS, "computes another function, from whose own"),
        (16.1, 0.0, COMPOSED_LIMIT, Verdict.FUNCTION_DIFFERS, "but TensorFlow is 0 roundings"),
        (1e9, 0.0, COMPOSED_LIMIT + 1, Verdict.CANDIDATE_DIFFERS, "its arithmetic is inaccurate"),
        (1e9, 0.0, None, Verdict.CANDIDATE_DIFFERS, "could not be computed in float64"),
        (1e9, 1e9, 1.0, Verdict.FUNCTION_DIFFERS, "and TensorFlow is 1e+09 roundings"),
        (1e9, 1e9, None, Verdict.CANDIDATE_DIFFERS, "and TensorFlow is 1e+09 roundings"),
    ],
)
def test_whose_difference_it_is(ours, theirs, own_exact, verdict, reason):
    own_exact = None if own_exact is None else distance(own_exact)
    found, why = outcome(sides(ours, theirs), own_exact=own_exact)
    assert found is verdict
    assert reason in why
    assert found.passes == (verdict is Verdict.ROUNDING)


def test_equal_bit_for_bit_is_exact_only_near_the_exact_value():
    equal = distance(None, 0.0, 0.0)
    verdict, reason = outcome(sides(3.0, 3.0, own=equal))
    assert verdict is Verdict.EXACT and verdict.passes
    assert reason.startswith("equal bit for bit on identical inputs, 3.0 of at most 16 roundings")
    assert not outcome(sides(1e9, 1e9, own=equal))[0].passes


NONE = Verdict.NOT_COVERED


def test_what_is_not_covered_says_why():
    cases = {
        "nothing was measured": judge("node", NodeKind.CONV, None, Measurement(SHAPE), FLOAT32),
        "the candidate has no such node": judge(
            "node", NodeKind.CONV, None, Measurement(None, exact=sides(None)), FLOAT32
        ),
        "of another shape": judged(problem="of another shape"),
        "late": judged(free=Measurement(SHAPE, problem="late"), problem="of another shape"),
        "extra": judge("node", None, Measurement(SHAPE, problem="extra"), None, FLOAT32),
        "a value is NaN or infinite": judged(
            sides(candidate=distance(finite=False), theirs=math.inf)
        ),
    }
    for reason, node in cases.items():
        assert (node.verdict, node.reason) == (NONE, reason)
        assert not node.verdict.passes


@pytest.mark.parametrize("place", ["candidate", "reference", "free"])
def test_not_a_number_anywhere_is_never_a_pass(place):
    bad = distance(finite=False)
    exact = sides() if place == "free" else sides(**{place: bad})
    free = Measurement(SHAPE, bad if place == "free" else distance(None))
    assert outcome(exact, free=free) == (NONE, "a value is NaN or infinite")


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
    assert node.detectable == pytest.approx(0.099)
    node = judged(sides(largest_gauge=1.01 * enough))
    assert node.verdict is NONE
    assert node.reason.startswith("an error of 0.1 of the rms would go unseen here")
    assert judged(sides(largest_gauge=math.inf)).verdict is NONE
    # The same magnitudes are enough in double precision.
    assert judged(sides(largest_gauge=1.01 * enough), dtype=FLOAT64).verdict.passes


def test_what_is_not_recorded_is_held_to_the_exact_value_alone():
    verdict, reason = outcome(sides(1.5, None))
    assert verdict is NONE
    assert reason == (
        "the reference's tensor is not recorded; PyTorch is 1.5 of at most 16 roundings from the "
        "exact value"
    )
    assert outcome(sides(1e9, None), own_exact=distance(1.0))[0] is Verdict.FUNCTION_DIFFERS


@pytest.mark.parametrize("dtype, candidate, reference", [(FLOAT32, 16, 1016), (FLOAT64, 32, 1032)])
def test_the_limit_is_that_of_the_kind_the_terms_and_the_type(dtype, candidate, reference):
    node = judged(sides(candidate, reference), NodeKind.MEAN, dtype, terms=1000)
    assert (node.limit.candidate, node.limit.reference) == (candidate, reference)
    assert node.verdict is Verdict.ROUNDING
    more = judged(sides(candidate + 0.1, reference), NodeKind.MEAN, dtype, terms=1000)
    assert more.verdict is Verdict.CANDIDATE_DIFFERS
    more = judged(sides(candidate, reference + 0.1), NodeKind.MEAN, dtype, terms=1000)
    assert more.verdict is Verdict.REFERENCE_DIFFERS
    assert not judged(sides(0.1, 0.0), NodeKind.POOL, dtype).verdict.passes
    assert judged(sides(0.0, 0.0), NodeKind.POOL, dtype).verdict.passes


def test_what_was_measured_is_kept():
    own_exact, free = distance(3.0), Measurement(SHAPE, distance(None, 0.25))
    exact = sides(1e9, constant_channels=5)
    node = judged(
        exact, own_exact=own_exact, free=free, certain=False, wrong_inputs=("other", "again")
    )
    assert (node.name, node.kind, node.shape) == ("node", NodeKind.CONV, SHAPE)
    assert (node.free, node.own, node.from_own_exact) == (free.distance, exact.own, own_exact)
    assert (node.from_exact, node.reference_from_exact) == (exact.candidate, exact.reference)
    assert (node.constant_channels, node.certain) == (5, False)
    assert node.roundings == 1e9
    values = node.to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["verdict"] == "function differs"
    assert values["kind"] == "convolution"
    assert values["wrong_inputs"] == ["other", "again"]
    assert values["identical_inputs"] is False
    assert values["from_exact"]["roundings"] == 1e9
    assert values["limit"]["candidate"] == 16 and values["limit"]["reference"] == 16
    assert math.isnan(judge("node", None, None, None, FLOAT32).roundings)


def test_json_has_no_numbers_that_are_none():
    assert [number(x) for x in (None, 0.5, math.inf, -math.inf, math.nan)] == [
        None,
        0.5,
        "inf",
        "-inf",
        "nan",
    ]
    node = judged(sides(math.inf, math.nan, largest_gauge=math.inf))
    json.dumps(node.to_dict(), allow_nan=False)


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
