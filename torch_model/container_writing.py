"""PyTorch's files, written without PyTorch, tensor by tensor.

The counterpart of :mod:`torch_model.container`. Records, their order and their places are as
:func:`torch.save` of PyTorch 2.13 lays them out (``caffe2/serialize/inline_container.cc`` and
``torch/serialization.py``): uncompressed, each begun at a multiple of 64 bytes, so that it can be
mapped into memory, and followed by its CRC-32. Only the pickle, which PyTorch has first, comes
behind the tensors, since what it says of them is not known before.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, InputError, writing
from torch_model.container import END, END_64, FIRST_RECORD, TYPES
from torch_model.pickle_writing import pickle_of
from torch_model.pickled import Storage, StoredTensor

_FOLDER = "archive/"
"""What the names of all records begin with."""

_ALIGNMENT = 64
"""Of the first byte of each record."""

_RECORDS: Mapping[str, bytes] = {
    # Storages follow each other by number, so that a reader can tell their places.
    FIRST_RECORD: b"1",
    ".storage_alignment": str(_ALIGNMENT).encode(),
    "byteorder": b"little",
}
"""What stands before the tensors."""

_VERSION = b"3\n"
"""Of the archive, since PyTorch 1.6."""

_MOST = 0xFFFFFFFF
"""Sizes and places from here on do not fit the 32 bits that a ZIP archive has for them, and stand
in a field of 64 bits beside."""

_ELSEWHERE = 0xFFFFFFFF
"""What stands in 32 bits where the number is in 64."""

_LOCAL = struct.Struct("<4s5H3I2H")
"""What stands before a record (APPNOTE.TXT, 4.3.7): signature, version, flags, method, time, date,
CRC-32, size twice, and the lengths of its name and of its extra fields."""

_CENTRAL = struct.Struct("<4s6H3I5H2I")
"""A record in the table of contents (4.3.12): the same with the version of the program that made
it, the lengths of a comment, and before the last number, its place, four that are 0 here."""

_LOCATOR = struct.Struct("<4sIQI")
"""Where the end with large numbers is (4.3.15): signature, disk, place, number of disks."""

_UTF8, _CRC_FOLLOWS = 1 << 11, 1 << 3
"""Flags: names are UTF-8; CRC-32 and sizes stand behind the record."""

_KINDS = {dtype: kind for kind, dtype in TYPES.items()}

_BATCH = 2**20
"""Bytes of the records that are handed over together: tensors are small and many."""

_AHEAD = 1
"""Batches that may wait to be written: each keeps its tensors in memory."""


@dataclass(slots=True)
class _Record:
    """A record of the archive.

    Attributes:
        name: Within the archive, with its folder.
        place: Where its header begins.
        size: Bytes.
        content: They.
        array: The same as values, of a tensor whose digest is wanted.
        head: What stands before them.
        crc32: Of them, once they have been written.
        digest: Likewise.
    """

    name: bytes
    place: int
    size: int
    content: memoryview | None
    array: NDArray[Any] | None = None
    head: bytes = b""
    crc32: int = 0
    digest: str = ""

    @property
    def is_large(self) -> bool:
        """Whether its size or place needs 64 bits."""
        return self.size >= _MOST or self.place >= _MOST

    @property
    def flags(self) -> int:
        return _UTF8 | _CRC_FOLLOWS if self.size else _UTF8

    @property
    def _large(self) -> bytes:
        """The extra field of numbers that need 64 bits (4.5.3)."""
        if not self.is_large:
            return b""
        numbers = [self.size, self.size] if self.size >= _MOST else []
        # PyTorch has the place in the header too, where no reader of it looks for one.
        if self.place >= _MOST:
            numbers.append(self.place)
        return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)

    def header(self) -> bytes:
        """What stands before the record, filled up so that the record is aligned."""
        large = self._large
        start = self.place + _LOCAL.size + len(self.name) + len(large) + 4
        padding = -start % _ALIGNMENT
        extra = large + struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        lengths = len(self.name), len(extra)
        fixed = _LOCAL.pack(b"PK\x03\x04", 0, self.flags, 0, 0, 0, 0, 0, 0, *lengths)
        return fixed + self.name + extra

    def end(self) -> bytes:
        """What stands behind it (4.3.9)."""
        if not self.size:
            return b""
        form = "<4sI2Q" if self.is_large else "<4s3I"
        return struct.pack(form, b"PK\x07\x08", self.crc32, self.size, self.size)

    @property
    def end_bytes(self) -> int:
        """How many bytes that are."""
        if not self.size:
            return 0
        return 24 if self.is_large else 16

    def listed(self) -> bytes:
        """The record in the table of contents."""
        large = self._large
        size, place = _short(self.size), _short(self.place)
        lengths = (len(self.name), len(large), 0, 0, 0)
        numbers = (0, 0, self.flags, 0, 0, 0, self.crc32, size, size, *lengths, 0, place)
        return _CENTRAL.pack(b"PK\x01\x02", *numbers) + self.name + large


def _short(number: int) -> int:
    """A size or place in 32 bits."""
    return number if number < _MOST else _ELSEWHERE


Digest = Callable[[NDArray[Any]], str]
"""Tells a tensor's values from others."""


