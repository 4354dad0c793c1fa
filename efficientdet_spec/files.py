"""Files: only regular ones are read; they are written whole or not at all, locked, digested."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_BLOCK = 1 << 20

_KINDS = (
    (stat.S_ISDIR, errno.EISDIR, "it is a folder, not a file"),
    (stat.S_ISFIFO, errno.EINVAL, "it is a named pipe, not a regular file"),
    (stat.S_ISSOCK, errno.EINVAL, "it is a socket, not a regular file"),
    (stat.S_ISCHR, errno.EINVAL, "it is a device, not a regular file"),
    (stat.S_ISBLK, errno.EINVAL, "it is a device, not a regular file"),
)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read, and only a regular one: a pipe waits for ever, a device never ends.

    It is opened without blocking and looked at once it is open, so that what was looked at is what
    is read.

    Args:
        path: The file.

    Raises:
        OSError: It is missing, may not be read, or is no regular file; ``strerror`` says which.
    """
    # Opening some devices does something, so those are not even opened.
    _require_regular(os.stat(path), path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    try:
        _require_regular(os.fstat(descriptor), path)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    for is_kind, number, words in _KINDS:
        if is_kind(status.st_mode):
            raise OSError(number, words, os.fspath(path))
    raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of a regular file that is not larger than a limit.

    Args:
        path: The file.
        limit: The most bytes that it may have.

    Raises:
        OSError: As of :func:`open_regular`, or the file is larger.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        data = b"" if size > limit else stream.read(size)
        # Some files of the system claim no size, and another program may be writing.
        while size <= limit and len(data) <= limit and (more := stream.read(_BLOCK)):
            data += more
    if size > limit or len(data) > limit:
        found = f"{size:,}" if size > limit else f"more than {limit:,}"
        raise OSError(
            errno.EFBIG, f"it has {found} bytes, and at most {limit:,} are read", os.fspath(path)
        )
    return data


def temporary_beside(target: Path) -> Path:
    """Where a file is written until it is complete: in the same folder, so on the same disk."""
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


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
    sync(temporary)
    with contextlib.suppress(FileNotFoundError):
        temporary.chmod(stat.S_IMODE(target.stat().st_mode))
    os.replace(temporary, target)
    sync_folder(target.parent)


def sync(path: Path) -> None:
    """Wait until a file's bytes are on the disk.

    Raises:
        OSError: They cannot be written there.
    """
    _flush(path, os.O_WRONLY)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk.

    Some file systems cannot flush a folder, and the names are there anyway.
    """
    with contextlib.suppress(OSError):
        _flush(path, os.O_RDONLY | os.O_DIRECTORY)


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

    Where anything is raised, an interruption too, it vanishes and ``target`` stays as it was. What
    a process that was killed has left of an earlier try is removed; a lock tells it from what
    another process is writing now.

    Raises:
        OSError: As of :func:`put_in_place`.
    """
    sweep(target)
    temporary, held = _begun(target)
    try:
        yield temporary
        if not os.stat(temporary).st_mtime_ns:
            raise FileNotFoundError(errno.ENOENT, "nothing was written", str(target))
        put_in_place(temporary, target)
    finally:
        try:
            discard(temporary)
        finally:
            os.close(held)


def _begun(target: Path) -> tuple[Path, int]:
    """A new temporary file and the descriptor that holds its lock.

    It is dated 1970, so that it can be told whether anything has been written to it.
    """
    while True:
        temporary = temporary_beside(target)
        held = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            # Another process that sweeps may have come between the two.
            if _try_lock(held) and _is_at(held, temporary):
                os.utime(temporary, ns=(0, 0))
                return temporary, held
        except BaseException:
            discard(temporary)
            os.close(held)
            raise
        os.close(held)


def sweep(target: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote ``target``."""
    _sweep(target.parent, re.escape(target.name))


def sweep_folder(folder: Path) -> None:
    """Remove the temporary files of killed processes, whatever they wrote in this folder."""
    _sweep(folder, ".+")


def _sweep(folder: Path, name: str) -> None:
    """Remove what :func:`temporary_beside` calls so, and nobody holds; other names are not ours."""
    ours = re.compile(rf"\.{name}\.\d+(-[0-9a-f]{{8}})?\.tmp", re.DOTALL)
    with contextlib.suppress(OSError):
        for found in filter(ours.fullmatch, os.listdir(folder)):
            with contextlib.suppress(OSError), locked(folder / found):
                # What nobody holds the lock of is removed as ours ends.
                continue


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a file's lock, which ends with the context and at the latest with the process.

    Args:
        path: The file that stands for the lock. It is made if need be, and removed at the end by
            whoever has held it.

    Yields:
        Whether the lock is held; False where another process, or another part of this one, has it.

    Raises:
        OSError: The file cannot be made.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    while True:
        held = os.open(path, flags, 0o666)
        try:
            ours = _try_lock(held)
            # Whoever had it before may have removed the file since it was opened here.
            if not ours or _is_at(held, path):
                try:
                    yield ours
                finally:
                    if ours:
                        discard(path)
                return
        finally:
            os.close(held)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _try_lock(descriptor: int) -> bool:
    """Lock an open file unless another has; where a file system knows no locks, nobody has."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
    return True


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a regular file's contents, in hexadecimal.

    Raises:
        OSError: The file cannot be read, or is no regular one.
    """
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
