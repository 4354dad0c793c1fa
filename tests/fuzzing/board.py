"""A page of memory in which a process says what it does, for another that watches it."""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

_SHOWN = ("started", "tried", "refused", "harmless", "other", "failed", "peak", "limit")
_LAYOUT = struct.Struct("<dqqqqqqq")
_TEXT = 256
_SIZE = 4096


class Board:
    """Counts of what was tried, and what is being tried now.

    Attributes:
        tried: Inputs that were read.
        refused: Of them those that were refused.
        harmless: Those that were read as the sound ones.
        other: Those that were read as other sound values.
        failed: Those that failed.
        peak: Most bytes that were taken for an input.
        limit: Milliseconds that an input may take; 0 until the target is open.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as stream:
            self._map = mmap.mmap(stream.fileno(), _SIZE)
        self.started = 0.0
        self.tried = self.refused = self.harmless = self.other = self.failed = 0
        self.peak = self.limit = 0

    def show(self) -> None:
        """Let the other process see the counts."""
        _LAYOUT.pack_into(self._map, 0, *(getattr(self, name) for name in _SHOWN))

    def begin(self, text: str) -> None:
        """Say what is tried now, and since when."""
        encoded = text.encode()[: _SIZE - _TEXT - 1]
        self._map[_TEXT : _TEXT + len(encoded) + 1] = encoded + b"\0"
        self.started = time.monotonic()
        self.show()

    def end(self) -> None:
        """Say that nothing is tried now."""
        self.started = 0.0
        self.show()

    def look(self) -> None:
        """See the other process's counts."""
        for name, value in zip(_SHOWN, _LAYOUT.unpack_from(self._map, 0), strict=True):
            setattr(self, name, value)

    @property
    def text(self) -> str:
        """What is tried now."""
        return self._map[_TEXT:_SIZE].split(b"\0", 1)[0].decode("utf-8", "replace")
