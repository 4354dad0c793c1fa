"""A reader that is wrong on purpose: what its file says is what goes wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random
from typing import Any

from efficientdet_spec import InputError
from fuzzing.target import MIB, Target


def _as_it_is(text: str) -> InputError:
    """An error that has got around what makes every message one printable line."""
    error = InputError("")
    error.args = (text,)
    return error


class Reader(Target):
    """Does what the file's first word says."""

    WHAT = "a broken reader"
    SECONDS = 1.0
    MEMORY = 32 * MIB
    BATCH = 2

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        self.files = {"word": b"sound", "beside": b"sound"}
        # One kind alone where a test asks for it.
        words = os.environ.get("FUZZ_BROKEN", "refuse harmless").split()
        self.damages = {"word": {word: _saying(word) for word in words}}

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        word = (folder / "word").read_text("utf-8").split()[0]
        if word == "refuse":
            raise InputError("no such thing.")
        if word == "raise":
            raise KeyError("secret")
        if word == "sleep":
            time.sleep(60)
        if word == "allocate":
            return bytearray(48 * MIB) and "sound"
        if word == "bomb":
            return bytearray(2**40)
        if word == "hidden":
            _hidden_bomb()
        if word == "unprintable":
            raise _as_it_is("a line\nand \x1b[2J another")
        if word == "long":
            raise _as_it_is("x" * 2000)
        if word == "die":
            os.abort()
        if word == "litter":
            (folder / "litter").write_text("")
            raise InputError("no such thing.")
        return "another" if word == "wrong" else "sound"

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return value == "sound"

    def left(self, folder: Path) -> str | None:
        return "a file was left behind" if (folder / "litter").exists() else None


def _hidden_bomb() -> None:
    try:
        bytearray(2**40)
    except MemoryError as error:
        raise InputError("it is damaged.") from error


def _saying(word: str) -> Any:
    def damage(rng: Random, data: bytes) -> bytes:
        return f"{word} {rng.random()}".encode()

    return damage
