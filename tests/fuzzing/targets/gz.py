"""Files that are compressed one by one."""

from __future__ import annotations

import gzip
import shutil
import zlib
from pathlib import Path
from random import Random
from typing import Any

from converter.fetch.archive import extract_container
from converter.fetch.cached import from_packed_files
from fuzzing.damage.raw import RAW
from fuzzing.target import MIB, Damage, Target
from fuzzing.targets.bundle import DATA
from fuzzing.targets.tar import tensors

_SINGLE = "weights.h5.gz"
_CONTENT = bytes(range(256)) * 64


def _inner(damage: Damage) -> Damage:
    """Damage to what is compressed; gzip's checksum is made again."""

    def changed(rng: Random, data: bytes) -> bytes:
        try:
            return gzip.compress(damage(rng, gzip.decompress(data)), mtime=0)
        except (OSError, EOFError, ValueError, zlib.error):
            return RAW["byte"](rng, data)

    return changed


def _bomb(rng: Random, data: bytes) -> bytes:
    """Many zeros; rarely, for it takes long."""
    if rng.random() < 0.99:
        return RAW["bit"](rng, data)
    return gzip.compress(bytes(64 * MIB), 1, mtime=0)


class Reader(Target):
    """The tensors of a checkpoint whose data are compressed, and a single compressed file."""

    WHAT = "files compressed one by one (`from_packed_files`, `extract_container`)"
    FORGED = frozenset({"inner bit", "inner truncate", "inner lengthen"})
    EXAMPLES = 20_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        folder = material / "small"
        packed = f"{DATA}.gz"
        self.files = {
            "model.index": (folder / "model.index").read_bytes(),
            packed: gzip.compress((folder / DATA).read_bytes(), mtime=0),
            _SINGLE: gzip.compress(_CONTENT, mtime=0),
        }
        inner = {f"inner {kind}": _inner(RAW[kind]) for kind in ("bit", "truncate", "lengthen")}
        self.damages = {
            packed: {**RAW, **inner, "bomb": _bomb},
            _SINGLE: {**RAW, "bomb": _bomb},
        }
        self._sound = tensors(folder / "model")

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        # Where both are damaged, one of them is read.
        if _SINGLE in changed:
            return extract_container(folder / _SINGLE, folder / "cache" / "x").read_bytes()
        found = from_packed_files(folder / "model", folder / "cache")
        return tensors(folder / "model" if found is None else found.prefix)

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == (_CONTENT if _SINGLE in changed else self._sound))

    def other(self, value: Any) -> bool:
        """Two gzip files one behind the other are one, of both contents (RFC 1952, 2.2)."""
        if not isinstance(value, bytes):
            return False
        return bool(value) and value == _CONTENT * (len(value) // len(_CONTENT))

    def left(self, folder: Path) -> str | None:
        """Nothing of an extraction that was given up may be there."""
        names = [path.name for path in folder.rglob(".partial-*")]
        return f"left behind: {sorted(names)}" if names else None

    def clean(self, folder: Path) -> None:
        shutil.rmtree(folder / "cache", ignore_errors=True)
