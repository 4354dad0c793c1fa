"""TensorFlow V2 checkpoints ("bundles") without TensorFlow.

A bundle is an index file, a table of one record per tensor, and data files that hold the tensors'
little-endian bytes one after another. Every tensor's record has its place and its CRC32C.
"""

import glob
import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import google_crc32c
import numpy as np

from converter.tensorflow_files import string_tensors, wire
from converter.tensorflow_files.table import read_table, unmask_crc
from efficientdet_spec import (
    HEAD_BYTES,
    Cause,
    InputError,
    OpenFile,
    is_possible,
    lookalike,
    lookalike_of,
    printable,
    read_regular,
    shortened,
)

# TensorFlow's types by number: its name for each, and NumPy's type if there is one.
TYPES: Mapping[int, tuple[str, np.dtype[Any] | None]] = MappingProxyType(
    {
        1: ("DT_FLOAT", np.dtype("<f4")),
        2: ("DT_DOUBLE", np.dtype("<f8")),
        3: ("DT_INT32", np.dtype("<i4")),
        4: ("DT_UINT8", np.dtype("u1")),
        5: ("DT_INT16", np.dtype("<i2")),
        6: ("DT_INT8", np.dtype("i1")),
        7: ("DT_STRING", None),
        8: ("DT_COMPLEX64", np.dtype("<c8")),
        9: ("DT_INT64", np.dtype("<i8")),
        10: ("DT_BOOL", np.dtype("?")),
        11: ("DT_QINT8", None),
        12: ("DT_QUINT8", None),
        13: ("DT_QINT32", None),
        14: ("DT_BFLOAT16", None),
        15: ("DT_QINT16", None),
        16: ("DT_QUINT16", None),
        17: ("DT_UINT16", np.dtype("<u2")),
        18: ("DT_COMPLEX128", np.dtype("<c16")),
        19: ("DT_HALF", np.dtype("<f2")),
        20: ("DT_RESOURCE", None),
        21: ("DT_VARIANT", None),
        22: ("DT_UINT32", np.dtype("<u4")),
        23: ("DT_UINT64", np.dtype("<u8")),
    }
)
BFLOAT16 = "DT_BFLOAT16"
"""The upper half of a float32, for which NumPy has no type: read as the float32 that it is."""

BFLOAT16_BITS = np.dtype("<u2")

TYPE_NUMBERS = MappingProxyType(
    {dtype: number for number, (_, dtype) in TYPES.items() if dtype is not None}
)
"""TensorFlow's number of each of NumPy's types."""

STRING, STRING_NUMBER = "DT_STRING", 7
"""Texts, whose checksum covers more than the bytes: see :mod:`.string_tensors`."""

# Their checksums cover more than the bytes, too, and no checkpoint of a model has them.
_OBJECTS = frozenset(("DT_RESOURCE", "DT_VARIANT"))

_CHUNK_BYTES = 1 << 20  # a multiple of every element's size
MAX_INDEX_BYTES = 1 << 25  # D7x's index has about 0.2 MB
_MAX_RANK = 32  # what every NumPy can hold
_MAX_NAME = 1000  # the longest official name has 89 characters


@dataclass(frozen=True)
class BundleEntry:
    """One tensor as the index describes it.

    Attributes:
        name: The variable's name.
        dtype: Type of the elements, or None if NumPy has none for it (strings, bfloat16).
            :meth:`Bundle.read` gives bfloat16 as the float32 that it is.
        dtype_name: TensorFlow's name of the type, such as `DT_FLOAT`.
        shape: Extents.
        shard: Number of the data file that holds the bytes.
        offset: First byte in that file.
        size: Number of bytes.
        crc32c: CRC32C of the bytes.
    """

    name: str
    dtype: np.dtype[Any] | None
    dtype_name: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc32c: int

    @property
    def stored(self) -> np.dtype[Any] | None:
        """NumPy's type for the bytes of one element; None where there is none."""
        return BFLOAT16_BITS if self.dtype_name == BFLOAT16 else self.dtype


