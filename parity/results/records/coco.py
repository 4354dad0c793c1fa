"""``efficientdet-parity/coco``: a comparison of COCO metrics and detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from parity.process.outcome import Outcome
from parity.results.records.detections import BySide, ImageMatching, MatchCounts
from parity.results.records.pipelines import ExplanationResult
from parity.results.records.record import (
    Count,
    Figure,
    Fraction,
    Record,
    ResultFile,
    Seconds,
    Side,
    Whole,
    says,
)
from parity.results.records.shared import Checkpoint
from parity.results.records.stages import StageValues

Metric = Annotated[str, Meta(pattern="^(AP|AP50|AP75|APs|APm|APl|AR1|AR10|AR100|ARs|ARm|ARl)$")]
"""One of COCO's twelve."""

Metrics = Mapping[Metric, Fraction | None]

Curve = Annotated[str, Meta(pattern="^(AP|AP50|AP75)$")]
"""A metric that has a curve."""


class Compared(Record, frozen=True):
    """What an evaluation's outcome rests on."""

    images: Annotated[Count, says("images that went through both sides")]
    detections: Annotated[BySide, says("detections of each in these images")]
    matched: Annotated[Count, says("pairs of detections")]
    true_boxes: Annotated[Count, says("true boxes that count")]
    metrics: Annotated[Sequence[str], says("metrics that are defined on both sides")]


class ImageFailure(Record, frozen=True):
    """An image that failed."""

    image_id: Annotated[Whole, says("the image")]
    file_name: Annotated[str, says("its file")]
    reason: Annotated[str, says("why")]


class ImageCounts(Record, frozen=True):
    """The images of one side."""

    all: Annotated[Count, says("how many there are")]
    failed: Annotated[Count, says("how many of them failed")]
    failures: Annotated[Sequence[ImageFailure], says("each that failed, with the reason")]


class Category(Record, frozen=True):
    """One category."""

    id: Annotated[Whole, says("its number in the annotations")]
    name: Annotated[str, says("its name")]
    AP: Annotated[Mapping[Side, Fraction | None], says("average precision by side")]
    delta: Annotated[Fraction | None, says("the judged side's minus TensorFlow's")]


class MatchingResult(MatchCounts, kw_only=True, frozen=True):
    """Detections of all images matched one to one."""

    min_iou: Annotated[Figure, says("boxes that overlap less are not the same detection")]
    code_limit: Annotated[Figure, says("how far the codes of two faithful networks may differ")]
    score_limit: Annotated[Figure, says("how far scores of one detection may differ")]
    worst_images: Annotated[
        Sequence[ImageMatching], says("the images that differ most, the worst first")
    ]


class Bootstrap(Record, kw_only=True, frozen=True):
    """Confidence interval of the difference of a metric over resampled images."""

    metric: Annotated[str, says("which metric")] = "AP"
    level: Annotated[Fraction, says("part of the resamples that lies within")] = 0.95
    low: Annotated[Fraction | None, says("its lower end")]
    high: Annotated[Fraction | None, says("its upper end")]
    resamples: Annotated[Count, says("how many gave a difference")]
    seed: Annotated[Whole, says("of the draws")]


class SwapOrigin(str, Enum):
    """Where an exchanged stage comes from."""

    TENSORFLOW = "tensorflow"
    """The other framework: what it changes is a lack of parity."""
    MISTAKE = "mistake"
    """What ports get wrong: what it changes is the price of that mistake."""


class SwapResult(Record, kw_only=True, frozen=True):
    """PyTorch's pipeline with one stage exchanged."""

    slug: Annotated[str, says("short name of the exchange")]
    title: Annotated[str, says("the same in words")]
    stage: Annotated[
        str, says("the stage exchanged: `decode`, `preprocess`, `network` or `postprocess`")
    ]
    origin: Annotated[
        SwapOrigin,
        says("`tensorflow`, or `mistake` for what ports get wrong; only the former decides"),
    ]
    metrics: Annotated[Metrics, says("the 12 COCO metrics")]
    AP_delta: Annotated[Fraction | None, says("of AP, minus that of the baseline")]
    metric_deltas: Annotated[Metrics, says("of each metric, minus that of the baseline")]
    images: Annotated[Count, says("how many the metrics are of")]
    changed_images: Annotated[
        Count, says("images whose detections are not bit for bit the baseline's")
    ]
    matched: Annotated[Count, says("detections that the baseline has too")]
    baseline_only: Annotated[Count, says("detections that the exchange loses")]
    swap_only: Annotated[Count, says("detections that the exchange adds")]
    failures: Annotated[
        Sequence[ImageFailure],
        says("images that failed; of a mistake they count as nothing found"),
    ]


class StageSwapResult(Record, kw_only=True, frozen=True):
    """PyTorch's pipeline with one stage at a time exchanged, images one at a time."""

    baseline: Annotated[Metrics, says("the metrics without an exchange")]
    images: Annotated[Count, says("how many images all metrics are of")]
    failures: Annotated[Sequence[ImageFailure], says("images that failed without an exchange")]
    rows: Annotated[Sequence[SwapResult], says("one for each exchange")]


class PublishedFigure(Record, frozen=True):
    """A published AP."""

    source: Annotated[str, says("where it stands")]
    ap: Annotated[Fraction, says("the figure, from 0 to 1")] = field(name="AP")


