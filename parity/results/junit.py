"""A comparison as JUnit XML, which continuous integration systems show."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from parity.judge.verdict import Verdict
from parity.results.nodes import NodesReport

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold (section 2.2)."""


def junit(report: NodesReport) -> str:
    """One test case for each node, each finding and each gap; what is not shown is a failure too.

    Args:
        report: The result.
    """
    gaps = [*report.not_shown]
    if report.gradients is not None and not report.gradients["passes"]:
        gaps.append("gradients: not all of them have parity")
    if not report.nodes:
        gaps.append("no node was compared")
    failures = len(report.failures()) + len(report.findings) + len(gaps)
    suite = ElementTree.Element(
        "testsuite",
        name=_text(f"{report.model} nodes {report.dtype}"),
        tests=str(len(report.nodes) + len(report.findings) + len(gaps)),
        failures=str(failures),
        errors="0",
        skipped="0",
        time=f"{sum(report.seconds.values()):.3f}",
    )
    for node in report.nodes:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_text(report.model), name=_text(node.name)
        )
        if not node.verdict.passes:
            kind = "not covered" if node.verdict is Verdict.NOT_COVERED else "differs"
            failure = ElementTree.SubElement(
                case, "failure", type=kind, message=_text(node.verdict.value)
            )
            failure.text = _text(node.reason)
    for finding in report.findings:
        name = _text(f"{finding.slug} {finding.place}")
        case = ElementTree.SubElement(
            suite, "testcase", classname=_text(f"{report.model} structure"), name=name
        )
        ElementTree.SubElement(case, "failure", type=finding.slug, message=_text(finding.text))
    for gap in gaps:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_text(f"{report.model} coverage"), name=_text(gap)
        )
        ElementTree.SubElement(case, "failure", type="not shown", message=_text(gap))
    properties = ElementTree.Element("properties")
    told = [("outcome", report.outcome.value), ("verdict", report.sentence)]
    told += [("covers", line) for line in report.coverage.text(report.inputs)]
    for name, value in told:
        ElementTree.SubElement(properties, "property", name=name, value=_text(value))
    suite.insert(0, properties)
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _text(value: str) -> str:
    return _FORBIDDEN.sub("?", value)
