"""PyTorch's files: a ZIP archive of one pickle and, as a record each, the bytes of every storage.

PyTorch writes every record uncompressed and with a CRC-32, and ignores the CRC-32 when it reads.
Here it is verified of every byte that is used.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import Cause, InputError, lookalike_of, open_regular, printable, shortened
from torch_model.pickled import MAX_BYTES, PickleError, StoredTensor, read_pickle, texts_of

_MAX_DIRECTORY = 2**24
"""Most bytes of the archive's table of contents; D7x's takes 0.2 MB."""

_BLOCK = 2**20
_ZIP = b"PK\x03\x04"
_END = struct.Struct("<4s4H2IH")
"""The end of a ZIP archive (APPNOTE.TXT, 4.3.16): signature, numbers of disks and records, size
and place of the table of contents, length of a comment."""

_END_64 = struct.Struct("<4sQ2H2I4Q")
"""The same of an archive with large numbers (4.3.14)."""

_LOCATOR_BYTES = 20
"""Of what says where that one is (4.3.15); it stands between the two."""

_TYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64")
    + ("float16", "float32", "float64")
}
"""Types of elements that NumPy has too."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The first value in a file as PyTorch wrote them before 1.6 (``torch/serialization.py``)."""


class TorchFile:
    """A PyTorch file of plain tensors, open.

    Attributes:
        path: The file.
        content: What its pickle holds, with a :class:`~torch_model.pickled.StoredTensor` in the
            place of each tensor.
        is_archive: Whether it has records that can be read; False of files before PyTorch 1.6.
    """

    def __init__(self, path: Path, content: Any, records: _Records | None) -> None:
        self.path = path
        self.content = content
        self.is_archive = records is not None
        self._records = records

    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """A tensor's values, in an array of their own.

        Raises:
            InputError: Its record is missing or damaged, or claims something impossible.
        """
        storage = tensor.storage
        dtype = _TYPES.get(storage.type)
        if self._records is None or dtype is None:
            raise _damaged(self.path, f"a tensor of type {storage.type} cannot be read")
        last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
        count = math.prod(tensor.shape)
        # With strides of zero a few bytes could stand for a tensor of any size.
        if count > storage.count or (count and tensor.offset + last >= storage.count):
            raise _damaged(self.path, f"a tensor {list(tensor.shape)} has {storage.count} values")
        values = self._records.read(storage.key, storage.count * dtype.itemsize).view(dtype)
        strides = [step * dtype.itemsize for step in tensor.strides]
        array = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides)
        return np.ascontiguousarray(array).reshape(tensor.shape)


@contextmanager
def open_torch_file(path: Path) -> Iterator[TorchFile]:
    """Open a PyTorch file; nothing in it is run.

    Raises:
        InputError: The file is missing, is no such file, is damaged, or holds more than plain
            tensors.
    """
    try:
        stream = open_regular(path)
    except OSError as error:
        raise InputError(
            f"{path} is not a file that can be read ({error.strerror}); give the .pth that "
            f"convert.py wrote.",
            Cause.of(error),
        ) from error
    with stream, _told(path):
        head = stream.read(len(_ZIP))
        stream.seek(0)
        if head == _ZIP:
            records = _Records(path, stream)
            content = _read(records.pickle())
        else:
            records, content = None, _legacy(stream)
        yield TorchFile(path, content, records)


