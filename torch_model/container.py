"""PyTorch's files: a ZIP archive of one pickle and, as a record each, the bytes of every storage.

PyTorch writes every record uncompressed and with a CRC-32, and ignores the CRC-32 when it reads.
Here it is verified of every byte that is used. Before version 1.6 it wrote several pickles and the
storages' bytes one after another, without any checksum; of those files the lengths are checked.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
import weakref
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import (
    Cause,
    InputError,
    is_possible,
    lookalike_of,
    open_regular,
    printable,
    shortened,
)
from torch_model.pickled import (
    MAX_BYTES,
    PickleError,
    Storage,
    StoredTensor,
    iterate_tensors,
    read_pickle,
    texts_of,
)

_MAX_DIRECTORY = 2**24
"""Most bytes of the archive's table of contents; D7x's takes 0.2 MB."""

_BLOCK = 2**20
_ZIP = b"PK\x03\x04"
END = struct.Struct("<4s4H2IH")
"""The end of a ZIP archive (APPNOTE.TXT, 4.3.16): signature, numbers of disks and records, size
and place of the table of contents, length of a comment."""

END_64 = struct.Struct("<4sQ2H2I4Q")
"""The same of an archive with large numbers (4.3.14)."""

FIRST_RECORD = ".format_version"
"""The first record of the files that are written here; PyTorch's own begin with the pickle."""

_LOCATOR_BYTES = 20
"""Of what says where that one is (4.3.15); it stands between the two."""

TYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64")
    + ("float16", "float32", "float64")
}
"""Types of elements that NumPy has too."""

BFLOAT16 = "bfloat16"
"""The upper half of a float32, for which NumPy has no type: read as the float32 that it is."""

_STORED = {**TYPES, BFLOAT16: np.dtype("<u2")}
"""NumPy's type for the bytes of one element of each type."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The first value in a file as PyTorch wrote them before 1.6 (``torch/serialization.py``)."""

_LEGACY_PROTOCOL = 1001
"""The second one, in all versions since 0.1.10."""

_LEGACY_START = b"\x80\x02\x8a\x0a" + _LEGACY_MAGIC.to_bytes(10, "little") + b"."
"""The bytes with which such a file begins: the first value, pickled."""

_COUNT = struct.Struct("<q")
"""What stands before the bytes of a storage in such a file: the number of its elements."""

_ADVICE = (
    "give the .pth that convert.py wrote, or for a model of your own FILE.py:FUNCTION, where the "
    "function loads the file and returns the module"
)
"""What to do with a file that only code could load."""


class TorchFile:
    """A PyTorch file of plain tensors, open; it is closed when nobody needs it any more.

    Attributes:
        path: The file.
        content: What its pickle holds, with a :class:`~torch_model.pickled.StoredTensor` in the
            place of each tensor.
        is_archive: Whether it is an archive, whose records have checksums; False of files before
            PyTorch 1.6, which have none.
        size: Its bytes when it was opened.
    """

    def __init__(self, path: Path, content: Any, records: _Records | _Legacy, size: int) -> None:
        self.path = path
        self.content = content
        self.is_archive = isinstance(records, _Records)
        self.size = size
        self._records = records

    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """A tensor's values, in an array of their own; of bfloat16 its float32.

        Raises:
            InputError: Its record is missing or damaged, or claims something impossible.
        """
        self.check(tensor)
        storage = tensor.storage
        dtype = _STORED[storage.type]
        try:
            values = self._records.read(storage, storage_bytes(storage)).view(dtype)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        # From one to the next of one or none there is no step, whatever the file says.
        some = math.prod(tensor.shape) > 1
        pairs = zip(tensor.shape, tensor.strides, strict=True)
        strides = [step * dtype.itemsize if some and n > 1 else 0 for n, step in pairs]
        array = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides)
        if storage.type == BFLOAT16:
            return (array.astype(np.uint32, order="C") << 16).view(np.float32)
        return np.ascontiguousarray(array).reshape(tensor.shape)

    def check(self, tensor: StoredTensor) -> None:
        """Refuse a tensor that cannot be read, from what the file says of it alone.

        Raises:
            InputError: It claims something impossible, or is of a type that is not known.
        """
        storage = tensor.storage
        dtype = _STORED.get(storage.type)
        if dtype is None:
            raise _damaged(self.path, f"a tensor of type {storage.type} cannot be read")
        last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
        count = math.prod(tensor.shape)
        # With strides of zero a few bytes could stand for a tensor of any size.
        beyond = count > storage.count or (count and tensor.offset + last >= storage.count)
        if beyond or not is_possible(tensor.shape):
            raise _damaged(self.path, f"a tensor {list(tensor.shape)} has {storage.count} values")
        self._records.check(storage, storage_bytes(storage))


