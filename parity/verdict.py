"""Verdicts on nodes, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from efficientdet_spec import NodeKind
from parity.limits import COMPOSED_LIMIT, INSENSITIVE, Limit, limit_of
from parity.measure import Difference, ThreeWay, unit_roundoff


class Verdict(str, Enum):
    """What is known of one node."""

    EXACT = "exact"
    """Both sides within their roundings of the exact value, and equal bit for bit."""
    ROUNDING = "rounding"
    """Both sides within their roundings of the exact value."""
    CANDIDATE_DIFFERS = "candidate differs"
    """TensorFlow agrees with the exact value; PyTorch neither with it nor with its own."""
    REFERENCE_DIFFERS = "reference differs"
    """PyTorch agrees with the exact value, TensorFlow does not."""
    FUNCTION_DIFFERS = "function differs"
    """PyTorch computes another function: it agrees with its own exact value, which is another."""
    NOT_COVERED = "not covered"
    """Nothing is shown: no partner, another shape, NaN, or values that prove nothing."""

    @property
    def passes(self) -> bool:
        """Whether the node's parity is shown."""
        return self in (Verdict.EXACT, Verdict.ROUNDING)


@dataclass(frozen=True)
class Measurement:
    """One node's measurement in one pass.

    Attributes:
        shape: Shape of the candidate's output, NHWC; None where it has no such node.
        distance: Its difference from the reference; None where none could be measured.
        exact: Both sides against the exact value; of the isolated pass.
        own_exact: The candidate against the exact value of its own function, where it fails.
        terms: Number of values that one output element sums up one after another.
        certain: Whether the candidate was given the reference's very tensors.
        reference_certain: Whether all that the reference was given is recorded.
        problem: What forbids a comparison; None otherwise.
        wrong_inputs: The nodes that the candidate reads here, where they are not the reference's.
    """

    shape: tuple[int, ...] | None
    distance: Difference | None = None
    exact: ThreeWay | None = None
    own_exact: Difference | None = None
    terms: int = 1
    certain: bool = True
    reference_certain: bool = True
    problem: str | None = None
    wrong_inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeResult:
    """What a comparison found about one node.

    Attributes:
        name: The node.
        kind: What it computes; None where only the candidate has it.
        shape: NHWC; None where only the reference has it.
        verdict: The verdict on it.
        reason: Why.
        free: Difference accumulated up to this node when both sides run on their own.
        own: Difference that the node itself makes on identical inputs.
        from_exact: Difference of the candidate from the exact value on these inputs.
        reference_from_exact: The same of the reference.
        from_own_exact: Difference of the candidate from its own function in float64, where it is
            beyond its limit.
        limit: What the differences from the exact value may be.
        detectable: The largest error of one element that could go unseen, in units of the rms.
        constant_channels: Number of channels whose values are all equal.
        certain: Whether the candidate was given the reference's very tensors.
        wrong_inputs: The nodes that the candidate reads here, where they are not the reference's.
        inherited: Part of the accumulated difference (of its square) that came with the inputs.
        amplification: What came with the inputs, relative to the largest difference among them.
    """

    name: str
    kind: NodeKind | None
    shape: tuple[int, ...] | None
    verdict: Verdict
    reason: str
    free: Difference | None = None
    own: Difference | None = None
    from_exact: Difference | None = None
    reference_from_exact: Difference | None = None
    from_own_exact: Difference | None = None
    limit: Limit | None = None
    detectable: float | None = None
    constant_channels: int = 0
    certain: bool = True
    wrong_inputs: tuple[str, ...] = ()
    inherited: float | None = None
    amplification: float | None = None

    @property
    def roundings(self) -> float:
        """Of the candidate from the exact value; NaN where that was not measured."""
        value = self.from_exact.roundings if self.from_exact else None
        return math.nan if value is None else value

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "kind": self.kind.value if self.kind else None,
            "shape": list(self.shape) if self.shape else None,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "free": difference_dict(self.free),
            "own": difference_dict(self.own),
            "from_exact": difference_dict(self.from_exact),
            "reference_from_exact": difference_dict(self.reference_from_exact),
            "from_own_exact": difference_dict(self.from_own_exact),
            "limit": (
                {
                    "candidate": self.limit.candidate,
                    "reference": self.limit.reference,
                    "reason": self.limit.reason,
                }
                if self.limit
                else None
            ),
            "detectable": number(self.detectable),
            "constant_channels": self.constant_channels,
            "identical_inputs": self.certain,
            "wrong_inputs": list(self.wrong_inputs),
            "inherited": number(self.inherited),
            "amplification": number(self.amplification),
        }


