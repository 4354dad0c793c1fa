"""A SavedModel of TensorFlow 2, whose bundle is that of a TensorFlow 2 checkpoint, converted."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from converter.conversion import convert
from converter.fetch.sources import resolve
from converter.formats import registry
from converter.formats.target import Values
from efficientdet_spec import TINY
from fuzzing.damage.raw import RAW, splice
from fuzzing.damage.tables import TABLE
from fuzzing.target import Target

INDEX, DATA = (f"variables/variables.{end}" for end in ("index", "data-00000-of-00001"))
GRAPH = "saved_model.pb"


class Reader(Target):
    """The arrays of the PyTorch model."""

    WHAT = "TensorFlow 2 SavedModel of the tiny model, converted (`resolve`, `convert`)"
    FORGED = frozenset(TABLE)
    EXAMPLES = 3_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        self.files = {GRAPH: b"\x08\x01\x12\x00", **_written(material / "tiny")}
        other = _written(material / "other")
        self.damages = {name: {**RAW, "splice": splice(other[name])} for name in (INDEX, DATA)}
        self.damages[INDEX] = {**self.damages[INDEX], **TABLE}
        self._sound = _converted(material / "tiny")

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        return _converted(folder)

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)


def _converted(folder: Path) -> dict[str, bytes]:
    done = convert(resolve(str(folder), folder / "cache"))
    return {name: array.tobytes() for name, array in done.arrays.items()}


def _written(checkpoint: Path) -> dict[str, bytes]:
    """The bundle of a TensorFlow 2 checkpoint with the values of another."""
    arrays = convert(resolve(str(checkpoint), checkpoint / "cache")).arrays
    write = registry.formats()["tf2"].write
    assert write is not None
    with tempfile.TemporaryDirectory() as name:
        write(Path(name) / "model", Values(TINY, arrays))
        made = {path.suffix: path.read_bytes() for path in (Path(name) / "model").glob("model.*")}
    return {INDEX: made[".index"], DATA: made[".data-00000-of-00001"]}
