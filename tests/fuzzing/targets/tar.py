"""An archive of a checkpoint."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

from converter.fetch.archive import extract_container
from converter.tensorflow_files.bundle import open_bundle
from fuzzing.damage import tars
from fuzzing.damage.raw import RAW
from fuzzing.target import Target
from fuzzing.targets.bundle import DATA

_LISTED = ("checkpoint", "model.index", DATA)


class Reader(Target):
    """The tensors of the checkpoint that an archive holds."""

    WHAT = "archive of a checkpoint (`extract_container`, every tensor)"
    EXAMPLES = 30_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        folder = material / "small"
        plain = _archived(folder)
        self.files = {"model.tar": plain, "model.tar.gz": gzip.compress(plain, mtime=0)}
        packed = {f"inner {name}": tars.unpacked(damage) for name, damage in tars.TAR.items()}
        plainly = {"packed": tars.packed, "packed and damaged": tars.packed_and_damaged}
        self.damages = {
            "model.tar": {**RAW, **tars.TAR, **plainly},
            "model.tar.gz": {**RAW, **packed, "bomb": tars.bomb},
        }
        self._sound = tensors(folder / "model")

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        name = "model.tar.gz" if "model.tar.gz" in changed else "model.tar"
        return tensors(extract_container(folder / name, folder / "unpacked"))

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


def tensors(prefix: Path) -> dict[str, bytes]:
    """Every tensor of a checkpoint, by its name."""
    bundle = open_bundle(prefix)
    return {name: bundle.read(name).tobytes() for name in bundle.index.entries}


def _archived(folder: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in _LISTED:
            info = tarfile.TarInfo(f"efficientdet-small/{name}")
            data = (folder / name).read_bytes()
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()
