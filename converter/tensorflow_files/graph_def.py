"""TensorFlow's GraphDef without TensorFlow: its nodes, and the tensors of its constants.

A frozen graph is one protobuf message in which every constant lies whole, so the file is as large
as the weights. It is read field by field through a small window: what a field is and where it lies
is kept, its bytes are read when they are asked for.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.tensorflow_files.bundle import (
    BFLOAT16,
    BFLOAT16_BITS,
    TYPES,
    count_not_finite,
)
from converter.tensorflow_files.wire import WireError
from efficientdet_spec import (
    Cause,
    InputError,
    OpenFile,
    is_possible,
    open_regular,
    printable,
    shortened,
)

Array = NDArray[Any]

CONST = "Const"
"""The operation of a node that holds a tensor."""

MAX_FILE_BYTES = 1 << 31
"""Protobuf messages cannot be longer; D7x's graph has about 0.3 GB."""

_MAX_FIELDS = 1 << 20  # D7x's graph has 80 thousand that are looked at
_MAX_TEXT_BYTES = 1 << 24  # of names and inputs, of which D7x's graph has 1.1 MB
_MAX_NAME = 1000  # the longest official name has 89 characters
_MAX_RANK = 32  # what every NumPy can hold
_MAX_ELEMENTS = 1 << 28  # in all; D7x has 77 million
_WINDOW = 1 << 14
_CHUNK = 1 << 18  # elements, at a time

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_OPERATION = re.compile(r"_?[A-Z][A-Za-z0-9_>.]*")
_HALF = "DT_HALF"

