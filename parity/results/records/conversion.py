"""``efficientdet-parity/conversion``: what became of every variable of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, UnsetType

from parity.results.records.hyperparameters import HyperparametersResult
from parity.results.records.record import Count, Record, ResultFile, Seconds, says

EXCLUDED = "excluded"
"""Use of a variable that fills no parameter."""


class Variable(Record, frozen=True):
    """What becomes of one variable."""

    variable: Annotated[str, says("its full name in the checkpoint")]
    shape: Annotated[Sequence[Count], says("its shape there")]
    use: Annotated[
        str,
        says(
            "`ema` or `raw` where its moving average or its value is used, `only` where its "
            "container holds one value, else `excluded`"
        ),
    ]
    parameter: Annotated[str, says("the parameter that it fills; may be empty")]
    layout: Annotated[str, says("how axes move on the way; may be empty")]
    reason: Annotated[str, says("why it is used or excluded")]

    @property
    def is_used(self) -> bool:
        """Whether it fills a parameter."""
        return self.use != EXCLUDED


class LedgerResult(Record, kw_only=True, frozen=True):
    """The complete account of a conversion."""

    model: Annotated[str, says("name of the model, or of the backbone that alone is wanted")]
    num_classes: Annotated[Count, says("number of classes; 0 of a backbone")]
    weights: Annotated[str, says("which values were asked for, `ema`, `raw` or `both`")]
    counts: Annotated[
        Mapping[str, Count], says("number of variables by use or reason of exclusion")
    ]
    findings: Annotated[
        Sequence[str], says("what is wrong; empty for a checkpoint that can be converted")
    ]
    notes: Annotated[Sequence[str], says("what a user should know although nothing is wrong")]
    hyperparameters: Annotated[
        HyperparametersResult | UnsetType,
        says("what was given besides the tensors and what is assumed; absent in older files"),
    ] = UNSET
    variables: Annotated[Sequence[Variable], says("one entry for each variable, in file order")]


class ReleaseResult(Record, kw_only=True, frozen=True):
    """One of Google's releases, and what says that a checkpoint is it."""

    name: Annotated[str, says("its official name, as `models` lists it")]
    how: Annotated[
        str,
        says(
            "`by its content`, `by its values` (the averages) or `by its raw values`, which are "
            "certain, or `by its official name`, `by its address`, `by its folder`"
        ),
    ]


class WrittenTensor(Record, kw_only=True, frozen=True):
    """What one tensor of the written file is made of."""

    name: Annotated[str, says("its name in the file")]
    shape: Annotated[Sequence[Count], says("its shape there")]
    parameter: Annotated[str, says("the parameter whose values it holds; may be empty")]
    layout: Annotated[str, says("how axes move between it and the parameter; may be empty")]
    reason: Annotated[
        str,
        says(
            "which value it is, `ema`, `raw` or `model` where there is one only, or why it is "
            "there without a parameter"
        ),
    ]


class WrittenResult(Record, kw_only=True, frozen=True):
    """The account of the written files."""

    files: Annotated[Sequence[str], says("the files, all of them complete")]
    tensors: Annotated[Sequence[WrittenTensor], says("one entry for each tensor, in file order")]
    notes: Annotated[Sequence[str], says("what a user should know of the files")] = ()


class ConvertedFrom(Record, kw_only=True, frozen=True):
    """Where the values of a file came from that was itself converted by this program."""

    source: Annotated[str | UnsetType, says("as `source` of that conversion")] = UNSET
    container: Annotated[str | UnsetType, says("likewise")] = UNSET
    archive_sha256: Annotated[str | None | UnsetType, says("likewise")] = UNSET
    checkpoint_fingerprint: Annotated[str | UnsetType, says("likewise")] = UNSET
    weights: Annotated[str | UnsetType, says("likewise")] = UNSET


