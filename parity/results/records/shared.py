"""Records that several result files hold."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any

from msgspec import UNSET, UnsetType

from efficientdet_spec import printable
from parity.results.records.hyperparameters import HyperparametersResult
from parity.results.records.record import Count, Record, Sha256, says

Environment = Annotated[
    Mapping[str, Any],
    says("versions, processor, device, threads, oneDNN, TF32 and determinism settings"),
]


class Weights(str, Enum):
    """Which of a checkpoint's values are taken."""

    EMA = "ema"
    """The exponential moving averages."""
    RAW = "raw"
    """The values themselves."""


class Checkpoint(Record, frozen=True):
    """The checkpoint that both sides were filled from."""

    source: Annotated[str, says("where it came from")]
    fingerprint: Annotated[
        str, says("SHA-256 of the sorted (name, CRC32C) pairs of all tensors", max_length=64)
    ]
    weights: Annotated[Weights, says("which values: moving averages or raw ones")]
    hyperparameters: Annotated[
        HyperparametersResult | UnsetType,
        says("what was given besides its tensors and what is assumed; absent in older files"),
    ] = UNSET

    @property
    def told(self) -> str:
        """What was given besides the tensors and what is assumed, in one line; may be empty."""
        found = self.hyperparameters
        return "" if found is UNSET else printable(found.sentence)


class Images(Record, kw_only=True, frozen=True):
    """The images of a single input."""

    source: Annotated[str, says("where they came from")]
    height: Annotated[Count, says("in pixels")]
    width: Annotated[Count, says("in pixels")]
    batch: Annotated[Count | UnsetType, says("number of images")] = UNSET
    sha256: Annotated[Sha256, says("of the input tensor's bytes (NHWC, little endian)")]
