"""A checkpoint of the tiny model, converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.conversion import convert
from converter.fetch.sources import resolve
from fuzzing.damage.raw import RAW, splice
from fuzzing.damage.tables import TABLE
from fuzzing.target import Target
from fuzzing.targets.bundle import DATA


class Reader(Target):
    """The arrays of the PyTorch model."""

    WHAT = "checkpoint of the tiny model, converted (`resolve`, `convert`)"
    FORGED = frozenset(TABLE)
    EXAMPLES = 3_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        names = ("model.index", DATA)
        self.files = {name: (material / "tiny" / name).read_bytes() for name in names}
        other = {name: (material / "other" / name).read_bytes() for name in names}
        self.damages = {name: {**RAW, "splice": splice(other[name])} for name in names}
        self.damages["model.index"] = {**self.damages["model.index"], **TABLE}
        self._sound = self._converted(material / "tiny")

    def _converted(self, folder: Path) -> dict[str, bytes]:
        done = convert(resolve(str(folder), folder / "cache"))
        return {name: array.tobytes() for name, array in done.arrays.items()}

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        return self._converted(folder)

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)