# Nodes, functions, an old version number, versions, debug information.
_GRAPH = {1: _BYTES, 2: _BYTES, 3: _VARINT, 4: _BYTES, 5: _BYTES}
# Fields of a TensorProto that hold its values one by one: the wire type of one of them.
_VALUE_FIELDS = {
    5: _FIXED32,  # float_val
    6: _FIXED64,  # double_val
    7: _VARINT,  # int_val, of all integers up to 32 bits
    10: _VARINT,  # int64_val
    11: _VARINT,  # bool_val
    13: _VARINT,  # half_val, the bits of half precisions
    16: _VARINT,  # uint32_val
    17: _VARINT,  # uint64_val
}
_FIELD_OF = {
    "DT_FLOAT": 5,
    "DT_DOUBLE": 6,
    "DT_INT32": 7,
    "DT_INT16": 7,
    "DT_INT8": 7,
    "DT_UINT8": 7,
    "DT_UINT16": 7,
    "DT_INT64": 10,
    "DT_BOOL": 11,
    _HALF: 13,
    BFLOAT16: 13,
    "DT_UINT32": 16,
    "DT_UINT64": 17,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """The tensor of a constant, where it lies; nothing of its values has been read.

    Attributes:
        dtype_name: TensorFlow's name of the type.
        shape: Extents.
        start: First byte of its message.
        end: The byte behind it.
        content: Where its bytes lie as a whole; None where values stand one by one, of which the
            last stands for all that follow.
        count: How many values stand one by one.
    """

    dtype_name: str
    shape: tuple[int, ...]
    start: int
    end: int
    content: tuple[int, int] | None
    count: int

    @property
    def elements(self) -> int:
        """How many it has."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes of its message."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Node:
    """One node.

    Attributes:
        name: Its name, of which no other node has the same.
        operation: Such as ``Conv2D``.
        inputs: Names of the nodes whose first output it takes, or with ``:1`` and so on another;
            those after which it only has to run are left out.
        tensor: What a constant holds; None of other nodes.
    """

    name: str
    operation: str
    inputs: tuple[str, ...]
    tensor: Tensor | None = None


def looks_like_graph(path: Path) -> bool:
    """Whether a file begins as a GraphDef does: with a node of a name and an operation.

    A SavedModel and a MetaGraph, which have graphs within, begin otherwise.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
    """
    with open_regular(path) as stream:
        head = stream.read(4 * _MAX_NAME)
    try:
        tag, _, place = _head_field(head, 0)
        name_tag, name_bytes, name = _head_field(head, place)
        op_tag, op_bytes, op = _head_field(head, name + name_bytes)
    except (WireError, IndexError):
        return False
    text = head[op : op + op_bytes].decode("latin-1")
    return (
        (tag, name_tag, op_tag) == (0x0A, 0x0A, 0x12)
        and 0 < name_bytes <= _MAX_NAME
        and len(text) == op_bytes
        and _OPERATION.fullmatch(text) is not None
    )


def _head_field(head: bytes, position: int) -> tuple[int, int, int]:
    """Tag and length of a field, and where its bytes begin."""
    tag = head[position]
    length = shift = 0
    while True:
        position += 1
        length |= (head[position] & 0x7F) << shift
        if head[position] < 0x80:
            return tag, length, position + 1
        shift += 7
        if shift > 35:
            raise WireError("a length has no end")


class GraphFile:
    """A file that holds a GraphDef, open; it is closed when nobody needs it any more.

    Args:
        path: The file.

    Attributes:
        path: The file.
        nodes: Every node by its name, in the file's order; those of functions are not among them.

    Raises:
        InputError: It cannot be read, or is no GraphDef or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = OpenFile(path)
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror or error}); check the path and its "
                f"permissions",
                Cause.of(error),
            ) from error
        if self._file.size > MAX_FILE_BYTES:
            raise InputError(
                f"{path} has {self._file.size:,} bytes; expected a frozen graph, which takes at "
                f"most {MAX_FILE_BYTES:,}, so give the .pb file of a graph",
                Cause.FORMAT,
            )
        self._window = b""
        self._window_start = 0
        self._fields_left = _MAX_FIELDS
        self._text_left = _MAX_TEXT_BYTES
        self._elements_left = _MAX_ELEMENTS
        self.nodes: dict[str, Node] = {}
        self._where = "it"
        try:
            for field, start, end, _ in self._fields(0, self._file.size, _GRAPH):
                if field not in _GRAPH:
                    raise WireError(f"it has the unknown field {field}")
                if field == 1:
                    self._add(self._node(start, end))
                    self._where = "it"
        except WireError as error:
            raise self._damaged(str(error)) from error

    def read(self, tensor: Tensor) -> Array:
        """A tensor's values, in an array of their own; of bfloat16 the float32 that they are.

        Args:
            tensor: That of one of the nodes.

        Raises:
            InputError: The file has been changed since it was opened.
        """
        stored = self._stored(tensor)
        result = np.empty(tensor.elements, stored)
        place = 0
        for chunk in self._chunks(tensor, stored):
            result[place : place + chunk.size] = chunk
            place += chunk.size
        return _as_float32(result, tensor).reshape(tensor.shape)

    def not_finite(self, tensor: Tensor) -> int:
        """How many of a tensor's values are NaN or infinite, with little memory.

        Args:
            tensor: As for :meth:`read`; 0 of what is no floating-point tensor.
        """
        stored = self._stored(tensor)
        if stored.kind != "f" and tensor.dtype_name != BFLOAT16:
            return 0
        return sum(
            count_not_finite(_as_float32(chunk, tensor)) for chunk in self._chunks(tensor, stored)
        )

    def digest(self, tensor: Tensor) -> bytes:
        """The same for two tensors if they are the same bit for bit, with little memory.

        Args:
            tensor: As for :meth:`read`.
        """
        found = hashlib.sha256(f"{tensor.dtype_name} {tensor.shape}".encode())
        for chunk in self._chunks(tensor, self._stored(tensor)):
            found.update(chunk.data)
        return found.digest()

    def _stored(self, tensor: Tensor) -> np.dtype[Any]:
        stored = stored_type(tensor.dtype_name)
        if stored is None:
            raise InputError(
                f"{self.path} has a constant of type {tensor.dtype_name}, which holds no numbers; "
                f"freeze the graph again",
                Cause.FORMAT,
            )
        return stored

    def _chunks(self, tensor: Tensor, stored: np.dtype[Any]) -> Iterator[Array]:
        """Its elements in portions, of which every tensor of the shape has the same."""
        total = tensor.elements
        if tensor.content is not None:
            for first in range(0, total, _CHUNK):
                chunk = np.empty(min(_CHUNK, total - first), stored)
                offset = tensor.content[0] + first * stored.itemsize
                self._file.fill(chunk.view(np.uint8).data, offset)
                yield chunk
            return
        values = self._values(tensor)
        rest: Array = np.empty(0, stored)
        last = np.zeros((), stored)[()]
        for first in range(0, total, _CHUNK):
            found = np.empty(min(_CHUNK, total - first), stored)
            place = 0
            while place < found.size:
                if not rest.size:
                    portion = next(values, None)
                    if portion is None:
                        break
                    rest = portion
                room = min(found.size - place, rest.size)
                found[place : place + room] = rest[:room]
                rest = rest[room:]
                place += room
            if place:
                last = found[place - 1]
            found[place:] = last
            yield found

    def _values(self, tensor: Tensor) -> Iterator[Array]:
        """The values that stand one by one, in portions."""
        stored = self._stored(tensor)
        wanted = _FIELD_OF[tensor.dtype_name]
        kind = _VALUE_FIELDS[wanted]
        self._fields_left = _MAX_FIELDS
        try:
            for field, start, end, number in self._tensor_fields(tensor.start, tensor.end):
                if field != wanted:
                    continue
                if end < 0:
                    yield _one(number, kind, stored)
                    continue
                yield from self._packed(start, end, kind, stored)
        except WireError as error:
            raise self._damaged(str(error)) from error

    def _packed(self, start: int, end: int, kind: int, stored: np.dtype[Any]) -> Iterator[Array]:
        """The values of a field that holds many."""
        if kind != _VARINT:
            width = 4 if kind == _FIXED32 else 8
            for first in range(start, end, _CHUNK * width):
                raw = np.empty(min(_CHUNK * width, end - first), np.uint8)
                self._file.fill(raw.data, first)
                yield raw.view(f"<f{width}").astype(stored, copy=False)
            return
        numbers: list[int] = []
        while start < end:
            number, start = self._varint(start, end)
            numbers.append(number)
            if len(numbers) == _CHUNK or start >= end:
                yield _integers(numbers, stored)
                numbers = []

    def _add(self, node: Node) -> None:
        if node.name in self.nodes:
            raise WireError(f"two nodes have the name {_shown(node.name)}")
        self.nodes[node.name] = node

    def _node(self, start: int, end: int) -> Node:
        name = operation = ""
        inputs: list[str] = []
        tensor: Tensor | None = None
        self._where = f"the node at byte {start}"
        expected = {1: _BYTES, 2: _BYTES, 3: _BYTES, 5: _BYTES}
        attributes = []
        for field, first, behind, _ in self._fields(start, end, expected):
            if field == 1:
                name = self._text(first, behind)
                self._where = f"node {_shown(name)}"
            elif field == 2:
                operation = self._text(first, behind)
            elif field == 3:
                text = self._text(first, behind)
                if not text.startswith("^"):
                    inputs.append(text.removesuffix(":0"))
            elif field == 5:
                attributes.append((first, behind))
        if not name or not operation:
            raise WireError(f"{self._where} has no name or no operation")
        if operation == CONST:
            tensor = self._value(attributes)
        return Node(name, operation, tuple(inputs), tensor)

    def _value(self, attributes: list[tuple[int, int]]) -> Tensor:
        """The tensor among a constant's attributes."""
        found = None
        for start, end in attributes:
            key, value = "", None
            for field, first, behind, _ in self._fields(start, end, {1: _BYTES, 2: _BYTES}):
                if field == 1:
                    key = self._text(first, behind)
                elif field == 2:
                    value = first, behind
            if key != "value" or value is None:
                continue
            for field, first, behind, _ in self._fields(*value, {8: _BYTES}):
                if field != 8:
                    continue
                if found is not None:
                    raise WireError(f"{self._where} has two values")
                found = self._tensor(first, behind)
        if found is None:
            raise WireError(f"{self._where} is a constant without a value")
        return found

    def _tensor(self, start: int, end: int) -> Tensor:
        dtype = 0
        shape: tuple[int, ...] = ()
        content = None
        counts: dict[int, int] = {}
        for field, first, behind, number in self._tensor_fields(start, end):
            if field == 1:
                dtype = number
            elif field == 2:
                shape = self._shape(first, behind)
            elif field == 4 and behind > first:
                content = first, behind
            elif field in _VALUE_FIELDS:
                counts[field] = counts.get(field, 0) + self._count(field, first, behind)
        dtype_name = TYPES.get(dtype, (f"type {dtype}", None))[0]
        tensor = Tensor(
            dtype_name, shape, start, end, content, counts.get(_FIELD_OF.get(dtype_name, 0), 0)
        )
        self._check(tensor)
        return tensor

    def _check(self, tensor: Tensor) -> None:
        """Refuse a tensor whose numbers do not agree with each other."""
        stored = stored_type(tensor.dtype_name)
        if stored is None:
            return
        # A few bytes can stand for a tensor of any size, and there can be any number of those.
        self._elements_left -= tensor.elements
        if self._elements_left < 0 or not is_possible(tensor.shape):
            raise WireError(
                f"with {self._where}, of shape {list(tensor.shape)}, its constants have more than "
                f"{_MAX_ELEMENTS:,} elements"
            )
        if tensor.content is not None:
            found = tensor.content[1] - tensor.content[0]
            if found != tensor.elements * stored.itemsize:
                raise WireError(
                    f"{self._where} of type {tensor.dtype_name} and shape {list(tensor.shape)} "
                    f"takes {tensor.elements * stored.itemsize:,} bytes, but has {found:,}"
                )
        elif tensor.count > tensor.elements:
            raise WireError(
                f"{self._where} of shape {list(tensor.shape)} has {tensor.count:,} values"
            )
        elif _VALUE_FIELDS[_FIELD_OF[tensor.dtype_name]] == _VARINT:
            # Each is decoded as a field of its own would be.
            self._fields_left -= tensor.count

    def _count(self, field: int, start: int, end: int) -> int:
        """How many values a field of a tensor holds."""
        if end < 0:
            return 1
        kind = _VALUE_FIELDS[field]
        if kind == _VARINT:
            return self._varints(start, end)
        width = 4 if kind == _FIXED32 else 8
        if (end - start) % width:
            raise WireError(f"{self._where} has {end - start} bytes of numbers of {width}")
        return (end - start) // width

    def _varints(self, start: int, end: int) -> int:
        """How many numbers lie there: each ends with a byte below 128."""
        count = 0
        for first in range(start, end, _CHUNK):
            raw = np.empty(min(_CHUNK, end - first), np.uint8)
            self._file.fill(raw.data, first)
            count += int(np.count_nonzero(raw < 0x80))
        if end > start and raw[-1] >= 0x80:
            raise WireError(f"{self._where} ends within a number")
        return count

    def _shape(self, start: int, end: int) -> tuple[int, ...]:
        shape: list[int] = []
        for field, first, behind, number in self._fields(start, end, {2: _BYTES, 3: _VARINT}):
            if field == 3 and number:
                raise WireError(f"{self._where} has a value of unknown rank")
            if field != 2:
                continue
            extent = 0
            for part, _, _, value in self._fields(first, behind, {1: _VARINT}):
                extent = value if part == 1 else extent
            shape.append(extent)
        if len(shape) > _MAX_RANK or any(extent >> 63 for extent in shape):
            raise WireError(f"{self._where} has a shape that no tensor has")
        return tuple(shape)

    def _tensor_fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        expected = {1: _VARINT, 2: _BYTES, 4: _BYTES}
        return self._fields(start, end, expected, _VALUE_FIELDS)

    def _fields(
        self,
        start: int,
        end: int,
        expected: dict[int, int],
        repeated: dict[int, int] | None = None,
    ) -> Iterator[tuple[int, int, int, int]]:
        """Yield (field, start, end, number) of each field of a message.

        A number has -1 in the place of its end.

        Args:
            start: First byte of the message.
            end: The byte behind it.
            expected: The wire type of each field that matters.
            repeated: Likewise of numbers of which one field may hold many.
        """
        while start < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise WireError(f"it has more than {_MAX_FIELDS:,} fields")
            tag, start = self._varint(start, end)
            field, kind = tag >> 3, tag & 7
            wanted = expected.get(field)
            if wanted is None and repeated is not None and kind != _BYTES:
                wanted = repeated.get(field)
            if wanted not in (None, kind) or not field:
                raise WireError(f"{self._where} has field {field} of wire type {kind}")
            if kind == _VARINT:
                number, start = self._varint(start, end)
                yield field, start, -1, number
                continue
            length = {_FIXED32: 4, _FIXED64: 8}.get(kind, -1)
            if kind == _BYTES:
                length, start = self._varint(start, end)
            if length < 0:
                raise WireError(f"{self._where} has a field of the unknown wire type {kind}")
            if length > end - start:
                raise WireError(f"a field of {self._where} runs past its end")
            if kind == _BYTES:
                yield field, start, start + length, 0
            else:
                yield field, start, -1, int.from_bytes(self._bytes(start, length), "little")
            start += length

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if position >= end:
                raise WireError(f"a number runs past the end of {self._where}")
            place = position - self._window_start
            if not 0 <= place < len(self._window):
                self._move(position)
                place = 0
            byte = self._window[place]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    break
                return value, position
        raise WireError(f"a number of {self._where} is longer than 64 bits")

    def _text(self, start: int, end: int) -> str:
        """A name; the bytes are bounded before they are read."""
        length = end - start
        self._text_left -= length
        if length > _MAX_NAME or self._text_left < 0:
            raise WireError(f"the names in {self._where} are too long")
        try:
            text = self._bytes(start, length).decode()
        except UnicodeDecodeError as error:
            raise WireError(f"a name in {self._where} is not UTF-8") from error
        if not text.isprintable():
            raise WireError(f"the name {_shown(text)} cannot be printed")
        return text

    def _bytes(self, start: int, length: int) -> bytes:
        place = start - self._window_start
        if not (place >= 0 and place + length <= len(self._window)):
            self._move(start)
            place = 0
        return self._window[place : place + length]

    def _move(self, start: int) -> None:
        """Let the window begin at a byte of the file."""
        window = bytearray(min(_WINDOW, self._file.size - start))
        self._file.fill(memoryview(window), start)
        self._window, self._window_start = bytes(window), start

    def _damaged(self, found: str) -> InputError:
        return InputError(
            f"{self.path} is a damaged frozen graph: {found}; expected the .pb file as TensorFlow "
            f"wrote it, so copy or export the file again",
            Cause.FORMAT,
        )


