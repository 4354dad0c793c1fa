"""All models' steps as JUnit XML, which continuous integration systems show."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from parity.process.outcome import Outcome
from reports.reading.results import ModelResults
from reports.run.account import Lack
from reports.tables.judgement import judge

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold (section 2.2)."""


def junit(models: Sequence[ModelResults]) -> str:
    """One suite for each model with a case for each step and one for the verdict on all of it.

    What differs is a failure, what could not be done or is not shown an error; nothing that was
    asked for is skipped in silence.

    Args:
        models: The results.
    """
    root = ElementTree.Element("testsuites")
    for results in models:
        root.append(_suite(results))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _suite(results: ModelResults) -> ElementTree.Element:
    judgement = judge(results)
    account = results.account
    cases = [_case(results, step) for step in account.done.values()]
    cases += [_lacking(results, lack) for lack in account.lacks]
    verdict = ElementTree.Element("testcase", classname=_text(results.slug), name="verdict")
    if judgement.outcome is not Outcome.PARITY:
        told = [judgement.sentence, judgement.node, judgement.diagnosis]
        _add(
            verdict,
            "failure" if judgement.outcome is Outcome.DIFFERENCE else "error",
            judgement.outcome.value,
            "; ".join(item for item in told if item),
        )
    if account.remarks:
        ElementTree.SubElement(verdict, "system-out").text = _text("\n".join(account.remarks))
    cases.append(verdict)
    seconds = sum(float(case.get("time", "0")) for case in cases)
    suite = ElementTree.Element(
        "testsuite",
        name=_text(results.slug),
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors=str(sum(case.find("error") is not None for case in cases)),
        skipped=str(sum(case.find("skipped") is not None for case in cases)),
        time=f"{seconds:.3f}",
    )
    suite.extend(cases)
    return suite


def _case(results: ModelResults, step: Mapping[str, Any]) -> ElementTree.Element:
    """A step that has come to a result."""
    case = ElementTree.Element(
        "testcase",
        classname=_text(results.slug),
        name=_text(step["name"]),
        time=f"{float(step['seconds'] or 0):.3f}",
    )
    if step["exit_code"] == Outcome.NOT_SHOWN.exit_code:
        _add(case, "error", Outcome.NOT_SHOWN.value, f"{step['title']}: parity is not shown")
    elif step["exit_code"] != Outcome.PARITY.exit_code:
        _add(case, "failure", "differs", f"{step['title']}: a difference was found")
    if step.get("reused"):
        ElementTree.SubElement(case, "system-out").text = "reused from an earlier run"
    return case


def _lacking(results: ModelResults, lack: Lack) -> ElementTree.Element:
    """A step that was asked for and has no result."""
    spent = sum(
        float(step["seconds"] or 0)
        for step in results.run["steps"]
        if step["name"] == lack.name and not step.get("earlier")
    )
    case = ElementTree.Element(
        "testcase", classname=_text(results.slug), name=_text(lack.name), time=f"{spent:.3f}"
    )
    _add(case, "error", "failed" if lack.failed else "not made", lack.reason)
    return case


def _add(case: ElementTree.Element, tag: str, kind: str, message: str) -> None:
    element = ElementTree.SubElement(case, tag, type=kind, message=_text(message))
    element.text = _text(message)


def _text(value: str) -> str:
    return _FORBIDDEN.sub("?", value)
