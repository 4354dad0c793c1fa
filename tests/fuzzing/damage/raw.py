"""Damage to bytes whose meaning is not looked at."""

from __future__ import annotations

from random import Random

from fuzzing.target import Damage

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63)
_LARGE = 4096


def _span(rng: Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    length = rng.choice((1, 2, 4, 8, 16, 64, 512, len(data)))
    return start, min(len(data), start + rng.randint(1, max(length, 1)))


def flip_bit(rng: Random, data: bytes) -> bytes:
    if not data:
        return data
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def flip_bits(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(2, 16) if data else 0):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_byte(rng: Random, data: bytes) -> bytes:
    if not data:
        return data
    place = rng.randrange(len(data))
    return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]


def truncate(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def behead(rng: Random, data: bytes) -> bytes:
    return data[rng.randrange(len(data) + 1) :]


def delete(rng: Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def insert(rng: Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    new = rng.randbytes(rng.choice((1, 2, 4, 8, 64, 512)))
    return data[:place] + new + data[place:]


def double(rng: Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] + data[end:]


def swap(rng: Random, data: bytes) -> bytes:
    a, b = _span(rng, data)
    c, d = _span(rng, data[b:])
    c, d = c + b, d + b
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def fill(rng: Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + bytes([rng.choice((0, 255, 32, 10))]) * (end - start) + data[end:]


def extreme(rng: Random, data: bytes) -> bytes:
    size = rng.choice((1, 2, 4, 8))
    if len(data) < size:
        return data
    place = rng.randrange(len(data) - size + 1)
    if rng.random() < 0.5:
        place -= place % size
    value = (rng.choice(_EXTREMES) + rng.choice((0, 0, 1, -1))) % (1 << 8 * size)
    order = rng.choice(("little", "big"))
    return data[:place] + value.to_bytes(size, order) + data[place + size :]


def nudge(rng: Random, data: bytes) -> bytes:
    """A number a little larger or smaller, as a length that does not fit."""
    if not data:
        return data
    place = rng.randrange(len(data))
    value = (data[place] + rng.choice((-16, -2, -1, 1, 2, 16))) % 256
    return data[:place] + bytes([value]) + data[place + 1 :]


def lengthen(rng: Random, data: bytes) -> bytes:
    return data + rng.choice((bytes(1), bytes(_LARGE), rng.randbytes(64), data))


def empty(rng: Random, data: bytes) -> bytes:
    return b""


def junk(rng: Random, data: bytes) -> bytes:
    return rng.randbytes(rng.choice((1, 16, 512, _LARGE)))


RAW: dict[str, Damage] = {
    "bit": flip_bit,
    "bits": flip_bits,
    "byte": set_byte,
    "truncate": truncate,
    "behead": behead,
    "delete": delete,
    "insert": insert,
    "double": double,
    "swap": swap,
    "fill": fill,
    "extreme": extreme,
    "nudge": nudge,
    "lengthen": lengthen,
    "empty": empty,
    "junk": junk,
}
"""What can be done to any file."""


def splice(other: bytes) -> Damage:
    """A file that begins as one sound file and goes on as another, and is neither."""

    def damage(rng: Random, data: bytes) -> bytes:
        shorter = min(len(data), len(other))
        differing = [place for place in range(shorter) if data[place] != other[place]]
        if len(differing) < 2:
            return data + other
        place = rng.randint(differing[0] + 1, differing[-1])
        first, second = (data, other) if rng.random() < 0.5 else (other, data)
        return first[:place] + second[place:]

    return damage


def within(damage: Damage, start: int, end: int) -> Damage:
    """The same damage done to a part of the file alone."""

    def changed(rng: Random, data: bytes) -> bytes:
        return data[:start] + damage(rng, data[start:end]) + data[end:]

    return changed
