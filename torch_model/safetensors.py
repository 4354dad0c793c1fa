"""Files in the safetensors format: read and written without its library, and without PyTorch.

Such a file is the length of a header, 8 bytes little-endian, the header, one JSON object with the
type, shape and place of every tensor, and then the tensors' bytes, little-endian and row by row,
one behind the other without a gap. It has no checksum. The format is that of
https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientdet_spec import (
    Cause,
    InputError,
    OpenFile,
    is_possible,
    lookalike_of,
    open_regular,
    printable,
    shortened,
    writing,
)

_LENGTH = struct.Struct("<Q")
"""The length of the header."""

MAX_HEADER = 2**22
"""Longest header; that of D7x with raw values and averages, with a digest of each, has 0.84 MB.
The format's own limit is 100 MB."""

_FORMAT_LIMIT = 100_000_000
"""The longest header of any file of the format."""

MAX_VALUES = 2**18
"""Most values in the header, each of which takes a few hundred bytes of memory at most; D7x's
with raw values and averages has 33,000."""

_MAX_RANK = 32
"""Most dimensions of a tensor, what every NumPy can hold."""

METADATA = "__metadata__"
"""The key of what a file says besides its tensors, texts by name."""

BFLOAT16 = "BF16"
"""The upper half of a float32, for which NumPy has no type: read as the float32 that it is."""

DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "F64": np.dtype("<f8"),
        "F32": np.dtype("<f4"),
        "F16": np.dtype("<f2"),
        BFLOAT16: np.dtype("<u2"),
        "I64": np.dtype("<i8"),
        "I32": np.dtype("<i4"),
        "I16": np.dtype("<i2"),
        "I8": np.dtype("i1"),
        "U64": np.dtype("<u8"),
        "U32": np.dtype("<u4"),
        "U16": np.dtype("<u2"),
        "U8": np.dtype("u1"),
        "BOOL": np.dtype("?"),
    }
)
"""The format's names of types, and NumPy's type for the bytes of one element."""

_NAMES = MappingProxyType({dtype: name for name, dtype in DTYPES.items() if name != BFLOAT16})


@dataclass(frozen=True, slots=True)
class SafeTensor:
    """A tensor as a file describes it; its shape, type and length fit each other.

    Attributes:
        type: The format's name of the elements' type, such as ``F32``.
        shape: Extents.
        start: The first of its bytes, counted from the file's beginning.
        size: Its bytes.
    """

    type: str
    shape: tuple[int, ...]
    start: int
    size: int


