"""The index of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.tensorflow_files.bundle import BundleIndex, read_index
from fuzzing.damage.raw import RAW, splice
from fuzzing.damage.tables import TABLE
from fuzzing.target import Target


class Reader(Target):
    """What a checkpoint says that it holds."""

    WHAT = "checkpoint index, its entries (`read_index`)"
    # A splice can be the other sound table as a whole.
    FORGED = frozenset((*TABLE, "splice"))
    EXAMPLES = 60_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        path = material / "small" / "model.index"
        other = (material / "small-2" / "model.index").read_bytes()
        self.files = {"model.index": path.read_bytes()}
        self.damages = {"model.index": {**RAW, **TABLE, "splice": splice(other)}}
        self._sound = dict(read_index(path).entries)

    def read(self, folder: Path, changed: frozenset[str]) -> BundleIndex:
        return read_index(folder / "model.index")

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return dict(value.entries) == self._sound
