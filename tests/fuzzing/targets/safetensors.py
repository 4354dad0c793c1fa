"""A safetensors file of this project, with raw values and averages, as a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from converter.formats import registry
from converter.formats.target import Values
from efficientdet_spec import TINY, InputError
from fuzzing.damage.headers import HEADER
from fuzzing.damage.raw import RAW, splice
from fuzzing.target import Damage, Target
from torch_model.checkpoint import load_checkpoint


class Reader(Target):
    """All tensors."""

    WHAT = "safetensors of this project (`converter.formats`, every tensor)"
    # Who takes the mark and the seal away makes a file of somebody else's.
    FORGED = frozenset(name for name in HEADER if name != "length")
    EXAMPLES = 10_000
    BATCH = 10
    KIND: ClassVar[str] = "safetensors"
    """Of container."""

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        name = f"model.{self.KIND}"
        made = [self._made(material, *both) for both in (("tiny", "other"), ("other", "tiny"))]
        data, other = (path.read_bytes() for path in made)
        self.files = {name: data}
        self.damages = {name: self._damages(data, other)}
        self._sound, self._other = (self._content(path) for path in made)

    def _made(self, material: Path, ema: str, raw: str) -> Path:
        arrays = [
            {n: v.numpy() for n, v in load_checkpoint(material / f"{one}.pth").state_dict.items()}
            for one in (ema, raw)
        ]
        path = material / f"{ema}-both.{self.KIND}"
        values = Values(TINY, arrays[0], arrays[1], {"weights": "both"})
        registry.formats()[self.KIND].write(path, values)
        return path

    def _damages(self, data: bytes, other: bytes) -> dict[str, Damage]:
        return {**RAW, **HEADER, "splice": splice(other)}

    def _content(self, path: Path) -> tuple[bool, dict[str, bytes]]:
        found = registry.find(path)
        if found is None:
            raise InputError(f"{path} is of no kind that is known.")
        source = found[0].open(found[1])
        names = source.entries
        return source.said is not None, {name: source.read(name).tobytes() for name in names}

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        return self._content(folder / f"model.{self.KIND}")

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)

    def other(self, value: Any) -> bool:
        return bool(value == self._other)

    def promise(self, value: Any) -> str | None:
        ours, values = value
        if ours and values and not self.other(value):
            return "other values in a file of this project"
        return None


SMALL = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "a.half": np.arange(5, dtype=np.float16),
    "a.empty": np.zeros((0, 4), np.float32),
    "a.count": np.array(5, np.int64),
}
"""A few tensors of several types, as somebody else's file."""
