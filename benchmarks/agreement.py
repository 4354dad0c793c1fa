"""Whether ways do the same work: asked before any of them is timed, so that no wrong one wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MAX_APART = 1e-3
"""How far a network's output may be from the expected one at most, in units of the expected one's
rms. TensorFlow's own float32 mean in squeeze-excite moves an output by 2.3e-4 of it, and no other
operation by as much. A runtime that computes in bfloat16, as some do by themselves on processors
that are fast at it, rounds each value by up to 2^-8, four times the bound, in every layer."""

MAX_SCORE_APART = 1e-3
"""How far the scores of an image's detections may be from the expected ones, in order."""

MAX_BOX_APART = 0.5
"""How far a box may be from the expected one, in pixels; roundings of float32 move it by 0.1."""

SURE = 0.3
"""Detections that score more are looked for one by one; others may change places."""

LEAST_SCORE = 1e-3
"""Below it the official evaluation keeps nothing, so that what is missing scores no more."""


def network_apart(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """How far a network's outputs are from the expected ones, in units of each one's rms.

    Args:
        found: Arrays, class outputs by level and then box outputs.
        expected: The same of another way.

    Returns:
        The largest over all; infinite where shapes differ or something is not finite.
    """
    if [np.shape(item) for item in found] != [np.shape(item) for item in expected]:
        return float("inf")
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        exact = np.asarray(other, np.float64)
        rms = float(np.sqrt(np.mean(np.square(exact))))
        apart = float(np.abs(np.asarray(one, np.float64) - exact).max()) / (rms or 1.0)
        worst = max(worst, apart if np.isfinite(apart) else float("inf"))
    return worst


def detections_apart(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """How far detections are from the expected ones, in units of what is allowed.

    Args:
        found: By image boxes [n, 4], scores [n] and classes [n].
        expected: The same of another way.

    Returns:
        At most 1 where they are the same; infinite where a sure one is missing.
    """
    if len(found) != len(expected):
        return float("inf")
    return max((_image_apart(*pair) for pair in zip(found, expected, strict=True)), default=0.0)


def _image_apart(found: Any, expected: Any) -> float:
    length = max(len(found[1]), len(expected[1]))
    ours, theirs = (np.full(length, LEAST_SCORE) for _ in range(2))
    for scores, given in ((ours, found[1]), (theirs, expected[1])):
        scores[: len(given)] = np.sort(np.asarray(given, np.float64))[::-1]
    worst = float(np.abs(ours - theirs).max(initial=0.0)) / MAX_SCORE_APART
    for box, score, kind in zip(*expected, strict=True):
        if score > SURE:
            near = (np.asarray(found[2]) == kind) & (
                np.abs(np.asarray(found[1]) - score) <= MAX_SCORE_APART
            )
            boxes = np.asarray(found[0])[near]
            apart = np.abs(boxes - box).max(axis=1).min() if len(boxes) else np.inf
            worst = max(worst, float(apart) / MAX_BOX_APART)
    return worst


def refused(apart: Mapping[str, float], bound: float) -> dict[str, str]:
    """The ways that do something else, and the sentence for each.

    Args:
        apart: How far each way's results are from the expected ones.
        bound: How far they may be.
    """
    return {
        way: f"it computes something else: its results are {value:.3g} from the expected ones, "
        f"and at most {bound:g} is allowed"
        for way, value in apart.items()
        if not value <= bound
    }
