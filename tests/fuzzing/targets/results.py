"""Result files of every kind."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

from fuzzing.damage.texts import JSON
from fuzzing.samples import samples
from fuzzing.target import Target
from parity.results import records
from parity.results.reading import read
from parity.results.records.record import ResultFile, identity, plain


class Reader(Target):
    """The record that a result file holds."""

    WHAT = "result files of every kind (`parity.results.reading.read`)"
    CHECKSUMS = False
    EXAMPLES = 25_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        self._kinds = _kinds()
        folder = material / "results"
        folder.mkdir(exist_ok=True)
        self._sound = {}
        for name, values in samples().items():
            if name not in self._kinds:
                continue
            file = f"{name}.json"
            self.files[file] = json.dumps(values).encode()
            (folder / file).write_bytes(self.files[file])
            self._sound[file] = plain(read(folder / file, self._kinds[name]))
            self.damages[file] = JSON
        assert len(self.files) >= 12, sorted(self._kinds)

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        file = self._file(changed)
        return read(folder / file, self._kinds[file.removesuffix(".json")])

    def _file(self, changed: frozenset[str]) -> str:
        return min(changed) if changed else next(iter(self.files))

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(plain(value) == self._sound[self._file(changed)])

    def promise(self, value: Any) -> str | None:
        return None if isinstance(value, ResultFile) else "no record"


def _kinds() -> dict[str, type[ResultFile]]:
    """By the name of its schema, each kind of record."""
    for module in pkgutil.iter_modules(records.__path__):
        importlib.import_module(f"{records.__name__}.{module.name}")
    found = {}
    waiting = [ResultFile]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            schema, version = identity(kind)
            found[f"{schema.rpartition('/')[2]}-{version}"] = kind
    return found