@contextmanager
def writing_torch_file(path: Path, digest: Digest | None = None) -> Iterator[TorchFileWriter]:
    """Write a PyTorch file; it appears complete, with its context's end, or not at all.

    Args:
        path: The file.
        digest: Of each tensor, where one is wanted.

    Raises:
        InputError: It cannot be written, or its content is not plain.
    """
    with writing(path) as stream:
        writer = TorchFileWriter(stream, digest)
        try:
            yield writer
        finally:
            writer.stop()
        if not writer.is_complete:
            raise ValueError("the content of a PyTorch file was not given")


class TorchFileWriter:
    """A PyTorch file that is being written: its tensors, one after another, and then its content.

    A thread of its own sums up and writes what the caller has given, while the caller makes the
    next tensor.

    Args:
        stream: The file, empty.
        digest: Of each tensor, where one is wanted; used by that thread.

    Attributes:
        is_complete: Whether :meth:`finish` has been called and all is written.
    """

    def __init__(self, stream: BinaryIO, digest: Digest | None = None) -> None:
        self.is_complete = False
        self._thread = WritingThread(stream, digest)
        self._records: list[_Record] = []
        self._names = itertools.count()
        self._end = 0
        self._batch: list[_Record] = []
        self._batch_bytes = 0
        self._summed = threading.Event()
        for name, content in _RECORDS.items():
            self._add(name, memoryview(content))

    def add(self, array: NDArray[Any]) -> StoredTensor:
        """Write a tensor.

        Args:
            array: Its values, row by row, which nobody changes before the file is complete.

        Returns:
            What stands for it in the content.

        Raises:
            OSError: What was given before could not be written.
            InputError: PyTorch has no such type, or had none from the first.
        """
        kind = _KINDS.get(array.dtype.newbyteorder("<"))
        if kind is None:
            raise InputError(
                f"Values of type {array.dtype} cannot be kept in a PyTorch file; give them as one "
                f"of {', '.join(TYPES)}.",
                Cause.FORMAT,
            )
        rows = np.ascontiguousarray(array, TYPES[kind])
        key = str(next(self._names))
        self._add(f"data/{key}", rows.reshape(-1).view(np.uint8).data, rows.reshape(array.shape))
        return StoredTensor(Storage(kind, key, array.size), 0, array.shape, _steps(array.shape))

    def settle(self) -> None:
        """Let the tensors go to the disk, which were all, while the caller does something else.

        Raises:
            OSError: What was given before could not be written.
        """
        self._hand_over()
        self._thread.give(self._summed)

    def digests(self) -> dict[str, str]:
        """Of every tensor, by the key of its storage; :meth:`settle` must have been called.

        Raises:
            OSError: A tensor could not be written.
        """
        self._summed.wait()
        self._thread.check()
        start = f"{_FOLDER}data/".encode()
        return {
            record.name.removeprefix(start).decode(): record.digest
            for record in self._records
            if record.name.startswith(start)
        }

    def finish(self, content: Any) -> None:
        """Write what the file holds, and its end.

        Args:
            content: Plain values, with what :meth:`add` has returned for each tensor.

        Raises:
            OSError: The file cannot be written.
            InputError: The content is not plain.
        """
        self._add("data.pkl", memoryview(pickle_of(content)))
        self._add("version", memoryview(_VERSION))
        self._hand_over()
        self._thread.finish()
        self._add(".data/serialization_id", memoryview(self._identity()))
        self._thread.write(self._batch)
        self._thread.stream.write(self._directory())
        self.is_complete = True

    def stop(self) -> None:
        """End the thread; what has not been written is dropped unless the file is complete."""
        self._thread.drop()

    def _add(self, name: str, content: memoryview, array: NDArray[Any] | None = None) -> None:
        record = _Record(f"{_FOLDER}{name}".encode(), self._end, content.nbytes, content, array)
        record.head = record.header()
        self._records.append(record)
        self._batch.append(record)
        self._end += len(record.head) + record.size + record.end_bytes
        self._batch_bytes += record.size
        if self._batch_bytes >= _BATCH:
            self._hand_over()

    def _hand_over(self) -> None:
        self._thread.give(self._batch)
        self._batch, self._batch_bytes = [], 0

    def _identity(self) -> bytes:
        """Forty digits that tell this file from others: of the names and sums of its records."""
        digest = hashlib.sha256()
        for record in self._records:
            digest.update(record.name + record.crc32.to_bytes(4, "little"))
        first, second = struct.unpack_from("<2Q", digest.digest())
        return f"{first:020d}{second:020d}".encode()

    def _directory(self) -> bytes:
        """The table of contents, and the archive's end, once with large numbers and once without.

        PyTorch writes both whatever the size.
        """
        table = b"".join(record.listed() for record in self._records)
        count, size, place = len(self._records), len(table), self._end
        numbers = (END_64.size - 12, 0, 0, 0, 0, count, count, size, place)
        large = END_64.pack(b"PK\x06\x06", *numbers)
        locator = _LOCATOR.pack(b"PK\x06\x07", 0, place + size, 1)
        few = min(count, 0xFFFF)
        end = END.pack(b"PK\x05\x06", 0, 0, few, few, _short(size), _short(place), 0)
        return table + large + locator + end


