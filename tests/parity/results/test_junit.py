"""JUnit XML: every node is a test case, and whatever a name holds it parses."""

from xml.etree import ElementTree

import pytest
from handmade import finding, gradients, node, report

from parity.judge.verdict import Verdict
from parity.results.junit import junit

PASSING_GRADIENTS = gradients(True, {"inference": {"exact": 3}})
UNCOVERED_GRADIENTS = gradients(False, {"inference": {"exact": 3, "not covered": 1}})
DIFFERING_GRADIENTS = gradients(False, {"training": {"candidate differs": 1}})


def parsed(*arguments, **options):
    text = junit(report(*arguments, **options))
    assert text.startswith("<?xml")
    return ElementTree.fromstring(text.encode("utf-8"))


def test_every_node_and_every_finding_is_a_test_case():
    suite = parsed(
        [
            node("stem", Verdict.EXACT),
            node("stem_bn"),
            node("conv", Verdict.FUNCTION_DIFFERS, "wrong"),
            node("pool", Verdict.NOT_COVERED, "missing"),
        ],
        findings=[finding()],
    )
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "3", "errors": "0", "skipped": "0"}
    assert suite.get("time") == "1.750"
    cases = suite.findall("testcase")
    names = ["stem", "stem_bn", "conv", "pool", "momentum stem_bn"]
    assert [case.get("name") for case in cases] == names
    failures = [case.find("failure") for case in cases]
    assert failures[0] is None and failures[1] is None
    told = [(item.get("type"), item.get("message"), item.text) for item in failures[2:]]
    assert told == [
        ("differs", "function differs", "wrong"),
        ("not covered", "not covered", "missing"),
        ("momentum", finding().text, None),
    ]
    assert {case.get("classname") for case in cases[:4]} == {"efficientdet-tiny"}


def test_nothing_fails_where_all_is_well():
    suite = parsed([node("stem", Verdict.EXACT), node("stem_bn")], gradients=PASSING_GRADIENTS)
    assert (suite.get("tests"), suite.get("failures")) == ("2", "0")
    assert suite.findall(".//failure") == []


def test_what_is_said_of_the_whole_stands_among_the_properties():
    whole = report([node("stem", Verdict.EXACT)])
    suite = parsed([node("stem", Verdict.EXACT)])
    # JUnit's schema wants them before the cases.
    assert suite[0].tag == "properties"
    told = [(item.get("name"), item.get("value")) for item in suite[0]]
    assert told[:2] == [("outcome", "parity"), ("verdict", whole.sentence)]
    covers = whole.coverage.text
    assert told[2:] == [("covers", line) for line in covers] and len(covers) > 3


@pytest.mark.parametrize(
    ("options", "outcome", "gap"),
    [
        ({"not_shown": ["it is compiled"]}, "not shown", "it is compiled"),
        ({"nodes": []}, "not shown", "no node was compared"),
        ({"gradients": UNCOVERED_GRADIENTS}, "not shown", "gradients: not all of them have parity"),
        ({"gradients": DIFFERING_GRADIENTS}, "difference", "gradients: not all of them have"),
    ],
)
def test_what_is_not_shown_fails_even_where_every_node_passes(options, outcome, gap):
    nodes = options.pop("nodes", [node("stem", Verdict.EXACT)])
    suite = parsed(nodes, **options)
    assert suite.find("properties")[0].get("value") == outcome
    assert suite.get("failures") == "1"
    assert int(suite.get("tests")) == len(suite.findall("testcase")) == len(nodes) + 1
    (failure,) = suite.findall(".//failure")
    assert failure.get("type") == "not shown" and failure.get("message").startswith(gap)
    assert suite.findall("testcase")[-1].get("classname") == "efficientdet-tiny coverage"


@pytest.mark.parametrize(
    "hostile, shown",
    [
        ("<&>\"'", "<&>\"'"),
        ("]]>", "]]>"),
        ("\0\x1b[31m\x08", "??[31m?"),
        ("\ud800", "?"),
        ("\ufffe\uffff", "??"),
        ("ünï 模型 😀", "ünï 模型 😀"),
    ],
)
def test_hostile_names_and_reasons(hostile, shown):
    suite = parsed(
        [node(hostile, Verdict.NOT_COVERED, hostile)],
        findings=[finding(place=hostile, text=hostile)],
        not_shown=[hostile],
        model=hostile,
    )
    first, second, third = suite.findall("testcase")
    assert first.get("name") == first.get("classname") == shown
    assert first.find("failure").text == shown
    assert second.get("name") == f"momentum {shown}"
    assert second.find("failure").get("message") == shown
    assert third.get("name") == third.find("failure").get("message") == shown
