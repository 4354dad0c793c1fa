"""The text of a comparison: the verdict, what is to blame and what to do first, then the rest."""

import re
from dataclasses import replace

import pytest
from handmade import distance, finding, given, gradient, gradients, node, report, suspect
from msgspec import structs

from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from parity.results.records.nodes import Contribution, Noise, Statement
from parity.results.text.nodes import nodes_text

WIDTHS = (60, 80, 100, 160)


def text(*arguments, verbose=False, width=100, paths=None, **options):
    shown = {} if paths is None else {"paths": paths}
    return nodes_text(report(*arguments, **options), verbose=verbose, width=width, **shown)


def joined(*arguments, **options):
    """A text without its line breaks, for sentences that wrap."""
    return " ".join(text(*arguments, **options).split())


def first(*arguments, **options):
    """The section of the verdict."""
    found = text(*arguments, **options)
    return " ".join(re.split(r"\n\n(?=\S)", found)[0].split())


def last(*arguments, **options):
    return text(*arguments, **options).splitlines()[-1]


def section(title, *arguments, **options):
    """The lines of a section, without its title."""
    for found in text(*arguments, **options).split("\n\n"):
        if found.splitlines()[0].startswith(title):
            return found.splitlines()[1:]
    return []


GOOD = [node("stem", Verdict.EXACT), node("stem_bn")]
NONE = Verdict.NOT_COVERED
NAN = replace(distance(float("nan")), finite=False)
BAD = [*GOOD, node("conv", Verdict.FUNCTION_DIFFERS, "it is another"), node("out")]


# The verdict


def test_parity_is_said_first_and_last():
    told = first(GOOD)
    assert told == (
        "PARITY: all 2 nodes are covered and differ by no more than their roundings on 1 input; an "
        "error above 1.0e-05 of a tensor's rms would have been seen. The candidate computes what "
        "the reference computes; all that was found is rounding."
    )
    assert last(GOOD) == "PARITY: 2 nodes, 1 input"
    assert "do first" not in text(GOOD) and "DIFFERENCE" not in text(GOOD)


def test_what_the_structure_has_otherwise_stands_near_the_top():
    told = [Statement("stride-other", "blocks.5 has stride 1 instead of 2 (port.py:57)")]
    title = "What the candidate's structure has otherwise"
    sections = text(BAD, suspects=[suspect("conv")], structures=told).split("\n\n")
    (place,) = (i for i, item in enumerate(sections) if item.startswith(title))
    assert "blocks.5 has stride 1 instead of 2 (port.py:57)" in sections[place]
    assert all("Further suspects" not in item for item in sections[:place])
    assert title not in text(BAD, suspects=[suspect("conv")])


def test_where_layers_are_missing_that_comes_before_what_reads_something_else():
    reads = suspect(
        "conv", slug="input-from-other-node", diagnosis="reads stem instead of out", tried=True
    )
    named = suspect("conv", slug="epsilon", diagnosis="another epsilon", tried=True)
    cells = Statement("cells-other", "there are 2 BiFPN cells", other_layers=True)
    eps = Statement("batch-norm-epsilon", "64 of 64 batch norms have epsilon 1e-05")
    told = first(BAD, suspects=[reads], structures=[eps, cells])
    assert "culprit the candidate's structure it is not the model's" in told
    assert "as 2 statements on it say" in told and "conv, which reads stem instead" in told
    assert "do first Make the layers in model.py:build those of the model" in told
    assert last(BAD, suspects=[reads], structures=[cells]).endswith("the candidate's structure")
    # What says more than what a node reads is right wherever it stands.
    assert "culprit conv another epsilon" in first(BAD, suspects=[named], structures=[cells])
    # An epsilon moves no layer.
    assert "culprit conv reads stem" in first(BAD, suspects=[reads], structures=[eps])


def test_a_wiring_that_is_another_comes_before_the_nodes_that_it_leaves_out():
    fuse = "fpn.cells.1.nodes.16.fuse"
    nodes = [*GOOD, node(fuse, Verdict.FUNCTION_DIFFERS, "it is another")]
    named = suspect(fuse, slug="left-out", diagnosis="left out: nothing is computed", tried=True)
    wiring = Statement("wiring-other", "8 fusions; the model has 21", (fuse,), other_layers=True)
    told = first(nodes, suspects=[named], structures=[wiring])
    assert "culprit the candidate's structure it is not the model's" in told
    assert "do first Make the layers in model.py:build those of the model" in told
    assert "left out" not in told.partition("do first")[0]
    # What lies elsewhere is no consequence of it.
    other = ("fpn.cells.1.nodes.3.fuse",)
    elsewhere = Statement("wiring-other", "8 fusions", other, other_layers=True)
    assert f"culprit {fuse} left out" in first(nodes, suspects=[named], structures=[elsewhere])