@dataclass(frozen=True)
class BundleIndex:
    """What a checkpoint holds, without the values.

    Attributes:
        path: The index file.
        num_shards: Number of data files.
        entries: The tensors by name, in name order.
    """

    path: Path
    num_shards: int
    entries: Mapping[str, BundleEntry]

    def fingerprint(self, names: Iterable[str] | None = None) -> str:
        """Identify a release by its content.

        Args:
            names: The tensors to cover; all by default.

        Returns:
            SHA-256, in hexadecimal, of the sorted names and their values' CRC32C.

        Raises:
            KeyError: The index has no tensor of one of the names.
        """
        chosen = self.entries if names is None else set(names)
        return fingerprint({name: self.entries[name].crc32c for name in chosen})


def fingerprint(checksums: Mapping[str, int]) -> str:
    """SHA-256, in hexadecimal, of the sorted names and their values' CRC32C.

    Args:
        checksums: CRC32C by name.
    """
    digest = hashlib.sha256()
    for name in sorted(checksums):
        digest.update(f"{name}\0{checksums[name]:08x}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Bundle:
    """A checkpoint whose data files are open.

    There is nothing to close: a file stays open as long as the bundle lives. The files may be
    replaced or deleted meanwhile; what is changed in place is found by the checksums.

    Attributes:
        prefix: What the names of all files of the checkpoint begin with.
        index: What the checkpoint holds.
    """

    prefix: Path
    index: BundleIndex
    _files: Mapping[int, OpenFile]

    def read(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Return a tensor's values after verifying their checksum.

        Returns:
            An array of its own that cannot be written to; of bfloat16 its float32.

        Raises:
            InputError: There is no such tensor, it is not numeric, or its bytes are damaged.
        """
        entry = self.index.entries.get(name)
        if entry is None:
            raise self._unlisted(name)
        if entry.stored is None:
            raise InputError(
                f"tensor {name!r} of {self.index.path} has type {entry.dtype_name}; expected a type"
                " that NumPy has, so leave it out or save it as float32",
                Cause.FORMAT,
            )
        content = np.empty(entry.size, np.uint8)
        self._files[entry.shard].fill(content.data, entry.offset)
        content.flags.writeable = False
        self._check(entry, google_crc32c.value(content))
        return _values(entry, content).reshape(entry.shape)

    def read_strings(self, name: str) -> list[bytes]:
        """Return the elements of a tensor of strings, in row-major order, verified.

        Raises:
            InputError: There is no such tensor, it holds no strings, or they are damaged.
        """
        entry = self.index.entries.get(name)
        if entry is None:
            raise self._unlisted(name)
        if entry.dtype_name != STRING:
            raise InputError(
                f"tensor {name!r} of {self.index.path} has type {entry.dtype_name}; expected"
                " strings, so copy or download the checkpoint again",
                Cause.FORMAT,
            )
        if entry.size > string_tensors.MAX_BYTES:
            raise InputError(
                f"tensor {name!r} of {self.index.path} has {entry.size:,} bytes of strings;"
                f" expected at most {string_tensors.MAX_BYTES:,}, so save the checkpoint without"
                " it",
                Cause.FORMAT,
            )
        content = bytearray(entry.size)
        self._files[entry.shard].fill(memoryview(content), entry.offset)
        try:
            strings, checksum = string_tensors.decode(bytes(content), math.prod(entry.shape))
        except wire.WireError as error:
            path = shard_path(self.prefix, entry.shard, self.index.num_shards)
            raise InputError(
                f"{path} is damaged: bytes {entry.offset} to {entry.offset + entry.size}, tensor"
                f" {name!r}, are not the strings that they should be ({error}); copy or download"
                " both files again",
                Cause.FORMAT,
            ) from error
        self._check(entry, checksum)
        return strings

    def _unlisted(self, name: str) -> InputError:
        return InputError(
            f"{self.index.path} lists no tensor {name!r} among its {len(self.index.entries)};"
            " expected one of the names it lists, so check the name",
            Cause.MODEL,
        )

    def verify(self, name: str) -> int:
        """Verify a tensor's checksum, with little memory, and look at its values meanwhile.

        Returns:
            How many of its values are NaN or infinite; 0 for whatever is not floating-point.

        Raises:
            InputError: Its bytes are damaged, or their checksum is not one of bytes alone.
            KeyError: There is no such tensor.
        """
        entry = self.index.entries[name]
        if entry.dtype_name == STRING:
            self.read_strings(name)
            return 0
        if entry.dtype_name in _OBJECTS:
            raise InputError(
                f"tensor {name!r} of {self.index.path} has type {entry.dtype_name}, which cannot be"
                " verified; expected numbers, so save the checkpoint without it",
                Cause.FORMAT,
            )
        is_float = entry.dtype_name == BFLOAT16 or (
            entry.dtype is not None and entry.dtype.kind == "f"
        )
        buffer = np.empty(min(_CHUNK_BYTES, entry.size), np.uint8)
        checksum = odd = 0
        for start in range(0, entry.size, _CHUNK_BYTES):
            chunk = buffer[: min(_CHUNK_BYTES, entry.size - start)]
            self._files[entry.shard].fill(chunk.data, entry.offset + start)
            # Its signature asks for bytes, but any memory that cannot be written will do.
            chunk.flags.writeable = False
            checksum = google_crc32c.extend(checksum, chunk)
            if is_float:
                odd += count_not_finite(_values(entry, chunk))
        self._check(entry, checksum)
        return odd

    def _check(self, entry: BundleEntry, computed: int) -> None:
        if computed != entry.crc32c:
            path = shard_path(self.prefix, entry.shard, self.index.num_shards)
            raise InputError(
                f"{path} is damaged: bytes {entry.offset} to {entry.offset + entry.size}, tensor"
                f" {entry.name!r}, have CRC32C {computed:#010x}, but {self.index.path.name} expects"
                f" {entry.crc32c:#010x}; copy or download both files again",
                Cause.FORMAT,
            )


def _values(
    entry: BundleEntry, content: np.ndarray[Any, np.dtype[np.uint8]]
) -> np.ndarray[Any, np.dtype[Any]]:
    """The elements that bytes stand for."""
    if entry.dtype is not None:
        return content.view(entry.dtype)
    widened = (content.view(BFLOAT16_BITS).astype(np.uint32) << 16).view(np.float32)
    widened.flags.writeable = False
    return widened


def count_not_finite(array: np.ndarray[Any, np.dtype[Any]]) -> int:
    """How many elements of a floating-point array are NaN or infinite."""
    # One infinite or NaN element makes the sum so; finite sums may overflow, so look again.
    with np.errstate(over="ignore", invalid="ignore"):
        if math.isfinite(np.add.reduce(array, axis=None)):
            return 0
    return int(array.size - np.count_nonzero(np.isfinite(array)))


def read_index(path: Path) -> BundleIndex:
    """Read the index file of a checkpoint.

    Raises:
        InputError: The file cannot be read, is something else, is damaged, or describes a
            checkpoint in a form that is not supported.
    """
    items = read_table(_read_index_file(path), str(path))
    if not items or items[0][0]:
        raise InputError(
            f"{path} is a table without a checkpoint header; expected the .index file of a"
            " TensorFlow V2 checkpoint, so give that file",
            Cause.FORMAT,
        )
    try:
        header = wire.decode_header(items[0][1])
    except wire.WireError as error:
        raise _damaged(path, f"its header cannot be decoded ({error})") from error
    if header.big_endian:
        raise InputError(
            f"{path} describes a big-endian checkpoint; expected little-endian data, so load it in"
            " TensorFlow on a little-endian machine and save it again",
            Cause.FORMAT,
        )
    if header.min_consumer > wire.FORMAT_VERSION:
        raise InputError(
            f"{path} asks for a reader of format version {header.min_consumer}; expected at most"
            f" {wire.FORMAT_VERSION}, so save the checkpoint with TensorFlow 1 or 2",
            Cause.FORMAT,
        )
    if header.num_shards < 1:
        raise _damaged(path, f"it claims {header.num_shards} data files")

    entries: dict[str, BundleEntry] = {}
    has_slices = False
    for key, value in items[1:]:
        # Keys that begin with a zero byte are the pieces of partitioned tensors.
        if key.startswith(b"\0"):
            has_slices = True
            continue
        entry = _decode_entry(path, key, value, header.num_shards)
        entries[entry.name] = entry
    if has_slices:
        raise _damaged(path, "it holds pieces of partitioned tensors, but no such tensor")
    _require_gapless(path, entries.values())
    return BundleIndex(path, header.num_shards, MappingProxyType(entries))


def _require_gapless(path: Path, entries: Iterable[BundleEntry]) -> None:
    """Refuse tensors that share bytes, or leave some to none: TensorFlow writes one after another.

    Every checksum of such a file can be right, and its values are still not those that were saved.
    """
    ends: dict[int, tuple[int, str]] = {}
    # An empty tensor lies at the beginning of the one behind it.
    for entry in sorted(entries, key=lambda entry: (entry.shard, entry.offset, entry.size)):
        end, before = ends.get(entry.shard, (0, "the beginning"))
        if entry.offset != end:
            what = "overlaps" if entry.offset < end else f"leaves {entry.offset - end} bytes behind"
            raise _damaged(
                path,
                f"tensor {entry.name!r} at bytes {entry.offset} to {entry.offset + entry.size} of "
                f"data file {entry.shard} {what} {before}, which ends at {end}",
            )
        ends[entry.shard] = end + entry.size, f"tensor {entry.name!r}"


def open_bundle(prefix: Path, index: BundleIndex | None = None) -> Bundle:
    """Open a checkpoint: read its index, open its data files and check that they are as long.

    Args:
        prefix: What the names of the files begin with, such as `.../model` for
            `.../model.index`.
        index: The content of its index, where it has been read already.

    Raises:
        InputError: A file is missing, unreadable, truncated or not what it should be.
    """
    index_path = index_file(prefix)
    if not os.path.isfile(index_path):
        state, advice = _describe(prefix) if os.path.exists(prefix) else ("", "")
        found = f"; {prefix} itself {state}" if state else ""
        raise InputError(
            f"{index_path} is missing or not a regular file{found}; expected a TensorFlow"
            " checkpoint, so give the path that its files share, without .index or"
            f" .data-00000-of-00001{f', or {advice}' if advice else ''}",
            Cause.FILE,
        )
    index = index or read_index(index_path)
    last: dict[int, BundleEntry] = {}
    for entry in index.entries.values():
        known = last.get(entry.shard)
        # Of two that end there, one is empty.
        if known is None or known.offset + known.size <= entry.offset + entry.size:
            last[entry.shard] = entry
    files = {}
    for shard, entry in sorted(last.items()):
        path = shard_path(prefix, shard, index.num_shards)
        files[shard] = _open_data(path, index_path)
        end, size = entry.offset + entry.size, files[shard].size
        if end != size:
            if (other := lookalike_of(path)) is not None and other.advice:
                raise InputError(
                    f"{path} looks like {other.kind}; expected the data file that belongs to"
                    f" {index_path.name}, of {end:,} bytes, so {other.advice}",
                    Cause.FORMAT,
                )
            state = "is truncated" if end > size else "has bytes behind its last tensor"
            raise InputError(
                f"{path} {state}: it has {size} bytes, but tensor {entry.name!r} lies"
                f" at bytes {entry.offset} to {end}; expected the data file"
                f" that belongs to {index_path.name}, so copy or download both again",
                Cause.FORMAT,
            )
    return Bundle(prefix, index, MappingProxyType(files))


def _damaged(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} is a damaged checkpoint index: {found}; expected the index as TensorFlow wrote it,"
        " so copy or download the file again",
        Cause.FORMAT,
    )


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} cannot be read: {error.strerror or error}; expected a readable file of a"
        " TensorFlow checkpoint, so check the path and its permissions",
        Cause.of(error),
    )


def index_file(prefix: Path) -> Path:
    """The index file of the checkpoint with this prefix.

    Raises:
        InputError: The prefix has no last part to name files by.
    """
    if not prefix.name:
        raise InputError(
            f"'{prefix}' names a folder; expected what a checkpoint's file names begin with, so add"
            " a name such as 'model'",
            Cause.FILE,
        )
    return prefix.with_name(prefix.name + ".index")


def checkpoint_files(prefix: Path) -> list[Path]:
    """The files that exist of the checkpoint with this prefix: index, data and graph."""
    name = f"{glob.escape(prefix.name)}."
    return sorted(prefix.parent.glob(f"{name}index")) + sorted(
        path for kind in ("data-*", "meta") for path in prefix.parent.glob(name + kind)
    )


def shard_path(prefix: Path, shard: int, num_shards: int) -> Path:
    """The data file of a checkpoint with this number, of so many."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{num_shards:05d}")


def _describe(path: Path) -> tuple[str, str]:
    """What a file is that is no checkpoint, to follow its name in a sentence, and what to do."""
    if not path.is_file():
        return "is a folder" if path.is_dir() else "is not a regular file", ""
    found = lookalike_of(path)
    if found is not None:
        return f"looks like {found.kind}", found.advice
    try:
        return "is a file of another kind" if path.stat().st_size else "is empty", ""
    except OSError as error:
        return f"cannot be read ({error.strerror or error})", ""


def _read_index_file(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise InputError(
                f"{path} is not a regular file; expected the .index file of a TensorFlow"
                " checkpoint, so give that file",
                Cause.FILE,
            )
        size = path.stat().st_size
        if size > MAX_INDEX_BYTES:
            raise InputError(
                f"{path} has {size} bytes; expected a checkpoint index, which takes at most"
                f" {MAX_INDEX_BYTES}, so give the .index file and not the data",
                Cause.FORMAT,
            )
        data = read_regular(path, MAX_INDEX_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not data or lookalike(data[:HEAD_BYTES]) is not None:
        state, advice = _describe(path)
        raise InputError(
            f"{path} {state}; expected the .index file of a TensorFlow checkpoint, so"
            f" {advice or 'give that file'}",
            Cause.FORMAT,
        )
    return data


def _decode_entry(path: Path, key: bytes, value: bytes, num_shards: int) -> BundleEntry:
    """Turn one pair of the table into an entry whose numbers agree with each other."""
    try:
        name = key.decode()
    except UnicodeDecodeError as error:
        raise _damaged(path, f"the tensor name {key!r:.100} is not UTF-8") from error
    # TensorFlow gives no such names, and they would write what they like on a terminal.
    if not name.isprintable():
        raise _damaged(path, f"the tensor name {printable(f'{name:.100}')!r} cannot be printed")
    if len(name) > _MAX_NAME:
        raise InputError(
            f"{path} has a tensor name of {len(name):,} letters, {shortened(name, 60)!r}; expected"
            f" at most {_MAX_NAME:,} (official names are far shorter), so save the checkpoint with"
            " shorter names",
            Cause.FORMAT,
        )
    try:
        record = wire.decode_record(value)
    except wire.WireError as error:
        raise _damaged(path, f"the entry of {name!r} cannot be decoded ({error})") from error
    if record.sliced:
        raise InputError(
            f"{path} holds tensor {name!r} in several pieces (a partitioned variable); expected"
            " every tensor in one piece, so load the checkpoint without a partitioner and save it"
            " again",
            Cause.FORMAT,
        )
    dtype_name, dtype = TYPES.get(record.dtype, (f"type {record.dtype}", None))
    if not record.dtype:
        raise _damaged(path, f"tensor {name!r} has no type")
    if not 0 <= record.shard < num_shards:
        raise _damaged(path, f"tensor {name!r} lies in data file {record.shard} of {num_shards}")
    if record.offset < 0 or record.size < 0 or record.offset + record.size >= 1 << 63:
        raise _damaged(
            path, f"tensor {name!r} has offset {record.offset} and size {record.size} bytes"
        )
    if len(record.shape) > _MAX_RANK:
        raise _damaged(path, f"tensor {name!r} has {len(record.shape)} dimensions")
    if any(extent < 0 for extent in record.shape):
        raise _damaged(path, f"tensor {name!r} has the negative shape {list(record.shape)}")
    stored = BFLOAT16_BITS if dtype_name == BFLOAT16 else dtype
    if stored is not None:
        needed = math.prod(record.shape) * stored.itemsize
        if not is_possible(record.shape) or needed != record.size:
            raise _damaged(
                path,
                f"tensor {name!r} of type {dtype_name} and shape {list(record.shape)} takes"
                f" {needed} bytes, but {record.size} are recorded",
            )
    return BundleEntry(
        name,
        dtype,
        dtype_name,
        record.shape,
        record.shard,
        record.offset,
        record.size,
        unmask_crc(record.masked_crc),
    )


def _open_data(path: Path, index_path: Path) -> OpenFile:
    if not os.path.isfile(path):
        raise InputError(
            f"{path} is missing or not a regular file; expected this data file beside"
            f" {index_path.name}, so copy or download it too",
            Cause.FILE,
        )
    try:
        return OpenFile(path)
    except OSError as error:
        raise _unreadable(path, error) from error
