"""How a checkpoint stores tensors of strings, and what their checksum covers.

The lengths of all strings stand first, as variable-length integers, then a masked CRC32C of the
lengths, then the strings one after another. Both checksums take each length as four bytes, however
it is stored; that of the tensor covers the lengths, the four bytes of their own, and the strings.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import google_crc32c

from converter.tensorflow_files.table import mask_crc
from converter.tensorflow_files.wire import WireError, read_varint, varint

MAX_BYTES = 1 << 26
"""Largest tensor: D7x's description of the objects of a SavedModel takes about 1 MB."""

MAX_STRINGS = 1 << 16
"""Most strings in one tensor; each length is decoded on its own."""

_LENGTH_MAX = 0xFFFFFFFF


def decode(content: bytes, count: int) -> tuple[list[bytes], int]:
    """The strings of a tensor, and the checksum that its record must have.

    Args:
        content: All of its bytes.
        count: How many strings its shape has.

    Raises:
        WireError: The bytes are no such tensor, or their lengths are damaged.
    """
    if count > min(MAX_STRINGS, len(content)):
        raise WireError(f"{count:,} strings in {len(content):,} bytes are too many")
    position, lengths = 0, []
    for _ in range(count):
        length, position = read_varint(content, position)
        if length > _LENGTH_MAX:
            raise WireError(f"a string claims {length:,} bytes")
        lengths.append(length)
    start = position + 4
    if start + sum(lengths) != len(content):
        raise WireError(
            f"its strings take {sum(lengths):,} bytes, but {len(content) - start:,} follow"
        )
    crc = _lengths_crc(lengths)
    if content[position:start] != struct.pack("<I", mask_crc(crc)):
        raise WireError("the checksum of its strings' lengths is wrong")
    strings = []
    for length in lengths:
        strings.append(content[start : start + length])
        start += length
    return strings, google_crc32c.extend(crc, content[position:])


def encode(strings: Sequence[bytes]) -> tuple[bytes, int]:
    """The bytes of a tensor of strings, and its checksum.

    Args:
        strings: Its elements in row-major order.
    """
    lengths = [len(string) for string in strings]
    crc = _lengths_crc(lengths)
    covered = struct.pack("<I", mask_crc(crc)) + b"".join(strings)
    return b"".join(map(varint, lengths)) + covered, google_crc32c.extend(crc, covered)


def _lengths_crc(lengths: Sequence[int]) -> int:
    crc: int = google_crc32c.value(struct.pack(f"<{len(lengths)}I", *lengths))
    return crc
