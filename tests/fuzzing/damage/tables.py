"""Damage to a checkpoint's index that keeps or remakes the checksums of its blocks."""

from __future__ import annotations

import struct
from random import Random

import google_crc32c

from converter.tensorflow_files.table import FOOTER_SIZE, MAGIC, mask_crc, read_table, write_table
from converter.tensorflow_files.wire import WireError, read_varint, varint
from efficientdet_spec import InputError
from fuzzing.damage.raw import RAW
from fuzzing.target import Damage

_EXTREMES = (0, 1, 2, 127, 128, 2**15, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def _blocks(data: bytes) -> list[bytes]:
    """The contents of all blocks one after the other: each is followed by five bytes."""
    footer = data[-FOOTER_SIZE:-8]
    numbers, position = [], 0
    for _ in range(4):
        number, position = read_varint(footer, position)
        numbers.append(number)
    meta, index = numbers[:2], numbers[2:]
    return [data[: meta[0] - 5], data[meta[0] : sum(meta)], data[index[0] : sum(index)]]


def _assembled(blocks: list[bytes], kinds: tuple[int, ...] = (0, 0, 0)) -> bytes:
    table, places = b"", b""
    for number, (content, kind) in enumerate(zip(blocks, kinds, strict=True)):
        if number:
            places += varint(len(table)) + varint(len(content))
        covered = content + bytes([kind])
        table += covered + struct.pack("<I", mask_crc(google_crc32c.value(covered)))
    return table + places.ljust(FOOTER_SIZE - len(MAGIC), b"\0")[: FOOTER_SIZE - 8] + MAGIC


def block(rng: Random, data: bytes) -> bytes:
    """Any damage to a block's content; its checksum is made again."""
    try:
        blocks = _blocks(data)
    except (WireError, IndexError):
        return RAW["byte"](rng, data)
    number = rng.choice((0, 0, 0, 1, 2, 2))
    blocks[number] = rng.choice(list(RAW.values()))(rng, blocks[number])
    kinds = (0, 0, 0) if rng.random() < 0.9 else tuple(rng.choice((0, 1, 2, 255)) for _ in "abc")
    return _assembled(blocks, kinds)


def _items(data: bytes) -> list[tuple[bytes, bytes]]:
    try:
        return read_table(data, "sound")
    except InputError:
        return []


def _table(items: list[tuple[bytes, bytes]]) -> bytes:
    return write_table(sorted(dict(items).items()))


def entries(rng: Random, data: bytes) -> bytes:
    """Whole entries of the table go, come twice, are renamed or take another's value."""
    items = _items(data)
    if not items:
        return RAW["byte"](rng, data)
    place = rng.randrange(len(items))
    key, value = items[place]
    form = rng.randrange(5)
    if form == 0:
        del items[place]
    elif form == 1:
        odd = (b"\xff\xfe", b"x" * 2000, b"\x1b[2J", b"\x00sliced", b"a\nb", b"\xe2\x80\xae")
        items[place] = (key + rng.choice(odd), value)
    elif form == 2:
        items[place] = (key, rng.choice(items)[1])
    elif form == 3:
        items[place] = (RAW[rng.choice(("byte", "truncate", "insert"))](rng, key), value)
    else:
        items.append((key + b"2", value))
    return _table(items)


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """Tag and encoded rest of each field of a protobuf message."""
    found, position = [], 0
    while position < len(data):
        tag, position = read_varint(data, position)
        start, kind = position, tag & 7
        if kind == 0:
            _, position = read_varint(data, position)
        elif kind == 2:
            length, position = read_varint(data, position)
            position += length
        else:
            position += 4 if kind == 5 else 8
        found.append((tag, data[start:position]))
    return found


def message(rng: Random, data: bytes) -> bytes:
    """A number or field of an entry's protobuf message becomes another."""
    items = _items(data)
    if not items:
        return RAW["byte"](rng, data)
    place = rng.randrange(len(items))
    key, value = items[place]
    try:
        fields = _fields(value)
    except WireError:
        fields = []
    if not fields or rng.random() < 0.2:
        changed = rng.choice(list(RAW.values()))(rng, value)
    else:
        changed = _with_field(rng, fields)
    items[place] = (key, changed)
    return _table(items)


def _with_field(rng: Random, fields: list[tuple[int, bytes]]) -> bytes:
    number = rng.randrange(len(fields))
    tag, rest = fields[number]
    form = rng.randrange(6)
    if form <= 2:
        odd = varint(rng.choice(_EXTREMES))
        kind = tag & 7
        if kind == 2:
            shape = b"".join(b"\x12" + varint(len(odd) + 1) + b"\x08" + odd for _ in range(3))
            rest = varint(len(shape)) + shape
        else:
            rest = odd if kind == 0 else rng.randbytes(len(rest))
        fields[number] = (tag, rest)
    elif form == 3:
        del fields[number]
    elif form == 4:
        fields.append((tag, rest))
    else:
        fields[number] = (rng.choice((tag ^ 1, tag + 8, 7 << 3 | 2, 2**63 - 8)), rest)
    return b"".join(varint(tag) + rest for tag, rest in fields)


TABLE: dict[str, Damage] = {"block": block, "entries": entries, "message": message}
"""Damage whose checksums are sound."""