def storage_bytes(storage: Storage) -> int:
    """Bytes of a storage of a tensor that :meth:`TorchFile.check` lets pass.

    Args:
        storage: It.
    """
    return storage.count * _STORED[storage.type].itemsize


def is_torch_file(path: Path) -> bool:
    """Whether a file is PyTorch's by its content: an archive of one, or one of before 1.6.

    It may be damaged; whatever cannot be read is none.

    Args:
        path: The file.
    """
    with contextlib.suppress(OSError, InputError, PickleError), open_regular(path) as stream:
        head = stream.read(_FIRST_NAME.size + _LONGEST_NAME)
        if head.startswith(_LEGACY_START):
            return True
        if not head.startswith(_ZIP) or len(head) < _FIRST_NAME.size:
            return False
        # By the first record a file that is cut short can be told too.
        length = _FIRST_NAME.unpack_from(head)[-2]
        if head[_FIRST_NAME.size :][:length].endswith((b"/data.pkl", f"/{FIRST_RECORD}".encode())):
            return True
        size = os.fstat(stream.fileno()).st_size
        _check_end(path, stream, size)
        with contextlib.suppress(*_NO_ARCHIVE):
            return any(n.endswith("/data.pkl") for n in zipfile.ZipFile(stream).namelist())
    return False


_FIRST_NAME = struct.Struct("<4s5H3I2H")
"""The header of an archive's first record (APPNOTE.TXT, 4.3.7), behind which its name stands."""

_LONGEST_NAME = 1024
"""Most bytes of that name that are looked at."""

_NO_ARCHIVE = (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError)
"""What the library raises of an archive that is none."""


