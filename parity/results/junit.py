"""JUnit XML, which continuous integration systems show: suites of cases, whatever was tested."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from parity.judge.verdict import Verdict
from parity.results.records.nodes import NodesResult

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold (section 2.2)."""


@dataclass(frozen=True)
class Problem:
    """Why a case does not pass.

    Attributes:
        kind: What it is, in a word or two.
        message: The same in a sentence.
        text: Further words; may be empty.
        error: Whether nothing is known, not that something is wrong.
    """

    kind: str
    message: str
    text: str = ""
    error: bool = False


@dataclass(frozen=True)
class Case:
    """One thing that was tested.

    Attributes:
        group: What it belongs to.
        name: What it is.
        problem: Why it does not pass; None where it does.
        seconds: Wall time; None where that is not known.
        output: Something to say besides; may be empty.
    """

    group: str
    name: str
    problem: Problem | None = None
    seconds: float | None = None
    output: str = ""


@dataclass(frozen=True)
class Suite:
    """Cases that belong together.

    Attributes:
        name: What they are of.
        cases: Each of them.
        seconds: Wall time of all.
        properties: Names and values that are said of the whole.
    """

    name: str
    cases: Sequence[Case]
    seconds: float
    properties: Sequence[tuple[str, str]] = ()


def document(suite: Suite | Sequence[Suite]) -> str:
    """A suite, or several, as XML; nothing that was to be tested is skipped in silence.

    Args:
        suite: One, which is then the whole of the document, or several.
    """
    if isinstance(suite, Suite):
        root = _suite(suite)
    else:
        root = ElementTree.Element("testsuites")
        root.extend([_suite(item) for item in suite])
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _suite(suite: Suite) -> ElementTree.Element:
    problems = [case.problem for case in suite.cases if case.problem]
    element = ElementTree.Element(
        "testsuite",
        name=_text(suite.name),
        tests=str(len(suite.cases)),
        failures=str(sum(not problem.error for problem in problems)),
        errors=str(sum(problem.error for problem in problems)),
        skipped="0",
        time=f"{suite.seconds:.3f}",
    )
    if suite.properties:
        properties = ElementTree.SubElement(element, "properties")
        for name, value in suite.properties:
            ElementTree.SubElement(properties, "property", name=name, value=_text(value))
    element.extend([_case(case) for case in suite.cases])
    return element


def _case(case: Case) -> ElementTree.Element:
    element = ElementTree.Element("testcase", classname=_text(case.group), name=_text(case.name))
    if case.seconds is not None:
        element.set("time", f"{case.seconds:.3f}")
    problem = case.problem
    if problem is not None:
        tag = "error" if problem.error else "failure"
        found = ElementTree.SubElement(
            element, tag, type=problem.kind, message=_text(problem.message)
        )
        found.text = _text(problem.text) if problem.text else None
    if case.output:
        ElementTree.SubElement(element, "system-out").text = _text(case.output)
    return element


def _text(value: str) -> str:
    return _FORBIDDEN.sub("?", value)


def junit(result: NodesResult) -> str:
    """One test case for each node, each finding and each gap; what is not shown is a failure too.

    Args:
        result: A comparison of nodes.
    """
    gaps = [*result.not_shown]
    if result.gradients is not None and not result.gradients.passes:
        gaps.append("gradients: not all of them have parity")
    if not result.nodes:
        gaps.append("no node was compared")
    model = result.model
    cases = [
        Case(model, node.name, _of_verdict(node.verdict, node.reason)) for node in result.nodes
    ]
    cases += [
        Case(f"{model} structure", f"{item.slug} {item.place}", Problem(item.slug, item.text))
        for item in result.findings
    ]
    cases += [Case(f"{model} coverage", gap, Problem("not shown", gap)) for gap in gaps]
    told = [("outcome", result.outcome.value), ("verdict", result.sentence)]
    told += [("covers", line) for line in result.coverage.text]
    name = f"{model} nodes {result.dtype}"
    return document(Suite(name, cases, sum(result.seconds.values()), told))


def _of_verdict(verdict: Verdict, reason: str) -> Problem | None:
    if verdict.passes:
        return None
    kind = "differs" if verdict.fails else "not covered"
    return Problem(kind, verdict.value, reason)
