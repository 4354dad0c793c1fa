"""A converted model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fuzzing.damage.raw import RAW, splice, within
from fuzzing.damage.zips import ZIP, bomb
from fuzzing.target import Damage, Target
from torch_model.checkpoint import load


class Reader(Target):
    """The model, with every parameter."""

    WHAT = "converted model (`.pth`, `torch_model.checkpoint.load`)"
    FORGED = frozenset(("records", "opcodes", "bomb"))
    BATCH = 5
    EXAMPLES = 5_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        data = (material / "tiny.pth").read_bytes()
        other = (material / "other.pth").read_bytes()
        self.files = {"model.pth": data}
        self.damages = {"model.pth": pth_damages(data, other)}
        self._sound = self._content(material / "tiny.pth")
        self._other = self._content(material / "other.pth")

    def _content(self, path: Path) -> tuple[str, dict[str, bytes]]:
        model = load(path)
        found = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
        return repr(model.config), found

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        return self._content(folder / "model.pth")

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)

    def other(self, value: Any) -> bool:
        return bool(value == self._other)


def pth_damages(data: bytes, other: bytes) -> dict[str, Damage]:
    """What can be done to a file of PyTorch's.

    Args:
        data: The sound file.
        other: Another sound one.
    """
    place = data.rfind(b"PK\x01\x02", 0, data.rfind(b"PK\x05\x06"))
    start = data.find(b"PK\x01\x02")
    ends = {
        f"directory {kind}": within(RAW[kind], min(start, place), 10**9)
        for kind in ("byte", "extreme", "nudge", "double", "delete")
    }
    head = {f"head {kind}": within(RAW[kind], 0, 2048) for kind in ("byte", "extreme", "nudge")}
    return {**RAW, **ZIP, **ends, **head, "splice": splice(other), "bomb": bomb(data)}
