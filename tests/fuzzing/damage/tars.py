"""Damage to tar archives: headers whose checksum is made again, odd members, bombs."""

from __future__ import annotations

import functools
import gzip
import io
import tarfile
from random import Random

from fuzzing.damage.raw import RAW
from fuzzing.target import MIB, Damage

_BLOCK = 512

_FIELDS = (
    ("name", 0, 100),
    ("mode", 100, 8),
    ("size", 124, 12),
    ("mtime", 136, 12),
    ("type", 156, 1),
    ("link", 157, 100),
    ("magic", 257, 8),
    ("prefix", 345, 155),
)

_NAMES = (
    b"../../evil.index",
    b"/etc/evil.index",
    b"C:\\evil.index",
    b"model\x1b[2J.index",
    b"a\nb.index",
    b"\xe2\x80\xaegnp.index",
    b"\xff\xfe.index",
    b"..",
    b"",
    b"x" * 100,
    b"model.index",
    b"checkpoint",
    b"a/b/c/model.index",
)

_SIZES = (
    b"77777777777\0",
    b"-0000000001\0",
    b"\xff" * 12,
    b"\x80" + b"\xff" * 11,
    b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7,
    b"00000000000\0",
    b"0000000000z\0",
    b" " * 12,
    b"00000002000\0",
)


def _headers(data: bytes) -> list[int]:
    """Where headers are: blocks with the format's mark."""
    return [n for n in range(0, len(data) - _BLOCK + 1, _BLOCK) if data[n + 257 :][:5] == b"ustar"]


def _summed(block: bytes) -> bytes:
    block = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def header(rng: Random, data: bytes) -> bytes:
    """A field of a member's header becomes another; the header's checksum is made again."""
    places = _headers(data)
    if not places:
        return RAW["byte"](rng, data)
    place = rng.choice(places)
    block = data[place : place + _BLOCK]
    name, start, size = rng.choice(_FIELDS)
    if name == "name":
        new = rng.choice(_NAMES)
    elif name == "size":
        new = rng.choice(_SIZES)
    elif name == "type":
        new = rng.choice((*[bytes([n]) for n in b"0123456789gxLKSVMAI"], b"\0", b"\xff"))
    else:
        new = rng.choice((b"", b"\xff" * size, b"../x", rng.randbytes(size)))
    block = block[:start] + new[:size].ljust(size, b"\0") + block[start + size :]
    return data[:place] + _summed(block) + data[place + _BLOCK :]


_RECORDS = (
    "path=../../evil.index",
    "path=" + "x" * 5000,
    "path=\x1b[2J.index",
    "size=99999999999999",
    "size=-5",
    "size=abc",
    "size=" + "9" * 5000,
    "mtime=1e400",
    "mtime=nan",
    "linkpath=/etc/passwd",
    "hdrcharset=BINARY",
    "GNU.sparse.major=1",
    "GNU.sparse.minor=0",
    "GNU.sparse.map=0,1,2",
    "GNU.sparse.realsize=99999999999",
    "GNU.sparse.size=7",
    "GNU.sparse.numblocks=99999999",
    "GNU.sparse.name=evil.index",
    "uid=-1",
    "=",
    "x",
)


_MOST_BYTES = 2**22
"""Of what is put in: an archive of any size would take memory before it is read."""


def extended(rng: Random, data: bytes) -> bytes:
    """A member gets extended headers: PAX records, a long name, or many of them."""
    places = _headers(data)
    place = rng.choice(places) if places else 0
    records = b""
    for text in rng.sample(_RECORDS, rng.randint(1, 4)):
        line = f" {text}\n".encode()
        length = len(line) + len(str(len(line)))
        length = len(line) + len(str(length))
        records += str(length if rng.random() < 0.9 else rng.choice((0, 3, 10**9))).encode() + line
    kind = rng.choice((b"x", b"x", b"g", b"L", b"K", b"S", b"X"))
    content = rng.choice((records, records, b"x" * 70_000, b"../" * 30 + b"\0"))
    info = tarfile.TarInfo("extended")
    info.size, info.type = len(content), kind
    block = info.tobuf(tarfile.USTAR_FORMAT)
    new = (block + content.ljust(-(-len(content) // _BLOCK) * _BLOCK, b"\0")) * rng.choice(
        (1, 1, 1, 2, 400)
    )
    return data[:place] + new[:_MOST_BYTES] + data[place:]


def members(rng: Random, data: bytes) -> bytes:
    """Members go, come twice, change places or become links."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = [(m, (archive.extractfile(m) or io.BytesIO()).read()) for m in archive]
    except (tarfile.TarError, OSError, ValueError, KeyError, RecursionError):
        return RAW["byte"](rng, data)
    if not found:
        return RAW["byte"](rng, data)
    place = rng.randrange(len(found))
    form = rng.randrange(4)
    if form == 0:
        del found[place]
    elif form == 1:
        found.append(found[place])
    elif form == 2:
        rng.shuffle(found)
    else:
        info = found[place][0]
        info.type = rng.choice(
            (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
        )
        info.linkname, info.size = rng.choice(("/etc/passwd", "../x", "model.index")), 0
        found[place] = (info, b"")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for info, content in found:
            try:
                archive.addfile(info, io.BytesIO(content))
            except (ValueError, OSError):
                continue
    return stream.getvalue()


def packed(rng: Random, data: bytes) -> bytes:
    """Compressed, once or twice, whole or with something behind it."""
    once = gzip.compress(data, 1, mtime=0)
    return rng.choice((once, once + b"junk", gzip.compress(once, 1, mtime=0), once + once))


def packed_and_damaged(rng: Random, data: bytes) -> bytes:
    """Compressed, and then any damage."""
    return rng.choice(list(RAW.values()))(rng, gzip.compress(data, 1, mtime=0))


def unpacked(damage: Damage) -> Damage:
    """A damage to what a compressed file holds."""

    def changed(rng: Random, data: bytes) -> bytes:
        try:
            plain = gzip.decompress(data)
        except (OSError, EOFError, ValueError):
            return RAW["byte"](rng, data)
        except Exception:  # zlib's own
            return RAW["byte"](rng, data)
        return gzip.compress(damage(rng, plain), 1, mtime=0)

    return changed


@functools.cache
def _bomb(name: str, size: int) -> bytes:
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1, mtime=0) as packed:
        info = tarfile.TarInfo(name)
        info.size = size
        packed.write(info.tobuf())
        for _ in range(size // MIB):
            packed.write(bytes(MIB))
        packed.write(bytes(1024))
    return stream.getvalue()


def bomb(rng: Random, data: bytes) -> bytes:
    """One member of many zeros, under a name that matters or not; rarely, for it takes long."""
    if rng.random() < 0.99:
        return RAW["bit"](rng, data)
    name = rng.choice(("model.index", "checkpoint", "other.txt", "model.data-00000-of-00001"))
    return _bomb(name, 128 * MIB)


TAR: dict[str, Damage] = {
    "header": header,
    "header-2": header,
    "extended": extended,
    "members": members,
}
"""Damage to an archive that is not compressed."""
