"""Sorted string tables: the container of a TensorFlow checkpoint's index file.

A table is a row of blocks and a footer. Every block is a list of (key, value) pairs, in which a key
is stored as the length of what it shares with the key before it and the rest; from time to time, at
a restart point, a key is stored whole. Block contents are followed by a type byte and a masked
CRC32C of both. The index block has one pair per data block: a key that is not less than any of
that block's and less than all later ones, and the block's place. The footer says where the index
block is.
"""

import struct
from collections.abc import Iterable

import google_crc32c

from converter.tensorflow_files.wire import WireError, read_varint, varint
from efficientdet_spec import Cause, InputError

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER_SIZE = 48

_TRAILER_SIZE = 5  # type byte and CRC32C
_BLOCK_SIZE = 1 << 18  # TensorFlow closes a data block when it has reached this size
_RESTART_INTERVAL = 16
_CRC_MASK_DELTA = 0xA282EAD8

# Shared prefixes let a small file stand for keys of any total length; D7x's take 0.4 MB.
_MAX_KEY_BYTES = 1 << 23

_MAX_PAIRS = 50_000  # D7x with Adam's slots has 8,000; each takes 40 microseconds


class _CompressedError(Exception):
    """A block is intact but compressed."""


def read_table(data: bytes | memoryview, source: str) -> list[tuple[bytes, bytes]]:
    """Read all pairs of a table, in key order.

    Args:
        data: The whole file.
        source: The file's name, for messages.

    Raises:
        InputError: The bytes are no table, or one that is damaged or compressed.
    """
    data = memoryview(data)
    if len(data) < FOOTER_SIZE or data[-len(MAGIC) :] != MAGIC:
        raise InputError(
            f"{source} is not a TensorFlow checkpoint index, or is cut short: its {len(data)} bytes"
            f" do not end in the table magic number {MAGIC.hex()}; give the .index file of a"
            " checkpoint, and copy or download it again if this is one",
            Cause.FORMAT,
        )
    try:
        return _read_table(data)
    except WireError as error:
        raise InputError(
            f"{source} is a damaged checkpoint index: {error}; expected the table as TensorFlow"
            " wrote it, so copy or download the file again",
            Cause.FORMAT,
        ) from error
    except _CompressedError as error:
        raise InputError(
            f"{source} cannot be read: {error}; expected the uncompressed blocks that TensorFlow's"
            " Saver writes, so load the checkpoint in TensorFlow and save it again",
            Cause.FORMAT,
        ) from error


