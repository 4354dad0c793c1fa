"""How far a correct implementation of one operation may be from its exact result, and why.

``u`` is the unit roundoff (2**-24 in float32) and the *gauge* of an output element is the
magnitude on which roundings act: for a sum of products ``sum |x_i w_i| + |b|``. A limit is a
number of roundings: ``|output - exact| <= limit * u * gauge``. Values below the smallest normal
number may be flushed to zero; the gauge is raised where that matters (float32: below 1e-31).

*Few operations.* A batch norm, an activation, a gate or a fusion is a handful of operations, each
of which rounds once (or, an exponential, twice). Adding up the worst case of each stays below
:data:`SIDE_LIMIT`. So does that of a sum of up to :data:`SIDE_LIMIT` terms, one rounding each.

*Sums.* A sum of K terms rounds K partial sums, each by at most ``u`` of its size. Where these
roundings are independent of each other and spread evenly over ``-u .. u``, each has the variance
``u**2 / 3``; where the terms are of about one size, the partial sums grow linearly, and the mean of
their squares is ``gauge**2 / 3``. The whole error so has a standard deviation of at most
``u * gauge * sqrt(K) / 3`` (Higham and Mary, A New Approach to Probabilistic Rounding Error
Analysis, SIAM J. Sci. Comput. 41, 2019, prove the bound for independent roundings of zero mean).
The largest of N such errors exceeds ``lambda`` deviations with a probability below
``N * 2 * exp(-lambda**2 / 2)``, so that ``lambda = sqrt(2 ln(2 N / p))`` keeps the probability of
one false alarm in a whole comparison below ``p``. A sum may carry ``lambda / 3 * sqrt(K)``
roundings.

*What that assumes, and where it fails.* Equal terms (a constant image under a constant kernel) are
rounded alike as long as the partial sums stay between two powers of two: the errors add up instead
of cancelling, and a float32 sum can carry more. The tests try it. No trained convolution has such
a kernel; a mean over a constant map has such terms, and is judged by what follows.

*Means.* TensorFlow's CPU kernel adds all positions of a feature map in four interleaved sums, in
each one value after another (found by probing which values absorb which; the simulation in
:mod:`parity.judge.means` reproduces it bit for bit). The values of a map are alike, often all
positive, and there are up to a million of them. A side may so be up to K roundings off, but only
where a float32 sum simulated in such an order reproduces its output within the limit of a sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from efficientdet_spec import NodeKind

SIDE_LIMIT = 16
"""Roundings that a handful of operations may carry in the worst case."""

FALSE_ALARM = 1e-6
"""Probability of one false alarm in a whole comparison of faithful networks."""

SAME_FUNCTION = 1.0
"""Roundings between two exact values up to which they are of one function.

Parameters that were computed in float64 and stored in float32 (a batch norm folded into its
convolution) are each off by half a unit in the last place, one rounding of the gauge at most in
all; 0.09 to 0.88 for the 48 convolutions of the trained D0's backbone, on noise."""

INSENSITIVE = 1e-3
"""Where an error of this part of a tensor's rms would go unseen, agreement proves nothing.

A gate that is one thousandth too large must not pass; see the table of constants in
``docs/limits.md``."""

_SELECTIONS = (NodeKind.POOL, NodeKind.UPSAMPLE)


@dataclass(frozen=True)
class Limit:
    """The number of roundings that each side of a node may be from the exact value.

    Attributes:
        candidate: Of the candidate, in units of ``u * gauge``.
        reference: Of the reference.
        reason: Their derivation.
        terms: Number of values that one output element sums up.
        same_function: Distance of two exact values up to which they are of one function.
        by_order: What either side may be off where a simulated order of a mean reproduces it;
            None for other nodes.
    """

    candidate: float
    reference: float
    reason: str
    terms: int = 1
    same_function: float = SAME_FUNCTION
    by_order: float | None = None

    def in_order(self, candidate: bool, reference: bool) -> Limit:
        """The limit where a simulated order of a mean reproduces the candidate or the reference."""
        wide = self.by_order or 0.0
        return replace(
            self,
            candidate=max(self.candidate, wide) if candidate else self.candidate,
            reference=max(self.reference, wide) if reference else self.reference,
        )


def chance_factor(elements: int, probability: float = FALSE_ALARM) -> float:
    """The factor of ``sqrt(K)`` in the limit of a sum of K terms: ``lambda / 3``.

    Args:
        elements: Number of output elements that a whole comparison judges, both sides together.
        probability: Of one false alarm among them.
    """
    return math.sqrt(2 * math.log(2 * max(elements, 1) / probability)) / 3


def limit_of(
    kind: NodeKind,
    terms: int,
    *,
    factor: float,
    truth_is_wider: bool,
    certain: tuple[bool, bool] = (True, True),
) -> Limit:
    """The limit for a node.

    Args:
        kind: What it computes.
        terms: Number of values that one output element sums up; 1 for no sum.
        factor: Of ``sqrt(terms)``, see :func:`chance_factor`.
        truth_is_wider: Whether the exact value was computed in a wider type than the sides'. If
            not, it carries roundings of its own.
        certain: Whether the candidate's and the reference's inputs are the very ones that the
            exact value is of. If not, the gauge includes how far they may be from these.
    """
    if kind in _SELECTIONS:
        reason = "selects values and computes none: it must agree bit for bit"
        if not all(certain):
            reason += f"; {SIDE_LIMIT} roundings where its inputs are not known to the bit"
        ours, theirs = (0 if known else SIDE_LIMIT for known in certain)
        return Limit(ours, theirs, reason)
    by_chance = factor * math.sqrt(terms)
    if by_chance > SIDE_LIMIT:
        side = by_chance
        reason = f"a sum of {terms} terms: {factor:.2f} times the root of their number"
    else:
        side = float(SIDE_LIMIT)
        reason = f"{SIDE_LIMIT} roundings, the worst case of a few operations"
    if not truth_is_wider:
        side *= 2
        reason += ", and as many of the exact value, which is float64 too"
    by_order = float(terms + SIDE_LIMIT) if kind is NodeKind.MEAN else None
    # Exact values of the sides' own type carry roundings, and other inputs give other values.
    same = SAME_FUNCTION if truth_is_wider and certain[0] else side
    return Limit(side, side, reason, terms, same, by_order)