def _read(pickle: bytes) -> Any:
    """What a pickle holds; where it needs code, the error knows the texts in it."""
    try:
        return read_pickle(io.BytesIO(pickle))
    except PickleError as error:
        if error.holds is not None:
            error.texts = texts_of(pickle)
        raise


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What a file is refused for, as one sentence."""
    try:
        yield
    except PickleError as error:
        if error.holds is None:
            raise _damaged(path, printable(error)) from error
        raise PickledError(
            f"{path} is {_kind(error)}not a PyTorch file of plain tensors but holds "
            f"{printable(error.holds)}, and loading it would run code; give the .pth that "
            f"convert.py wrote, or for a model of your own FILE.py:FUNCTION, where the function "
            f"loads the file and returns the module.",
            error.texts,
        ) from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); copy the file again.",
            Cause.of(error),
        ) from error


def _kind(error: PickleError) -> str:
    """What a file is that only code could load, as far as the texts in it say."""
    found = sorted(_TRAINING & error.texts)
    return f"a training checkpoint ({', '.join(found)}), " if found else ""


_TRAINING = frozenset(
    {
        "args",
        "epoch",
        "lr_scheduler",
        "model_state_dict",
        "optimizer",
        "optimizer_state_dict",
        "optimizer_states",
        "pytorch-lightning_version",
        "state_dict",
        "state_dict_ema",
    }
)
"""Keys under which trainers keep what they need to go on."""


class PickledError(InputError):
    """A file that only code could load.

    Attributes:
        texts: Short texts in it, the keys of its tensors among them.
    """

    DEFAULT = Cause.FORMAT

    def __init__(self, message: str, texts: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.texts = texts


def _damaged(path: Path, found: str) -> InputError:
    other = lookalike_of(path)
    if other is not None and not other.kind.startswith("a ZIP archive"):
        return InputError(
            f"{path} is not a PyTorch file but looks like {other.kind}; "
            f"{other.advice or 'give the .pth that convert.py wrote'}.",
            Cause.FORMAT,
        )
    kind = "a damaged"
    with contextlib.suppress(OSError), open_regular(path) as stream:
        kind = "a damaged" if stream.read(len(_ZIP)) == _ZIP else "not a"
    return InputError(
        f"{path} is {kind} PyTorch file of plain tensors ({found}); copy the file again, or "
        f"convert the checkpoint again.",
        Cause.FORMAT,
    )


def _other_archive(path: Path, names: list[str]) -> InputError:
    """What is said of a sound ZIP archive that PyTorch did not write."""
    files = [name for name in names if not name.endswith("/")]
    such = f", such as {shortened(printable(files[0]), 80)}" if files else ""
    return InputError(
        f"{path} is not a PyTorch file but looks like a ZIP archive of other files{such}; unpack "
        f"it and give what is in it.",
        Cause.FORMAT,
    )


def _legacy(stream: BinaryIO) -> Any:
    """What a file holds that PyTorch wrote before 1.6: several pickles, then the bytes."""
    start = io.BytesIO(stream.read(MAX_BYTES))
    if read_pickle(start) != _LEGACY_MAGIC:
        raise PickleError("it begins otherwise")
    for _ in ("the protocol's version", "the machine's properties"):
        read_pickle(start)
    return read_pickle(start)


class _Records:
    """The records of an archive, each of which is read whole and verified.

    Args:
        path: The file.
        stream: It, open at its beginning.

    Raises:
        InputError: It is no archive as PyTorch writes it.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path = path
        size = os.fstat(stream.fileno()).st_size
        _check_end(path, stream, size)
        try:
            self._archive = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError) as error:
            raise _damaged(path, printable(f"{error!s:.80}")) from error
        if any(name.endswith("/constants.pkl") for name in self._archive.namelist()):
            raise PickleError("constants.pkl", "a TorchScript program")
        if not any(name.rpartition("/")[2] == "data.pkl" for name in self._archive.namelist()):
            raise _other_archive(path, self._archive.namelist())
        self._records: dict[str, zipfile.ZipInfo] = {}
        for record in self._archive.infolist():
            self._check(record, size)
            self._records[record.filename] = record
        pickles = [name for name in self._records if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _damaged(path, f"it has {len(pickles)} records data.pkl, expected one")
        self._folder = pickles[0].removesuffix("data.pkl")
        order = self._records.get(f"{self._folder}byteorder")
        if order is not None and self._whole(order) != b"little":
            raise _damaged(path, "its numbers are not little-endian")

    def _check(self, record: zipfile.ZipInfo, size: int) -> None:
        """Refuse what PyTorch does not write."""
        name = printable(f"{record.filename!s:.60}")
        if record.filename in self._records:
            raise _damaged(self._path, f"it has the record {name} twice")
        if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
            raise _damaged(self._path, f"its record {name} is compressed or encrypted")
        if record.file_size != record.compress_size or record.file_size > size:
            raise _damaged(self._path, f"its record {name} claims {record.file_size} bytes")

    def pickle(self) -> bytes:
        """The pickle."""
        record = self._records[f"{self._folder}data.pkl"]
        if record.file_size > MAX_BYTES:
            raise _damaged(
                self._path, f"its pickle has {record.file_size:,} bytes, at most {MAX_BYTES:,}"
            )
        return self._whole(record)

    def read(self, key: str, count: int) -> NDArray[np.uint8]:
        """The bytes of a storage, of which there must be exactly so many."""
        record = self._records.get(f"{self._folder}data/{key}")
        if record is None or record.file_size != count:
            has = "no" if record is None else f"{record.file_size}"
            raise _damaged(
                self._path, f"storage {printable(f'{key!s:.40}')} has {has} bytes, not {count}"
            )
        values = np.empty(count, np.uint8)
        self._fill(record, memoryview(values))
        return values

    def _whole(self, record: zipfile.ZipInfo) -> bytes:
        content = bytearray(record.file_size)
        self._fill(record, memoryview(content))
        return bytes(content)

    def _fill(self, record: zipfile.ZipInfo, target: memoryview) -> None:
        done = 0
        try:
            with self._archive.open(record) as stream:
                # The library compares the CRC-32 where it comes to the end.
                while block := stream.read(_BLOCK):
                    target[done : done + len(block)] = block
                    done += len(block)
        except (zipfile.BadZipFile, ValueError, struct.error, EOFError, RuntimeError) as error:
            name = printable(f"{record.filename!s:.60}")
            raise _damaged(self._path, f"record {name}: {printable(f'{error!s:.80}')}") from error
        if done != len(target):
            raise _damaged(self._path, "it is cut short")


def _check_end(path: Path, stream: BinaryIO, size: int) -> None:
    """Refuse a table of contents that would take much memory before it is read."""
    tail = _END.size + _LOCATOR_BYTES + _END_64.size
    stream.seek(max(0, size - tail))
    end = stream.read(tail)
    stream.seek(0)
    if len(end) < _END.size or end[-_END.size :][:4] != b"PK\x05\x06":
        raise _damaged(path, "it is cut short: its end is not that of a ZIP archive")
    length = _END.unpack(end[-_END.size :])[5]
    if len(end) == tail and end[:4] == b"PK\x06\x06":
        length = max(length if length != 0xFFFFFFFF else 0, _END_64.unpack(end[: _END_64.size])[8])
    if length > _MAX_DIRECTORY:
        raise _damaged(path, f"its table of contents has {length:,} bytes")