def open_torch_file(path: Path, advice: str = _ADVICE) -> TorchFile:
    """Open a PyTorch file; nothing in it is run, and there is nothing to close.

    Args:
        path: The file.
        advice: What to do where only code could load it, to end the sentence that says so.

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
    try:
        with _told(path, advice):
            size = os.fstat(stream.fileno()).st_size
            head = stream.read(len(_ZIP))
            stream.seek(0)
            records: _Records | _Legacy
            if head == _ZIP:
                records = _Records(path, stream)
                content = _read(records.pickle())
            else:
                content = _legacy(stream)
                records = _Legacy(path, stream, content, size)
            file = TorchFile(path, content, records, size)
    except BaseException:
        stream.close()
        raise
    weakref.finalize(file, stream.close)
    return file


def _read(pickle: bytes) -> Any:
    """What a pickle holds; where it needs code, the error knows the texts in it."""
    try:
        return read_pickle(io.BytesIO(pickle))
    except PickleError as error:
        if error.holds is not None:
            error.texts = texts_of(pickle)
        raise


@contextmanager
def _told(path: Path, advice: str) -> Iterator[None]:
    """What a file is refused for, as one sentence."""
    try:
        yield
    except PickleError as error:
        if error.holds is None:
            raise _damaged(path, printable(error)) from error
        raise PickledError(
            f"{path} is {_kind(error)}not a PyTorch file of plain tensors but holds "
            f"{printable(error.holds)}, and loading it would run code; {advice}.",
            error.texts,
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} cannot be read ({error.strerror or error}); copy the file again.",
        Cause.of(error),
    )


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
        sound = stream.read(len(_LEGACY_START)).startswith((_ZIP, _LEGACY_START))
        kind = "a damaged" if sound else "not a"
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
    """What a file holds that PyTorch wrote before 1.6: several pickles, then the bytes.

    The stream is left behind the pickle that holds it.
    """
    start = io.BytesIO(stream.read(MAX_BYTES))
    if read_pickle(start) != _LEGACY_MAGIC:
        raise PickleError("it begins otherwise")
    if read_pickle(start) != _LEGACY_PROTOCOL:
        raise PickleError("its format is of another version")
    machine = read_pickle(start)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise PickleError("its numbers are not little-endian")
    content = read_pickle(start)
    stream.seek(start.tell())
    return content


class _Legacy:
    """The storages of a file that PyTorch wrote before 1.6, which has no checksums.

    Args:
        path: The file.
        stream: It, behind the pickle that holds its content.
        content: That.
        size: Its bytes.

    Raises:
        PickleError: What follows is not as PyTorch writes it.
    """

    def __init__(self, path: Path, stream: BinaryIO, content: Any, size: int) -> None:
        self._path, self._stream = path, stream
        place = stream.tell()
        listing = io.BytesIO(stream.read(MAX_BYTES))
        keys = read_pickle(listing)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise PickleError("its list of storages is none")
        self._places = self._found(keys, _storages(content), place + listing.tell(), size)

    def _found(
        self, keys: list[str], storages: dict[str, Storage], place: int, size: int
    ) -> dict[str, tuple[int, int]]:
        """Where the bytes of each storage are, and how many there are."""
        if len(keys) != len(storages) or storages.keys() != set(keys):
            raise PickleError(f"it lists {len(keys)} storages, and {len(storages)} are used")
        places = {}
        for key in keys:
            storage = storages[key]
            self._stream.seek(place)
            stored = self._stream.read(_COUNT.size)
            if len(stored) != _COUNT.size or _COUNT.unpack(stored)[0] != storage.count:
                raise PickleError(f"the length of storage {printable(f'{key:.40}')} is another")
            count = storage_bytes(storage)
            places[key] = place + _COUNT.size, count
            place += _COUNT.size + count
            if place > size:
                raise PickleError("it is cut short")
        if place != size:
            raise PickleError(f"{size - place:,} bytes stand behind its last storage")
        return places

    def check(self, storage: Storage, count: int) -> None:
        """Refuse a storage that the file does not have, or has of another length."""
        if self._places.get(storage.key, (0, -1))[1] != count:
            key = printable(f"{storage.key!s:.40}")
            raise _damaged(self._path, f"storage {key} has not {count} bytes")

    def read(self, storage: Storage, count: int) -> NDArray[np.uint8]:
        """The bytes of a storage, of which there must be exactly so many."""
        self.check(storage, count)
        values = np.empty(count, np.uint8)
        self._stream.seek(self._places[storage.key][0])
        if self._stream.readinto(values.data) != count:
            raise _damaged(self._path, "it is cut short")
        return values


def _storages(content: Any) -> dict[str, Storage]:
    """The storages of all tensors, by key.

    Raises:
        PickleError: One is described in two ways, or is of a type that is not known.
    """
    found: dict[str, Storage] = {}
    for _, tensor in iterate_tensors(content):
        storage = tensor.storage
        if storage.type not in _STORED:
            raise PickleError(f"a tensor of type {storage.type} cannot be read")
        if found.setdefault(storage.key, storage) != storage:
            raise PickleError(f"storage {printable(f'{storage.key:.40}')} is described twice")
    return found


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
        except _NO_ARCHIVE as error:
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

    def check(self, storage: Storage, count: int) -> None:
        """Refuse a storage that has no record of so many bytes."""
        self._record(storage, count)

    def _record(self, storage: Storage, count: int) -> zipfile.ZipInfo:
        record = self._records.get(f"{self._folder}data/{storage.key}")
        if record is None or record.file_size != count:
            has = "no" if record is None else f"{record.file_size}"
            key = printable(f"{storage.key!s:.40}")
            raise _damaged(self._path, f"storage {key} has {has} bytes, not {count}")
        return record

    def read(self, storage: Storage, count: int) -> NDArray[np.uint8]:
        """The bytes of a storage, of which there must be exactly so many."""
        values = np.empty(count, np.uint8)
        self._fill(self._record(storage, count), memoryview(values))
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
    tail = END.size + _LOCATOR_BYTES + END_64.size
    stream.seek(max(0, size - tail))
    end = stream.read(tail)
    stream.seek(0)
    if len(end) < END.size or end[-END.size :][:4] != b"PK\x05\x06":
        raise _damaged(path, "it is cut short: its end is not that of a ZIP archive")
    length = END.unpack(end[-END.size :])[5]
    if len(end) == tail and end[:4] == b"PK\x06\x06":
        length = max(length if length != 0xFFFFFFFF else 0, END_64.unpack(end[: END_64.size])[8])
    if length > _MAX_DIRECTORY:
        raise _damaged(path, f"its table of contents has {length:,} bytes")
