"""Single bits of a converted model."""

from __future__ import annotations

from pathlib import Path

from fuzzing.damage.raw import flip_bit
from fuzzing.targets import pth


class Reader(pth.Reader):
    """The model, of a file in which one bit is another."""

    WHAT = "converted model with one flipped bit"
    STEPS = 1
    FORGED = frozenset()
    EXAMPLES = 1_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        self.damages = {"model.pth": {"bit": flip_bit}}