def number(value: float | None) -> float | str | None:
    """A number for JSON, which knows neither NaN nor infinity."""
    return value if value is None or math.isfinite(value) else str(value)


def difference_dict(distance: Difference | None) -> dict[str, Any] | None:
    """A difference as plain values for JSON."""
    if distance is None:
        return None
    return {
        "rms": number(distance.rms),
        "rms_difference": number(distance.rms_difference),
        "max_difference": number(distance.max_difference),
        "relative_rms": number(distance.relative_rms),
        "relative_max": number(distance.relative_max),
        "max_index": list(distance.max_index),
        "finite": distance.finite,
        "constant": distance.constant,
        "roundings": number(distance.roundings),
        "roundings_index": (
            list(distance.roundings_index) if distance.roundings_index is not None else None
        ),
    }


def judge(
    name: str,
    kind: NodeKind | None,
    free: Measurement | None,
    isolated: Measurement | None,
    dtype: Any,
) -> NodeResult:
    """The verdict on one node, with its reason.

    Args:
        name: The node.
        kind: What the reference computes there; None where it has no such node.
        free: Measurement of the free pass; None where the candidate has no such node.
        isolated: Measurement of the isolated pass, likewise.
        dtype: Type in which both sides compute.
    """
    measured = isolated or Measurement(None)
    accumulated = free.distance if free else None
    limit = None
    if kind and isolated:
        limit = limit_of(
            kind,
            measured.terms,
            truth_is_wider=dtype != "float64",
            certain=(measured.certain, measured.reference_certain),
        )
    exact = measured.exact
    detectable = None
    if exact and limit:
        detectable = limit.candidate * unit_roundoff(dtype) * exact.largest_gauge
    result = NodeResult(
        name=name,
        kind=kind,
        shape=measured.shape or (free.shape if free else None),
        verdict=Verdict.NOT_COVERED,
        reason="nothing was measured",
        free=accumulated,
        own=exact.own if exact else None,
        from_exact=exact.candidate if exact else None,
        reference_from_exact=exact.reference if exact else None,
        from_own_exact=measured.own_exact,
        limit=limit,
        detectable=detectable,
        constant_channels=exact.constant_channels if exact else 0,
        certain=measured.certain,
        wrong_inputs=measured.wrong_inputs,
    )
    problem = (free.problem if free else None) or measured.problem
    verdict, reason = _verdict(result, problem, exact)
    if verdict.passes:
        # Other inputs with the same values are not wrong.
        result = replace(result, wrong_inputs=())
    return replace(result, verdict=verdict, reason=reason)


