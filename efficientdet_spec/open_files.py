"""Files of many bytes: one that is read at any place, and one that is written whole."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from efficientdet_spec.errors import Cause, InputError
from efficientdet_spec.files import open_regular, replacing


class OpenFile:
    """A regular file, open to be read at any place; it is closed when nobody needs it any more.

    It is not mapped into memory: a mapped file that another program shortens ends the process.

    Args:
        path: The file.

    Attributes:
        path: The file.
        status: What the system said of it when it was opened.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path) as stream:
            self._descriptor = os.dup(stream.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self.status = os.fstat(self._descriptor)

    @property
    def size(self) -> int:
        """Its size in bytes when it was opened."""
        return self.status.st_size

    def fill(self, target: memoryview, offset: int) -> None:
        """Read as many bytes as there is room for.

        Args:
            target: The room.
            offset: Where the bytes begin in the file.

        Raises:
            InputError: The file cannot be read, or has become shorter.
        """
        while target:
            try:
                count = os.preadv(self._descriptor, [target], offset)
            except OSError as error:
                raise InputError(
                    f"{self.path} cannot be read ({error.strerror or error}); copy it to another "
                    f"disk, or download it again.",
                    Cause.of(error),
                ) from error
            if not count:
                raise InputError(
                    f"{self.path} has become shorter than the {self.size:,} bytes that it had; "
                    f"copy or download it again.",
                    Cause.FORMAT,
                )
            target, offset = target[count:], offset + count


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which appears complete at the end of the context or not at all.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be written; nothing is left behind then.
    """
    try:
        with replacing(path) as temporary, open(temporary, "wb", _BUFFER) as stream:
            yield stream
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}); nothing was left behind: "
            f"choose a folder that exists, is writable and has room.",
            Cause.of(error),
        ) from error


_BUFFER = 2**20
"""Bytes that are handed to the system together."""