def test_a_known_fault_is_told_with_what_to_do():
    named = suspect(
        "conv",
        slug="epsilon",
        diagnosis="batch norm with epsilon 1e-05 instead of 0.001",
        evidence=("one", "two", "three"),
        tried=True,
    )
    lines = text(BAD, suspects=[named]).splitlines()
    assert lines[:9] == [
        "DIFFERENCE: 1 of 4 nodes differs.",
        "  Given the very same tensors, the candidate computes something else there. This is not "
        "rounding.",
        "",
        "  culprit    conv",
        "             batch norm with epsilon 1e-05 instead of 0.001",
        "             - one",
        "             - two",
        "  do first   In model.py:build set eps to the model's value, named above; then run this "
        "command",
        "             again.",
    ]
    assert lines[-1] == "DIFFERENCE: 1 of 4 nodes differs; look first at conv"
    assert "- three" in text(BAD, suspects=[named], verbose=True)


@pytest.mark.parametrize(
    ("slug", "step"),
    [
        ("pool-zero-padding", "pad its input with float('-inf'), not with 0"),
        ("kernel-transposed", "load this parameter from the checkpoint as convert.py does"),
        ("parameters-different", "load this parameter from the checkpoint as convert.py does"),
        ("parameters-raw", "give --weights raw here too"),
        ("input-bgr", "give this layer the input that the model gives it"),
        ("output-order", "P3 first"),
        ("of-a-kind-that-is-new", "make it compute what the model computes there"),
    ],
)
def test_each_fault_has_its_step(slug, step):
    told = first(BAD, suspects=[suspect("conv", slug=slug, diagnosis="it is so", tried=True)])
    assert "do first In model.py:build " in told and step in told
    assert told.endswith("; then run this command again.")


def test_the_same_at_many_nodes_is_told_once():
    alike = [
        suspect(f"bn.{number}", slug="epsilon", diagnosis="epsilon", tried=True)
        for number in range(20)
    ]
    nodes = [*GOOD, *(node(item.nodes[0], Verdict.FUNCTION_DIFFERS) for item in alike)]
    told = text(nodes, suspects=alike)
    assert told.count("epsilon") == 1
    assert "the same at 19 more places: bn.1, bn.2, bn.3 and 16 more" in told
    assert "at each of these places, set eps" in joined(nodes, suspects=alike)
    assert "bn.19" in text(nodes, suspects=alike, verbose=True)


def test_a_diagnosis_that_names_its_node_is_the_same_at_another():
    alike = [
        suspect(
            f"head.{name}@P3",
            f"head.{name}@P4",
            slug="parameters-zeros",
            diagnosis=f"other parameters: head.{name}.weight, which is 0",
            tried=True,
        )
        for name in ("a", "b")
    ]
    nodes = [*GOOD, node("head.a@P3", Verdict.FUNCTION_DIFFERS)]
    told = text(nodes, suspects=alike)
    assert "head.a.weight" in told and "head.b.weight" not in told
    assert "the same at 3 more places: head.a@P4, head.b@P3, head.b@P4" in told
    other = structs.replace(alike[1], diagnosis="other parameters: head.b.weight, which is 1")
    assert "head.b.weight, which is 1" in text(nodes, suspects=[alike[0], other])


def test_the_candidates_module_is_named_where_it_has_another_path():
    named = suspect("conv", slug="epsilon", diagnosis="epsilon", tried=True)
    assert "culprit conv (the candidate's net.first)" in first(
        BAD, suspects=[named], paths={"conv": "net.first"}
    )
    assert "culprit conv epsilon" in first(BAD, suspects=[named], paths={"conv": "conv"})


