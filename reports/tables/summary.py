"""The figures of each model that a table of all models has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parity.process.outcome import Outcome
from reports.reading.results import ModelResults
from reports.run.account import Account
from reports.tables.judgement import Judgement, judge
from reports.words.glossary import PASSING
from reports.words.texts import as_float

SCHEMA = "efficientdet-parity/report"
VERSION = 2


@dataclass(frozen=True)
class OwnError:
    """How far a node is from the exact value on identical inputs.

    Attributes:
        roundings: Of PyTorch's result.
        limit: What its own arithmetic may take.
        node: The node.
    """

    roundings: float
    limit: float
    node: str


@dataclass(frozen=True)
class Precision:
    """COCO AP.

    Attributes:
        torch: PyTorch's, from 0 to 1.
        tensorflow: TensorFlow's.
        delta: The first minus the second.
        official: What Google publishes for the model.
        comparable: Whether the official figure is one over the same images, inputs and weights.
        images: Number of images.
    """

    torch: float | None
    tensorflow: float | None
    delta: float | None
    official: float | None
    comparable: bool
    images: int


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        slug: Name of its page and folder.
        model: Its name.
        source: Its checkpoint.
        trained: Whether the weights are trained ones.
        judgement: The verdict.
        account: What became of the run's steps.
        nodes: Number of nodes compared; None where none were.
        failing: Number of those without parity.
        structure: Largest difference in float64, of its node's rms.
        structure_passes: Whether the comparison in float64 found nothing.
        own: The node nearest to its limit, or furthest beyond it.
        output: Largest accumulated difference of any output, of its rms.
        output_node: Where it is.
        precision: COCO AP; None where it was not measured.
        convert_seconds: Wall time of the conversion.
        suspects: Where what fails begins: nodes, verdict, diagnosis.
    """

    slug: str
    model: str
    source: str
    trained: bool
    judgement: Judgement
    account: Account
    nodes: int | None
    failing: int | None
    structure: float | None
    structure_passes: bool | None
    own: OwnError | None
    output: float | None
    output_node: str | None
    precision: Precision | None
    convert_seconds: float | None
    suspects: Sequence[Mapping[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        own, precision = self.own, self.precision
        return {
            "model": self.model,
            "slug": self.slug,
            "page": f"{self.slug}.html",
            "source": self.source,
            "trained": self.trained,
            "outcome": self.judgement.outcome.value,
            "reason": self.judgement.sentence,
            "node": self.judgement.node,
            "diagnosis": self.judgement.diagnosis,
            "complete": self.account.complete,
            "reused": list(self.account.reused),
            "failed": [lack.to_dict() for lack in self.account.lacks if lack.failed],
            "not_made": [lack.to_dict() for lack in self.account.lacks if not lack.failed],
            "nodes": self.nodes,
            "nodes_without_parity": self.failing,
            "structure": None
            if self.structure_passes is None
            else {
                "passes": self.structure_passes,
                "largest_relative_max": _json(self.structure),
            },
            "largest_own_error": None
            if own is None
            else {"roundings": _json(own.roundings), "limit": own.limit, "node": own.node},
            "largest_output_difference": None
            if self.output is None
            else {"relative_max": _json(self.output), "node": self.output_node},
            "AP": None
            if precision is None
            else {
                "torch": precision.torch,
                "tensorflow": precision.tensorflow,
                "delta": precision.delta,
                "official": precision.official,
                "official_comparable": precision.comparable,
                "images": precision.images,
            },
            "convert_seconds": self.convert_seconds,
            "suspects": [
                {name: suspect[name] for name in ("nodes", "verdict", "slug", "diagnosis")}
                for suspect in self.suspects
            ],
        }


@dataclass(frozen=True)
class Summary:
    """All models.

    Attributes:
        rows: In the order of display.
    """

    rows: Sequence[Row]

    @property
    def outcome(self) -> Outcome:
        """The worst of all models'."""
        return Outcome.worst(row.judgement.outcome for row in self.rows)

    @property
    def passes(self) -> bool:
        """Whether every model has parity."""
        return self.outcome is Outcome.PARITY

    @property
    def text(self) -> str:
        """One line for each model, for a terminal."""
        return "\n".join(_line(row) for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``report.json``; the schema is documented in ``docs/results.md``."""
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "outcome": self.outcome.value,
            "passes": self.passes,
            "models": [row.to_dict() for row in self.rows],
        }


def summarise(results: ModelResults) -> Row:
    """The figures of one model."""
    nodes = results.nodes
    output, output_node = _largest_output(nodes) if nodes else (None, None)
    structure = results.structure
    return Row(
        slug=results.slug,
        model=results.model,
        source=str(results.run["source"]),
        trained=bool(results.run["trained"]),
        judgement=judge(results),
        account=results.account,
        nodes=len(nodes["nodes"]) if nodes else None,
        failing=_failing(nodes) if nodes else None,
        structure=results.structure_error,
        structure_passes=bool(structure["passes"]) if structure else None,
        own=_largest_own(nodes) if nodes else None,
        output=output,
        output_node=output_node,
        precision=_precision(results.coco) if results.coco else None,
        convert_seconds=_step_seconds(results, "convert"),
        suspects=nodes["suspects"] if nodes else (),
    )


def _failing(nodes: Mapping[str, Any]) -> int:
    return sum(node["verdict"] not in PASSING for node in nodes["nodes"])


def _largest_output(nodes: Mapping[str, Any]) -> tuple[float | None, str | None]:
    outputs = set(nodes["outputs"])
    found = [
        (as_float(node["free"]["relative_max"]) or 0.0, node["name"])
        for node in nodes["nodes"]
        if node["name"] in outputs and node["free"]
    ]
    return max(found, key=lambda item: _ordered(item[0]), default=(None, None))


def _largest_own(nodes: Mapping[str, Any]) -> OwnError | None:
    """The node with most roundings for its limit; any at all where none are allowed come first."""
    found = []
    for node in nodes["nodes"]:
        exact, limit = node["from_exact"], node["limit"]
        if exact and exact["roundings"] is not None and limit and limit["candidate"] is not None:
            roundings, most = float(exact["roundings"]), float(limit["candidate"])
            share = roundings / most if most else math.inf if roundings else 0.0
            found.append((_ordered(share), _ordered(roundings), node["name"], roundings, most))
    if not found:
        return None
    _, _, name, roundings, most = max(found, key=lambda item: item[:2])
    return OwnError(roundings, most, name)


def _ordered(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _precision(coco: Mapping[str, Any]) -> Precision:
    metrics = coco["metrics"]
    published = coco.get("published") or {}
    rows = published.get("rows") or []
    counts = [side["all"] - side["failed"] for side in coco["images"].values()]
    return Precision(
        torch=as_float(metrics.get("torch", {}).get("AP")),
        tensorflow=as_float(metrics.get("tensorflow", {}).get("AP")),
        delta=as_float(coco["metric_deltas"].get("AP")),
        official=as_float(rows[0]["AP"]) if rows else None,
        comparable=published.get("verdict") in ("agrees", "differs"),
        images=min(counts, default=0),
    )


def _step_seconds(results: ModelResults, name: str) -> float | None:
    steps = [
        step for step in results.run["steps"] if step["name"] == name and step["status"] == "done"
    ]
    return as_float(steps[-1]["seconds"]) if steps else None


def _json(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _line(row: Row) -> str:
    text = f"{row.slug}: {row.judgement.outcome.value.upper()}: {row.judgement.sentence}"
    if row.judgement.node:
        text += f"; {row.judgement.node}"
    if row.judgement.diagnosis:
        text += f": {row.judgement.diagnosis}"
    if not row.trained:
        text += " (seeded weights)"
    return "\n  ".join([text, *further_remarks(row)])


def further_remarks(row: Row) -> list[str]:
    """What was reused, not made, or failed, without what the verdict's sentence says already."""
    sentence = row.judgement.sentence
    return [text for text in row.account.remarks if sentence != f"{text[:1].lower()}{text[1:-1]}"]
