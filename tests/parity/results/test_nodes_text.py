"""The text of a comparison says the verdict, what fails, and why, in few lines."""

from dataclasses import replace

import pytest
from handmade import distance, finding, given, gradients, node, report, suspect
from msgspec import structs

from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from parity.results.nodes_text import nodes_text
from parity.results.records.nodes import Contribution, Noise


def text(*arguments, every_node=False, **options):
    return nodes_text(report(*arguments, **options), every_node=every_node)


def last(*arguments, **options):
    return text(*arguments, **options).splitlines()[-1]


GOOD = [node("stem", Verdict.EXACT), node("stem_bn")]
NONE = Verdict.NOT_COVERED
NAN = replace(distance(float("nan")), finite=False)
BAD = [*GOOD, node("conv", Verdict.FUNCTION_DIFFERS, "it is another"), node("out")]


def test_parity_is_said_with_its_figures():
    told = text(GOOD)
    assert "2 nodes: 1 exact, 1 rounding, 0 not covered" in told
    assert "largest accumulated difference 2.0e-05 of rms" in told
    assert "load 1.2 s, free pass 0.5 s; peak memory 1.50 GB" in told
    assert "fingerprint 0123456789abcdef)" in told
    assert "candidate model.py:build on cpu" in told
    assert told.splitlines()[-1] == (
        "PARITY: all 2 nodes are covered and differ by no more than their roundings on 1 input; an "
        "error above 1.0e-05 of a tensor's rms would have been seen"
    )
    # Only the outputs are listed, and of the rest the worst.
    row = next(line for line in told.splitlines() if line.startswith("stem_bn"))
    figures = ["1x4x5x6", "2.0e-05", "6.7e-06", "[0,1,2,3]", "2.5/16", "1.2e+03/16", "rounding"]
    assert row.split() == ["stem_bn", *figures]
    assert "Nodes" not in told.replace("Nodes without", "")
    assert "Suspects" not in told and "Structure" not in told and "DIFFERENCE" not in told


def test_a_table_of_every_node():
    table = text(GOOD, every_node=True)
    assert "\nstem     1x4x5x6" in table
    assert "\nstem     1x4x5x6" not in text(GOOD)


def test_what_fails_is_listed_with_its_reason():
    told = text(BAD)
    assert "Nodes without parity\n" in told
    assert "FUNCTION DIFFERS: it is another" in told
    assert "1 function differs" in told
    assert "PARITY:" not in told
    assert told.splitlines()[-1] == "DIFFERENCE: 1 of 4 nodes differs; suspect conv"


def test_of_many_failures_the_first_are_listed_and_the_rest_counted():
    many = [node(f"conv.{index}", Verdict.NOT_COVERED, "no") for index in range(50)]
    told = text([*many, node("out")])
    assert "(the first 20 of 50; --verbose lists all)" in told
    assert told.count("NOT COVERED: no") == 20
    assert text([*many, node("out")], every_node=True).count("NOT COVERED: no") == 50


def test_suspects_come_with_diagnosis_and_evidence():
    named = suspect(
        "conv@P3",
        "conv@P4",
        slug="left-out",
        diagnosis="left out: not called",
        evidence=("one", "two", "three", "four", "five"),
        tried=True,
    )
    told = text(BAD, suspects=[named])
    assert "conv@P3 and 1 more: function differs; 12 nodes and 3 outputs depend on it" in told
    assert "    DIAGNOSIS: left out: not called\n    one\n    two\n" in told
    assert "four" in told and "five" not in told
    assert told.splitlines()[-1] == (
        "DIFFERENCE: 1 of 4 nodes differs; conv@P3: left out: not called"
    )


def test_a_suspect_without_diagnosis_shows_what_it_looks_like():
    unknown = suspect("conv", patterns=("only channel 3",), evidence=("sound",), tried=True)
    told = text(BAD, suspects=[unknown])
    assert "no hypothesis reproduces it; what the difference looks like:" in told
    assert "    sound\n    only channel 3\n" in told
    told = text(BAD, suspects=[structs.replace(unknown, tried=False, patterns=(), evidence=())])
    assert "no hypothesis" not in told


