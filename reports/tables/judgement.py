"""The verdict on a model: all its results in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parity.process.outcome import Outcome
from reports.reading.results import ModelResults
from reports.words.texts import plural, scientific


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
    for result, title in ((results.nodes, ""), (results.structure, "float64: ")):
        if result and outcome_of(result) is Outcome.DIFFERENCE:
            return _of_nodes(result, title)
    for result in (results.coco, results.detect):
        if result and outcome_of(result) is Outcome.DIFFERENCE:
            return Judgement(Outcome.DIFFERENCE, result["sentence"])
    lack = _lack(results)
    if lack:
        return lack
    return Judgement(Outcome.PARITY, _parity_sentence(results))


def outcome_of(result: Mapping[str, Any]) -> Outcome:
    """What a comparison's result file says."""
    return Outcome(result["outcome"])


def _of_nodes(result: Mapping[str, Any], title: str) -> Judgement:
    """What a comparison of nodes says of itself."""
    told = result["summary"]
    return Judgement(outcome_of(result), f"{title}{told['text']}", told["node"], told["diagnosis"])


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
    if not results.nodes["nodes"]:
        return Judgement(Outcome.NOT_SHOWN, "no node was compared")
    for result, title in ((results.nodes, ""), (results.structure, "float64: ")):
        if result and outcome_of(result) is Outcome.NOT_SHOWN:
            return _of_nodes(result, title)
    for result in (results.coco, results.detect):
        if result and outcome_of(result) is Outcome.NOT_SHOWN:
            return Judgement(Outcome.NOT_SHOWN, result["sentence"])
    if results.self_check and not results.self_check["passes"]:
        return Judgement(
            Outcome.NOT_SHOWN,
            "the self-check missed a fault that it had put in, so that its silence proves nothing",
        )
    return None


def _parity_sentence(results: ModelResults) -> str:
    assert results.nodes is not None
    inputs = len(results.nodes["inputs"])
    sentence = (
        f"all {plural(len(results.nodes['nodes']), 'node')} are covered and differ by no more "
        f"than their roundings" + (f" on {inputs} inputs" if inputs > 1 else "")
    )
    if results.structure:
        sentence += f"; in float64 by at most {scientific(results.structure_error)} of rms"
    if results.coco:
        sentence += "; all COCO metrics and detections agree"
    return sentence