class Provenance(Record, kw_only=True, frozen=True):
    """Where a converted model comes from; the .pth file holds the same."""

    source: Annotated[str | UnsetType, says("the checkpoint, or where it was downloaded")] = UNSET
    container: Annotated[
        str | UnsetType, says("what kind of file it is; absent in older files, where it is `tf1`")
    ] = UNSET
    archive_sha256: Annotated[
        str | None | UnsetType, says("of the archive it was in; null where it was in none")
    ] = UNSET
    index_sha256: Annotated[
        str | UnsetType, says("of the checkpoint's index file, where it has one")
    ] = UNSET
    file_sha256: Annotated[
        str | UnsetType, says("of the file, where the container is a single one")
    ] = UNSET
    checked: Annotated[
        str | UnsetType, says("what was verified, or that the container carries no checksum")
    ] = UNSET
    checkpoint_fingerprint: Annotated[
        str | UnsetType, says("SHA-256 of the sorted (name, CRC32C) pairs of all tensors")
    ] = UNSET
    values_fingerprint: Annotated[
        str | UnsetType, says("the same of the tensors that were used")
    ] = UNSET
    model_fingerprint: Annotated[
        str | None | UnsetType,
        says(
            "the same of the model's values, whatever file they came from: by the variables' "
            "official names, as float32 in TensorFlow's layout; null of a backbone"
        ),
    ] = UNSET
    converted_from: Annotated[
        ConvertedFrom | UnsetType,
        says("where the values came from before, of a file that this program wrote"),
    ] = UNSET
    release: Annotated[
        ReleaseResult | None | UnsetType,
        says("which of Google's releases it is; null where nothing says so"),
    ] = UNSET
    licence: Annotated[
        str | None | UnsetType,
        says("of the checkpoint; null where it is none of Google's releases, or not known as one"),
    ] = UNSET
    weights: Annotated[
        str | UnsetType,
        says(
            "which values were taken, `ema`, `raw` or `both`; `only` where the file has one value "
            "of each variable and does not say which"
        ),
    ] = UNSET
    stripped_prefix: Annotated[
        str | None | UnsetType,
        says("what was left out before the file's names, with `--strip-prefix`; else null"),
    ] = UNSET
    variables: Annotated[
        Mapping[str, Count] | UnsetType, says("number of variables by use or reason of exclusion")
    ] = UNSET
    dtypes: Annotated[
        Mapping[str, Count] | UnsetType,
        says("number of the variables used by the type in which the checkpoint stores them"),
    ] = UNSET
    notes: Annotated[Sequence[str], says("what a user should know although nothing is wrong")] = ()
    warnings: Annotated[Sequence[str] | UnsetType, says("of earlier versions of the program")] = (
        UNSET
    )
    hyperparameters: Annotated[
        HyperparametersResult | UnsetType,
        says("what was given besides the tensors and what is assumed; absent in older files"),
    ] = UNSET
    versions: Annotated[
        Mapping[str, str | None] | UnsetType, says("of the packages that converted it")
    ] = UNSET


class ConversionResult(ResultFile, kw_only=True, frozen=True):
    """A conversion, or with `--list` the account of one that was not made."""

    schema: Annotated[Literal["efficientdet-parity/conversion"], says("what the file is")] = (
        "efficientdet-parity/conversion"
    )
    version: Annotated[Literal[1], says("the version of this schema")] = 1
    target: Annotated[str | UnsetType, says("the file written; absent with `--list`")] = UNSET
    to: Annotated[
        str | UnsetType, says("what kind of file was written, as of `--to`; absent with `--list`")
    ] = UNSET
    naming: Annotated[str | UnsetType, says("in older files, in place of `to`")] = UNSET
    backbone: Annotated[
        str | UnsetType, says("name of the backbone, where it alone was converted")
    ] = UNSET
    model: Annotated[
        str | UnsetType, says("name of the model; absent with `--list` and of a backbone")
    ] = UNSET
    config: Annotated[
        Mapping[str, Any] | UnsetType, says("the model's configuration; absent like `model`")
    ] = UNSET
    provenance: Annotated[
        Provenance | UnsetType, says("where the values come from; absent with `--list`")
    ] = UNSET
    ledger: Annotated[LedgerResult, says("what became of every variable")]
    written: Annotated[
        WrittenResult | UnsetType,
        says("what became of every parameter; absent with `--list` and of a backbone"),
    ] = UNSET
    verified: Annotated[
        bool | UnsetType,
        says(
            "with `--list`: whether every value was read, its CRC32C verified and every value in "
            "use found finite; false where the index alone is there"
        ),
    ] = UNSET
    seconds: Annotated[Seconds | UnsetType, says("wall time; absent with `--list`")] = UNSET