def test_suspects_with_one_diagnosis_stand_together():
    alike = [suspect(name, diagnosis="epsilon", tried=True) for name in ("bn", "bn2", "bn3")]
    told = text(BAD, suspects=alike)
    assert told.count("DIAGNOSIS: epsilon") == 1
    assert "  bn and 2 more: " in told
    others = [suspect(f"conv.{index}", tried=True) for index in range(12)]
    told = text(BAD, suspects=others)
    assert told.count("depend on it") == 10
    assert "and 2 more, all in the JSON result" in told


def test_findings_alone_are_a_difference():
    told = text(GOOD, findings=[finding()])
    assert "Structure\n  stem_bn: its momentum is 0.1 instead of 0.01" in told
    assert told.splitlines()[-1] == (
        "DIFFERENCE: every node has parity on these inputs, but stem_bn: its momentum is 0.1 "
        "instead of 0.01"
    )
    # What is wrong says more than what is not covered.
    uncovered = [*GOOD, node("conv", Verdict.NOT_COVERED, "gone")]
    assert last(uncovered, findings=[finding(), finding()]) == (
        "DIFFERENCE: stem_bn: its momentum is 0.1 instead of 0.01 (1 more findings)"
    )


def test_findings_of_one_kind_are_one_line_with_their_number():
    momenta = [finding(place=f"bn.{index}") for index in range(16)]
    extra = [finding("parameter-extra", f"conv.{index}", "one too many") for index in range(417)]
    lines = text(GOOD, findings=[*momenta, *extra]).splitlines()
    start = lines.index("Structure")
    assert lines[start + 1 : start + 4] == [
        "  bn.0: its momentum is 0.1 instead of 0.01 (and 15 more of this kind)",
        "  conv.0: one too many (and 416 more of this kind)",
        "  all 433 are in the JSON result",
    ]
    kinds = [finding(f"parameter-{index}", f"place.{index}", "other") for index in range(12)]
    told = text(GOOD, findings=kinds)
    assert "place.9:" in told and "place.10:" not in told and "  and 2 more kinds\n" in told


def test_looking_at_more_is_advised_only_where_it_can_help():
    named = suspect("conv", diagnosis="left out", tried=True)
    waiting = suspect("later")
    assert "1 more were not looked at, first later; --diagnose N" in text(
        BAD, suspects=[named, waiting]
    )
    for seen in (
        suspect("looked.at", evidence=("its shape is another",)),
        suspect("looked.at", patterns=("Every value is 0.",)),
        suspect("looked.at", tried=True),
    ):
        told = text(BAD, suspects=[named, seen])
        assert "--diagnose" not in told and "looked.at" in told
    told = text(BAD, suspects=[suspect("looked.at", patterns=("Every value is 0.",))])
    assert "no hypothesis could be tried; what the difference looks like:\n    Every" in told


def test_no_nodes_are_no_parity():
    assert last([]) == "NOT SHOWN: no node was compared"


def test_what_is_not_covered_is_neither_parity_nor_a_difference():
    nodes = [*GOOD, node("gate", Verdict.NOT_COVERED, "it has none"), node("sum", NONE)]
    assert last(nodes) == (
        "NOT SHOWN: nothing was found to differ, but 2 of 4 nodes are not covered, first gate: "
        "it has none"
    )
    # Beside a difference it is counted.
    assert last([*nodes, *BAD[2:]]) == (
        "DIFFERENCE: 1 of 6 nodes differs, 2 more are not covered; suspect conv"
    )
    told = text(GOOD, not_shown=["the candidate is compiled"])
    assert "\n  Not shown: the candidate is compiled\n" in told
    assert told.splitlines()[-1] == "NOT SHOWN: the candidate is compiled"


def test_what_is_only_not_covered_is_not_the_suspect_of_a_difference():
    gone = suspect("gate", verdict=NONE, diagnosis="left out", tried=True)
    nodes = [*BAD, node("gate", NONE)]
    said = "DIFFERENCE: 1 of 5 nodes differs, 1 more is not covered; "
    assert last(nodes, suspects=[gone]) == f"{said}suspect conv"
    unknown = suspect("conv", tried=True)
    assert last(nodes, suspects=[gone, unknown]) == f"{said}suspect conv"
    named = suspect("out", diagnosis="epsilon", tried=True)
    assert last(nodes, suspects=[gone, unknown, named]) == f"{said}out: epsilon"