class SafetensorsFile:
    """A file of the format, open; it is closed when nobody needs it any more.

    It is not mapped into memory: a mapped file that another program shortens ends the process.

    Args:
        path: The file.

    Attributes:
        path: The file.
        tensors: What its header says of each tensor, in the header's order.
        metadata: What it says besides.

    Raises:
        InputError: It cannot be read, or is not of the format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = OpenFile(path)
        except OSError as error:
            raise _unreadable(path, error) from error
        size = self._file.size
        length = _LENGTH.unpack(self._bytes(0, _LENGTH.size))[0] if size >= _LENGTH.size else 0
        self._check_length(length, size)
        header = bytes(self._bytes(_LENGTH.size, length))
        self.metadata, self.tensors = _decoded(path, header, _LENGTH.size + length, size)

    def _bytes(self, start: int, count: int) -> NDArray[np.uint8]:
        content = np.empty(count, np.uint8)
        self._file.fill(content.data, start)
        return content

    def _check_length(self, length: int, size: int) -> None:
        if not 2 <= length <= size - _LENGTH.size:
            raise damaged(self.path, f"its header should have {length:,} of its {size:,} bytes")
        if length > MAX_HEADER:
            raise damaged(
                self.path, f"its header has {length:,} bytes, and at most {MAX_HEADER:,} are read"
            )

    def read(self, name: str) -> NDArray[Any]:
        """A tensor's values, in an array of their own; of bfloat16 its float32.

        Args:
            name: One of ``tensors``.

        Raises:
            InputError: The file cannot be read, or has become shorter.
        """
        tensor = self.tensors[name]
        content = self._bytes(tensor.start, tensor.size)
        values = content.view(DTYPES[tensor.type]).reshape(tensor.shape)
        if tensor.type == BFLOAT16:
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values


def is_safetensors(path: Path) -> bool:
    """Whether a file begins like one of the format; it may be damaged.

    Args:
        path: The file.
    """
    try:
        with open_regular(path) as stream:
            start = stream.read(_LENGTH.size + 1)
    except OSError:
        return False
    if len(start) <= _LENGTH.size or start[_LENGTH.size :] != b"{":
        return False
    return 2 <= int(_LENGTH.unpack_from(start)[0]) <= _FORMAT_LIMIT


def damaged(path: Path, found: str) -> InputError:
    """The error of a file that is not of the format.

    Args:
        path: The file.
        found: In what, as a clause.
    """
    other = lookalike_of(path)
    if other is not None:
        return InputError(
            f"{path} is not a safetensors file but looks like {other.kind}; "
            f"{other.advice or 'give the file that is meant'}.",
            Cause.FORMAT,
        )
    return InputError(
        f"{path} is not a sound safetensors file ({found}); copy or download it again.",
        Cause.FORMAT,
    )


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} is not a file that can be read ({error.strerror or error}); give a safetensors "
        f"file.",
        Cause.of(error),
    )


def _decoded(
    path: Path, header: bytes, begin: int, size: int
) -> tuple[Mapping[str, str], Mapping[str, SafeTensor]]:
    """The metadata and the tensors of a header.

    Args:
        path: The file, for messages.
        header: Its header.
        begin: The first byte behind it.
        size: Bytes of the file.

    Raises:
        InputError: It is not as the format has it.
    """
    if not header.startswith(b"{"):
        raise damaged(path, "its header is no JSON object")
    if sum(header.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise damaged(path, f"its header has more than {MAX_VALUES:,} values")
    try:
        content = json.loads(
            header.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        reason = shortened(printable(error), 120)
        raise damaged(path, f"its header cannot be read: {reason}") from error
    metadata = content.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise damaged(path, f"its {METADATA} is no mapping of texts to texts")
    tensors = {name: _tensor(path, name, item, begin) for name, item in content.items()}
    _require_gapless(path, tensors, begin, size)
    return MappingProxyType(metadata), MappingProxyType(tensors)


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of a JSON object.

    Raises:
        ValueError: A name stands there twice.
    """
    found = dict(items)
    if len(found) != len(items):
        raise ValueError("a name is there twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _tensor(path: Path, name: str, item: Any, begin: int) -> SafeTensor:
    """A tensor from what the header says of it.

    Raises:
        InputError: It is not as the format has it, or of a type that NumPy lacks.
    """
    shown = shortened(printable(name), 80)
    if not isinstance(item, dict) or item.keys() != {"dtype", "shape", "data_offsets"}:
        raise damaged(path, f"tensor {shown} is not described by dtype, shape and data_offsets")
    kind, shape, offsets = item["dtype"], item["shape"], item["data_offsets"]
    dtype = DTYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None:
        raise InputError(
            f"{path}: tensor {shown} has type {shortened(printable(kind), 40)}; expected one of "
            f"{', '.join(DTYPES)}, so save it as F32.",
            Cause.FORMAT,
        )
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise damaged(path, f"the shape or the place of tensor {shown} are no whole numbers")
    if len(shape) > _MAX_RANK:
        raise damaged(path, f"tensor {shown} has {len(shape)} dimensions")
    start, end = offsets
    size = math.prod(shape) * dtype.itemsize
    if end - start != size or not is_possible(shape):
        place = f"at {start:,} to {end:,}"
        raise damaged(path, f"tensor {shown} of shape {shape!s:.80} stands {place}")
    return SafeTensor(kind, tuple(shape), begin + start, size)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item < 2**62 for item in value
    )


def _require_gapless(path: Path, tensors: Mapping[str, SafeTensor], begin: int, size: int) -> None:
    """Refuse tensors that share bytes, and bytes that are no tensor's."""
    end = begin
    # An empty tensor lies at the beginning of the one behind it.
    for name, item in sorted(tensors.items(), key=lambda pair: (pair[1].start, pair[1].size)):
        if item.start != end:
            what = "shares bytes with another" if item.start < end else "leaves a gap before it"
            raise damaged(path, f"tensor {shortened(printable(name), 80)} {what}")
        end += item.size
    if end != size:
        what = "it is cut short" if end > size else f"{size - end:,} bytes belong to no tensor"
        raise damaged(path, what)


def write_safetensors(
    path: Path, tensors: Iterable[tuple[str, NDArray[Any]]], metadata: Mapping[str, str]
) -> None:
    """Write a file; it appears complete or not at all.

    Tensors of larger elements come first, so that each is aligned in the file, and else in the
    order given.

    Args:
        path: The file.
        tensors: Names, each once, and values.
        metadata: What the file says besides.

    Raises:
        InputError: The file cannot be written.
    """
    arrays = sorted(tensors, key=lambda pair: -pair[1].dtype.itemsize)
    described: dict[str, Any] = {METADATA: dict(metadata)}
    end = 0
    for name, array in arrays:
        start, end = end, end + array.nbytes
        kind = _NAMES[array.dtype.newbyteorder("<")]
        described[name] = {
            "dtype": kind, "shape": list(array.shape), "data_offsets": [start, end]
        }  # fmt: skip
    header = json.dumps(described, separators=(",", ":")).encode()
    # The tensors begin at a multiple of eight bytes, as the format's own library has it.
    header += b" " * (-len(header) % 8)
    with writing(path) as stream:
        stream.write(_LENGTH.pack(len(header)) + header)
        for _, array in arrays:
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            stream.write(little.reshape(-1).view(np.uint8).data)