class Agreement(str, Enum):
    """What an AP says of the published ones."""

    AGREES = "agrees"
    """It is as published, to half a digit."""
    DIFFERS = "differs"
    """It is not."""
    NOT_COMPARABLE = "not comparable"
    """It is of other images, weights, inputs, stages, or of a checkpoint that is not known."""


class PublishedResult(Record, kw_only=True, frozen=True):
    """The published AP of the model, and ours."""

    ap: Annotated[Fraction | None, says("ours: the judged side's, or TensorFlow's alone")] = field(
        name="AP"
    )
    rows: Annotated[Sequence[PublishedFigure], says("the published figures by source")]
    limit: Annotated[Figure, says("how far ours may be from the nearest of them")]
    verdict: Annotated[Agreement, says("what ours says of them")]
    text: Annotated[str, says("the same in words, with the reason")]
    assumed: Annotated[
        Sequence[str],
        says("what is taken for granted where ours is judged, such as what an address holds"),
    ] = ()
    test_dev: Annotated[
        Fraction | None,
        says(
            "the AP published for test-dev2017, whose true boxes only COCO's evaluation server has"
        ),
    ] = field(default=None, name="test_dev_AP")


class CocoResult(ResultFile, kw_only=True, frozen=True):
    """A comparison of COCO metrics and of every detection."""

    schema: Annotated[Literal["efficientdet-parity/coco"], says("what the file is")] = (
        "efficientdet-parity/coco"
    )
    version: Annotated[Literal[2], says("the version of this schema")] = 2
    outcome: Annotated[
        Outcome, says("`parity`, `difference` or `not shown` ([when](coco.md#the-verdict))")
    ]
    passes: Annotated[bool, says("whether `outcome` is `parity`")]
    sentence: Annotated[str, says("why")]
    compared: Annotated[Compared, says("what the outcome rests on")]
    complete: Annotated[bool, says("whether no image failed")]
    metric_limit: Annotated[Figure, says("largest difference of a metric with parity")]
    model: Annotated[str, says("name of the model")]
    checkpoint: Annotated[Checkpoint, says("what both sides were filled from")]
    candidate: Annotated[
        str | None,
        says(
            "what was judged in the place of the converted model, which results call `candidate` "
            "then and not `torch`; null where nothing was"
        ),
    ] = None
    notes: Annotated[
        Sequence[str],
        says(
            "sentences on what of the annotations and images was read otherwise than it is "
            "written, and on how the candidate's detections came about"
        ),
    ] = ()
    annotations: Annotated[str, says("the annotation file")]
    profile: Annotated[
        Mapping[str, str], says("variants of the stages around the network, and their `name`")
    ]
    stages: Annotated[
        StageValues | None,
        says("what the stages around the network did, in numbers; null in files of before"),
    ] = None
    size: Annotated[Sequence[Count], says("height and width of the network's input in pixels")]
    environment: Annotated[
        Mapping[str, Any], says("versions, processor, devices, threads and settings")
    ]
    images: Annotated[Mapping[Side, ImageCounts], says("by side, how many, and how many failed")]
    metrics: Annotated[Mapping[Side, Metrics], says("the 12 COCO metrics by side, 0 to 1")]
    metric_deltas: Annotated[
        Metrics, says("of each, judged side minus TensorFlow; empty where one is missing")
    ]
    categories: Annotated[Sequence[Category], says("one entry for each category")]
    precision_by_recall: Annotated[
        Mapping[
            Side, Mapping[Curve, Annotated[Sequence[Fraction], says("one curve", min_length=2)]]
        ],
        says(
            "by side, `AP` (all IoU thresholds), `AP50`, `AP75`: precision at recall 0, 0.01 "
            "to 1, averaged over the categories; its mean is the metric"
        ),
    ] = {}
    matching: Annotated[
        MatchingResult | None,
        says("both sides' detections matched one to one; null where one side is missing"),
    ]
    bootstrap: Annotated[
        Bootstrap | None, says("how sure the difference of AP is; null where it has no meaning")
    ]
    stage_swap: Annotated[
        StageSwapResult | None,
        says("with `--stage-swap`, what exchanging single stages does; else null"),
    ] = None
    explanation: Annotated[
        ExplanationResult | None,
        says(
            "with `--detections`, the known mistakes that make the faithful pipeline's boxes equal "
            "to the candidate's ([how](pipelines.md)); else null"
        ),
    ] = None
    published: Annotated[
        PublishedResult | None,
        says("the published AP of the model and ours; null for other models"),
    ] = None
    seconds_per_image: Annotated[
        Mapping[Side, Mapping[str, Seconds]],
        says(
            "by side: the seconds in which each stage was busy, and `wall`, what passed "
            "meanwhile; images are decoded and preprocessed while the network computes, so that "
            "the stages may add up to more than `wall`"
        ),
    ]

    def __post_init__(self) -> None:
        """Check that differences are of metrics that are there on both sides."""
        judged = "candidate" if self.candidate is not None else "torch"
        for side in ("tensorflow", judged):
            if missing := self.metric_deltas.keys() - self.metrics.get(side, {}).keys():
                raise ValueError(f"has a difference of {min(missing)}, which {side} lacks")