def test_a_value_that_is_none_is_named_before_all_else():
    infinite = node("conv", Verdict.CANDIDATE_DIFFERS, "it is NaN", from_exact=NAN)
    nodes = [*GOOD, infinite, node("out", Verdict.FUNCTION_DIFFERS)]
    named = suspect("out", diagnosis="epsilon", tried=True)
    assert last(nodes, suspects=[named]) == (
        "DIFFERENCE: conv is the first node with a value that is NaN or infinite: it is NaN; "
        "1 more nodes differ"
    )


def test_gradients_alone_decide():
    counts = {"inference": {"exact": 1, "function differs": 1}}
    told = last(GOOD, gradients=gradients(False, counts))
    assert told == "DIFFERENCE: every node has parity, but gradients differ"
    counts = {"inference": {"exact": 1, "not covered": 1}}
    told = last(GOOD, gradients=gradients(False, counts))
    assert told == "NOT SHOWN: every node has parity, but some gradients are not covered"
    counts = {"inference": {"exact": 1}}
    assert last(GOOD, gradients=gradients(True, counts)).startswith("PARITY")


def test_what_the_verdict_covers_stands_before_it():
    lines = text(GOOD).splitlines()
    start = lines.index("This verdict covers:")
    whole = report(GOOD)
    covers = whole.coverage.text
    assert lines[start + 1 : -1] == [f"  {line}" for line in covers]
    assert lines[-1] == whole.sentence


def test_each_of_several_inputs_is_listed_with_what_it_says():
    one, other = given("a.png"), given("b.png", batch=2, outcome=Outcome.DIFFERENCE)
    assert "\ninput 96x128, a.png\n" in text(GOOD, inputs=[one])
    told = text(GOOD, inputs=[one, other])
    assert "\ninput 96x128, a.png: parity\ninput 2 of 96x128, b.png: difference\n" in told
    assert "roundings on 2 inputs; " in told
    # Of many those that say something are listed.
    many = [given(f"{number}.png") for number in range(20)]
    told = text(GOOD, inputs=many)
    assert told.count("\ninput ") == 12 and "\nand 8 more inputs\n" in told
    told = text(GOOD, inputs=[*many, other])
    assert told.count("\ninput ") == 1 and "b.png: difference\nand 20 more inputs\n" in told


def test_notes_contributions_and_noise():
    told = text(
        GOOD,
        reference={"kind": "metagraph", "source": "model.meta", "notes": ["another epsilon"]},
        contributions=[Contribution(("stem",), 0.9, 1.0), Contribution(("stem", "bn"), 1.0, 1.0)],
        noise=[
            Noise("candidate", "repeated", 531, 0, 0.0, None, None),
            Noise("reference", "1 thread", 531, 7, 1e-6, 2.5, "stem"),
        ],
    )
    assert "note: another epsilon" in told
    assert "90.0% of their difference  stem\n" in told
    assert "100.0% of their difference  all of these together" in told
    assert "candidate, repeated: all 531 nodes equal bit for bit" in told
    assert "7 of 531 nodes differ, at most 1.0e-06 of rms, 2.5 roundings, at stem" in told


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figures_that_are_none_are_shown(value):
    bad = node("conv", Verdict.NOT_COVERED, "NaN", free=distance(value), own=None)
    missing = node(
        "gone", Verdict.NOT_COVERED, "missing", shape=None, free=None, own=None, from_exact=None,
        limit=None, kind=None,
    )  # fmt: skip
    told = text([*GOOD, bad, missing])
    assert str(value) in told
    row = next(line for line in told.splitlines() if line.startswith("gone"))
    assert row.split() == ["gone", *"------", "NOT", "COVERED:", "missing"]


@pytest.mark.parametrize(
    ("framework", "told"),
    [({"framework": "PyTorch"}, "module x.pth (PyTorch); "), ({}, "module x.pth; ")],
)
def test_the_reference_is_told_with_what_computes_it(framework, told):
    reference = {"kind": "module", "source": "x.pth", **framework}
    assert f"reference {told}" in text(GOOD, reference=reference)
