"""How the verdict comes about: every comparison that was made, and what came of it."""

from __future__ import annotations

from collections import Counter

from efficientdet_spec import told
from parity.process.outcome import Outcome
from parity.results.records.nodes import NodesResult
from parity.results.records.self_check import SelfCheckResult
from reports.pages.coverage import input_sizes
from reports.pages.elements import Check, Link, Table, check
from reports.reading.results import ModelResults
from reports.words.faults import about_finding
from reports.words.texts import agreeing, by_verdict, metric, plural, scientific

_STATES = ("detected", "located", "named")


def checks(results: ModelResults) -> list[Check]:
    """All comparisons that were made or asked for.

    Args:
        results: Of one model.
    """
    found: list[Check | None] = [
        _conversion(results),
        _nodes("Every node in float32", results.nodes, results, "nodes"),
        _nodes("Every node in float64", results.structure, results, "structure"),
    ]
    if results.nodes and results.nodes.gradients:
        passes = results.nodes.gradients.passes
        text = "agree within what rounding explains" if passes else "differ"
        found.append(check("Gradients", _passes(passes), f"the gradients of all parameters {text}"))
    found += [_coco(results), _detect(results), _self_check(results)]
    return [item for item in found if item is not None]


def not_asked_for(results: ModelResults) -> list[str]:
    """What the verdict says nothing of, because nobody asked for it.

    Args:
        results: Of one model.
    """
    asked = {lack.name for lack in results.account.lacks}
    titles = {
        "structure": (results.structure, "every node in float64"),
        "coco": (results.coco, "COCO metrics and detections"),
        "detect": (results.detect, "detections on single images"),
        "self-check": (results.self_check, "a self-check with known faults"),
    }
    return [title for name, (made, title) in titles.items() if made is None and name not in asked]


def _missing(title: str, results: ModelResults, name: str) -> Check | None:
    """A comparison without a result: not asked for, or asked for in vain."""
    lack = next((item for item in results.account.lacks if item.name == name), None)
    if lack is None:
        return None
    return check(
        title, Outcome.NOT_SHOWN, f"{'failed' if lack.failed else 'not made'}: {lack.reason}"
    )


def _passes(passes: bool) -> Outcome:
    return Outcome.PARITY if passes else Outcome.DIFFERENCE


def _conversion(results: ModelResults) -> Check | None:
    title = "Every variable of the checkpoint"
    if results.conversion is None:
        return _missing(title, results, "convert")
    ledger = results.conversion.ledger
    total = len(ledger.variables)
    used = sum(row.is_used for row in ledger.variables)
    if ledger.findings:
        return check(title, Outcome.DIFFERENCE, told(ledger.findings))
    return check(
        title,
        Outcome.PARITY,
        f"{used:,} of {plural(total, 'variable')} used once, {total - used:,} excluded for a "
        f"stated reason",
    )


def _nodes(title: str, nodes: NodesResult | None, results: ModelResults, step: str) -> Check | None:
    if nodes is None:
        return _missing(title, results, step)
    text = (
        f"{agreeing(nodes)} on {input_sizes(nodes)} ({by_verdict(nodes.counts) or 'no node'}); "
        f"largest accumulated difference {scientific(nodes.largest_relative_max)} of rms"
    )
    return check(title, nodes.outcome, "; ".join([text, *_findings(nodes)]))


def _findings(nodes: NodesResult) -> list[str]:
    """How many findings there are of each sort: a value is no setting, and neither is structure."""
    numbers = Counter(about_finding(item.slug) for item in nodes.findings)
    return [f"{plural(number, 'finding')} ({about.value})" for about, number in numbers.items()]


def _coco(results: ModelResults) -> Check | None:
    title = "COCO metrics and detections"
    if results.coco is None:
        return _missing(title, results, "coco")
    coco = results.coco
    deltas = [abs(value) for value in coco.metric_deltas.values() if value is not None]
    text = coco.sentence
    if deltas:
        text += (
            f"; largest difference of {plural(len(deltas), 'metric')}: {metric(max(deltas))}, of "
            f"at most {coco.metric_limit}"
        )
    return check(title, coco.outcome, text)


def _detect(results: ModelResults) -> Check | None:
    title = "Detections on single images"
    if results.detect is None:
        return _missing(title, results, "detect")
    count = plural(len(results.detect.images), "image")
    return check(title, results.detect.outcome, f"{results.detect.sentence}, on {count}")


def _self_check(results: ModelResults) -> Check | None:
    title = "Self-check with known faults"
    if results.self_check is None:
        return _missing(title, results, "self-check")
    faults = [fault for fault in results.self_check.faults if not fault.is_control]
    detected, located, named = (sum(getattr(fault, state) for fault in faults) for state in _STATES)
    alarms = [fault for fault in results.self_check.faults if fault.is_control]
    text = (
        f"{plural(len(faults), 'fault')} put in one at a time: {detected} detected, "
        f"{located} located, {named} given the right name"
    )
    if alarms:
        alarm = any(item.detected for item in alarms)
        text += f"; {'an' if alarm else 'no'} alarm on the faithful model"
    outcome = Outcome.PARITY if results.self_check.passes else Outcome.NOT_SHOWN
    return check(title, outcome, text)


def self_check_table(self_check: SelfCheckResult) -> Table:
    """What became of each fault that was put in.

    Args:
        self_check: ``self-check.json``.
    """
    words = {True: "yes", False: "NO"}
    rows: list[list[str | Link]] = []
    for fault in self_check.faults:
        if fault.is_control:
            state = "ALARM" if fault.detected else "no alarm"
            rows.append([fault.title, state, "–", "–", "–"])
            continue
        states = [words[getattr(fault, state)] for state in _STATES]
        nodes = fault.nodes
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        rows.append([fault.title, *states, f"{nodes[0]}{more}" if nodes else "–"])
    return Table(
        "Faults put into this very model, one at a time; located: no other node fails",
        ["Fault", "Detected", "Located", "Named", "Failing nodes"],
        rows,
        [False] * 5,
    )
