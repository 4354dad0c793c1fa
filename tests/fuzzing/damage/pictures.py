"""Damage to images: the fields of PNG, BMP and JPEG, with sound checksums where there are any."""

from __future__ import annotations

import struct
import zlib
from random import Random

from fuzzing.damage.raw import RAW
from fuzzing.target import MIB, Damage

_SIDES = (
    0,
    1,
    2,
    12,
    13,
    255,
    29_999,
    30_000,
    30_001,
    2**16 - 1,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
_START = 8


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Type and content of each chunk of a PNG."""
    found, place = [], _START
    while place + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        found.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    return found


def _png(chunks: list[tuple[bytes, bytes]], start: bytes) -> bytes:
    parts = [start]
    for kind, content in chunks:
        check = struct.pack(">I", zlib.crc32(kind + content))
        parts.append(struct.pack(">I", len(content)) + kind + content + check)
    return b"".join(parts)


def png_header(rng: Random, data: bytes) -> bytes:
    """A field of the header is another; its checksum is made again."""
    chunks = _chunks(data)
    if not chunks or len(chunks[0][1]) < 13:
        return RAW["byte"](rng, data)
    fields = list(struct.unpack(">IIBBBBB", chunks[0][1][:13]))
    place = rng.randrange(7)
    fields[place] = rng.choice(_SIDES) if place < 2 else rng.randrange(256)
    if rng.random() < 0.3:
        fields[0] = fields[1] = rng.choice((2_000, 11_585, 11_586, 30_000))
    chunks[0] = (chunks[0][0], struct.pack(">IIBBBBB", *fields))
    return _png(chunks, data[:_START])


_EXTRA = (
    (b"tRNS", b"\0\1\0\2\0\3"),
    (b"gAMA", b"\0\0\0\0"),
    (b"PLTE", b"\1\2\3" * 256),
    (b"PLTE", b"\1"),
    (b"iCCP", b"x\0\0" + zlib.compress(bytes(8 * MIB))),
    (b"zTXt", b"x\0\0" + zlib.compress(bytes(8 * MIB))),
    (b"tEXt", b"x" * 100_000),
    (b"acTL", struct.pack(">II", 2, 0)),
    (b"fcTL", struct.pack(">IIIIIHHBB", 0, 99, 99, 0, 0, 1, 1, 0, 0)),
    (b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
    (b"CgBI", b"\0"),
    (b"IHDR", struct.pack(">IIBBBBB", 30_000, 4_000, 8, 2, 0, 0, 0)),
    (b"IDAT", b""),
    (b"IEND", b""),
)


def png_chunks(rng: Random, data: bytes) -> bytes:
    """Chunks go, come twice, change places, are damaged, or others come between them."""
    chunks = _chunks(data)
    if not chunks:
        return RAW["byte"](rng, data)
    place = rng.randrange(len(chunks))
    kind, content = chunks[place]
    form = rng.randrange(5)
    if form == 0:
        del chunks[place]
    elif form == 1:
        chunks.append(chunks[place])
    elif form == 2:
        rng.shuffle(chunks)
    elif form == 3:
        chunks[place] = (kind, rng.choice(list(RAW.values()))(rng, content))
    else:
        chunks.insert(place, rng.choice(_EXTRA))
    return _png(chunks, data[:_START])


def png_pixels(rng: Random, data: bytes) -> bytes:
    """The compressed rows are fewer, more, or of odd filters."""
    chunks = _chunks(data)
    rows = b"".join(content for kind, content in chunks if kind == b"IDAT")
    try:
        plain = zlib.decompress(rows)
    except zlib.error:
        return RAW["byte"](rng, data)
    changed = rng.choice((RAW["byte"], RAW["truncate"], RAW["lengthen"], RAW["fill"]))(rng, plain)
    chunks = [(k, c) for k, c in chunks if k != b"IDAT"]
    chunks.insert(min(1, len(chunks)), (b"IDAT", zlib.compress(changed)))
    return _png(chunks, data[:_START])


def bmp_header(rng: Random, data: bytes) -> bytes:
    """A field of the header is another."""
    fields = ((2, "<I"), (10, "<I"), (14, "<I"), (18, "<I"), (22, "<I"), (26, "<H"), (28, "<H"))
    place, layout = rng.choice((*fields, (30, "<I"), (34, "<I"), (46, "<I"), (50, "<I")))
    size = struct.calcsize(layout)
    value = rng.choice((*_SIDES, 24, 32, 8, 40, 54, 124)) % (1 << 8 * size)
    if len(data) < place + size:
        return data + b"\0"
    return data[:place] + struct.pack(layout, value) + data[place + size :]


def _segments(data: bytes) -> list[tuple[int, int, int]]:
    """Start, length and kind of each of a JPEG's segments before its image data."""
    found, place = [], 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        size = int.from_bytes(data[place + 2 : place + 4], "big")
        found.append((place, size + 2, data[place + 1]))
        if data[place + 1] == 0xDA:
            break
        place += 2 + size
    return found


def jpeg_segments(rng: Random, data: bytes) -> bytes:
    """A segment goes, comes twice, is damaged, or says other sizes."""
    segments = _segments(data)
    if not segments:
        return RAW["byte"](rng, data)
    start, size, kind = rng.choice(segments)
    content = data[start : start + size]
    form = rng.randrange(6)
    if form == 0:
        content = b""
    elif form == 1:
        content += content
    elif form == 2:
        content = content[:4] + rng.choice(list(RAW.values()))(rng, content[4:])
    elif form == 3:
        content = content[:1] + bytes(
            [rng.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xDD, 0xEE, kind))]
        )
        content += data[start + 2 : start + size]
    elif form == 4 and kind in (0xC0, 0xC2):
        sides = struct.pack(">HH", *(rng.choice(_SIDES) % 65_536 for _ in range(2)))
        content = content[:5] + sides + content[9:]
    else:
        adobe = b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0" + bytes([rng.randrange(4)])
        content = rng.choice((adobe, b"\xff\xdd\x00\x04\x00\x01", b"\xff\xff\xff")) + content
    return data[:start] + content + data[start + size :]


PNG: dict[str, Damage] = {
    "header": png_header,
    "header-2": png_header,
    "chunks": png_chunks,
    "chunks-2": png_chunks,
    "pixels": png_pixels,
}
BMP: dict[str, Damage] = {"header": bmp_header, "header-2": bmp_header, "header-3": bmp_header}
JPEG: dict[str, Damage] = {"segments": jpeg_segments, "segments-2": jpeg_segments}