def test_an_unknown_fault_shows_what_it_looks_like():
    unknown = suspect("conv", patterns=("only channel 3",), evidence=("sound",), tried=True)
    told = first(BAD, suspects=[unknown])
    culprit = "culprit conv function differs; no known fault reproduces it"
    assert f"{culprit} - only channel 3 - sound" in told
    assert "--closeups 1 --json FILE" in told
    seen = structs.replace(unknown, tried=False)
    assert "no hypothesis could be tried" in first(BAD, suspects=[seen])
    waiting = structs.replace(unknown, tried=False, patterns=(), evidence=())
    assert "a larger --diagnose N" in first(BAD, suspects=[waiting])


def test_a_converted_candidate_is_not_told_to_change_its_code():
    named = suspect("conv", slug="epsilon", diagnosis="epsilon", tried=True)
    told = first(BAD, suspects=[named], candidate="converted on the fly")
    assert "write it again with convert.py" in told and "In converted" not in told
    unknown = suspect("conv", patterns=("only channel 3",), tried=True)
    assert "report it" in first(BAD, suspects=[unknown], candidate="model.pth")


def test_inaccuracy_and_a_wrong_reference_are_other_matters():
    inaccurate = [*GOOD, node("conv", Verdict.CANDIDATE_DIFFERS)]
    unknown = suspect("conv", verdict=Verdict.CANDIDATE_DIFFERS, patterns=("noise",), tried=True)
    told = first(inaccurate, suspects=[unknown])
    assert "further off there than rounding goes" in told and "half precision, bfloat16" in told
    theirs = [*GOOD, node("conv", Verdict.REFERENCE_DIFFERS)]
    told = first(theirs)
    assert "The candidate is right there" in told and "Do not change the candidate" in told


def test_a_value_that_is_none_is_the_first_thing_to_look_at():
    infinite = node("conv", Verdict.CANDIDATE_DIFFERS, "it is NaN", from_exact=NAN)
    nodes = [*GOOD, infinite, node("out", Verdict.FUNCTION_DIFFERS)]
    named = suspect("out", slug="epsilon", diagnosis="epsilon", tried=True)
    told = first(nodes, suspects=[named])
    assert "culprit conv it is NaN" in told and "Look for NaN or infinite values" in told
    # What is known of it is not told as of another one.
    own = suspect("conv", slug="parameters-different", diagnosis="a NaN in it", tried=True)
    told = text(nodes, suspects=[own, named])
    assert told.count("a NaN in it") == 1
    assert "out: function differs; epsilon" in told


def test_findings_alone_are_a_difference():
    momenta = [finding(place=f"bn.{number}") for number in range(62)]
    told = first(GOOD, findings=momenta)
    assert told.startswith(
        "DIFFERENCE: 62 findings about the candidate; every node has parity on these inputs. The "
        "outputs agree on these inputs, but the candidate is not the same network. culprit bn.0 "
        "its momentum is 0.1 instead of 0.01 the same at 61 more places: bn.1, bn.2, bn.3 and 58 "
        "more do first In model.py:build, at each of these places, set momentum"
    )
    # It is the culprit, and not told again.
    assert section("Structure", GOOD, findings=momenta) == []
    extra = finding("parameter-extra", "conv.bias", "one too many")
    assert section("Structure", GOOD, findings=[*momenta, extra]) == ["  conv.bias: one too many"]
    assert last(GOOD, findings=momenta) == (
        "DIFFERENCE: 62 findings about the candidate; look first at bn.0"
    )
    uncovered = [*GOOD, node("conv", NONE, "gone")]
    assert "1 finding about the candidate; 1 of 3 nodes could not be compared" in first(
        uncovered, findings=[finding()]
    )


def test_a_candidate_that_does_not_repeat_itself_is_told_before_its_nodes():
    unsteady = finding("not-repeatable", "the candidate", "its runs differ")
    told = first(BAD, findings=[unsteady], suspects=[suspect("conv", patterns=("x",), tried=True)])
    assert "culprit the candidate its runs differ do first In model.py:build let every" in told


