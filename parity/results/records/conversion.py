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
        str, says("`ema` or `raw` where its moving average or its value is used, else `excluded`")
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
    weights: Annotated[str, says("which values were asked for, `ema` or `raw`")]
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
    """One of Google's releases, and how a checkpoint is known to be it."""

    name: Annotated[str, says("its official name, as `models` lists it")]
    how: Annotated[
        str,
        says(
            "`by its content`, which is certain, or `by its official name`, `by its address`, "
            "`by its folder`"
        ),
    ]


class Provenance(Record, kw_only=True, frozen=True):
    """Where a converted model comes from; the .pth file holds the same."""

    source: Annotated[str | UnsetType, says("the checkpoint, or where it was downloaded")] = UNSET
    archive_sha256: Annotated[
        str | None | UnsetType, says("of the archive it was in; null where it was in none")
    ] = UNSET
    index_sha256: Annotated[str | UnsetType, says("of the checkpoint's index file")] = UNSET
    checkpoint_fingerprint: Annotated[
        str | UnsetType, says("SHA-256 of the sorted (name, CRC32C) pairs of all tensors")
    ] = UNSET
    values_fingerprint: Annotated[
        str | UnsetType, says("the same of the tensors that were used")
    ] = UNSET
    release: Annotated[
        ReleaseResult | None | UnsetType,
        says("which of Google's releases it is; null where nothing says so"),
    ] = UNSET
    licence: Annotated[
        str | None | UnsetType,
        says("of the checkpoint; null where it is none of Google's releases, or not known as one"),
    ] = UNSET
    weights: Annotated[str | UnsetType, says("which values were taken, `ema` or `raw`")] = UNSET
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
    naming: Annotated[
        str | UnsetType,
        says("whose keys the file has; absent where it is this project's own .pth"),
    ] = UNSET
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
    verified: Annotated[
        bool | UnsetType,
        says(
            "with `--list`: whether every value was read, its CRC32C verified and every value in "
            "use found finite; false where the index alone is there"
        ),
    ] = UNSET
    seconds: Annotated[Seconds | UnsetType, says("wall time; absent with `--list`")] = UNSET
