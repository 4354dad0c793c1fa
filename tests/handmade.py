"""Reports made by hand."""

from dataclasses import replace

from efficientdet_spec import NodeKind
from parity.limits import Limit
from parity.measure import Difference
from parity.result import Finding, NodesReport, Suspect
from parity.verdict import NodeResult, Verdict

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


def report(nodes, **other):
    result = NodesReport(
        model="efficientdet-tiny",
        checkpoint={"source": "here", "weights": "ema", "fingerprint": "0123456789abcdef" * 4},
        reference={"kind": "graph", "source": "built in"},
        candidate="model.py:build",
        images={"source": "built-in", "height": 96, "width": 128, "sha256": "0" * 64},
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
