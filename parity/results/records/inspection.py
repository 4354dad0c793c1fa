"""``efficientdet-parity/inspection``: what a file is that holds a model's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, UnsetType

from parity.results.records.conversion import LedgerResult, Provenance
from parity.results.records.record import Count, Record, ResultFile, says


class InspectedFile(Record, kw_only=True, frozen=True):
    """One of the files that belong together."""

    path: Annotated[str, says("where it lies")]
    bytes: Annotated[Count, says("its size")]


class InspectionResult(ResultFile, kw_only=True, frozen=True):
    """A look at one file, or at the files that belong together."""

    schema: Annotated[Literal["efficientdet-parity/inspection"], says("what the file is")] = (
        "efficientdet-parity/inspection"
    )
    version: Annotated[Literal[1], says("the version of this schema")] = 1
    source: Annotated[str, says("what was looked at, or where it was downloaded")]
    container: Annotated[str, says("what kind of file it is, as `container` of a conversion")]
    says: Annotated[str, says("the same in words")]
    files: Annotated[Sequence[InspectedFile], says("the files, the graph of a checkpoint too")]
    names: Annotated[str, says("whose names the tensors have, such as `official` or `effdet`")]
    tensors: Annotated[Count, says("number of tensors in it, whatever they are")]
    values: Annotated[
        str,
        says(
            "which values there are of each variable: `ema and raw`, `ema`, `raw`, or `one`, "
            "where its container holds one"
        ),
    ]
    model: Annotated[
        str | UnsetType, says("name of the model; absent where none is recognised")
    ] = UNSET
    config: Annotated[
        Mapping[str, Any] | UnsetType, says("its configuration; absent like `model`")
    ] = UNSET
    provenance: Annotated[
        Provenance | UnsetType,
        says("fingerprints, release, licence and more; absent where the values cannot be used"),
    ] = UNSET
    ledger: Annotated[
        LedgerResult | UnsetType, says("what every tensor is; absent where no model is recognised")
    ] = UNSET
    problem: Annotated[
        str | UnsetType, says("what is wrong with it, in a sentence; absent where nothing is")
    ] = UNSET
