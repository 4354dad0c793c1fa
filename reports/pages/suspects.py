"""The part of a page on what is wrong, and where what is right comes nearest to its limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.pages.elements import Link, Table, node_link
from reports.words.glossary import SIGNS, Sign
from reports.words.texts import as_float, plural, scientific, short

_NEAREST = 8
_ORIGINS = 8
_LINES = 6


@dataclass(frozen=True)
class Suspicion:
    """A place where something is wrong that no earlier place explains.

    Attributes:
        id: Of its place on the page.
        nodes: Links to its nodes.
        verdict: On the first of them.
        sign: How that is shown.
        diagnosis: What is wrong, in words; may be empty.
        reason: Why the verdict is what it is.
        evidence: What speaks for the diagnosis.
        patterns: What the difference looks like.
        effect: What depends on it, in a sentence.
        tried: Whether hypotheses were tried.
    """

    id: str
    nodes: Sequence[Link]
    verdict: str
    sign: Sign
    diagnosis: str
    reason: str
    evidence: Sequence[str]
    patterns: Sequence[str]
    effect: str
    tried: bool


def suspicions(nodes: Mapping[str, Any]) -> list[Suspicion]:
    """The suspects of a comparison, the most harmful first.

    Args:
        nodes: The comparison.
    """
    reasons = {node["name"]: node["reason"] for node in nodes["nodes"]}
    return [
        Suspicion(
            id=f"suspect-{number}",
            nodes=[node_link(name) for name in item["nodes"]],
            verdict=item["verdict"],
            sign=SIGNS[item["verdict"]],
            diagnosis=item["diagnosis"] or "",
            reason=reasons.get(item["nodes"][0], "") if item["nodes"] else "",
            evidence=item["evidence"][:_LINES],
            patterns=item["patterns"][:_LINES],
            effect=f"{plural(item['affected'], 'node')} and "
            f"{plural(item['outputs'], 'output')} of the network depend on it",
            tried=item["tried"],
        )
        for number, item in enumerate(nodes["suspects"])
    ]


def findings_table(nodes: Mapping[str, Any]) -> Table | None:
    """What is wrong with the candidate whatever its tensors are; None where nothing is."""
    if not nodes["findings"]:
        return None
    rows = [[item["place"], item["slug"], item["text"]] for item in nodes["findings"]]
    return Table(
        "Found in the candidate's layers, whatever its tensors are",
        ["Place", "Kind", "What was found"],
        rows,
        [False, False, False],
    )


def nearest_table(nodes: Mapping[str, Any]) -> Table:
    """The nodes nearest to their limit, or furthest beyond it."""

    def share(node: Mapping[str, Any]) -> float:
        found = as_float((node["from_exact"] or {}).get("roundings"))
        limit = as_float((node["limit"] or {}).get("candidate"))
        if not found or limit is None:
            return math.inf if found and math.isnan(found) else 0.0
        return found / limit if limit else math.inf

    ranked = sorted(nodes["nodes"], key=lambda node: -share(node))
    rows = [
        [
            node_link(node["name"]),
            node["kind"] or "–",
            _of(node, "from_exact", "candidate"),
            _of(node, "reference_from_exact", "reference"),
            scientific(node["detectable"]),
        ]
        for node in ranked[:_NEAREST]
        if share(node) > 0
    ]
    return Table(
        "Nearest to their limit: roundings from the exact value, of as many as are allowed",
        ["Node", "Kind", "PyTorch", "TensorFlow", "Detectable error, of rms"],
        rows,
        [False, False, True, True, True],
    )


def _of(node: Mapping[str, Any], distance: str, limit: str) -> str:
    most = as_float((node["limit"] or {}).get(limit))
    found = short((node[distance] or {}).get("roundings"))
    return found if most is None else f"{found} / {most:g}"


def origins_table(nodes: Mapping[str, Any]) -> Table:
    """The nodes that make the largest differences of their own."""

    def own(node: Mapping[str, Any]) -> float:
        value = as_float((node["own"] or {}).get("relative_max")) or 0.0
        return math.inf if math.isnan(value) else value

    ranked = sorted(nodes["nodes"], key=lambda node: -own(node))
    rows = [
        [
            node_link(node["name"]),
            node["kind"] or "–",
            scientific(node["own"]["relative_max"]),
            short((node["from_exact"] or {}).get("roundings")),
            short((node["reference_from_exact"] or {}).get("roundings")),
        ]
        for node in ranked[:_ORIGINS]
        if own(node) > 0
    ]
    return Table(
        "Where it comes from: largest differences that nodes make on identical inputs, of rms, and "
        "each side's roundings from the exact value",
        ["Node", "Kind", "Own difference, of rms", "PyTorch, roundings", "TensorFlow, roundings"],
        rows,
        [False, False, True, True, True],
    )
