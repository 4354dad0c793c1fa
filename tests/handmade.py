"""Reports made by hand."""

import json
from dataclasses import replace

from msgspec import structs

from efficientdet_spec import NodeKind
from parity.judge.limits import Limit
from parity.judge.measure import Difference
from parity.judge.verdict import NodeResult, Verdict
from parity.process.outcome import Outcome
from parity.results.conclusion import Evidence, nodes_result
from parity.results.coverage import sentences
from parity.results.records.gradients import (
    DitheredImages,
    Gradient,
    GradientLimits,
    GradientsResult,
    Mode,
)
from parity.results.records.nodes import (
    Coverage,
    Finding,
    InputResult,
    Reached,
    ReferenceDescription,
    Suspect,
)
from parity.results.records.record import made
from parity.results.records.shared import Checkpoint, Weights

LIMIT = Limit(16, 16, "as roundings go")


def written(path):
    """The values in a result file, or the cause where it says why there is none."""
    values = json.loads(path.read_text())
    return values["cause"] if values.get("schema") == "efficientdet-parity/failure" else values


def distance(largest=1e-6, roundings=None):
    return Difference(1.0, largest / 3, largest, (0, 1, 2, 3), True, False, roundings, (0, 0, 0, 0))


def node(name, verdict=Verdict.ROUNDING, reason="why", **other):
    result = NodeResult(
        name=name,
        kind=NodeKind.CONV,
        shape=(1, 4, 5, 6),
        verdict=verdict,
        reason=reason,
        free=distance(2e-5),
        own=distance(3e-6),
        from_exact=distance(1e-6, 2.5),
        reference_from_exact=distance(1e-6, 1234.5),
        limit=LIMIT,
        detectable=1e-5,
    )
    return replace(result, **other)


def given(source="photo.png", **other):
    """One of the inputs of a comparison."""
    result = InputResult(
        source=source,
        height=96,
        width=128,
        batch=1,
        sha256="0" * 64,
        outcome=Outcome.PARITY,
        counts={Verdict.EXACT: 1, Verdict.ROUNDING: 1},
        largest_relative_max=2e-5,
        largest_node="stem",
        seconds={"free pass": 0.25},
    )
    return structs.replace(result, **other)


def covered(nodes, **other):
    """What a comparison of these nodes covers."""
    reached = Reached(spread=1.25, deviations=7.5, deviations_node="stem_bn", score=0.75)
    changed = {name: other.pop(name) for name in list(other) if hasattr(reached, name)}
    shown = sum(item.verdict is not Verdict.NOT_COVERED for item in nodes)
    result = Coverage(
        nodes=len(nodes),
        covered=shown,
        detectable=1e-5,
        detectable_node="stem",
        reached=structs.replace(reached, **changed),
        assumed=("swish activations",),
        notes=("A note.",),
    )
    return structs.replace(result, **other)


def gradient(name, verdict=Verdict.FUNCTION_DIFFERS):
    """One of a comparison of gradients."""
    figures = ("norm", "structure", "unit", "candidate_units", "reference_units")
    return Gradient(
        name=name,
        mode=Mode.TRAINING,
        shape=[3],
        verdict=verdict,
        reason="it is so",
        candidate_limit=16.0,
        reference_limit=16.0,
        **dict.fromkeys(figures, 1.0),
    )


def gradients(passes, counts, each=()):
    """A comparison of gradients with so many of each verdict in each mode."""
    return GradientsResult(
        passes=passes,
        model="efficientdet-tiny",
        checkpoint=CHECKPOINT,
        candidate="model.py:build",
        images=DitheredImages(source="here", height=96, width=128, sha256="0" * 64, dither=0.1),
        environment={},
        counts={
            Mode(mode): {Verdict(name): count for name, count in found.items()}
            for mode, found in counts.items()
        },
        limits=GradientLimits(1e-8, 4, 100, 4),
        seconds={},
        peak_memory_bytes=1,
        gradients=list(each),
    )


CHECKPOINT = Checkpoint("here", "0123456789abcdef" * 4, Weights.EMA)

_EVIDENCE = ("inputs", "findings", "suspects", "gradients", "not_shown", "coverage")


def report(nodes, **other):
    """The result of a comparison of these nodes."""
    inputs = other.pop("inputs", [given()])
    coverage = other.pop("coverage", covered(nodes))
    coverage = structs.replace(coverage, text=sentences(coverage, inputs))
    parts = {name: other.pop(name) for name in _EVIDENCE if name in other}
    values = {
        "model": "efficientdet-tiny",
        "checkpoint": CHECKPOINT,
        "reference": {"kind": "graph", "source": "built in"},
        "candidate": "model.py:build",
        "dtype": "float32",
        "environment": {"device": "cpu"},
        "tensors": {item.name: f"{item.name}:0" for item in nodes},
        "outputs": [item.name for item in nodes[-1:]],
        "contributions": [],
        "noise": [],
        "seconds": {"load": 1.25, "free pass": 0.5},
        "peak_memory_bytes": 1_500_000_000,
        **other,
    }
    values["reference"] = made(ReferenceDescription, values["reference"])
    evidence = Evidence(nodes=nodes, inputs=inputs, coverage=coverage, **parts)
    return nodes_result(evidence, **values)


def finding(slug="momentum", place="stem_bn", text="its momentum is 0.1 instead of 0.01"):
    return Finding(slug, place, text)


def suspect(*nodes, verdict=Verdict.FUNCTION_DIFFERS, **other):
    return structs.replace(Suspect(nodes, verdict, affected=12, outputs=3), **other)
