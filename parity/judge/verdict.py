"""Verdicts on nodes, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from efficientdet_spec import NodeKind
from parity.judge.limits import INSENSITIVE, Limit
from parity.judge.measure import Difference, ThreeWay, unit_roundoff


class Verdict(str, Enum):
    """What is known of one node."""

    EXACT = "exact"
    """Both sides within their roundings of the exact value, and equal bit for bit."""
    ROUNDING = "rounding"
    """Both sides within their roundings of the exact value."""
    CANDIDATE_DIFFERS = "candidate differs"
    """The candidate is further from the exact value than roundings explain: its function is the
    right one, or is not known, and its arithmetic is inaccurate."""
    REFERENCE_DIFFERS = "reference differs"
    """The candidate agrees with the exact value, the reference does not."""
    FUNCTION_DIFFERS = "function differs"
    """The candidate computes another function: the exact values of the two are not the same."""
    OWN_INPUTS = "right on its own inputs"
    """The candidate computes the right function of other tensors than the reference's, which
    cannot take the place of what it reads: something before the node gave them another shape, or
    is left out. It is no difference of this node, and shows no parity either."""
    NOT_COVERED = "not covered"
    """Nothing is shown: no partner, no common shape, or values that prove nothing."""

    @property
    def passes(self) -> bool:
        """Whether the node's parity is shown."""
        return self in (Verdict.EXACT, Verdict.ROUNDING)

    @property
    def fails(self) -> bool:
        """Whether a difference is shown."""
        return not self.passes and self not in (Verdict.OWN_INPUTS, Verdict.NOT_COVERED)


@dataclass(frozen=True)
class Problem:
    """What forbids a comparison of a node's tensors.

    Attributes:
        text: What it is.
        verdict: What follows from it.
        returned: Whether it is about what the candidate returns, not about what the node makes.
    """

    text: str
    verdict: Verdict = Verdict.NOT_COVERED
    returned: bool = False


