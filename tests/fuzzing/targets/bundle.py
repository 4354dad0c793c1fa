"""A checkpoint of a few tensors, index and data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.tensorflow_files.bundle import open_bundle
from fuzzing.damage.raw import RAW, splice
from fuzzing.damage.tables import TABLE
from fuzzing.target import Target

DATA = "model.data-00000-of-00001"


class Reader(Target):
    """All tensors."""

    WHAT = "checkpoint, index and data (`open_bundle`, every tensor)"
    FORGED = frozenset(TABLE)
    EXAMPLES = 50_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        names = ("model.index", DATA)
        self.files = {name: (material / "small" / name).read_bytes() for name in names}
        other = {name: (material / "small-2" / name).read_bytes() for name in names}
        self.damages = {name: {**RAW, "splice": splice(other[name])} for name in names}
        self.damages["model.index"] = {**self.damages["model.index"], **TABLE}
        self._sound = self._all(material / "small" / "model")

    def _all(self, prefix: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
        bundle = open_bundle(prefix)
        found = {}
        for name in bundle.index.entries:
            array = bundle.read(name)
            bundle.verify(name)
            found[name] = (array.dtype.str, array.shape, array.tobytes())
        return found

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        return self._all(folder / "model")

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)
