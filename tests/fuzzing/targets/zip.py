"""A ZIP archive of a checkpoint."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from converter.fetch.archive import extract_container
from fuzzing.damage.raw import RAW, within
from fuzzing.damage.zips import records
from fuzzing.target import MIB, Damage, Target
from fuzzing.targets.bundle import DATA
from fuzzing.targets.tar import tensors

_LISTED = ("checkpoint", "model.index", DATA)


class Reader(Target):
    """The tensors of the checkpoint that a ZIP archive holds."""

    WHAT = "ZIP archive of a checkpoint (`extract_container`, every tensor)"
    EXAMPLES = 20_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        folder = material / "small"
        files = {f"d0/{name}": (folder / name).read_bytes() for name in _LISTED}
        data = zipped(files)
        start = data.find(b"PK\x01\x02")
        ends: dict[str, Damage] = {
            f"directory {kind}": within(RAW[kind], start, len(data))
            for kind in ("byte", "extreme", "nudge", "double", "delete")
        }
        self.files = {"model.zip": data}
        odd: dict[str, Damage] = {"records": records, "records-2": records, "bomb": _bomb}
        self.damages = {"model.zip": {**RAW, **ends, **odd}}
        self._sound = tensors(folder / "model")

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        return tensors(extract_container(folder / "model.zip", folder / "unpacked"))

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)

    def left(self, folder: Path) -> str | None:
        """Only sound names may be there, and nothing of an extraction that was given up."""
        names = {path.name for path in folder.iterdir()} - {"unpacked", *self.files}
        return f"left behind: {sorted(names)}" if names else None

    def clean(self, folder: Path) -> None:
        for path in folder.iterdir():
            if path.name not in self.files:
                shutil.rmtree(path)


def zipped(files: dict[str, bytes]) -> bytes:
    """A ZIP archive; every other member is compressed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for place, (name, content) in enumerate(files.items()):
            method = zipfile.ZIP_DEFLATED if place % 2 else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def _bomb(rng: Random, data: bytes) -> bytes:
    """One member of many zeros, under a name that matters or not; rarely, for it takes long."""
    if rng.random() < 0.99:
        return RAW["bit"](rng, data)
    stream = io.BytesIO()
    name = rng.choice(("model.index", "checkpoint", "other.txt", DATA))
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(name, bytes(128 * MIB))
    return stream.getvalue()
