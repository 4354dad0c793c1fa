"""Damage to ZIP archives and to the pickle in a ``.pth`` file; checksums are made again."""

from __future__ import annotations

import contextlib
import functools
import io
import pickletools
import zipfile
import zlib
from random import Random

from fuzzing.damage.raw import RAW
from fuzzing.target import MIB, Damage

_BOMB = 256 * MIB

_OPCODES = (
    b"cos\nsystem\n(S'true'\ntR",
    b"cbuiltins\neval\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nload\n",
    b"c\x1b[2J\nx\n",
    b"\x8a\xff" + b"\x7f" * 255,
    b"\x8b\xff\xff\xff\x7f",
    b"\x8d" + b"\xff" * 7 + b"\x7f",
    b"r\xff\xff\xff\xff",
    b"j\xff\xff\xff\xff",
    b"(" * 2000,
    b"]" * 5000,
    b"\x85" * 20_000,
    b"NQ",
    b"R",
    b"b",
    b"o",
    b"\x81",
    b"0",
    b".",
    b"}",
    b"t",
    b"2",
    b"K\x00",
    b"J\xff\xff\xff\x7f",
    b"G\x7f\xf0" + bytes(6),
    b"X\x01\x00\x00\x00\n",
    b"\x80\x05",
)


def _read(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def _write(records: list[tuple[str, bytes]], packed: frozenset[int] = frozenset()) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, (name, content) in enumerate(records):
            info = zipfile.ZipInfo(name)
            if number in packed:
                info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return stream.getvalue()


def _rewriting(damage: Damage) -> Damage:
    """A damage that fails on what is no archive any more leaves a byte of damage instead."""

    @functools.wraps(damage)
    def changed(rng: Random, data: bytes) -> bytes:
        try:
            return damage(rng, data)
        except (zipfile.BadZipFile, OSError, ValueError, LookupError, NotImplementedError):
            return RAW["byte"](rng, data)
        except (EOFError, RuntimeError, UnicodeError, zlib.error):
            return RAW["byte"](rng, data)

    return changed


@_rewriting
def records(rng: Random, data: bytes) -> bytes:
    """Records are renamed, dropped, doubled, swapped, packed, or hold other bytes."""
    found = _read(data)
    place = rng.randrange(len(found))
    name, content = found[place]
    form = rng.randrange(8)
    if form == 0:
        odd = ("../x", "/etc/passwd", "", "\x1b[2J", "a/b/c", name.upper(), name + "\0", "x" * 3000)
        found[place] = (rng.choice(odd), content)
    elif form == 1:
        del found[place]
    elif form == 2:
        found.append((name, rng.choice(found)[1]))
    elif form == 3:
        found[place] = (name, rng.choice(found)[1])
    elif form == 4:
        rng.shuffle(found)
    elif form == 5:
        return _write(found, frozenset(range(len(found)) if rng.random() < 0.5 else {place}))
    elif form == 6:
        found[place] = (name, rng.choice(list(RAW.values()))(rng, content))
    else:
        root = name.partition("/")[0]
        extra = ("constants.pkl", "version", "byteorder", ".data/serialization_id", "data.pkl")
        found.append((f"{root}/{rng.choice(extra)}", rng.choice((b"", b"big", b"99\n", b"\xff"))))
    return _write(found)


@functools.cache
def _bombs(data: bytes) -> tuple[bytes, ...]:
    found = _read(data)
    made = []
    for ending in ("data.pkl", "data/0", "version", "byteorder"):
        place = next((n for n, (name, _) in enumerate(found) if name.endswith(ending)), None)
        if place is not None:
            records = list(found)
            records[place] = (found[place][0], bytes(_BOMB))
            made.append(_write(records, frozenset({place})))
    return tuple(made)


def bomb(sound: bytes) -> Damage:
    """A record becomes 256 MiB of zeros, which take little room in the archive; rarely."""

    def damage(rng: Random, data: bytes) -> bytes:
        return rng.choice(_bombs(sound)) if rng.random() < 0.1 else RAW["bit"](rng, data)

    return damage


@_rewriting
def opcodes(rng: Random, data: bytes) -> bytes:
    """The pickle gets other opcodes: some more, some fewer, some damaged."""
    found = _read(data)
    place = next(n for n, (name, _) in enumerate(found) if name.endswith("data.pkl"))
    name, pickled = found[place]
    if rng.random() < 0.3:
        changed = rng.choice(list(RAW.values()))(rng, pickled)
    else:
        spots = _spots(pickled)
        spot = rng.choice(spots)
        end = spot if rng.random() < 0.5 else rng.choice([s for s in spots if s >= spot][:4])
        changed = pickled[:spot] + rng.choice((*_OPCODES, b"")) + pickled[end:]
    found[place] = (name, changed)
    return _write(found)


@functools.lru_cache(16)
def _spots(pickled: bytes) -> list[int]:
    """Where an opcode begins."""
    found = []
    with contextlib.suppress(ValueError):
        found = [spot for _, _, spot in pickletools.genops(pickled) if spot is not None]
    return found or [0]


ZIP: dict[str, Damage] = {"records": records, "opcodes": opcodes}
"""Damage whose checksums are sound."""
