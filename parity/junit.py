"""A comparison as JUnit XML, which continuous integration systems show."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from parity.result import NodesReport
from parity.verdict import Verdict

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold (section 2.2)."""


def junit(report: NodesReport) -> str:
    """One test case for each node and each finding; what is not covered is a failure too.

    Args:
        report: The result.
    """
    failures = len(report.failures()) + len(report.findings)
    suite = ElementTree.Element(
        "testsuite",
        name=_text(f"{report.model} nodes {report.dtype}"),
        tests=str(len(report.nodes) + len(report.findings)),
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
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _text(value: str) -> str:
    return _FORBIDDEN.sub("?", value)
