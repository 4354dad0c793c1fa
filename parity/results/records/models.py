"""``efficientdet-parity/models``: every official model and release, with what is known of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from parity.results.records.record import Count, Fraction, Record, ResultFile, Sha256, says


class PreprocessingResult(Record, kw_only=True, frozen=True):
    """What becomes of an image's grey levels of 0 to 255."""

    mean_rgb: Annotated[Sequence[float], says("subtracted from red, green and blue")]
    stddev_rgb: Annotated[Sequence[float], says("what the differences are divided by")]
    scale_range: Annotated[
        bool, says("whether the results are then scaled by 2/255 and lowered by 1, as of AdvProp")
    ]


class ArchiveResult(Record, kw_only=True, frozen=True):
    """A checkpoint as it is released."""

    address: Annotated[str, says("where it lies")]
    container: Annotated[str, says("`tf1`: a TensorFlow 1 checkpoint; `tf2`: an object checkpoint")]
    bytes: Annotated[Count | None, says("its size; null where it is not known")]
    sha256: Annotated[Sha256 | None, says("of the archive; null where it is not known")]
    fingerprint: Annotated[
        Sha256 | None,
        says(
            "SHA-256 of the sorted (name, CRC32C) pairs of all tensors, by which it is recognised; "
            "null where it is not known"
        ),
    ]


class ApResult(Record, kw_only=True, frozen=True):
    """The AP that Google states, from 0 to 1; null where it states none."""

    source: Annotated[str, says("the page of google/automl that states it")]
    val: Annotated[Fraction | None, says("on COCO val2017")]
    test_dev: Annotated[Fraction | None, says("on COCO test-dev2017")]
    unspecified: Annotated[Fraction | None, says("in a table that does not say on which images")]
    profile: Annotated[
        str | None, says("the profile that it was made with; null where that is not said")
    ]


class ModelResult(Record, kw_only=True, frozen=True):
    """A release, and the model that it is of."""

    name: Annotated[str, says("official name, which stands for the checkpoint")]
    model: Annotated[str, says("name of its configuration")]
    size: Annotated[Sequence[Count], says("native height and width of the input, in pixels")]
    variables: Annotated[Count, says("number of TensorFlow variables")]
    parameters: Annotated[Count, says("number of values that training changes")]
    anchors: Annotated[Count, says("anchors of an input of the native size")]
    anchors_per_place: Annotated[Count, says("anchors at each place of each level")]
    anchor_scale: Annotated[
        Sequence[float], says("size of the smallest anchors of each level, in strides")
    ]
    levels: Annotated[Sequence[Count], says("feature levels, the finest first")]
    classes: Annotated[Count, says("number of classes")]
    backbone: Annotated[str, says("name of the backbone")]
    activation: Annotated[str, says("official `act_type`")]
    fusion: Annotated[str, says("official `fpn_weight_method`")]
    preprocessing: Annotated[PreprocessingResult, says("what becomes of grey levels")]
    same_variables: Annotated[
        Sequence[str], says("models that nothing in the variables tells from this one")
    ]
    proof: Annotated[
        str | None,
        says("the model whose published comparison covers this network; null where there is none"),
    ]
    ap: Annotated[ApResult, says("what Google states")]
    archive: Annotated[ArchiveResult, says("the checkpoint")]


class ModelsResult(ResultFile, kw_only=True, frozen=True):
    """Every official model and release."""

    step: ClassVar[str] = "models"

    schema: Annotated[Literal["efficientdet-parity/models"], says("what the file is")] = (
        "efficientdet-parity/models"
    )
    version: Annotated[Literal[1], says("the version of this schema")] = 1
    storage: Annotated[str, says("the folder that all archives lie below")]
    models: Annotated[Sequence[ModelResult], says("one for each release, by name")]
