"""The verdict on a model: all its results in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from reports.glossary import PASSING
from reports.results import ModelResults
from reports.texts import plural, scientific


class State(str, Enum):
    """What is known of a model."""

    PARITY = "parity"
    """Every comparison that was asked for was made, and none found a difference."""
    MISMATCH = "mismatch"
    """A comparison found what rounding does not explain."""
    FAILED = "failed"
    """Something could not be done, so that parity is not shown."""


@dataclass(frozen=True)
class Judgement:
    """The verdict on a model.

    Attributes:
        state: In a word.
        sentence: Why.
        node: The node that is to blame; None where there is none.
        diagnosis: What is wrong there; None where that is not known.
    """

    state: State
    sentence: str
    node: str | None = None
    diagnosis: str | None = None


def judge(results: ModelResults) -> Judgement:
    """Judge a model by everything that is known of it; a mismatch outweighs a failed step."""
    for result, title in ((results.nodes, ""), (results.structure, "float64: ")):
        if result and not result["passes"]:
            return _nodes_mismatch(result, title)
    if results.coco and not results.coco["passes"] and results.coco["complete"]:
        return Judgement(State.MISMATCH, _metrics_sentence(results.coco))
    if results.detect and not results.detect["passes"]:
        return Judgement(State.MISMATCH, _detections_sentence(results.detect))
    failure = _failure(results)
    if failure:
        return Judgement(State.FAILED, failure)
    return Judgement(State.PARITY, _parity_sentence(results))


def _nodes_mismatch(nodes: Mapping[str, Any], title: str) -> Judgement:
    failing = [node for node in nodes["nodes"] if node["verdict"] not in PASSING]
    suspects = nodes["suspects"]
    named = next((item for item in suspects if item["diagnosis"]), None)
    suspect = named or next(iter(suspects), None)
    if failing:
        sentence = (
            f"{title}{len(failing):,} of {plural(len(nodes['nodes']), 'node')} without parity"
        )
        if suspect and suspect["nodes"]:
            return Judgement(State.MISMATCH, sentence, suspect["nodes"][0], suspect["diagnosis"])
        return Judgement(State.MISMATCH, sentence, failing[0]["name"], failing[0]["verdict"])
    if nodes["findings"]:
        first = nodes["findings"][0]
        number = plural(len(nodes["findings"]), "thing")
        names = {node["name"] for node in nodes["nodes"]}
        return Judgement(
            State.MISMATCH,
            f"{title}every node has parity on this input, but {number} about the candidate "
            f"differ from the checkpoint; {first['place']}: {first['text']}",
            first["place"] if first["place"] in names else None,
        )
    if not nodes["nodes"]:
        return Judgement(State.MISMATCH, f"{title}no node was compared")
    return Judgement(State.MISMATCH, f"{title}every node has parity, but gradients differ")


def _metrics_sentence(coco: Mapping[str, Any]) -> str:
    deltas = {name: value for name, value in coco["metric_deltas"].items() if value is not None}
    name = max(deltas, key=lambda item: abs(float(deltas[item])), default=None)
    if name is None or abs(float(deltas[name])) <= float(coco["metric_limit"]):
        return "the evaluation on COCO images found a difference"
    return (
        f"COCO metrics differ: {name} by {float(deltas[name]):+.6f}, "
        f"of at most {coco['metric_limit']}"
    )


def _detections_sentence(detect: Mapping[str, Any]) -> str:
    for entry in detect["images"]:
        if entry["failures"]:
            side, reason = next(iter(entry["failures"].items()))
            return f"detection failed in {side} on {entry['file']}: {reason}"
    number = sum(entry.get("visibly_different", 0) for entry in detect["images"])
    return f"{plural(number, 'detection')} visibly different on single images"


def _failure(results: ModelResults) -> str | None:
    """What could not be done."""
    for step in results.run["steps"]:
        if step["status"] == "failed":
            return f"the step “{step['title']}” failed: {step['message'] or 'it gave no reason'}"
    if results.nodes is None:
        return "no comparison of nodes was made"
    if results.coco and not results.coco["complete"]:
        return "the evaluation is incomplete: images failed"
    if results.self_check and not results.self_check["passes"]:
        return (
            "the self-check missed a fault that it had put in, so that its silence proves nothing"
        )
    return None


def _parity_sentence(results: ModelResults) -> str:
    assert results.nodes is not None
    sentence = (
        f"all {plural(len(results.nodes['nodes']), 'node')} are covered and differ by no more "
        f"than their roundings"
    )
    if results.structure:
        sentence += f"; in float64 by at most {scientific(results.structure_error)} of rms"
    if results.coco and results.coco["metric_deltas"]:
        sentence += "; all COCO metrics agree"
    return sentence
