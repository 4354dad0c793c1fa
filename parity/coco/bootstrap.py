"""How sure a difference of AP is: the images are drawn anew, again and again, for both sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from parity.coco.metrics import Evaluation, Ranking
from parity.results.records.coco import Bootstrap

RESAMPLES = 300
"""Enough for the ends of a 95 % interval to settle: 7 resamples lie beyond each."""

SEED = 0

_RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which COCO reads the precision."""


def weighted_ap(rankings: Sequence[Ranking], weights: NDArray[np.float64]) -> float | None:
    """AP where image ``i`` occurs ``weights[i]`` times; None where nothing is to be found.

    Counting an image twice is the same as having it twice: copies of a detection follow each
    other in the ranking, and interpolated precision does not see the places between them.
    """
    values = [value for value in (_ap(ranking, weights) for ranking in rankings) if value >= 0]
    return float(np.mean(values)) if values else None


def _ap(ranking: Ranking, weights: NDArray[np.float64]) -> float:
    """One category's AP, -1 where none of its objects is in the sample."""
    positives = float(ranking.positives @ weights)
    if positives == 0:
        return -1.0
    count = weights[ranking.images]
    right = np.cumsum(ranking.right * count, axis=1)
    wrong = np.cumsum(ranking.wrong * count, axis=1)
    precision = right / (right + wrong + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.pad(best, ((0, 0), (0, 1)))
    recall = right / positives
    read = [
        row[np.searchsorted(reached, _RECALLS, side="left")]
        for row, reached in zip(best, recall, strict=True)
    ]
    return float(np.mean(read))


def ap_difference(
    reference: Evaluation,
    candidate: Evaluation,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    progress: Callable[[int, int], None] | None = None,
) -> Bootstrap | None:
    """The interval of candidate minus reference, both over the same draws of images.

    Args:
        reference: One side.
        candidate: The other, over the same images.
        resamples: How often to draw.
        seed: Of the draws.
        progress: Told the number of resamples done and of all.

    Returns:
        None where no resample has anything to be found.
    """
    rng = np.random.default_rng(seed)
    differences = []
    for done in range(resamples):
        drawn = rng.integers(0, reference.images, reference.images)
        weights = np.bincount(drawn, minlength=reference.images).astype(np.float64)
        first = weighted_ap(reference.rankings, weights)
        second = weighted_ap(candidate.rankings, weights)
        if first is not None and second is not None:
            differences.append(second - first)
        if progress:
            progress(done + 1, resamples)
    if not differences:
        return None
    low, high = np.quantile(differences, [0.025, 0.975])
    return Bootstrap(low=float(low), high=float(high), resamples=len(differences), seed=seed)