def _verdict(node: NodeResult, problem: str | None, exact: ThreeWay | None) -> tuple[Verdict, str]:
    none = Verdict.NOT_COVERED
    if problem:
        return none, problem
    if node.shape is None:
        return none, "the candidate has no such node"
    ours, theirs, limit = node.from_exact, node.reference_from_exact, node.limit
    if exact is None or ours is None or limit is None:
        return none, "nothing was measured"
    if not _finite(node):
        return none, "a value is NaN or infinite"
    if not exact.bounded:
        return none, (
            "errors of any size would go unseen here: what its inputs may differ by, for the "
            "nodes before it that have no partner or are not recorded, is beyond all bounds"
        )
    ours_at, theirs_at = ours.roundings or 0.0, (theirs.roundings or 0.0) if theirs else 0.0
    ours_bad, theirs_bad = ours_at > limit.candidate, theirs_at > limit.reference
    if ours_bad or theirs_bad:
        return _failure(node, ours_at, theirs_at, ours_bad, theirs_bad)
    if theirs is None:
        return none, (
            f"the reference's tensor is not recorded; PyTorch is {ours_at:.1f} of at most "
            f"{limit.candidate:g} roundings from the exact value"
        )
    if exact.own and exact.own.constant and math.prod(node.shape) > 1:
        return none, "all values are equal, so that agreement says nothing"
    if exact.saturated and math.prod(node.shape) > 1:
        return none, "all values are saturated at 0 or 1, so that agreement says nothing"
    if node.detectable is not None and node.detectable > INSENSITIVE:
        return none, (
            f"an error of {node.detectable:.2g} of the rms would go unseen here, more than "
            f"{INSENSITIVE:g}: its inputs are not the reference's, or its terms cancel out"
        )
    if exact.own and exact.own.max_difference == 0:
        return Verdict.EXACT, (
            f"equal bit for bit on identical inputs, {ours_at:.1f} of at most {limit.candidate:g} "
            f"roundings from the exact value: {limit.reason}"
        )
    return Verdict.ROUNDING, (
        f"from the exact value PyTorch {ours_at:.1f} of at most {limit.candidate:g} roundings, "
        f"TensorFlow {theirs_at:.1f} of {limit.reference:g}: {limit.reason}"
    )


def _finite(node: NodeResult) -> bool:
    sides = (node.from_exact, node.reference_from_exact, node.free)
    return all(side.finite for side in sides if side is not None)


def _failure(
    node: NodeResult, ours_at: float, theirs_at: float, ours_bad: bool, theirs_bad: bool
) -> tuple[Verdict, str]:
    limit = node.limit
    assert limit is not None
    theirs = f"TensorFlow is {theirs_at:.3g} roundings from the exact value"
    ours = f"PyTorch is {ours_at:.3g} roundings from the exact value"
    if not ours_bad:
        return Verdict.REFERENCE_DIFFERS, (
            f"{theirs}, above {limit.reference:g} ({limit.reason}), but {ours}"
        )
    agreement = f"above {limit.candidate:g} ({limit.reason}), but {theirs}"
    if theirs_bad:
        agreement = f"above {limit.candidate:g} ({limit.reason}), and {theirs}"
    its_own = node.from_own_exact.roundings if node.from_own_exact else None
    if its_own is None:
        return Verdict.CANDIDATE_DIFFERS, (
            f"{ours}, {agreement}; the candidate's layer could not be computed in float64 to see "
            f"whether its function is another"
        )
    if its_own <= COMPOSED_LIMIT:
        return Verdict.FUNCTION_DIFFERS, (
            f"{ours}, {agreement}; the candidate's layer computes another function, from whose "
            f"own exact value it is {its_own:.3g} roundings"
        )
    return Verdict.CANDIDATE_DIFFERS, (
        f"{ours}, {agreement}; from the exact value of its own layer it is {its_own:.3g} "
        f"roundings: its arithmetic is inaccurate"
    )


def with_history(
    nodes: Sequence[NodeResult], sources: Mapping[str, Sequence[str]]
) -> list[NodeResult]:
    """The results with what each node's accumulated difference came from.

    Args:
        nodes: All results.
        sources: The nodes that each node reads.
    """
    free = {node.name: node.free.relative_rms for node in nodes if node.free}
    return [
        _with_history(node, [free.get(s) for s in sources.get(node.name, ())]) for node in nodes
    ]


def _with_history(node: NodeResult, inputs: Sequence[float | None]) -> NodeResult:
    if not node.free or not node.own or not node.free.relative_rms:
        return node
    # What a node adds and what it inherits are independent, so that their squares add up.
    ratio = (node.own.relative_rms / node.free.relative_rms) ** 2
    inherited = max(0.0, 1.0 - ratio)
    largest = max((value for value in inputs if value is not None), default=0.0)
    if not largest or not math.isfinite(largest):
        return replace(node, inherited=inherited)
    passed = node.free.relative_rms * math.sqrt(inherited)
    return replace(node, inherited=inherited, amplification=passed / largest)
