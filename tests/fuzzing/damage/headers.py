"""Damage to the header of a safetensors file, whose length is made to fit again."""

from __future__ import annotations

import functools
from random import Random

from fuzzing.damage.raw import RAW
from fuzzing.damage.texts import JSON
from fuzzing.target import Damage


def _in_header(damage: Damage) -> Damage:
    @functools.wraps(damage)
    def changed(rng: Random, data: bytes) -> bytes:
        length = int.from_bytes(data[:8], "little")
        if not 0 < length <= len(data) - 8:
            return RAW["byte"](rng, data)
        header = damage(rng, data[8 : 8 + length])
        return len(header).to_bytes(8, "little") + header + data[8 + length :]

    return changed


def _length(rng: Random, data: bytes) -> bytes:
    """The header's length is another."""
    sound = int.from_bytes(data[:8], "little")
    some = (0, 1, 2, sound - 1, sound + 1, 2**22, 2**22 + 1, 10**8, 2**63, 2**64 - 1)
    return (rng.choice(some) % 2**64).to_bytes(8, "little") + data[8:]


HEADER: dict[str, Damage] = {
    **{f"header {name}": _in_header(damage) for name, damage in JSON.items()},
    "length": _length,
}
"""By name, what can be done to a header."""