def write_table(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Lay out a table, byte for byte as TensorFlow does.

    Args:
        items: The pairs; keys must ascend.

    Raises:
        ValueError: A key is not greater than the one before it.
    """
    table = bytearray()
    block = _BlockBuilder(_RESTART_INTERVAL)
    index = _BlockBuilder(1)
    closed: bytes | None = None  # place of a full block that the index does not yet list
    last_key: bytes | None = None
    for key, value in items:
        if last_key is not None and key <= last_key:
            raise ValueError(f"table keys must ascend, but {key!r} follows {last_key!r}")
        if closed is not None and last_key is not None:
            index.add(_separator(last_key, key), closed)
            closed = None
        block.add(key, value)
        last_key = key
        if block.size >= _BLOCK_SIZE:
            closed = _append_block(table, block)
            block = _BlockBuilder(_RESTART_INTERVAL)
    if block.size > _BlockBuilder.EMPTY_SIZE:
        closed = _append_block(table, block)
    # The metaindex, unused by checkpoints, stands between the data and their index.
    metaindex_place = _append_block(table, _BlockBuilder(_RESTART_INTERVAL))
    if closed is not None and last_key is not None:
        index.add(_successor(last_key), closed)
    places = metaindex_place + _append_block(table, index)
    return bytes(table) + places.ljust(FOOTER_SIZE - len(MAGIC), b"\0") + MAGIC


def mask_crc(crc: int) -> int:
    """Return the form in which TensorFlow stores a CRC32C beside the bytes it covers."""
    return ((crc >> 15 | crc << 17) + _CRC_MASK_DELTA) & 0xFFFFFFFF


def unmask_crc(masked: int) -> int:
    """Undo `mask_crc`."""
    rotated = (masked - _CRC_MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def _read_table(data: memoryview) -> list[tuple[bytes, bytes]]:
    footer = bytes(data[-FOOTER_SIZE : -len(MAGIC)])
    metaindex_offset, position = read_varint(footer, 0)
    metaindex_size, position = read_varint(footer, position)
    index_offset, position = read_varint(footer, position)
    index_size, position = read_varint(footer, position)
    if footer[position:].strip(b"\0"):
        raise WireError("its footer has bytes after the place of the index block")
    _parse_block(_read_block(data, metaindex_offset, metaindex_size), _MAX_KEY_BYTES)

    items: list[tuple[bytes, bytes]] = []
    key_bytes = 0
    lower: bytes | None = None
    for upper, place in _parse_block(_read_block(data, index_offset, index_size), _MAX_KEY_BYTES):
        offset, position = read_varint(place, 0)
        size, position = read_varint(place, position)
        if position != len(place):
            raise WireError(f"the index entry of the block at byte {offset} is too long")
        block = _parse_block(_read_block(data, offset, size), _MAX_KEY_BYTES - key_bytes)
        # A block without pairs would let any number of index entries name the same large block.
        if not block or (lower is not None and block[0][0] <= lower) or block[-1][0] > upper:
            raise WireError(f"the keys of the block at byte {offset} are not those the index names")
        items += block
        if len(items) > _MAX_PAIRS:
            raise WireError(f"it lists more than {_MAX_PAIRS:,} tensors")
        key_bytes += sum(len(key) for key, _ in block)
        lower = upper
    return items


def _read_block(data: memoryview, offset: int, size: int) -> bytes:
    """Return a block's verified content."""
    if offset + size + _TRAILER_SIZE > len(data) - FOOTER_SIZE:
        raise WireError(f"a block of {size} bytes at byte {offset} runs into the footer")
    covered = bytes(data[offset : offset + size + 1])
    (masked,) = struct.unpack_from("<I", data, offset + size + 1)
    stored, computed = unmask_crc(masked), google_crc32c.value(covered)
    if stored != computed:
        raise WireError(
            f"the block at byte {offset} has CRC32C {computed:#010x}, not {stored:#010x} as stored"
        )
    if covered[-1]:
        kind = "Snappy" if covered[-1] == 1 else f"type {covered[-1]}"
        raise _CompressedError(f"its block at byte {offset} is compressed ({kind})")
    return covered[:-1]


def _parse_block(content: bytes, max_key_bytes: int) -> list[tuple[bytes, bytes]]:
    """Return a block's pairs; its restart points must agree with them."""
    if len(content) < 4:
        raise WireError(f"a block of {len(content)} bytes is too short for its restart count")
    (count,) = struct.unpack_from("<I", content, len(content) - 4)
    end = len(content) - 4 - 4 * count
    if count < 1 or end < 0:
        raise WireError(f"a block of {len(content)} bytes claims {count} restart points")
    restarts = struct.unpack_from(f"<{count}I", content, end)

    entries = content[:end]
    items: list[tuple[bytes, bytes]] = []
    whole = {0}
    key = b""
    position = 0
    while position < end:
        start = position
        shared, position = read_varint(entries, position)
        unshared, position = read_varint(entries, position)
        value_size, position = read_varint(entries, position)
        if shared > len(key):
            raise WireError(f"a key shares {shared} bytes with one that has only {len(key)}")
        if unshared + value_size > end - position:
            raise WireError("a pair runs past the end of its block")
        max_key_bytes -= shared + unshared
        if max_key_bytes < 0:
            raise WireError(f"its keys take more than {_MAX_KEY_BYTES} bytes")
        if not shared:
            whole.add(start)
        previous, key = key, key[:shared] + entries[position : position + unshared]
        if items and key <= previous:
            raise WireError(
                f"the key at byte {start} of a block is not greater than the one before"
            )
        position += unshared
        if len(items) > _MAX_PAIRS:
            raise WireError(f"it lists more than {_MAX_PAIRS:,} tensors")
        items.append((key, entries[position : position + value_size]))
        position += value_size
    if (
        restarts[0] != 0
        or list(restarts) != sorted(set(restarts))
        or not whole.issuperset(restarts)
    ):
        raise WireError("the restart points of a block are not at whole keys")
    return items


class _BlockBuilder:
    """Collects the pairs of one block."""

    EMPTY_SIZE = 8  # one restart point and their count

    def __init__(self, restart_interval: int) -> None:
        self._restart_interval = restart_interval
        self._entries = bytearray()
        self._restarts = [0]
        self._since_restart = 0
        self._last_key = b""

    @property
    def size(self) -> int:
        """Bytes that `finish` would return."""
        return len(self._entries) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self._since_restart < self._restart_interval:
            shared = _common_prefix(self._last_key, key)
        else:
            self._restarts.append(len(self._entries))
            self._since_restart = 0
        self._since_restart += 1
        self._entries += varint(shared) + varint(len(key) - shared) + varint(len(value))
        self._entries += key[shared:] + value
        self._last_key = key

    def finish(self) -> bytes:
        count = len(self._restarts)
        return bytes(self._entries) + struct.pack(f"<{count + 1}I", *self._restarts, count)


def _append_block(table: bytearray, block: _BlockBuilder) -> bytes:
    """Append a block with its trailer; return its place as the index and the footer store it."""
    content = block.finish()
    place = varint(len(table)) + varint(len(content))
    covered = content + b"\0"
    table += covered + struct.pack("<I", mask_crc(google_crc32c.value(covered)))
    return place


def _common_prefix(first: bytes, second: bytes) -> int:
    length = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        length += 1
    return length


def _separator(last: bytes, following: bytes) -> bytes:
    """Return a short key that is at least `last` and less than `following`."""
    shared = _common_prefix(last, following)
    if shared < len(last) and last[shared] + 1 < following[shared]:
        return last[:shared] + bytes([last[shared] + 1])
    return last


def _successor(last: bytes) -> bytes:
    """Return a short key that is at least `last`."""
    for position, byte in enumerate(last):
        if byte < 0xFF:
            return last[:position] + bytes([byte + 1])
    return last
