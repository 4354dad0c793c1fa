"""What an HDF5 file has, as the process that opened it says, held to what the file can have."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from converter.hdf5.child import LISTS, MOST_OBJECTS
from converter.mappings.layouts import Shape
from efficientdet_spec import is_possible

MOST_BYTES = 2**23
"""Of a listing: the largest official model's takes 0.5 million."""

MOST_UNPACKED = 2**28
"""Bytes of a packed tensor: the largest of an official model has 14 million."""

DEFLATE, SHUFFLE, CHECKSUM = 1, 2, 3
"""Filters by their numbers in HDF5's registry."""

_MOST_EXPANSION = 1032
"""Deflate's greatest ratio (zlib's technical details)."""

_MOST_RANK = 32

_TYPE = re.compile("[<>|][fiub][1248]")


class Inconsistent(Exception):
    """A file claims what it cannot have; says what."""


@dataclass(frozen=True)
class Dataset:
    """One dataset.

    Attributes:
        number: Its place in the listing.
        path: Its path in the file, without a slash before it.
        dtype: Type of its values; None where they are no numbers, or stored in an odd way.
        shape: Its shape.
        offset: The first byte of its values in the file; None where they are packed, or none.
        stored: Bytes in the file.
        filters: What its chunks went through, by number.
    """

    number: int
    path: str
    dtype: np.dtype[Any] | None
    shape: Shape
    offset: int | None
    stored: int
    filters: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of its values; of what are no numbers, those in the file."""
        if self.dtype is None:
            return self.stored
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Listing:
    """A file's content but for the values.

    Attributes:
        groups: Of each group by its path, empty for the file itself, its lists of names.
        datasets: By their paths.
    """

    groups: Mapping[str, Mapping[str, tuple[str, ...] | None]]
    datasets: Mapping[str, Dataset]


def read_listing(data: bytes | bytearray, size: int) -> Listing:
    """Take a listing apart.

    Args:
        data: As the child process has written it.
        size: Bytes of the file.

    Raises:
        Inconsistent: The file claims what it cannot have.
    """
    try:
        content = json.loads(data)
        groups = {
            _text(path): {name: _texts(lists[name]) for name in LISTS}
            for path, lists in content["groups"]
        }
        datasets = [_dataset(number, item) for number, item in enumerate(content["datasets"])]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Inconsistent("what is in it cannot be told") from error
    if len(groups) + len(datasets) > MOST_OBJECTS:
        raise Inconsistent(f"it has more than {MOST_OBJECTS:,} groups and datasets")
    for item in datasets:
        _require_possible(item, size)
    _require_apart(datasets)
    return Listing(groups, {item.path: item for item in datasets})


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError
    # Whatever a file's names are made of, they can be printed as text.
    return value.encode("utf-8", "backslashreplace").decode()


def _texts(value: Any) -> tuple[str, ...] | None:
    return None if value is None else tuple(_text(item) for item in value)


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise TypeError
    return value


def _dataset(number: int, item: Any) -> Dataset:
    path, dtype, shape, offset, stored, filters, chunk, chunks, layout = item
    if dtype is not None and not _TYPE.fullmatch(_text(dtype)):
        raise TypeError
    kind = None if dtype is None else np.dtype(dtype)
    extents = tuple(_number(extent) for extent in shape)
    found = Dataset(
        number,
        _text(path),
        kind,
        extents,
        None if offset is None else _number(offset),
        _number(stored),
        tuple(_number(item) for item in filters),
    )
    if len(extents) > _MOST_RANK or not is_possible(extents):
        raise Inconsistent(f"{found.path} has the shape {list(extents)!s:.200}")
    if layout == "chunked":
        _require_chunks(found, tuple(_number(extent) for extent in chunk), _number(chunks))
    return found


def _require_chunks(dataset: Dataset, chunk: Shape, chunks: int) -> None:
    """Refuse a dataset of which parts were never written: they would read as zeros."""
    if len(chunk) != len(dataset.shape) or not all(chunk):
        raise Inconsistent(f"{dataset.path} has chunks of another shape")
    parts = [-(-extent // part) for extent, part in zip(dataset.shape, chunk, strict=True)]
    if math.prod(parts) != chunks:
        raise Inconsistent(
            f"{dataset.path} has {chunks:,} of the {math.prod(parts):,} parts of its values"
        )
    if dataset.dtype is not None and math.prod(chunk) * dataset.dtype.itemsize > MOST_UNPACKED:
        raise Inconsistent(f"{dataset.path} has parts of more than {MOST_UNPACKED:,} bytes")


def _require_possible(dataset: Dataset, size: int) -> None:
    """Refuse a dataset that claims more than its bytes in the file can hold."""
    path, filters = dataset.path, dataset.filters
    if dataset.stored > size or (dataset.offset or 0) + dataset.stored > size:
        raise Inconsistent(
            f"{path} claims {dataset.stored:,} bytes at {dataset.offset or 0:,}, and the file has "
            f"{size:,}"
        )
    # Each filter once: deflated twice, little could become a million times as much.
    if not {DEFLATE, SHUFFLE, CHECKSUM}.issuperset(filters) or len(set(filters)) < len(filters):
        raise Inconsistent(f"{path} is packed with the filters {filters!s:.60} of HDF5")
    if dataset.dtype is None:
        return
    if dataset.offset is not None or not filters:
        wrong = dataset.size > dataset.stored
    else:
        wrong = dataset.size > min(dataset.stored * _MOST_EXPANSION, MOST_UNPACKED)
    if wrong:
        raise Inconsistent(
            f"{path} claims {dataset.size:,} bytes of values, and has {dataset.stored:,}"
        )


def _require_apart(datasets: list[Dataset]) -> None:
    """Refuse datasets that share bytes, or more bytes than there are: no writer makes such."""
    end, before = 0, ""
    placed = [item for item in datasets if item.offset is not None and item.stored]
    for item in sorted(placed, key=lambda item: item.offset or 0):
        start = item.offset or 0
        if start < end:
            raise Inconsistent(f"{item.path} shares bytes with {before}")
        end, before = start + item.stored, item.path
