"""What results say of a port's whole pipeline: the mistakes that explain its boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from parity.results.records.record import Count, Figure, Record, Whole, says


class MistakeResult(Record, frozen=True):
    """A known mistake."""

    slug: Annotated[str, says("its short name")]
    title: Annotated[str, says("the same in words")]
    stage: Annotated[
        str, says("`decode`, `preprocess`, `network`, `postprocess` or `output`, where it is made")
    ]


class StepResult(Record, kw_only=True, frozen=True):
    """A mistake that makes boxes equal in the presence of the others."""

    mistake: Annotated[MistakeResult, says("the mistake")]
    alternatives: Annotated[
        Sequence[MistakeResult], says("others that these images do not tell apart from it")
    ]
    equal: Annotated[
        Count, says("the candidate's boxes that are equal with it and all mistakes before it")
    ]
    extra: Annotated[
        Count, says("boxes of the pipeline with these mistakes that the candidate has not")
    ]
    only_with: Annotated[
        Count, says("boxes of either side that are unequal without it, all others being made")
    ]


class UnexplainedImage(Record, kw_only=True, frozen=True):
    """An image with boxes that no known mistake explains."""

    image_id: Annotated[Whole, says("the image")]
    file: Annotated[str, says("its file")]
    unexplained: Annotated[Count, says("boxes of the candidate without an equal one")]
    extra: Annotated[Count, says("boxes of the pipeline that the candidate has not")]


class ExplanationResult(Record, kw_only=True, frozen=True):
    """The smallest set of known mistakes that makes the faithful boxes the candidate's."""

    complete: Annotated[bool, says("whether no box of either side is left unexplained")]
    steps: Annotated[Sequence[StepResult], says("the mistakes, in the order of what they explain")]
    code_bound: Annotated[
        Figure,
        says("how far box codes of equal boxes may differ ([why](pipelines.md#equal-boxes))"),
    ]
    score_bound: Annotated[Figure, says("how far scores of equal boxes may differ")]
    searched_images: Annotated[Sequence[Whole], says("images on which mistakes were looked for")]
    counted_images: Annotated[Count, says("how many images the steps are counted on")]
    counted_boxes: Annotated[Count, says("the candidate's boxes on these")]
    equal_without: Annotated[Count, says("those of them that are equal without any mistake")]
    extra_without: Annotated[
        Count, says("boxes of the faithful pipeline that the candidate has not, on these images")
    ]
    images: Annotated[Count, says("all images; what follows is of these")]
    boxes: Annotated[Count, says("the candidate's boxes")]
    unexplained: Annotated[Count, says("those without an equal one, all mistakes being made")]
    extra: Annotated[Count, says("boxes of the pipeline, all mistakes made, that it has not")]
    ties: Annotated[
        Count, says("boxes counted as equal of which a tie of scores or the cut took another one")
    ]
    worst_images: Annotated[
        Sequence[UnexplainedImage], says("the images with most unexplained boxes, at most ten")
    ]