def test_gradients_alone_decide():
    counts = {"inference": {"exact": 1, "function differs": 1}}
    told = first(GOOD, gradients=gradients(False, counts))
    assert told.startswith("DIFFERENCE: gradients differ; every node has parity")
    assert "culprit the gradients" in told
    statistics = [gradient("bn.running_mean"), gradient("bn.weight", Verdict.EXACT)]
    told = first(GOOD, gradients=gradients(False, counts, statistics))
    assert told.startswith("DIFFERENCE: batch norms' statistics differ after a step of training; ")
    assert "culprit the batch norms' statistics every gradient has parity" in told
    both = [*statistics, gradient("conv.weight")]
    assert "culprit the gradients" in first(GOOD, gradients=gradients(False, counts, both))
    counts = {"inference": {"exact": 1, "not covered": 1}}
    assert first(GOOD, gradients=gradients(False, counts)).startswith("NOT SHOWN: every node has")
    counts = {"inference": {"exact": 1}}
    assert first(GOOD, gradients=gradients(True, counts)).startswith("PARITY")


def test_what_else_was_compared_stands_before_the_last_line():
    told = nodes_text(report(GOOD), width=100, further="Gradients").splitlines()
    assert told[-4:] == ["", "Gradients", "", "PARITY: 2 nodes, 1 input"]


# Not shown


def test_what_is_not_covered_is_neither_parity_nor_a_difference():
    nodes = [*GOOD, node("gate", NONE, "it has none", shape=None), node("sum", NONE, "it has none")]
    told = first(nodes)
    assert told.startswith(
        "NOT SHOWN: 2 of 4 nodes could not be compared. Nothing was found to differ, but what "
        "could not be compared may be right or wrong. This is not parity. missing gate it has none "
        "the same at 1 more place: sum do first Say with --names FILE.json"
    )
    assert last(nodes) == "NOT SHOWN: 2 of 4 nodes could not be compared; look first at gate"
    # Beside a difference it is counted.
    assert first([*nodes, *BAD[2:]]).startswith(
        "DIFFERENCE: 1 of 6 nodes differs, 2 more could not be compared. "
    )


@pytest.mark.parametrize(
    ("gap", "step"),
    [
        (node("gate", NONE, "all values are equal", silent=True), "photographs with --image"),
        (node("gate again", NONE, "no such", kind=None), "Remove this layer or call"),
        (node("gate", NONE, "its type is float64, not float32"), "compute in the type"),
        (node("gate", NONE, "made for 1 of 2; give single images with --image"), "no --batch"),
        (node("gate", NONE, "a value of the reference is NaN"), "Mend what is said above"),
    ],
)
def test_each_gap_has_its_step(gap, step):
    assert step in first([*GOOD, gap]).partition("do first ")[2]


def test_gaps_besides_nodes_are_told():
    told = first(GOOD, not_shown=["outputs are hidden"])
    assert "missing the candidate outputs are hidden do first Mend what is said above" in told
    hidden = joined(GOOD, not_shown=["outputs are hidden"])
    assert "- Not shown: outputs are hidden" in hidden
    assert "--image" in first(GOOD, not_shown=["an input could not be compared"])
    assert first([]).startswith("NOT SHOWN: no node was compared. ")
    assert last([]) == "NOT SHOWN: no node was compared; look first at the candidate"


def test_nodes_that_could_not_be_compared_stand_together_by_reason():
    gaps = [node(f"conv.{index}", NONE, f"conv.{index} has [1, {index}]") for index in range(50)]
    lines = section("Could not be compared", [*GOOD, *gaps, node("gate", NONE, "gone")])
    assert lines == [
        "  conv.0: conv.0 has [1, 0]",
        "    the same at 49 more places: conv.1, conv.2, conv.3 and 46 more",
        "  gate: gone",
    ]
    many = [node(f"conv.{index}", NONE, "no" * index) for index in range(1, 10)]
    assert section("Could not be compared", many)[-1] == "  and 4 more; --verbose lists all"


def test_what_is_only_not_covered_is_not_the_suspect_of_a_difference():
    gone = suspect("gate", verdict=NONE, diagnosis="left out", slug="left-out", tried=True)
    nodes = [*BAD, node("gate", NONE)]
    assert "culprit conv" in first(nodes, suspects=[gone])
    named = suspect("out", diagnosis="epsilon", slug="epsilon", tried=True)
    assert "culprit out epsilon" in first(nodes, suspects=[gone, suspect("conv"), named])


# What follows


