"""What results that compare detections have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from parity.results.records.record import Count, Figure, Record, Side, Whole, says

BySide = Mapping[Side, Count]


class MatchCounts(Record, kw_only=True, frozen=True):
    """Detections of both sides matched one to one."""

    matched: Annotated[Count, says("pairs of the two sides that are the same detection")]
    reference_only: Annotated[Count, says("the reference's detections without a partner")]
    candidate_only: Annotated[Count, says("the other side's detections without a partner")]
    largest_score_difference: Annotated[Figure, says("of a pair")]
    largest_box_difference_pixels: Annotated[Figure, says("of an edge of a pair's boxes")]
    rank_flips: Annotated[Count, says("pairs of detections whose order by score is another")]
    apart: Annotated[
        Count,
        says(
            "pairs that differ by more than rounding and ties explain "
            "([how](coco.md#which-differences-have-a-reason)), by `code_limit` and `score_limit`"
        ),
    ]
    reference_unexplained: Annotated[
        Count,
        says(
            "of `reference_only`, those that neither rounding, ties, the cut nor the threshold "
            "explain"
        ),
    ]
    candidate_unexplained: Annotated[Count, says("the same of `candidate_only`")]
    ties: Annotated[
        Count,
        says(
            "detections that differ as each side has taken another of two boxes of equal score, "
            "which the reference's own scores show"
        ),
    ] = 0


class ImageMatching(MatchCounts, kw_only=True, frozen=True):
    """Detections of one image matched one to one."""

    image_id: Annotated[Whole, says("the image")]
