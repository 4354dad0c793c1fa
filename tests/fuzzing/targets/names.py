"""Names files: which submodule of a candidate makes which node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fuzzing.damage.raw import splice
from fuzzing.damage.texts import JSON
from fuzzing.target import Target
from parity.sides.naming import WRITTEN, Naming, read_names

_NODES = ("stem.conv", "stem.norm", "head.act@P3", "head.act@P4", "head.act@P5", "last")

_PLAIN = {"stem.conv": "conv_stem", "head.act": ["a.0", "a.1", "a.2"], "last": "out"}

_WRITTEN = {
    "schema": WRITTEN[0],
    "version": WRITTEN[1],
    "model": "efficientdet-tiny",
    "nodes": {
        "stem.conv": {"path": "conv_stem", "operations": ["conv2d"]},
        "head.act": {"path": "a"},
        "last": {"path": None},
    },
}


class Reader(Target):
    """The naming that a file gives."""

    WHAT = "names files (`read_names`)"
    CHECKSUMS = False
    EXAMPLES = 20_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        self.files = {
            "plain.json": json.dumps(_PLAIN).encode(),
            "written.json": json.dumps(_WRITTEN).encode(),
        }
        kinds = {**JSON, "splice": splice(self.files["written.json"])}
        self.damages = {"plain.json": kinds, "written.json": JSON}
        for name, data in self.files.items():
            (material / f"names-{name}").write_bytes(data)
        self._sound = {n: self._read(material / f"names-{n}") for n in self.files}

    def _read(self, path: Path) -> Naming:
        return read_names(path, _NODES, "efficientdet-tiny")

    def read(self, folder: Path, changed: frozenset[str]) -> Naming:
        return self._read(folder / self._name(changed))

    def _name(self, changed: frozenset[str]) -> str:
        return "written.json" if "written.json" in changed else "plain.json"

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound[self._name(changed)])

    def promise(self, value: Any) -> str | None:
        named = [node for nodes in value.calls.values() for node in nodes]
        if len(named) != len(set(named)) or not set(named) <= set(_NODES):
            return "a node that is named twice, or that there is not"
        if not all(isinstance(path, str) and path for path in value.calls):
            return "a path that is no text"
        return None
