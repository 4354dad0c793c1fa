"""How much two correct implementations of one operation may differ, and why.

Two implementations given identical inputs differ by the roundings of each. ``u`` is the unit
roundoff (2**-24 in float32) and the *gauge* of an output element is the magnitude on which
roundings act: for a sum of products ``sum |x_i w_i| + |b|``. A limit is a number of roundings:
``|candidate - reference| <= limit * u * gauge``. Values below the smallest normal number may be
flushed to zero; the gauge is raised where that matters (float32: below 1e-31).
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientdet_spec import NodeKind

SIDE_LIMIT = 16
"""Roundings that one correct side may carry, as LAPACK's test programs of the BLAS accept
(``sblat3.f``, threshold 16)."""


@dataclass(frozen=True)
class Limit:
    """The number of roundings that a node may differ by.

    Attributes:
        roundings: The limit, in units of ``u * gauge``.
        reason: Its derivation.
    """

    roundings: float
    reason: str


_TWO_SIDES = Limit(
    2 * SIDE_LIMIT,
    f"{SIDE_LIMIT} roundings of the gauge for each of the two sides, in whatever order they sum",
)
_SELECTION = Limit(0, "selects values and computes none: the sides must agree bit for bit")


def limit_of(kind: NodeKind, terms: int) -> Limit:
    """The limit for a node.

    Args:
        kind: What it computes.
        terms: Number of values that one output element sums up.
    """
    if kind in (NodeKind.POOL, NodeKind.UPSAMPLE):
        return _SELECTION
    if kind is NodeKind.MEAN:
        return Limit(
            terms + 2 * SIDE_LIMIT,
            f"TensorFlow's CPU mean adds {terms} values one after another, whose error is bounded "
            f"by one rounding of the gauge for each (Higham, Accuracy and Stability of Numerical "
            f"Algorithms, section 4.2), beside {SIDE_LIMIT} for each side; PyTorch's is held to "
            f"{SIDE_LIMIT} of the exact mean",
        )
    return _TWO_SIDES
