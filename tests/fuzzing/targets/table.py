"""The container of a checkpoint's index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.tensorflow_files.table import read_table
from fuzzing.damage.raw import RAW, splice
from fuzzing.damage.tables import TABLE
from fuzzing.target import Target


class Reader(Target):
    """The pairs of a table."""

    WHAT = "checkpoint index, its table (`read_table`)"
    # A splice can be the other sound table as a whole.
    FORGED = frozenset((*TABLE, "splice"))
    EXAMPLES = 60_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        data = (material / "small" / "model.index").read_bytes()
        other = (material / "small-2" / "model.index").read_bytes()
        self.files = {"model.index": data}
        self.damages = {"model.index": {**RAW, **TABLE, "splice": splice(other)}}
        self._sound = read_table(data, "sound")

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        path = folder / "model.index"
        return read_table(path.read_bytes(), str(path))

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)
