"""Streams for reading an archive once, from its start to its end, as it is not to be trusted."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from typing import IO, Any

from efficientdet_spec import InputError

CHUNK = 2**20
"""Bytes that are read at a time."""

MAX_PARTS = 2**17
"""Gzip files that may stand one behind the other: there are tools that pack 64 KiB in each."""

_PACKED = 2**14
"""Bytes that are unpacked at a time; what is left of them is copied for each part that ends."""


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


class Gunzipped(io.RawIOBase):
    """What a gzip file holds, unpacked from its start to its end; its checksums are verified.

    Python's own reader goes through a comment byte by byte, and through any number of empty parts.

    Args:
        file: It, at its start.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._part: Any = None
        self._packed = b""
        self._parts = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes: as many as are asked for, or all that are left.

        Raises:
            EOFError: The file is cut short.
            error: Of zlib: it is damaged, or has too many parts.
        """
        found = []
        while size > 0 and (data := self._next(size)):
            found.append(data)
            size -= len(data)
        return b"".join(found)

    def _next(self, size: int) -> bytes:
        """Some bytes, at most so many; none at the end alone."""
        while self._part is not None or self._begins():
            packed = self._packed or self._file.read(_PACKED)
            data: bytes = self._part.decompress(packed, size)
            if self._part.eof:
                self._packed, self._part = self._part.unused_data.lstrip(b"\0"), None
            elif data or packed:
                self._packed = self._part.unconsumed_tail
            else:
                raise EOFError("it ends early")
            if data:
                return data
        return b""

    def _begins(self) -> bool:
        """Whether another part begins, behind zeros at most."""
        while not self._packed:
            packed = self._file.read(_PACKED)
            if not packed:
                return False
            self._packed = packed.lstrip(b"\0") if self._parts else packed
        if self._parts == MAX_PARTS:
            raise zlib.error(f"it is of more than {MAX_PARTS:,} parts")
        self._parts += 1
        self._part = zlib.decompressobj(16 + zlib.MAX_WBITS)
        return True


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