@dataclass(frozen=True)
class Measurement:
    """One node's measurement in one pass.

    Attributes:
        shape: Shape of the candidate's output, NHWC; None where it has no such node.
        distance: Its difference from the reference; None where none could be measured.
        exact: Both sides against the exact value; of the isolated pass.
        functions_apart: The exact value of the candidate's own function against the faithful
            one's, in roundings; None where it was not looked at or is not known.
        limit: What either side may be off.
        certain: Whether the candidate was given the reference's very tensors.
        problem: What forbids a comparison; None otherwise.
        wrong_inputs: The nodes that the candidate reads here, where they are not the reference's.
        orders: Of a mean beyond its limit, the order of summation that reproduces it, in words:
            the candidate's and the reference's; None where there is none.
        another_mean: What the candidate computes instead of this mean; None where nothing
            explains its output better.
        own_inputs: Whether the exact value is of the tensors that the candidate itself reads.
        passed_over: Nodes that the candidate would have to lack for these to be what it reads.
    """

    shape: tuple[int, ...] | None
    distance: Difference | None = None
    exact: ThreeWay | None = None
    functions_apart: float | None = None
    limit: Limit | None = None
    certain: bool = True
    problem: Problem | None = None
    wrong_inputs: tuple[str, ...] = ()
    orders: tuple[str | None, str | None] = (None, None)
    another_mean: str | None = None
    own_inputs: bool = False
    passed_over: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether the candidate has the exact value and function, as far as can be measured."""
        if self.problem or self.exact is None or self.exact.candidate is None or not self.limit:
            return False
        apart = self.functions_apart
        return (
            self.exact.bounded
            and self.exact.candidate.finite
            and (self.exact.candidate.roundings or 0.0) <= self.limit.candidate
            and (apart is None or apart <= self.limit.same_function)
        )


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
        functions_apart: The exact value of the candidate's own function against the faithful
            one's, in roundings, where the candidate is not close to the latter; None elsewhere.
        limit: What the differences from the exact value may be.
        detectable: The largest error of one element that could go unseen, in units of the rms.
        constant_channels: Number of channels whose values are all equal.
        certain: Whether the candidate was given the reference's very tensors.
        wrong_inputs: The nodes that the candidate reads here, where they are not the reference's.
            Where the verdict is good, they make no difference on this input.
        silent: Whether it is not covered for its values on this input alone, so that another
            input may show what this one does not.
        returned: Whether the reason is that the candidate returns something else than it should
            as this output.
        input: Which of the comparison's inputs this is of.
        inherited: Part of the accumulated difference (of its square) that came with the inputs.
        amplification: What came with the inputs, relative to the largest difference among them.
        within: The node together with which the candidate makes this one; empty where it makes
            it by itself, or not at all.
        passed_over: Where it is right on its own inputs, the nodes that the candidate leaves out
            before it.
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
    functions_apart: float | None = None
    limit: Limit | None = None
    detectable: float | None = None
    constant_channels: int = 0
    certain: bool = True
    wrong_inputs: tuple[str, ...] = ()
    silent: bool = False
    returned: bool = False
    input: int = 0
    inherited: float | None = None
    amplification: float | None = None
    within: str = ""
    passed_over: tuple[str, ...] = ()

    @property
    def roundings(self) -> float:
        """Of the candidate from the exact value; NaN where that was not measured."""
        value = self.from_exact.roundings if self.from_exact else None
        return math.nan if value is None else value


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
    limit = measured.limit if kind else None
    exact = measured.exact
    detectable = None
    if exact and limit:
        # A simulated order leaves as much room around it as any sum has.
        detectable = limit.candidate * unit_roundoff(dtype) * exact.largest_gauge
        limit = limit.in_order(*(order is not None for order in measured.orders))
    result = NodeResult(
        name=name,
        kind=kind,
        shape=measured.shape or (free.shape if free else None),
        verdict=Verdict.NOT_COVERED,
        reason="nothing was measured",
        free=free.distance if free else None,
        own=exact.own if exact else None,
        from_exact=exact.candidate if exact else None,
        reference_from_exact=exact.reference if exact else None,
        functions_apart=measured.functions_apart,
        limit=limit,
        detectable=detectable,
        constant_channels=exact.constant_channels if exact else 0,
        certain=measured.certain,
        wrong_inputs=measured.wrong_inputs,
        passed_over=measured.passed_over,
    )
    problem = measured.problem
    if free and not measured.own_inputs:
        # What it is given when both run on their own is not what it is judged on then.
        problem = free.problem or problem
    if problem is not None:
        return replace(
            result, verdict=problem.verdict, reason=problem.text, returned=problem.returned
        )
    verdict, reason = _verdict(result, measured)
    good = verdict.passes or verdict is Verdict.OWN_INPUTS
    nothing = _says_nothing(result, exact) if good else None
    if nothing:
        return replace(result, reason=nothing, silent=verdict.passes)
    return replace(result, verdict=verdict, reason=reason)


def _verdict(node: NodeResult, measured: Measurement) -> tuple[Verdict, str]:
    """What the values show, whether or not such values can show anything."""
    none = Verdict.NOT_COVERED
    if node.shape is None:
        return none, "the candidate has no such node"
    exact, ours, theirs, limit = (
        measured.exact,
        node.from_exact,
        node.reference_from_exact,
        node.limit,
    )
    if exact is None or ours is None or limit is None:
        return none, "nothing was measured"
    unfinished = _not_finite(node, exact)
    if unfinished:
        return unfinished
    if not exact.bounded:
        return none, (
            "errors of any size would go unseen here: what its inputs may differ by, for the "
            "nodes before it that have no partner or are not recorded, is beyond all bounds"
        )
    ours_at = ours.roundings or 0.0
    theirs_at = (theirs.roundings or 0.0) if theirs else 0.0
    failure = _failure(node, measured, ours_at, theirs_at)
    if failure:
        verdict, reason = failure
        return verdict, f"on its own inputs, {reason}" if measured.own_inputs else reason
    if measured.own_inputs:
        return Verdict.OWN_INPUTS, (
            f"{_why_own(measured.passed_over)}; on what the candidate reads instead it is "
            f"{ours_at:.1f} of at most {limit.candidate:.4g} roundings from the exact value"
        )
    if theirs is None:
        return none, (
            f"the reference's tensor is not recorded; the candidate is {ours_at:.1f} of at most "
            f"{limit.candidate:.4g} roundings from the exact value"
        )
    equal = exact.own and exact.own.max_difference == 0
    how = "equal bit for bit on identical inputs; " if equal else ""
    return (Verdict.EXACT if equal else Verdict.ROUNDING), (
        f"{how}from the exact value the candidate is {ours_at:.1f} of at most "
        f"{limit.candidate:.4g} roundings, the reference {theirs_at:.1f} of "
        f"{limit.reference:.4g}: {limit.reason}{_order_notes(measured.orders)}"
    )


def _why_own(passed_over: Sequence[str]) -> str:
    """Why a node cannot be judged on the reference's tensors."""
    if not passed_over:
        return "the reference's tensors do not fit in the place of what it reads"
    more = f" and {len(passed_over) - 1} more" if len(passed_over) > 1 else ""
    return f"{passed_over[-1]}{more} is left out before it"


