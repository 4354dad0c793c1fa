"""The verdict on one gradient: float64 shows its structure, float32 its rounding.

*Structure.* The two float64 gradients of a parameter may differ by :data:`STRUCTURE_LIMIT` of
their norm. Rounding in float64 is 2**-53, so this leaves room for it to grow 10**8-fold.

*Rounding.* Each float32 gradient is judged against the same framework's float64 gradient. How much
float32 may change it is a property of the function and its point, found by experiment: in float64,
every parameter and what every operation computes, forward and backward, is moved at random, each
element by up to :data:`parity.judge.limits.SIDE_LIMIT` float32 roundings and each channel by as
many in common, since nearly equal values round alike. The root mean square norm of the gradient's
change over :data:`DRAWS` draws, divided by that number, and one rounding of the gradient itself
make the *unit*. It contains all that follows from rounding: cancellation, ill-conditioned batch
norms, near ties of a max-pool that tip over.

- What an operation computes in float32 is what exact arithmetic makes of operands that are moved by
  a few roundings (backward error analysis: Higham, Accuracy and Stability of Numerical Algorithms,
  section 1.5). PyTorch may differ by :data:`parity.judge.limits.SIDE_LIMIT` units: as much as the
  disturbance does by which the unit is found.
- TensorFlow's CPU kernels add the values at all positions of a feature map one after another. The
  error of adding n values so grows as ``sqrt(n)`` roundings (Higham and Mary, A New Approach to
  Probabilistic Rounding Error Analysis, 2019), so TensorFlow may differ by ``sqrt(n)`` times as
  much, where n is the number of positions of the largest feature map.

- Errors need not be independent: a batch norm in training divides by the deviation of the values at
  hand, at the coarsest level of a few positions only, and errors of a feature map's mean are common
  to all of it. Where the other framework is measured to be further from its own float64 than a
  unit, that is what correct float32 arithmetic does at this gradient: PyTorch may be
  :data:`parity.judge.limits.SIDE_LIMIT` times as far off as TensorFlow. What float64 shows of the
  structure stays as sharp as it is.

*Zeros.* A gradient may be zero by theory. What adds one value to all positions of a channel, such
as a bias in front of a convolution and a batch norm in training, is subtracted again with the
mean: its gradient is what rounding leaves of parts that cancel. The parts have the magnitude unit
/ rounding; a gradient below :data:`STRUCTURE_LIMIT` of them, in float64 and on both sides, is such
a zero and both are judged against the parts. Errors of a mean are alike at all n positions, and n
equal errors add up to ``sqrt(n)`` times as much as random ones, which is what either side may
differ by here. A fusion weight not above zero passes no gradient
through its relu, nor does what acts only through it; what becomes nonzero when all fusion
weights are above zero is zero for this reason. Any other gradient that is zero throughout is not
covered, since agreement on it says nothing.

*Ties.* A max-pool of equal values has no one gradient: a side may choose any of their positions.
Images with constant areas, such as padding, make such ties; :func:`dithered` avoids them. Where
float64's own rounding, tried like float32's, moves a gradient further than the structure limit, a
difference is no finding, and the gradient is not covered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from parity.gradients.sides import Sensitivity
from parity.judge.limits import SIDE_LIMIT
from parity.judge.measure import unit_roundoff
from parity.judge.verdict import Verdict
from parity.process.arrays import Array
from parity.results.records.gradients import Mode, is_statistic

STRUCTURE_LIMIT = 1e-8
"""Largest difference of two float64 gradients, relative to their norm."""

ROUNDING = unit_roundoff(np.dtype(np.float32))
"""One float32 rounding, relative."""


@dataclass(frozen=True)
class Observation:
    """The four computations of one gradient.

    Attributes:
        truth: The reference in float64.
        reference: The reference in float32.
        exact: The candidate in float64.
        candidate: The candidate in float32.
    """

    truth: Array | None
    reference: Array | None
    exact: Array | None
    candidate: Array | None

    def arrays(self) -> tuple[Array, Array, Array, Array]:
        """All four, where none is missing."""
        found = (self.truth, self.reference, self.exact, self.candidate)
        assert all(array is not None for array in found)
        return cast("tuple[Array, Array, Array, Array]", found)


@dataclass(frozen=True)
class Circumstances:
    """What the verdict on a gradient depends on besides its values.

    Attributes:
        unit: Norm of its change by float32 rounding; see :class:`Sensitivity`.
        double_unit: The same by float64 rounding.
        terms: Number of values that the reference may add one after another.
        negative: Elements that are fusion weights not above zero.
        closed: Whether it is zero because of such weights.
        constants_rounded: Whether the candidate may hold numbers rounded to float32, which is
            then as good as a rounding in float32.
    """

    unit: float
    double_unit: float
    terms: int
    negative: tuple[int, ...] = ()
    closed: bool = False
    constants_rounded: bool = False


@dataclass(frozen=True)
class GradientResult:
    """What a comparison found about one gradient, statistic or the scalar itself.

    Attributes:
        name: The parameter; ``images`` and ``scalar`` are these.
        mode: What batch norms normalised by.
        shape: In PyTorch's layout; None where the reference has none.
        norm: Euclidean norm of the reference's float64 gradient.
        structure: Distance of the two float64 gradients relative to the larger norm, or to the
            magnitude of what cancels.
        unit: Norm of its change by one rounding of everything.
        candidate_units: Distance of the candidate's float32 from its float64 gradient, in units.
        reference_units: The same of the reference.
        candidate_limit: Units that the candidate may differ by.
        reference_limit: Units that the reference may differ by.
        verdict: The verdict on it.
        reason: Why.
        zero: Whether it is zero by theory, and was judged as such.
    """

    name: str
    mode: Mode
    shape: tuple[int, ...] | None
    norm: float | None
    structure: float | None
    unit: float | None
    candidate_units: float | None
    reference_units: float | None
    candidate_limit: float
    reference_limit: float
    verdict: Verdict
    reason: str
    zero: bool = False


def _norm(array: Array) -> float:
    return float(np.linalg.norm(array.astype(np.float64).reshape(-1)))


def _ratio(numerator: float, denominator: float) -> float:
    if numerator == 0:
        return 0.0
    return numerator / denominator if denominator else math.inf


def judge(
    name: str, mode: Mode, observed: Observation, circumstances: Circumstances
) -> GradientResult:
    """The verdict on one gradient, with its reason.

    Args:
        name: The parameter.
        mode: What batch norms normalised by.
        observed: Its values.
        circumstances: What they are judged by.
    """
    reference_limit = SIDE_LIMIT * math.sqrt(circumstances.terms)
    unjudged = GradientResult(
        name=name,
        mode=mode,
        shape=None if observed.truth is None else tuple(observed.truth.shape),
        norm=None,
        structure=None,
        unit=None,
        candidate_units=None,
        reference_units=None,
        candidate_limit=float(SIDE_LIMIT),
        reference_limit=reference_limit,
        verdict=Verdict.NOT_COVERED,
        reason="",
    )
    incomparable = _incomparable(observed)
    if incomparable:
        verdict, reason = incomparable
        return replace(unjudged, verdict=verdict, reason=reason)
    found = _measured(unjudged, observed, circumstances)
    structure = _structure(found, circumstances)
    if structure:
        verdict, reason = structure
        return replace(found.result, verdict=verdict, reason=reason)
    verdict, reason = _rounding(found, observed, circumstances)
    zero = found.cancelled or circumstances.closed
    return replace(found.result, verdict=verdict, reason=reason, zero=zero)


def _incomparable(observed: Observation) -> tuple[Verdict, str] | None:
    """The verdict where some values are missing, of another shape or not finite."""
    truth, reference = observed.truth, observed.reference
    exact, candidate = observed.exact, observed.candidate
    if exact is None or candidate is None:
        return Verdict.NOT_COVERED, "the candidate has no such parameter"
    if truth is None or reference is None:
        return Verdict.NOT_COVERED, "the reference has no such parameter"
    if exact.shape != truth.shape:
        return (
            Verdict.FUNCTION_DIFFERS,
            f"its shape is {list(exact.shape)}, the reference's {list(truth.shape)}",
        )
    if not (np.isfinite(truth).all() and np.isfinite(reference).all()):
        return Verdict.NOT_COVERED, "a value of the reference is NaN or infinite"
    if not np.isfinite(exact).all():
        return Verdict.FUNCTION_DIFFERS, "a value of the candidate is NaN or infinite"
    if not np.isfinite(candidate).all():
        return (
            Verdict.CANDIDATE_DIFFERS,
            "a value of the candidate is NaN or infinite in float32, not in float64",
        )
    return None


@dataclass(frozen=True)
class _Measured:
    """The figures of a gradient.

    Attributes:
        result: What is to be told of them, without a verdict.
        norm: The larger of both sides' in float64.
        parts: The magnitude of what it is the sum of.
        cancelled: Whether these parts cancel by theory.
        structure: Distance of the float64 gradients, of the norm or of the parts.
        unit: Norm of its change by one rounding of everything.
        candidate_units: Distance of the candidate's float32 from its float64 gradient.
        reference_units: The same of the reference.
    """

    result: GradientResult
    norm: float
    parts: float
    cancelled: bool
    structure: float
    unit: float
    candidate_units: float
    reference_units: float


def _measured(
    unjudged: GradientResult, observed: Observation, circumstances: Circumstances
) -> _Measured:
    """How far the sides are from each other and from themselves, and the limits for that."""
    truth, reference, exact, candidate = observed.arrays()
    norm = max(_norm(truth), _norm(exact))
    unit = math.hypot(circumstances.unit, ROUNDING * norm)
    parts = unit / ROUNDING
    # Both are the same where nothing cancels.
    cancelled = unjudged.mode is Mode.TRAINING and 0 < norm <= STRUCTURE_LIMIT * parts
    structure = _ratio(_norm(truth - exact), parts if cancelled else norm)
    candidate_units = _ratio(_norm(candidate - exact), unit)
    reference_units = _ratio(_norm(reference - truth), unit)
    limit = unjudged.candidate_limit * max(1.0, reference_units)
    result = replace(
        unjudged,
        norm=_norm(truth),
        structure=structure,
        unit=unit,
        candidate_units=candidate_units,
        reference_units=reference_units,
        candidate_limit=unjudged.reference_limit if cancelled else limit,
    )
    return _Measured(
        result, norm, parts, cancelled, structure, unit, candidate_units, reference_units
    )


def _structure(found: _Measured, circumstances: Circumstances) -> tuple[Verdict, str] | None:
    """The verdict where float64 decides: what is differentiated differs, or says nothing."""
    if found.norm == 0 and not circumstances.closed:
        return (
            Verdict.NOT_COVERED,
            "the gradient is zero on both sides, so that agreement says nothing",
        )
    if found.structure <= STRUCTURE_LIMIT:
        return None
    rounded = not found.cancelled and found.structure * found.norm <= SIDE_LIMIT * found.unit
    if circumstances.constants_rounded and rounded:
        # An epsilon, or a folded kernel, in float32 is another number in float64.
        return None
    own = _ratio(circumstances.double_unit, found.norm)
    if own > STRUCTURE_LIMIT:
        return (
            Verdict.NOT_COVERED,
            f"the float64 gradients differ by {found.structure:.1e} of their norm, but float64's "
            f"own rounding moves them by {own:.1e}: where max-pool windows hold equal values "
            f"either side may choose; take an image without constant areas",
        )
    what = "statistics" if is_statistic(found.result.name) else "gradients"
    return (
        Verdict.FUNCTION_DIFFERS,
        f"the float64 {what} differ by {found.structure:.1e} of their norm, above "
        f"{STRUCTURE_LIMIT:g}",
    )


def _rounding(
    found: _Measured, observed: Observation, circumstances: Circumstances
) -> tuple[Verdict, str]:
    """The verdict on what float32 makes of a gradient whose structure is right."""
    truth, reference, _, candidate = observed.arrays()
    limits = found.result
    rest = _what_it_is(found, circumstances)
    if found.candidate_units > limits.candidate_limit:
        return (
            Verdict.CANDIDATE_DIFFERS,
            f"the candidate's float32 is {found.candidate_units:.3g} units from its float64 "
            f"gradient, above {limits.candidate_limit:g}; {rest}",
        )
    if found.reference_units > limits.reference_limit:
        return (
            Verdict.REFERENCE_DIFFERS,
            f"the reference's float32 is {found.reference_units:.3g} units from its float64 "
            f"gradient, above {limits.reference_limit:g} ({SIDE_LIMIT} times the root of "
            f"{circumstances.terms} values that it adds one after another); {rest}",
        )
    if np.array_equal(reference, candidate):
        return Verdict.EXACT, f"equal bit for bit; {rest}"
    return (
        Verdict.ROUNDING,
        f"float64 gradients agree to {found.structure:.1e}; in float32 the candidate is "
        f"{found.candidate_units:.2g} of at most {limits.candidate_limit:g} units off, the "
        f"reference {found.reference_units:.2g} of at most {limits.reference_limit:g}; {rest}",
    )


def _what_it_is(found: _Measured, circumstances: Circumstances) -> str:
    """What a unit is here, and what of a gradient is zero by theory."""
    if found.cancelled:
        rest = (
            f"the gradient is zero by theory: cancelled by the batch norm behind it, to "
            f"{found.norm / found.parts:.1e} of the parts; a unit is one rounding of these"
        )
    elif circumstances.closed:
        rest = "the gradient is zero by theory: it acts only through weights that a relu closes"
    else:
        size = found.unit / found.norm
        rest = f"a unit, the effect of rounding everything once, is {size:.1e} of its norm"
    if circumstances.negative:
        which = ", ".join(map(str, circumstances.negative))
        rest += f"; not above zero and so without gradient: element {which}"
    return rest


def judge_all(
    mode: Mode,
    arrays: Mapping[tuple[str, str], Mapping[str, Array]],
    sensitivity: Sensitivity,
    terms: int,
    *,
    constants_rounded: bool = False,
) -> list[GradientResult]:
    """The verdicts on all gradients of one mode.

    Args:
        mode: What batch norms normalised by.
        arrays: For each side (``reference``, ``candidate``) and type (``float64``, ``float32``)
            the arrays by name.
        sensitivity: What they are judged by.
        terms: Number of values that TensorFlow may add one after another.
        constants_rounded: Whether the candidate may hold numbers rounded to float32.
    """
    names = list(
        dict.fromkeys(
            [*arrays["reference", "float64"], *arrays["candidate", "float64"]],
        )
    )
    return [
        judge(
            name,
            mode,
            Observation(
                truth=arrays["reference", "float64"].get(name),
                reference=arrays["reference", "float32"].get(name),
                exact=arrays["candidate", "float64"].get(name),
                candidate=arrays["candidate", "float32"].get(name),
            ),
            Circumstances(
                unit=sensitivity.units.get(name, 0.0),
                double_unit=sensitivity.double_units.get(name, 0.0),
                terms=terms,
                negative=sensitivity.negative.get(name, ()),
                closed=name in sensitivity.closed,
                constants_rounded=constants_rounded,
            ),
        )
        for name in names
    ]
