"""Reports made by hand."""

from dataclasses import replace

from efficientdet_spec import NodeKind
from parity.judge.limits import Limit
from parity.judge.measure import Difference
from parity.judge.verdict import NodeResult, Verdict
from parity.results.coverage import Coverage, InputResult
from parity.results.nodes import Finding, NodesReport, Suspect

LIMIT = Limit(16, 16, "as roundings go")


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
        outcome="parity",
        counts={"exact": 1, "rounding": 1},
        largest_relative_max=2e-5,
        largest_node="stem",
        seconds={"free pass": 0.25},
    )
    return replace(result, **other)


def covered(nodes):
    """What a comparison of these nodes covers."""
    shown = sum(item.verdict is not Verdict.NOT_COVERED for item in nodes)
    return Coverage(
        nodes=len(nodes),
        covered=shown,
        detectable=1e-5,
        detectable_node="stem",
        spread=1.25,
        deviations=7.5,
        deviations_node="stem_bn",
        score=0.75,
        assumed=("swish activations",),
        notes=("A note.",),
    )


def report(nodes, **other):
    result = NodesReport(
        model="efficientdet-tiny",
        checkpoint={"source": "here", "weights": "ema", "fingerprint": "0123456789abcdef" * 4},
        reference={"kind": "graph", "source": "built in"},
        candidate="model.py:build",
        inputs=[given()],
        coverage=covered(nodes),
        dtype="float32",
        environment={"device": "cpu"},
        nodes=nodes,
        tensors={item.name: f"{item.name}:0" for item in nodes},
        outputs=[item.name for item in nodes[-1:]],
        contributions=[],
        seconds={"load": 1.25, "free pass": 0.5},
        peak_memory=1_500_000_000,
    )
    return replace(result, **other)


def finding(slug="momentum", place="stem_bn", text="its momentum is 0.1 instead of 0.01"):
    return Finding(slug, place, text)


def suspect(*nodes, verdict=Verdict.FUNCTION_DIFFERS, **other):
    return replace(Suspect(nodes, verdict, affected=12, outputs=3), **other)