def _steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Elements from one to the next of each dimension, as PyTorch has them of rows."""
    steps = [1]
    for extent in reversed(shape[1:]):
        steps.append(steps[-1] * max(extent, 1))
    return tuple(reversed(steps)) if shape else ()


class WritingThread(threading.Thread):
    """Sums up and writes records in the order in which they are given.

    Args:
        stream: The file.
        digest: Of each tensor, where one is wanted.

    Attributes:
        stream: The same.
    """

    def __init__(self, stream: BinaryIO, digest: Digest | None = None) -> None:
        super().__init__(name="writing", daemon=True)
        self.stream = stream
        self._digest = digest
        self._waiting: Queue[list[_Record] | threading.Event | None] = Queue(_AHEAD)
        self._error: BaseException | None = None
        self._dropped = False
        self.start()

    def give(self, batch: list[_Record] | threading.Event) -> None:
        """Let records be written; waits while too many are waiting.

        Args:
            batch: The records; or what is to be set when all before are written, which then are
                put on the disk.

        Raises:
            OSError: What was given before could not be written.
        """
        self.check()
        self._waiting.put(batch)

    def finish(self) -> None:
        """Wait until all is written.

        Raises:
            OSError: It could not be.
        """
        self._waiting.put(None)
        self.join()
        self.check()

    def drop(self) -> None:
        """End the thread and forget what has not been written."""
        if self.is_alive():
            self._dropped = True
            self._waiting.put(None)
            self.join()

    def check(self) -> None:
        """Raise what has gone wrong, where something has.

        Raises:
            OSError: A record could not be written.
        """
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        """Write until there is no more; after an error nothing is written, but all is taken."""
        while (item := self._waiting.get()) is not None:
            if self._error is None and not self._dropped:
                try:
                    if isinstance(item, list):
                        self.write(item)
                    else:
                        item.set()
                        self.stream.flush()
                        os.fsync(self.stream.fileno())
                except BaseException as error:
                    self._error = error
            if isinstance(item, threading.Event):
                item.set()

    def write(self, batch: list[_Record]) -> None:
        """Write records, and let go of their bytes."""
        for record in batch:
            assert record.content is not None
            if record.array is not None and self._digest is not None:
                record.digest = self._digest(record.array)
            record.crc32 = zlib.crc32(record.content)
            self.stream.write(record.head)
            self.stream.write(record.content)
            self.stream.write(record.end())
            record.content = record.array = None
