"""A folder of results that pages are made of."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import made_results

from fuzzing.damage.texts import JSON
from fuzzing.target import MIB, Target
from reports.pages.render import render


class Reader(Target):
    """The pages of a model's results."""

    WHAT = "results folder, rendered (`report --from`)"
    CHECKSUMS = False
    BATCH = 5
    MEMORY = 128 * MIB
    EXAMPLES = 3_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        folder = material / "report"
        made_results.write_all(folder)
        self.files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        self.damages = {name: JSON for name in self.files if name.endswith(".json")}
        render(folder, material / "pages")
        self._sound = _pages(material / "pages")

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        out = folder.parent / "pages"
        render(folder, out)
        return _pages(out)

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)

    def promise(self, value: Any) -> str | None:
        """Nothing of a file may become part of a page's own code."""
        for name, page in value.items():
            if b"<script>alert(1)" in page:
                return f"a script of a result in {name}"
            if b"\x1b" in page or "\u202e".encode() in page:
                return f"a character in {name} that a terminal or browser obeys"
        return None

    def left(self, folder: Path) -> str | None:
        out = folder.parent / "pages"
        found = [path.name for path in out.rglob(".*")] if out.is_dir() else []
        return f"left behind: {found}" if found else None

    def clean(self, folder: Path) -> None:
        shutil.rmtree(folder.parent / "pages", ignore_errors=True)


def _pages(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.html")}