def test_further_suspects_are_one_entry_each():
    named = suspect("conv", slug="epsilon", diagnosis="epsilon", tried=True)
    others = [suspect(f"conv.{index}", patterns=("noise",), tried=True) for index in range(12)]
    lines = section("Further suspects", BAD, suspects=[named, *others])
    assert lines[0] == "  conv.0: function differs; noise"
    assert lines[5:] == ["  and 7 more; --verbose lists all"]
    assert len(section("Further suspects", BAD, suspects=[named, *others], verbose=True)) == 24


def test_looking_at_more_is_advised_only_where_it_can_help():
    named = suspect("conv", diagnosis="left out", slug="left-out", tried=True)
    assert section("Further suspects", BAD, suspects=[named, suspect("later")]) == [
        "  1 suspect not looked at, first later; --diagnose N looks at more"
    ]
    seen = suspect("looked.at", evidence=("its shape is another",))
    assert "--diagnose" not in text(BAD, suspects=[named, seen])


def test_nodes_that_differ_are_one_line_each_and_the_first_few():
    many = [node(f"conv.{index}", Verdict.FUNCTION_DIFFERS) for index in range(62)]
    assert "Nodes that differ, the first 6 of 62 (--verbose: all)" in text([*many, *GOOD])
    lines = section("Nodes that differ", [*many, *GOOD])
    assert len(lines) == 7 and all("function differs" in line for line in lines[1:])
    assert len(section("Nodes, in the order", [*many, *GOOD], verbose=True)) == 65


def test_a_row_has_a_nodes_figures():
    row = next(line for line in text(GOOD, width=160).splitlines() if line[2:].startswith("stem_b"))
    figures = ["2.0e-05", "6.7e-06", "2.5/16", "1.2e+03/16", "1x4x5x6", "[0,1,2,3]"]
    assert row.split() == ["stem_bn", "rounding", *figures]
    # What is least telling goes first.
    row = next(line for line in text(GOOD, width=60).splitlines() if line[2:].startswith("stem_b"))
    assert row.split()[:4] == ["stem_bn", "rounding", "2.0e-05", "2.5/16"]


def test_reasons_and_every_node_with_verbose():
    told = text(BAD, verbose=True)
    assert "  conv: it is another" in told and "  stem: why" in told
    assert "Nodes, in the order of computation" in told
    assert "Reasons" not in text(BAD)
    assert "Nearest to their limit" in text(GOOD, verbose=True)


def test_what_was_compared_and_on_what():
    told = text(GOOD)
    assert "  model      efficientdet-tiny, float32\n" in told
    assert "  candidate  model.py:build on cpu\n" in told
    assert "  weights    here (ema, fingerprint 0123456789abcdef)\n" in told
    assert "  nodes      2: 1 exact, 1 rounding, 0 not covered\n" in told
    assert "  time       1.8 s; peak memory 1.50 GB" in told
    assert "load 1.2 s, free pass 0.5 s; peak memory" in text(GOOD, verbose=True)


@pytest.mark.parametrize(
    ("framework", "told"),
    [({"framework": "PyTorch"}, "module x.pth (PyTorch)\n"), ({}, "module x.pth\n")],
)
def test_the_reference_is_told_with_what_computes_it(framework, told):
    reference = {"kind": "module", "source": "x.pth", **framework}
    assert f"  reference  {told}" in text(GOOD, reference=reference)


def test_each_of_several_inputs_is_listed_with_what_it_says():
    one, other = given("a.png"), given("b.png", batch=2, outcome=Outcome.DIFFERENCE)
    assert "  input      96x128, a.png\n" in text(GOOD, inputs=[one])
    told = text(GOOD, inputs=[one, other])
    assert "  inputs     96x128, a.png: parity\n             2 of 96x128, b.png: diff" in told
    # Of many those that say something are listed.
    many = [given(f"{number}.png") for number in range(20)]
    told = text(GOOD, inputs=many)
    assert told.count(".png: ") == 4 and "\n             and 16 more inputs\n" in told
    told = text(GOOD, inputs=[*many, other])
    assert told.count(".png: ") == 1 and "and 20 more inputs\n" in told
    assert text(GOOD, inputs=many, verbose=True).count(".png: ") == 20


def test_what_the_verdict_covers_is_told_in_full_where_nothing_differs():
    whole = " ".join(f"- {line}" for line in report(GOOD).coverage.text)
    assert whole in joined(GOOD)
    assert "The largest accumulated difference is 2.0e-05 of rms, at stem." in joined(GOOD)
    assert whole not in joined(BAD)
    assert "--verbose tells more" in joined(BAD)
    assert " ".join(f"- {line}" for line in report(BAD).coverage.text) in joined(BAD, verbose=True)


