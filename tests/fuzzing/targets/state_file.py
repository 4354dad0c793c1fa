"""The file ``checkpoint`` in a folder of checkpoints."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from converter.fetch.sources import resolve
from fuzzing.damage.raw import RAW
from fuzzing.target import Target

_PATHS = (
    b"../b",
    b"/etc/passwd",
    b"/tmp/b",
    b"..",
    b".",
    b"",
    b"a/../../b",
    b"\\x1b[2J",
    b"\\0",
    b"\\x00b",
    b"b\\nc",
    b"x" * 5000,
    b"C:\\\\b",
    b"\xff\xfe",
    b"a",
    b"./b",
    b"\\777",
)


def _named(rng: Random, data: bytes) -> bytes:
    line = b'model_checkpoint_path: "%s"\n' % rng.choice(_PATHS)
    return rng.choice((line, data + line, line + data, line * 3))


class Reader(Target):
    """Which of two checkpoints a folder means."""

    WHAT = "state file `checkpoint` (`resolve` of a folder)"
    CHECKSUMS = False
    EXAMPLES = 30_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        index = (material / "small" / "model.index").read_bytes()
        state = b'model_checkpoint_path: "b"\nall_model_checkpoint_paths: "a"\n'
        self.files = {"checkpoint": state, "a.index": index, "b.index": index}
        self.damages = {"checkpoint": {**RAW, "named": _named, "named-2": _named}}
        self._folder = Path()

    def read(self, folder: Path, changed: frozenset[str]) -> Path:
        self._folder = folder
        return resolve(str(folder), folder / "cache").prefix

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._folder / "b")

    def promise(self, value: Any) -> str | None:
        if value.resolve().parent != self._folder.resolve():
            return "a path outside of the folder"
        if not value.with_name(value.name + ".index").is_file():
            return "a checkpoint that is not there"
        return None
