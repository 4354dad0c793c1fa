"""Files that appear complete or not at all, and digests of what files hold."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1 << 20


def temporary_beside(target: Path) -> Path:
    """Where a file is written until it is complete: in the same folder, so on the same disk."""
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def put_in_place(temporary: Path, target: Path) -> None:
    """Let a complete file take the place of another, or of none.

    Its bytes are on the disk before it has its name, so that not even a loss of power leaves a
    part of it there. A file that is replaced hands its permissions on.

    Args:
        temporary: The file, closed, in the folder of ``target``.
        target: What it is to be called.

    Raises:
        OSError: The file cannot be completed or renamed; ``target`` is as it was.
    """
    _flush(temporary, os.O_WRONLY)
    with contextlib.suppress(FileNotFoundError):
        temporary.chmod(stat.S_IMODE(target.stat().st_mode))
    os.replace(temporary, target)
    # The name is in the folder. Some file systems cannot flush one, and the file is there anyway.
    with contextlib.suppress(OSError):
        _flush(target.parent, os.O_RDONLY | os.O_DIRECTORY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard(temporary: Path) -> None:
    """Remove what :func:`put_in_place` has not taken; never fails.

    Where a file could not be made there is also no removing it, and this must not hide why.
    """
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write to, whose file takes the place of ``target`` at the end of the context.

    Where anything is raised, an interruption too, it vanishes and ``target`` stays as it was.

    Raises:
        OSError: As of :func:`put_in_place`.
    """
    temporary = temporary_beside(target)
    try:
        yield temporary
        put_in_place(temporary, target)
    finally:
        discard(temporary)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's contents, in hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
