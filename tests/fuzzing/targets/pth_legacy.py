"""A state dict as PyTorch wrote it before 1.6, of a few tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fuzzing.damage.raw import RAW, splice
from fuzzing.target import Target
from fuzzing.targets.safetensors import SMALL
from torch_model.container import open_torch_file
from torch_model.pickled import iterate_tensors


class Reader(Target):
    """All tensors."""

    WHAT = "state dict as of PyTorch before 1.6 (`open_torch_file`, every tensor)"
    CHECKSUMS = False
    EXAMPLES = 50_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        path = material / "legacy.pth"
        state = {name: torch.from_numpy(array.copy()) for name, array in SMALL.items()}
        for content in ({"model": state, "epoch": 3}, state):
            torch.save(content, path, _use_new_zipfile_serialization=False)
            data, other = path.read_bytes(), self.files.get("legacy.pth", b"")
            self.files = {"legacy.pth": data}
        self.damages = {"legacy.pth": {**RAW, "splice": splice(other)}}
        self._sound = self._all(path)

    def _all(self, path: Path) -> Any:
        file = open_torch_file(path)
        return [
            (keys, tensor.shape, array.shape, array.tobytes())
            for keys, tensor in iterate_tensors(file.content)
            for array in [file.read(tensor)]
        ]

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        return self._all(folder / "legacy.pth")

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)

    def promise(self, value: Any) -> str | None:
        wrong = [keys for keys, claimed, shape, _ in value if claimed != shape]
        return f"{wrong[0]!r:.80} has another shape" if wrong else None
