"""``efficientdet-parity/report``: the figures of each model of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from parity.judge.verdict import Verdict
from parity.process.outcome import Outcome
from parity.results.records.coco import Agreement
from parity.results.records.record import Count, Figure, Fraction, Record, ResultFile, Seconds, says


class LackResult(Record, frozen=True):
    """A step without a result."""

    name: Annotated[str, says("short name of the step")]
    title: Annotated[str, says("what it does")]
    reason: Annotated[str, says("why there is no result")]


class StructureResult(Record, frozen=True):
    """The comparison in float64."""

    passes: Annotated[bool, says("whether it shows parity")]
    largest_relative_max: Annotated[
        Figure | None, says("the largest accumulated difference, of its node's rms")
    ]


class OwnError(Record, frozen=True):
    """How far the node nearest to its limit is from the exact value on identical inputs."""

    roundings: Annotated[Figure, says("of PyTorch's result")]
    limit: Annotated[Figure, says("how many its own arithmetic may take")]
    node: Annotated[str, says("the node")]


class OutputDifference(Record, frozen=True):
    """The largest difference accumulated up to any output of the network."""

    relative_max: Annotated[Figure, says("of the output's rms")]
    node: Annotated[str | None, says("the output")]


class Precision(Record, kw_only=True, frozen=True):
    """COCO AP, from 0 to 1."""

    torch: Annotated[
        Fraction | None, says("the converted model's; null where a candidate takes its place")
    ]
    candidate: Annotated[
        Fraction | None, says("the candidate's; null where the converted model was judged")
    ] = None
    title: Annotated[str, says("what the one of the two that was judged is called")] = "PyTorch"
    tensorflow: Annotated[Fraction | None, says("TensorFlow's")]
    delta: Annotated[Fraction | None, says("judged minus TensorFlow's")]
    official: Annotated[Fraction | None, says("what Google publishes for the model")]
    official_comparable: Annotated[
        bool, says("whether that is of the same images, inputs, stages and weights")
    ]
    official_verdict: Annotated[
        Agreement | None,
        says("what ours says of it; null where nothing is published"),
    ] = None
    official_text: Annotated[
        str, says("the same in words, with the reason; empty where nothing is published")
    ] = ""
    images: Annotated[Count, says("number of images that ours is of")]

    @property
    def judged(self) -> Fraction | None:
        """The candidate's, or else the converted model's."""
        return self.torch if self.candidate is None else self.candidate


class SuspectOutline(Record, frozen=True):
    """A place where something is wrong."""

    nodes: Annotated[Sequence[str], says("its nodes")]
    verdict: Annotated[Verdict, says("on the first of them")]
    slug: Annotated[str | None, says("short name of what is wrong; null where that is not known")]
    diagnosis: Annotated[str | None, says("the same in words")]


class ModelFigures(Record, kw_only=True, frozen=True):
    """One model."""

    model: Annotated[str, says("its name")]
    slug: Annotated[str, says("name of its page and folder")]
    page: Annotated[str, says("its page")]
    source: Annotated[str, says("its checkpoint")]
    trained: Annotated[bool, says("whether the weights are trained ones")]
    outcome: Annotated[
        Outcome,
        says(
            "`parity`, `difference` or `not shown` (something that was asked for was not made, "
            "failed, or shows nothing)"
        ),
    ]
    reason: Annotated[str, says("why")]
    node: Annotated[str | None, says("the node to blame; null where there is none")]
    diagnosis: Annotated[str | None, says("what is wrong there; null where that is not known")]
    complete: Annotated[bool, says("whether the run came to its end")]
    reused: Annotated[
        Sequence[str], says("titles of the steps whose results an earlier run has made")
    ]
    failed: Annotated[Sequence[LackResult], says("the steps that failed")]
    not_made: Annotated[Sequence[LackResult], says("the steps that were not tried")]
    nodes: Annotated[Count | None, says("how many; null where none were compared")]
    nodes_without_parity: Annotated[Count | None, says("how many of them have no parity")]
    structure: Annotated[StructureResult | None, says("comparison in float64")]
    largest_own_error: Annotated[
        OwnError | None, says("at the node nearest to its limit, or furthest beyond it")
    ]
    largest_output_difference: Annotated[
        OutputDifference | None, says("accumulated up to any output")
    ]
    AP: Annotated[Precision | None, says("COCO AP; null where it was not measured")]
    convert_seconds: Annotated[Seconds | None, says("wall time of the conversion")]
    suspects: Annotated[Sequence[SuspectOutline], says("where what fails begins")]


class ReportResult(ResultFile, kw_only=True, frozen=True):
    """All models of a report."""

    schema: Annotated[Literal["efficientdet-parity/report"], says("what the file is")] = (
        "efficientdet-parity/report"
    )
    version: Annotated[Literal[2], says("the version of this schema")] = 2
    outcome: Annotated[
        Outcome, says("the worst of all models, which is also the exit code (0, 1 or 3)")
    ]
    passes: Annotated[bool, says("whether `outcome` is `parity`")]
    models: Annotated[Sequence[ModelFigures], says("official ones first, D0 to D7x")]
