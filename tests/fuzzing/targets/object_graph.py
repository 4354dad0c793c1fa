"""The description of the objects in a TensorFlow 2 checkpoint."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from converter.formats.tf2 import Tf2Checkpoint
from converter.mappings.keras_paths import object_paths
from converter.tensorflow_files import wire
from converter.tensorflow_files.bundle_writer import write_bundle
from converter.tensorflow_files.object_graph import KEY, VALUE_SUFFIX, write_object_graph
from efficientdet_spec import TINY
from fuzzing.damage.raw import RAW
from fuzzing.target import Damage, Target

_ODD_NAMES = ("", "a/b", "..", "x\x1b[2J", "x" * 3000, "optimizer", "backbone", "0", "WSM_1")
_NUMBERS = (0, 1, 2, 5, 400, 2**31, 2**64 - 1)


def _reference(rng: Random) -> bytes:
    """A child or a slot that leads to any object."""
    number = wire.write_number(1, rng.choice(_NUMBERS))
    name = wire.write_chunk(2, rng.choice(_ODD_NAMES).encode())
    if rng.random() < 0.7:
        return wire.write_chunk(1, number + name)
    return wire.write_chunk(3, name + wire.write_number(3, rng.choice(_NUMBERS)))


def _rewired(rng: Random, data: bytes) -> bytes:
    """A sound description of which some objects lead elsewhere, or are another's double."""
    try:
        nodes = [content for tag, _, content in wire.read_fields(data) if tag == 10]
    except wire.WireError:
        return data
    for _ in range(rng.randrange(1, 5) if nodes else 0):
        place = rng.randrange(len(nodes))
        form = rng.randrange(4)
        if form == 0:
            nodes[place] += _reference(rng)
        elif form == 1:
            nodes[place] = nodes[rng.randrange(len(nodes))]
        elif form == 2:
            nodes[place] = b"".join(_reference(rng) for _ in range(rng.randrange(200)))
        else:
            nodes += [wire.write_chunk(1, wire.write_number(1, rng.choice(_NUMBERS)))] * 99
    return b"".join(wire.write_chunk(1, node) for node in nodes)


REWIRED: dict[str, Damage] = {"rewired": _rewired}


class Reader(Target):
    """Which tensor is which variable."""

    WHAT = "description of the objects in a TensorFlow 2 checkpoint (`Tf2Checkpoint`)"
    CHECKSUMS = False
    EXAMPLES = 10_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        paths = object_paths(TINY)
        self._keys = sorted([KEY, *(path + VALUE_SUFFIX for path in paths)])
        self.files = {"graph": write_object_graph(paths)}
        self.damages = {"graph": {**RAW, **REWIRED}}
        self._sound = {KEY: KEY, **{path: path + VALUE_SUFFIX for path in paths}}

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        graph = (folder / "graph").read_bytes()
        tensors = {key: np.float32(1).reshape(()) for key in self._keys}
        prefix = write_bundle(folder / "model", {**tensors, KEY: np.array(graph, object)})
        source = Tf2Checkpoint(prefix)
        source.check(TINY)
        return {name: entry.name for name, entry in source.entries.items()}

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)

    def promise(self, value: Any) -> str | None:
        if sorted(value.values()) != self._keys:
            return "a tensor is there twice or not at all"
        return None
