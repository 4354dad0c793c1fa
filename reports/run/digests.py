"""Digests of files' contents: whether what a step had read or written is still the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from efficientdet_spec import file_sha256


class Digests:
    """SHA-256 of files by path; within one run no unchanged file is read twice."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int, int], str] = {}

    def one(self, path: Path) -> str | None:
        """The digest of a file's contents; None where there is no file that can be read."""
        try:
            status = path.stat()
            key = (str(path), status.st_ino, status.st_size, status.st_mtime_ns)
            if key not in self._known:
                self._known[key] = file_sha256(path)
            return self._known[key]
        except OSError:
            return None

    def of(self, names: Iterable[str]) -> dict[str, str | None]:
        """The digest of each of some files."""
        return {name: self.one(Path(name)) for name in names}

    def changed_since(self, moment: int, names: Iterable[str]) -> list[str]:
        """The files that were written to after a moment.

        Args:
            moment: In nanoseconds since 1970.
            names: The files.
        """
        found = []
        for name in names:
            try:
                if Path(name).stat().st_mtime_ns > moment:
                    found.append(name)
            except OSError:
                # It is not there, and what is not there was not written to.
                continue
        return found
