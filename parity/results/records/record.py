"""What every result file is made of: records that are written, read and described alike.

A field is declared once, with its type, its limits and its meaning. From that follow the JSON that
is written, the checks when it is read (:mod:`parity.results.reading`), and the JSON schema and the
tables of ``docs/results.md`` (:mod:`parity.results.documentation`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import msgspec
from msgspec import Meta, Struct

from parity.process.files import write_json

if TYPE_CHECKING:
    Figure = float
else:

    class Figure(float):
        """A number, which may be NaN or infinite: JSON holds these as texts."""


NOT_FINITE = ("nan", "inf", "-inf")
"""What stands for numbers that JSON cannot hold."""

_LARGEST = 2**53
"""Up to here every program reads a whole number of JSON as what it is."""

Whole = Annotated[int, Meta(ge=-_LARGEST, le=_LARGEST)]
"""A whole number."""

Count = Annotated[int, Meta(ge=0, le=_LARGEST)]
"""A whole number that is not negative."""

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
"""Wall time."""

Fraction = Annotated[float, Meta(ge=-1, le=1)]
"""A metric of 0 to 1, or the difference of two; never NaN or infinite."""

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
"""A digest."""

Side = Annotated[str, Meta(pattern="^(tensorflow|torch|candidate)$")]
"""A framework, or the candidate that takes the place of the converted model."""

_R = TypeVar("_R")


def says(description: str, **limits: Any) -> Meta:
    """What a field means, for the schema and the documentation.

    Args:
        description: The meaning, which begins like the rest of a sentence.
        limits: Further ones of :class:`msgspec.Meta`, such as ``min_length``.
    """
    return Meta(description=description, **limits)


class Record(Struct, frozen=True):
    """Some fields of a result file that belong together."""


class ResultFile(Record, kw_only=True, frozen=True):
    """A whole result file.

    A subclass declares its fields ``schema`` and ``version`` with the values that they have.
    """

    step: ClassVar[str] = "its command"
    """What makes such a file, for messages."""


def plain(record: Record) -> dict[str, Any]:
    """A record as the values that JSON can hold.

    Args:
        record: Any, with fields of the types that it declares.
    """
    values: dict[str, Any] = _finite(msgspec.to_builtins(record, enc_hook=_figure, str_keys=True))
    return values


def _figure(value: Any) -> float:
    if isinstance(value, float):
        return float(value)
    raise TypeError(f"a record holds {type(value)}, which JSON cannot hold")


def _finite(value: Any) -> Any:
    """The same with texts for numbers that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def made(kind: type[_R], source: Any) -> _R:
    """A record of some kind, checked.

    Args:
        kind: The kind of record.
        source: Plain values, or any object whose attributes have the names of the record's fields.

    Raises:
        msgspec.ValidationError: A value is missing or not what its field is for.
    """
    return msgspec.convert(source, kind, from_attributes=True, dec_hook=_typed)


def _typed(kind: type, value: Any) -> Any:
    """A value of a type of our own from a plain one."""
    if kind is not Figure:
        # So msgspec is told that this is no type of ours.
        raise NotImplementedError(kind)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number and value not in NOT_FINITE:
        raise ValueError("Expected `number`")
    try:
        return Figure(value)
    except OverflowError:
        raise ValueError("Expected `number`") from None


def write(path: Path, record: ResultFile) -> None:
    """Write a result file; it appears complete or not at all.

    Args:
        path: The file.
        record: What it is to hold.

    Raises:
        InputError: The file cannot be written.
    """
    write_json(path, plain(record))


def identity(kind: type[ResultFile]) -> tuple[str, int]:
    """Schema and version of the files of a kind."""
    defaults: Mapping[str, Any] = {
        field.name: field.default for field in msgspec.structs.fields(kind)
    }
    return defaults["schema"], defaults["version"]
