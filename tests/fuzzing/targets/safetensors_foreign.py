"""Somebody else's safetensors file, of a few tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fuzzing.damage.headers import HEADER
from fuzzing.damage.raw import RAW, splice
from fuzzing.target import Target
from fuzzing.targets.safetensors import SMALL
from torch_model.safetensors import DTYPES, SafetensorsFile, write_safetensors


class Reader(Target):
    """All tensors."""

    WHAT = "safetensors (`SafetensorsFile`, every tensor)"
    CHECKSUMS = False
    EXAMPLES = 50_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        path = material / "small.safetensors"
        write_safetensors(path, list(SMALL.items())[::-1], {"format": "pt"})
        other = path.read_bytes()
        write_safetensors(path, SMALL.items(), {"format": "pt"})
        self.files = {"small.safetensors": path.read_bytes()}
        self.damages = {"small.safetensors": {**RAW, **HEADER, "splice": splice(other)}}
        self._size = 2 * path.stat().st_size
        self._sound = self._all(path)

    def _all(self, path: Path) -> Any:
        file = SafetensorsFile(path)
        return {
            name: (file.tensors[name], array.dtype.str, array.shape, array.tobytes())
            for name in file.tensors
            for array in [file.read(name)]
        }

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        return self._all(folder / "small.safetensors")

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)

    def promise(self, value: Any) -> str | None:
        for name, (tensor, _, shape, content) in value.items():
            if shape != tensor.shape or tensor.type not in DTYPES:
                return f"{name!r:.80} is {shape}, not {tensor.shape}"
            widened = 2 if tensor.type == "BF16" else 1
            if len(content) != tensor.size * widened:
                return f"{name!r:.80} has {len(content)} bytes, not {tensor.size}"
        return None