def stored_type(dtype_name: str) -> np.dtype[Any] | None:
    """NumPy's type for the bytes of one element; None of what holds no numbers.

    Args:
        dtype_name: TensorFlow's name of the type.
    """
    if dtype_name == BFLOAT16:
        return BFLOAT16_BITS
    return _BY_NAME.get(dtype_name) if dtype_name in _FIELD_OF else None


_BY_NAME = dict(TYPES.values())


def _as_float32(array: Array, tensor: Tensor) -> Array:
    """What bits of bfloat16 stand for; any other array as it is."""
    if tensor.dtype_name != BFLOAT16:
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def _one(number: int, kind: int, stored: np.dtype[Any]) -> Array:
    """A single value, as a field of its own holds it."""
    if kind == _VARINT:
        return _integers([number], stored)
    bits = np.array([number], "<u4" if kind == _FIXED32 else "<u8")
    return bits.view("<f4" if kind == _FIXED32 else "<f8").astype(stored, copy=False)


def _integers(numbers: list[int], stored: np.dtype[Any]) -> Array:
    """Values that are stored as variable-length integers; of half precisions their bits."""
    wide = np.array(numbers, np.uint64)
    if stored.kind == "f":
        return wide.astype("<u2").view(stored)
    return wide.astype(np.bool_) if stored.kind == "b" else wide.astype(stored)


def _shown(name: str) -> str:
    return repr(shortened(printable(name), 100))
