"""All models' steps as JUnit XML, which continuous integration systems show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from reports.judgement import State, judge
from reports.results import ModelResults

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold (section 2.2)."""


def junit(models: Sequence[ModelResults]) -> str:
    """One suite for each model with a case for each step and one for the verdict on all of it.

    What could not be done is an error, what differs a failure, what was left out is skipped.

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
    cases = [_case(results, step) for step in results.run["steps"]]
    verdict = ElementTree.Element("testcase", classname=_text(results.slug), name="verdict")
    if judgement.state is not State.PARITY:
        told = [judgement.sentence, judgement.node, judgement.diagnosis]
        _add(
            verdict,
            "failure" if judgement.state is State.MISMATCH else "error",
            judgement.state.value,
            "; ".join(item for item in told if item),
        )
    cases.append(verdict)
    seconds = sum(float(step["seconds"] or 0) for step in results.run["steps"])
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


def _case(results: ModelResults, step: dict[str, object]) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase",
        classname=_text(results.slug),
        name=_text(str(step["name"])),
        time=f"{float(str(step['seconds'] or 0)):.3f}",
    )
    message = str(step["message"])
    if step["status"] == "failed":
        _add(case, "error", "failed", message)
    elif step["status"] == "skipped":
        ElementTree.SubElement(case, "skipped", message=_text(message))
    elif step["exit_code"] != 0:
        _add(case, "failure", "differs", message or f"{step['title']}: a difference was found")
    return case


def _add(case: ElementTree.Element, tag: str, kind: str, message: str) -> None:
    element = ElementTree.SubElement(case, tag, type=kind, message=_text(message))
    element.text = _text(message)


def _text(value: str) -> str:
    return _FORBIDDEN.sub("?", value)
