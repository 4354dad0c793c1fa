"""The verdict on a model: all its results in one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from parity.results.records.nodes import NodesResult
from reports.reading.results import ModelResults
from reports.words.texts import agreeing, plural, scientific


@dataclass(frozen=True)
class Judgement:
    """The verdict on a model.

    Attributes:
        outcome: In a word.
        sentence: Why.
        node: The node that is to blame; None where there is none.
        diagnosis: What is wrong there; None where that is not known.
    """

    outcome: Outcome
    sentence: str
    node: str | None = None
    diagnosis: str | None = None


def judge(results: ModelResults) -> Judgement:
    """Judge a model by everything that is known of it.

    A difference outweighs whatever could not be done, for it is known; parity takes that all that
    was asked for was done, and that each of it shows parity.
    """
    difference = _first(results, Outcome.DIFFERENCE)
    if difference:
        return difference
    lack = _lack(results)
    if lack:
        return lack
    return Judgement(Outcome.PARITY, _parity_sentence(results))


def _first(results: ModelResults, outcome: Outcome) -> Judgement | None:
    """What the first comparison says that ends so; None where none does."""
    for nodes, title in ((results.nodes, ""), (results.structure, "float64: ")):
        if nodes and nodes.outcome is outcome:
            return _of_nodes(nodes, title)
    for detections in (results.coco, results.detect):
        if detections and detections.outcome is outcome:
            return Judgement(outcome, detections.sentence)
    return None


def _of_nodes(result: NodesResult, title: str) -> Judgement:
    """What a comparison of nodes says of itself."""
    told = result.summary
    text = told.text if told.node is None else _counts(result)
    return Judgement(result.outcome, f"{title}{text}", told.node, told.diagnosis)


def _counts(result: NodesResult) -> str:
    """How many nodes agree, where some do not, and what becomes of the others."""
    differ = sum(node.verdict.fails for node in result.nodes)
    elsewhere = result.counts.get(Verdict.OWN_INPUTS, 0)
    lack = sum(not node.verdict.passes for node in result.nodes) - differ - elsewhere
    parts = [agreeing(result)]
    if differ:
        parts.append(f"{differ:,} {'differs' if differ == 1 else 'differ'}{_only_on(result)}")
    if elsewhere:
        verb = "is" if elsewhere == 1 else "are"
        parts.append(f"{elsewhere:,} {verb} {Verdict.OWN_INPUTS.value}")
    if lack:
        parts.append(f"{lack:,} {'is' if lack == 1 else 'are'} not covered")
    return ", ".join(parts) + ("" if differ else "; nothing was found to differ")


def _only_on(result: NodesResult) -> str:
    """On which of the inputs nodes differ, where they do not on all."""
    found = [item for item in result.inputs if item.outcome is Outcome.DIFFERENCE]
    if not found or len(found) == len(result.inputs):
        return ""
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f" on {found[0].size} ({found[0].source}){more}"


def _lack(results: ModelResults) -> Judgement | None:
    """Why parity is not shown; None where it is."""
    account = results.account
    if account.lacks:
        return Judgement(Outcome.NOT_SHOWN, account.lacks[0].text)
    if not account.complete:
        return Judgement(Outcome.NOT_SHOWN, "the run did not come to its end")
    if results.altered:
        return Judgement(
            Outcome.NOT_SHOWN,
            f"{results.altered[0]} is not as its step wrote it; run it again",
        )
    if results.nodes is None:
        return Judgement(Outcome.NOT_SHOWN, "no comparison of nodes was made")
    if not results.nodes.nodes:
        return Judgement(Outcome.NOT_SHOWN, "no node was compared")
    gap = _first(results, Outcome.NOT_SHOWN)
    if gap:
        return gap
    if results.self_check and not results.self_check.passes:
        return Judgement(
            Outcome.NOT_SHOWN,
            "the self-check missed a fault that it had put in, so that its silence proves nothing",
        )
    return None


def _parity_sentence(results: ModelResults) -> str:
    assert results.nodes is not None
    inputs = len(results.nodes.inputs)
    sentence = (
        f"{agreeing(results.nodes)} on {plural(inputs, 'input')}, none off by more than its "
        f"roundings"
    )
    if results.structure:
        sentence += f"; in float64 by at most {scientific(results.structure_error)} of rms"
    if results.coco:
        sentence += "; all COCO metrics and detections agree"
    return sentence
