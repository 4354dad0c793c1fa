"""``efficientdet-parity/detect``: both sides' detections in single images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from parity.process.outcome import Outcome
from parity.results.records.detections import BySide, ImageMatching
from parity.results.records.record import Count, Figure, Record, ResultFile, Side, says
from parity.results.records.shared import Checkpoint, Environment
from parity.results.records.stages import StageValues


class DetectCompared(Record, frozen=True):
    """What the outcome of detections in single images rests on."""

    images: Annotated[Count, says("images that went through both sides")]
    failed: Annotated[Count, says("images that failed")]
    detections: Annotated[BySide, says("detections of each with a score of at least `min_score`")]
    matched: Annotated[Count, says("pairs of detections of any score")]


class DetectImage(Record, kw_only=True, frozen=True):
    """One image. What may be absent is there only where it did not fail."""

    file: Annotated[str, says("the image")]
    failures: Annotated[Mapping[Side, str], says("by side, why it failed")]
    detections: Annotated[
        Mapping[Side, Sequence[Sequence[Figure]]],
        says("by side, the detections; `columns` says what their numbers are"),
    ]
    picture: Annotated[
        str | UnsetType, says("name of the file beside this one that shows both sides' detections")
    ] = UNSET
    shown: Annotated[
        BySide | UnsetType, says("how many detections the picture shows on each side")
    ] = UNSET
    visibly_different: Annotated[
        Count | UnsetType, says("how many of those shown differ from the other side's visibly")
    ] = UNSET
    matching: Annotated[
        ImageMatching | UnsetType, says("both sides' detections matched one to one")
    ] = UNSET


class DetectResult(ResultFile, kw_only=True, frozen=True):
    """Both sides' detections in single images."""

    schema: Annotated[Literal["efficientdet-parity/detect"], says("what the file is")] = (
        "efficientdet-parity/detect"
    )
    version: Annotated[Literal[2], says("the version of this schema")] = 2
    outcome: Annotated[
        Outcome,
        says(
            "`parity`; `difference` where a detection differs visibly; `not shown` where an image "
            "failed, or nothing was detected on one of the sides"
        ),
    ]
    passes: Annotated[bool, says("whether `outcome` is `parity`")]
    sentence: Annotated[str, says("why")]
    compared: Annotated[DetectCompared, says("what the outcome rests on")]
    min_score: Annotated[Figure, says("detections below it were neither drawn nor judged")]
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
            "sentences on files that were left out, and on how the candidate's detections came "
            "about"
        ),
    ] = ()
    profile: Annotated[
        Mapping[str, str], says("variants of the stages around the network, and their `name`")
    ]
    stages: Annotated[
        StageValues | None,
        says("what the stages around the network did, in numbers; null in files of before"),
    ] = None
    size: Annotated[Sequence[Count], says("height and width of the network's input in pixels")]
    environment: Environment
    columns: Annotated[Sequence[str], says("what the numbers of a detection are")]
    images: Annotated[Sequence[DetectImage], says("one entry for each image")]

    def __post_init__(self) -> None:
        """Check that pictures lie beside the file, which pages rely on."""
        for image in self.images:
            name = image.picture
            if isinstance(name, str) and not _is_picture(name):
                raise ValueError(f"names the picture {name!r:.60}, expected a .png file beside it")


def _is_picture(name: str) -> bool:
    return name.endswith(".png") and not set(name) & set("/\\\0")
