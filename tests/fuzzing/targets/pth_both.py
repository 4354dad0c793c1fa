"""A ``.pth`` with raw values and averages, as a source."""

from __future__ import annotations

from fuzzing.target import Damage
from fuzzing.targets import safetensors
from fuzzing.targets.pth import pth_damages


class Reader(safetensors.Reader):
    """All tensors."""

    WHAT = "`.pth` with raw values (`converter.formats`, every tensor)"
    FORGED = frozenset(("records", "opcodes", "bomb"))
    KIND = "pth"
    BATCH = 5
    EXAMPLES = 5_000

    def _damages(self, data: bytes, other: bytes) -> dict[str, Damage]:
        return pth_damages(data, other)
