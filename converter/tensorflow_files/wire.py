"""The records of a TensorFlow checkpoint's index: protobuf fields and two messages of them."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

# A protobuf tag is (field number << 3) | wire type; these are the wire types that proto3 uses.
# The decoders compare whole tags, so that a known field of a wrong wire type is not mistaken.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# The version of the bundle format: what TensorFlow writes, and the newest it asks readers for.
FORMAT_VERSION = 1


class WireError(ValueError):
    """Bytes that are not the record they should be; the message says what is wrong with them."""


@dataclass(frozen=True, slots=True)
class Header:
    """The record of a bundle as a whole.

    Attributes:
        num_shards: Number of data files.
        big_endian: Whether the tensors' bytes are most significant first.
        min_consumer: Oldest version of the format that a reader must know.
    """

    num_shards: int
    big_endian: bool = False
    min_consumer: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """The record of one tensor, as stored; its numbers are not yet checked against anything.

    Attributes:
        dtype: Number of the TensorFlow type.
        shape: Extents; negative where the file says so.
        shard: Data file that holds the bytes.
        offset: First byte in that file.
        size: Number of bytes.
        masked_crc: CRC32C of the bytes, masked.
        sliced: Whether the tensor is stored in several pieces.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    masked_crc: int
    sliced: bool = False


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Read an unsigned variable-length integer.

    Returns:
        The number, and the position of the byte after it.

    Raises:
        WireError: It runs past the end of the data or past 64 bits.
    """
    # Nearly all numbers of an index are one byte long.
    if position < len(data) and data[position] < 0x80:
        return data[position], position + 1
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise WireError("a number runs past the end of its record")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, position
    raise WireError("a number is longer than 64 bits")


def varint(value: int) -> bytes:
    """Encode a non-negative integer of at most 64 bits."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_header(data: bytes) -> Header:
    """Read a BundleHeaderProto.

    Raises:
        WireError: The bytes are no such message.
    """
    num_shards = min_consumer = endianness = 0
    for tag, value, chunk in read_fields(data):
        if tag == 1 << 3 | VARINT:
            num_shards = _signed(value)
        elif tag == 2 << 3 | VARINT:
            endianness = value
        elif tag == 3 << 3 | BYTES:
            for version_tag, version, _ in read_fields(chunk):
                if version_tag == 2 << 3 | VARINT:
                    min_consumer = _signed(version)
        elif tag >> 3 <= 3:
            raise WireError(f"header field {tag >> 3} has wire type {tag & 7}")
    return Header(num_shards, endianness != 0, min_consumer)


def encode_header(num_shards: int) -> bytes:
    """Write the BundleHeaderProto of a little-endian bundle."""
    return write_number(1, num_shards) + write_chunk(3, write_number(1, FORMAT_VERSION))


def decode_record(data: bytes) -> Record:
    """Read a BundleEntryProto.

    Raises:
        WireError: The bytes are no such message.
    """
    dtype = shard = offset = size = masked_crc = 0
    shape: tuple[int, ...] = ()
    sliced = False
    for tag, value, chunk in read_fields(data):
        if tag == 1 << 3 | VARINT:
            dtype = value
        elif tag == 2 << 3 | BYTES:
            shape = _decode_shape(chunk)
        elif tag == 3 << 3 | VARINT:
            shard = _signed(value)
        elif tag == 4 << 3 | VARINT:
            offset = _signed(value)
        elif tag == 5 << 3 | VARINT:
            size = _signed(value)
        elif tag == 6 << 3 | FIXED32:
            masked_crc = value
        elif tag == 7 << 3 | BYTES:
            sliced = True
        elif tag >> 3 <= 7:
            raise WireError(f"entry field {tag >> 3} has wire type {tag & 7}")
    return Record(dtype, shape, shard, offset, size, masked_crc, sliced)


def encode_record(record: Record) -> bytes:
    """Write the BundleEntryProto of a tensor stored in one piece."""
    shape = b"".join(write_chunk(2, write_number(1, extent)) for extent in record.shape)
    # Proto3 omits numbers that are zero, but a message that is present is written even if empty.
    crc = b""
    if record.masked_crc:
        crc = varint(6 << 3 | FIXED32) + struct.pack("<I", record.masked_crc)
    return (
        write_number(1, record.dtype)
        + write_chunk(2, shape)
        + write_number(3, record.shard)
        + write_number(4, record.offset)
        + write_number(5, record.size)
        + crc
    )


@lru_cache(maxsize=1 << 10)
def _decode_shape(data: bytes) -> tuple[int, ...]:
    shape = []
    for tag, value, chunk in read_fields(data):
        if tag == 2 << 3 | BYTES:
            extent = 0
            for extent_tag, size, _ in read_fields(chunk):
                if extent_tag == 1 << 3 | VARINT:
                    extent = _signed(size)
            shape.append(extent)
        elif tag == 3 << 3 | VARINT and value:
            raise WireError("the shape has an unknown rank")
        elif tag >> 3 == 2:
            raise WireError(f"shape field 2 has wire type {tag & 7}")
    return tuple(shape)


def read_fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (tag, number, bytes) of each field; its wire type says which of the two it has.

    Raises:
        WireError: The bytes are no fields.
    """
    position, end = 0, len(data)
    while position < end:
        # Nearly all numbers are one byte long, and a call for each takes longer than all else.
        tag, position = data[position], position + 1
        if tag >= 0x80:
            tag, position = read_varint(data, position - 1)
        wire_type = tag & 7
        value, chunk = 0, b""
        if wire_type == VARINT:
            if position < end and data[position] < 0x80:
                value, position = data[position], position + 1
            else:
                value, position = read_varint(data, position)
        else:
            if wire_type == BYTES:
                length, position = read_varint(data, position)
            elif wire_type == FIXED32:
                length = 4
            elif wire_type == FIXED64:
                length = 8
            else:
                raise WireError(f"a field has the unknown wire type {wire_type}")
            if length > end - position:
                raise WireError("a field runs past the end of its record")
            chunk = data[position : position + length]
            position += length
            if wire_type != BYTES:
                value = int.from_bytes(chunk, "little")
        yield tag, value, chunk


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def write_number(field: int, value: int) -> bytes:
    """Write a non-negative number as proto3 does, which leaves zero out."""
    return varint(field << 3 | VARINT) + varint(value) if value else b""


def write_chunk(field: int, content: bytes) -> bytes:
    """Write bytes, a text or a message."""
    return varint(field << 3 | BYTES) + varint(len(content)) + content
