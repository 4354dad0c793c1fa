"""How far a correct implementation of one operation may be from its exact result, and why.

``u`` is the unit roundoff (2**-24 in float32) and the *gauge* of an output element is the
magnitude on which roundings act: for a sum of products ``sum |x_i w_i| + |b|``. A limit is a
number of roundings: ``|output - exact| <= limit * u * gauge``. Values below the smallest normal
number may be flushed to zero; the gauge is raised where that matters (float32: below 1e-31).
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientdet_spec import NodeKind

SIDE_LIMIT = 16
"""Roundings that one correct side may carry, as LAPACK's test programs of the BLAS accept
(``sblat3.f``, threshold 16)."""

COMPOSED_LIMIT = 4 * SIDE_LIMIT
"""Roundings that a layer of another function may carry, which may consist of several steps."""

INSENSITIVE = 0.1
"""Where an error of this part of a tensor's rms would go unseen, agreement proves nothing."""


@dataclass(frozen=True)
class Limit:
    """The number of roundings that each side of a node may be from the exact value.

    Attributes:
        candidate: For PyTorch, in units of ``u * gauge``.
        reference: For TensorFlow.
        reason: Their derivation.
    """

    candidate: float
    reference: float
    reason: str


def limit_of(
    kind: NodeKind,
    terms: int,
    *,
    truth_is_wider: bool,
    certain: tuple[bool, bool] = (True, True),
) -> Limit:
    """The limit for a node.

    Args:
        kind: What it computes.
        terms: Number of values that one output element sums up.
        truth_is_wider: Whether the exact value was computed in a wider type than the sides'. If
            not, it carries roundings of its own.
        certain: Whether the candidate's and the reference's inputs are the very ones that the
            exact value is of. If not, the gauge includes how far they may be from these.
    """
    if kind in (NodeKind.POOL, NodeKind.UPSAMPLE):
        reason = "selects values and computes none: it must agree bit for bit"
        if not all(certain):
            reason += f"; {SIDE_LIMIT} roundings where its inputs are not known to the bit"
        ours, theirs = (0 if known else SIDE_LIMIT for known in certain)
        return Limit(ours, theirs, reason)
    side = SIDE_LIMIT if truth_is_wider else 2 * SIDE_LIMIT
    reason = f"{SIDE_LIMIT} roundings of the gauge, in whatever order a side sums"
    if not truth_is_wider:
        reason += f", and {SIDE_LIMIT} of the exact value, which is float64 too"
    if kind is not NodeKind.MEAN:
        return Limit(side, side, reason)
    return Limit(
        side,
        side + terms,
        f"{reason}; for TensorFlow {terms} more, since its CPU mean adds {terms} values one after "
        f"another, whose error is bounded by one rounding of the gauge for each (Higham, Accuracy "
        f"and Stability of Numerical Algorithms, section 4.2)",
    )
