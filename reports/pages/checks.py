"""How the verdict comes about: every comparison that was made, and what came of it."""

from __future__ import annotations

from parity.process.outcome import Outcome
from parity.results.records.nodes import NodesResult
from parity.results.records.self_check import SelfCheckResult
from reports.pages.coverage import input_sizes
from reports.pages.elements import Check, Link, Table, check
from reports.reading.results import ModelResults
from reports.words.texts import by_verdict, metric, plural, scientific

_STATES = ("detected", "located", "named")


def checks(results: ModelResults) -> list[Check]:
    """All comparisons, those that were not made included.

    Args:
        results: Of one model.
    """
    found = [
        _conversion(results),
        _nodes("Every node in float32", results.nodes, results, "nodes"),
        _nodes("Every node in float64", results.structure, results, "structure"),
    ]
    if results.nodes and results.nodes.gradients:
        passes = results.nodes.gradients.passes
        text = "agree within what rounding explains" if passes else "differ"
        found.append(check("Gradients", _passes(passes), f"the gradients of all parameters {text}"))
    found += [_coco(results), _detect(results)]
    asked = {lack.name for lack in results.account.lacks}
    if results.self_check or "self-check" in asked:
        found.append(_self_check(results))
    return found


def _missing(title: str, results: ModelResults, name: str) -> Check:
    """A comparison without a result: not asked for, or asked for in vain."""
    lack = next((item for item in results.account.lacks if item.name == name), None)
    if lack is None:
        return check(title, None, "not made: it was not asked for")
    return check(
        title, Outcome.NOT_SHOWN, f"{'failed' if lack.failed else 'not made'}: {lack.reason}"
    )


def _passes(passes: bool) -> Outcome:
    return Outcome.PARITY if passes else Outcome.DIFFERENCE


def _conversion(results: ModelResults) -> Check:
    title = "Every variable of the checkpoint"
    if results.conversion is None:
        return _missing(title, results, "convert")
    ledger = results.conversion.ledger
    total = len(ledger.variables)
    used = sum(row.is_used for row in ledger.variables)
    if ledger.findings:
        return check(title, Outcome.DIFFERENCE, "; ".join(ledger.findings))
    return check(
        title,
        Outcome.PARITY,
        f"{used:,} of {plural(total, 'variable')} used once, {total - used:,} excluded for a "
        f"stated reason",
    )


def _nodes(title: str, nodes: NodesResult | None, results: ModelResults, step: str) -> Check:
    if nodes is None:
        return _missing(title, results, step)
    text = (
        f"{input_sizes(nodes)}: {by_verdict(nodes.counts) or 'no node'}; largest accumulated "
        f"difference {scientific(nodes.largest_relative_max)} of rms"
    )
    if nodes.findings:
        text += f"; {plural(len(nodes.findings), 'finding')} in the structure"
    return check(title, nodes.outcome, text)


def _coco(results: ModelResults) -> Check:
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


def _detect(results: ModelResults) -> Check:
    title = "Detections on single images"
    if results.detect is None:
        return _missing(title, results, "detect")
    count = plural(len(results.detect.images), "image")
    return check(title, results.detect.outcome, f"{results.detect.sentence}, on {count}")


def _self_check(results: ModelResults) -> Check:
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
