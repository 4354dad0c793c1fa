"""``efficientdet-parity/gradients``: a comparison of gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Literal

from parity.judge.verdict import Verdict
from parity.results.records.record import Count, Figure, Record, ResultFile, Seconds, says
from parity.results.records.shared import Checkpoint, Environment, Images


def is_statistic(name: str) -> bool:
    """Whether a name is that of a batch norm's statistic, which is no parameter.

    Args:
        name: In a state dict.
    """
    return name.rsplit(".", 1)[-1] in ("running_mean", "running_var")


class Mode(str, Enum):
    """What batch norms normalise by."""

    INFERENCE = "inference"
    """The moving statistics."""
    TRAINING = "training"
    """The statistics of the batch."""


class DitheredImages(Images, kw_only=True, frozen=True):
    """The images that both sides were differentiated at."""

    dither: Annotated[Figure, says("deviation of the noise that keeps max-pools from ties")]


class GradientLimits(Record, frozen=True):
    """What the gradients are judged by."""

    structure: Annotated[
        Figure, says("largest difference of the float64 gradients, relative to their norm")
    ]
    units: Annotated[Figure, says("what float32 may be off, in units")]
    reference_terms: Annotated[
        Count, says("number of values that the reference may add one after another")
    ]
    draws: Annotated[Count, says("disturbances from which a unit is estimated")]


class Gradient(Record, kw_only=True, frozen=True):
    """One parameter's gradient, the images', a moving statistic or the scalar itself."""

    name: Annotated[str, says("the parameter; `images` and `scalar` are these")]
    mode: Annotated[Mode, says("whether batch norms are in inference or in training")]
    shape: Annotated[
        Sequence[Count] | None, says("in PyTorch's layout; null where the reference has none")
    ]
    verdict: Annotated[Verdict, says("in the words of a node's")]
    reason: Annotated[str, says("why, in words")]
    norm: Annotated[Figure | None, says("Euclidean norm of the reference's float64 gradient")]
    structure: Annotated[
        Figure | None,
        says("difference of the float64 gradients, of their norm or of what cancels"),
    ]
    unit: Annotated[Figure | None, says("norm of the effect of rounding everything once")]
    candidate_units: Annotated[
        Figure | None, says("the candidate's float32 gradient from its float64 one, in units")
    ]
    reference_units: Annotated[Figure | None, says("the same of the reference")]
    candidate_limit: Annotated[Figure, says("units that the candidate may be off")]
    reference_limit: Annotated[Figure, says("units that the reference may be off")]


class GradientsResult(ResultFile, kw_only=True, frozen=True):
    """A comparison of gradients."""

    schema: Annotated[Literal["efficientdet-parity/gradients"], says("what this is")] = (
        "efficientdet-parity/gradients"
    )
    version: Annotated[Literal[2], says("the version of this schema")] = 2
    passes: Annotated[bool, says("whether every gradient has parity")]
    model: Annotated[str, says("name of the model")]
    checkpoint: Annotated[Checkpoint, says("what both sides were filled from")]
    candidate: Annotated[str, says("where the candidate came from")]
    images: Annotated[DitheredImages, says("the first input")]
    environment: Environment
    counts: Annotated[
        Mapping[Mode, Mapping[Verdict, Count]], says("number of gradients by mode and verdict")
    ]
    limits: Annotated[GradientLimits, says("what they are judged by")]
    seconds: Annotated[Mapping[str, Seconds], says("wall time by phase")]
    peak_memory_bytes: Annotated[Count, says("largest resident memory of the process")]
    gradients: Annotated[
        Sequence[Gradient],
        says(
            "one for the scalar, the images, each parameter and, in training, each moving "
            "statistic, in the order of the network, mode by mode"
        ),
    ]

    @property
    def only_statistics(self) -> bool:
        """Whether gradients have parity, and what training makes of the statistics has not."""
        failing = [item.name for item in self.gradients if item.verdict.fails]
        return bool(failing) and all(map(is_statistic, failing))
