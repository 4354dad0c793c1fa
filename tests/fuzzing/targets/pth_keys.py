"""The keys of a plain state dict."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fuzzing.target import Target
from fuzzing.targets.pth import pth_damages
from torch_model.checkpoint import plain_keys
from torch_model.saving import save_state_dict


class Reader(Target):
    """The keys that another code base's file has."""

    WHAT = "plain state dict (`.pth`, `plain_keys`)"
    # Other code bases' files carry no checksum of their content as a whole.
    CHECKSUMS = False
    EXAMPLES = 30_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        path = material / "plain.pth"
        arrays = {f"module.layer.{n}": np.arange(n, dtype=np.float32) for n in range(4)}
        save_state_dict(path, arrays)
        other = io.BytesIO()
        torch.save({"model": {"a": torch.ones(3), "b": torch.zeros(2, 2)}, "epoch": 3}, other)
        data = path.read_bytes()
        self.files = {"plain.pth": data}
        self.damages = {"plain.pth": pth_damages(data, other.getvalue())}
        self._sound = [f"layer.{n}" for n in range(4)]

    def read(self, folder: Path, changed: frozenset[str]) -> list[str]:
        return plain_keys(folder / "plain.pth")

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)

    def promise(self, value: Any) -> str | None:
        if not isinstance(value, list) or not all(isinstance(key, str) for key in value):
            return "the keys are no list of texts"
        return None