def test_sources_are_told_with_what_they_do_to_the_outputs():
    parts = [Contribution(("stem",), 0.9, 1.0), Contribution(("stem", "stem_bn"), 1.0, 1.0)]
    lines = section("Where the outputs'", GOOD, contributions=parts, width=160)
    assert [line.split() for line in lines[2:]] == [
        ["node", "own", "share", "candidate", "reference", "kind"],
        ["stem", "3.0e-06", "90.0%", "2.5/16", "1.2e+03/16", "convolution"],
        ["all", "of", "these", "together", "100.0%"],
    ]
    lines = section("Where the outputs'", GOOD, width=160)
    assert [line.split()[:2] for line in lines[1:]] == [
        ["node", "own"],
        ["stem", "3.0e-06"],
        ["stem_bn", "3.0e-06"],
    ]


def test_notes_and_noise():
    told = joined(
        GOOD,
        reference={"kind": "metagraph", "source": "model.meta", "notes": ["another epsilon"]},
        noise=[
            Noise("candidate", "repeated", 531, 0, 0.0, None, None),
            Noise("reference", "1 thread", 531, 7, 1e-6, 2.5, "stem"),
        ],
    )
    assert "note: another epsilon" in told
    assert "candidate, repeated: all 531 nodes equal bit for bit" in told
    assert "7 of 531 nodes differ, at most 1.0e-06 of rms, 2.5 roundings, at stem" in told


def test_the_legend_explains_an_exact_node_beside_a_large_difference():
    told = joined(GOOD)
    assert "A node can be exact although its free difference is large" in told
    assert "is not its fault." in told
    faithful = node("late", Verdict.EXACT, free=distance(0.87))
    assert "is not its fault; so late here is exact beside a free difference of 8.7e-01." in joined(
        [*BAD, faithful]
    )
    assert "- reference differs: The candidate agrees" not in told
    assert "- reference differs: The candidate agrees" in joined(GOOD, verbose=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figures_that_are_none_are_shown(value):
    bad = node("conv", NONE, "NaN", free=distance(value), own=None)
    missing = node(
        "gone", NONE, "missing", shape=None, free=None, own=None, from_exact=None, limit=None,
        kind=None,
    )  # fmt: skip
    lines = section("Nodes, in", [*GOOD, bad, missing], verbose=True, width=160)
    assert str(value) in "".join(lines)
    assert lines[-1].split() == ["gone", "not", "covered", *"------"]


# The width


LONG = "class_head.of.somebody.with.very.long.paths.predict.pointwise"


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_asked_for(width, verbose):
    nodes = [node(f"{LONG}.{index}", Verdict.FUNCTION_DIFFERS, "why " * 60) for index in range(30)]
    nodes += [node(f"{LONG}@P{index}", NONE, "no reason " * 20) for index in range(9)]
    named = [
        suspect(item.name, slug="epsilon", diagnosis=f"{index} is so " * 20, evidence=("e " * 99,))
        for index, item in enumerate(nodes[:8])
    ]
    told = text(
        [*GOOD, *nodes],
        verbose=verbose,
        width=width,
        suspects=named,
        findings=[finding(place=LONG, text="it is so " * 30)],
        candidate=f"/home/somebody/{'folder/' * 30}port.py:build",
        contributions=[Contribution((nodes[0].name,), 0.9, 1.0)],
        noise=[Noise("reference", "1 thread", 531, 7, 1e-6, 2.5, LONG)],
        inputs=[given("/photographs/" * 20 + "a.png")],
        not_shown=["something " * 30],
    )
    assert max(map(len, told.splitlines())) <= width
    assert told.splitlines()[-1].startswith("DIFFERENCE: 30 of 41 nodes differ")


def test_a_terminal_that_is_too_narrow_gets_whole_figures():
    assert text(GOOD, width=10) == text(GOOD, width=60)


def test_a_live_module_is_its_owners_to_mend():
    named = suspect("conv", diagnosis="left out", slug="left-out", tried=True)
    told = first(BAD, suspects=[named], candidate="port.Net (a live module)")
    assert "In port.Net (a live module) call it where the model does" in " ".join(told.split())