def _says_nothing(node: NodeResult, exact: ThreeWay | None) -> str | None:
    """Why agreement on these values proves nothing; None where it does."""
    if exact is None:
        return None
    several = math.prod(node.shape or ()) > 1
    if exact.own and exact.own.constant and several:
        return "all values are equal, so that agreement says nothing"
    if exact.saturated and several:
        return "all values are saturated at 0 or 1, so that agreement says nothing"
    if node.detectable is not None and node.detectable > INSENSITIVE:
        return (
            f"an error of {node.detectable:.2g} of the rms would go unseen here, more than "
            f"{INSENSITIVE:g}: its inputs are not the reference's, or its terms cancel out"
        )
    return None


def _not_finite(node: NodeResult, exact: ThreeWay) -> tuple[Verdict, str] | None:
    """The verdict where a value is NaN or infinite."""
    ours, theirs = node.from_exact, node.reference_from_exact
    own = exact.own
    if theirs is not None and not theirs.finite:
        return Verdict.NOT_COVERED, "a value of the reference is NaN or infinite"
    if ours is not None and not ours.finite:
        at = own.max_index if own else ours.max_index
        # Its own function may be what makes them, as a parameter that is NaN does.
        apart = node.functions_apart
        its_own = apart is not None and not math.isfinite(apart)
        return (Verdict.FUNCTION_DIFFERS if its_own else Verdict.CANDIDATE_DIFFERS), (
            f"a value of the candidate is NaN or infinite, first at {list(at)}, where the exact "
            f"value and the reference are finite"
        )
    if node.free is not None and not node.free.finite:
        return Verdict.NOT_COVERED, (
            "where both sides run on their own a value is NaN or infinite, for what comes before"
        )
    return None


def _order_notes(orders: tuple[str | None, str | None]) -> str:
    """How a side comes to be beyond the limit of a sum and is right all the same."""
    sides = zip(("candidate", "reference"), orders, strict=True)
    return "".join(
        f"; the {side} adds {order}, which is that far off in this type"
        for side, order in sides
        if order
    )


def _failure(
    node: NodeResult, measured: Measurement, ours: float, theirs: float
) -> tuple[Verdict, str] | None:
    """The verdict where a side is wrong."""
    limit, apart = node.limit, node.functions_apart
    assert limit is not None
    where = f"the candidate is {ours:.3g} roundings from the exact value"
    if measured.another_mean is not None:
        return Verdict.FUNCTION_DIFFERS, f"it {measured.another_mean}; {where}"
    if apart is not None and apart > limit.same_function:
        what = (
            "the candidate's layer computes another function"
            if node.certain
            else "the candidate computes something else here, or in the steps before it that are "
            "not seen"
        )
        return Verdict.FUNCTION_DIFFERS, (
            f"{what}: in exact arithmetic the two are {apart:.3g} roundings apart; {where}"
        )
    reference = f"the reference {theirs:.3g}"
    if ours > limit.candidate:
        more = "and" if theirs > limit.reference else "but"
        known = (
            "its function could not be computed in float64 to see whether it is another"
            if apart is None
            else "its function is the right one, its arithmetic is inaccurate"
        )
        return Verdict.CANDIDATE_DIFFERS, (
            f"{where}, above {limit.candidate:.4g} ({limit.reason}), {more} {reference}; {known}"
        )
    if theirs > limit.reference:
        return Verdict.REFERENCE_DIFFERS, (
            f"the reference is {theirs:.3g} roundings from the exact value, above "
            f"{limit.reference:.4g} ({limit.reason}), but the candidate {ours:.3g}"
        )
    return None


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
