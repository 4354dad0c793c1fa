"""The words that the pages use, each explained in a sentence or two."""

from __future__ import annotations

from collections.abc import Sequence

TERMS: Sequence[tuple[str, str]] = (
    (
        "node",
        "One operation of the network, such as a convolution; it has one tensor on each side.",
    ),
    (
        "exact value",
        "What the node should make of TensorFlow's very tensors, computed in float64 by the "
        "faithful model.",
    ),
    (
        "rounding",
        "Multiple of the unit roundoff (2⁻²⁴ in float32, 2⁻⁵³ in float64) times the magnitude on "
        "which roundings act; for a convolution that is the sum of |x||w|.",
    ),
    (
        "limit",
        "As many roundings as the node's own arithmetic may take, each with its derivation. A "
        "correct sum of K terms stays within max(16, 2.8 sqrt(K)) roundings.",
    ),
    (
        "parity, difference, not shown",
        "How a comparison ends. Parity: everything was compared, and nothing differs by more than "
        "its roundings (exit code 0). Difference: something does (1). Not shown: nothing was found "
        "to differ, but something that was asked for could not be compared (3). Wrong input ends "
        "with 2.",
    ),
    (
        "rms",
        "Root mean square of TensorFlow's tensor at the node; “of rms” is a difference divided by "
        "it.",
    ),
    (
        "own difference",
        "What the node itself adds when both sides are given TensorFlow's tensors: it says what is "
        "wrong.",
    ),
    (
        "accumulated difference",
        "What has come together up to a node when both networks run on their own: it says what one "
        "will see.",
    ),
    (
        "detectable error",
        "The largest error of one element that could go unseen: what the measurement resolves.",
    ),
    (
        "float64",
        "The same comparison with both sides in float64, where rounding all but vanishes: what "
        "remained would be another function, or the same function of other values.",
    ),
    (
        "EMA",
        "Exponential moving averages of the weights; the published AP is theirs.",
    ),
    ("AP", "COCO's average precision over IoU thresholds of 0.50 to 0.95, from 0 to 1."),
)
"""Word and meaning, in the order of the page."""
