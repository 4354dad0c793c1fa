"""Streams for reading an archive once, from its start to its end, as it is not to be trusted."""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import IO

from efficientdet_spec import InputError

CHUNK = 2**20
"""Bytes that are read at a time."""


class Digested(io.RawIOBase):
    """A file that is read once from its start to its end, and its SHA-256 on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        file.seek(0)
        self._file = file
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, digested."""
        data = self._file.read(size)
        self._digest.update(data)
        return data

    def finish(self) -> str:
        """The digest of the whole file, also of what follows behind the archive."""
        while self.read(CHUNK):
            pass
        return self._digest.hexdigest()


class ForwardReader(io.BufferedIOBase):
    """A stream that only goes forward, no further than a limit and in measured portions.

    Going back in a gzip stream means decompressing it again from its start, which a forged archive
    could demand over and over.
    """

    def __init__(self, stream: IO[bytes], limit: int, too_large: InputError) -> None:
        self._stream = stream
        self._limit = limit
        self._too_large = too_large
        self._position = 0
        self.allowance = 0
        self.last_read = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Forward only."""
        return True

    def tell(self) -> int:
        """Bytes read or left out so far."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Leaves out what lies before a place.

        Raises:
            ReadError: It has been passed.
            InputError: It lies behind the limit.
        """
        if whence != io.SEEK_SET or offset < self._position:
            raise tarfile.ReadError("its members overlap")
        self._check_limit(offset)
        while self._position < offset:
            skipped = len(self._stream.read(min(CHUNK, offset - self._position)))
            if not skipped:
                break
            self._position += skipped
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, no more than the allowance.

        Raises:
            ReadError: More are asked for.
            InputError: They lie behind the limit.
        """
        if size is None or size < 0 or size > self.allowance:
            raise tarfile.ReadError("a member's header is far too long")
        self.allowance -= size
        data = self._stream.read(size)
        self._position += len(data)
        self._check_limit(self._position)
        self.last_read = data
        return data

    def drain(self) -> None:
        """Reads to the end of the stream: only there does gzip compare its checksum."""
        while data := self._stream.read(CHUNK):
            self._position += len(data)
            self._check_limit(self._position)

    def _check_limit(self, position: int) -> None:
        if position > self._limit:
            raise self._too_large
