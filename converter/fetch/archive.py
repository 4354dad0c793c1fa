"""Unpacks the one checkpoint of a tar archive without trusting the archive."""

import contextlib
import gzip
import hashlib
import io
import os
import re
import secrets
import shutil
import stat
import struct
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, cast

from converter.fetch.naming import (
    STATE_FILE,
    STATE_FILE_MAX_BYTES,
    checkpoint_prefix,
    parse_state_file,
)
from converter.fetch.streams import CHUNK, Digested, ForwardReader
from efficientdet_spec import (
    CONFIG_FILE,
    Cause,
    InputError,
    file_sha256,
    locked,
    lookalike_of,
    open_regular,
    printable,
    sync,
    sync_folder,
)

MAX_BYTES = 4 * 2**30  # The largest release, D7x, needs less than 1 GiB.
MAX_MEMBERS = 10_000

_CHANGED = "it changed while it was read"
_BLOCK = 512
# Long-name and PAX records are read into memory whole, and nested ones recursively: honest ones
# take a few hundred bytes.
_HEADER_BYTES = 2**16
# What tarfile, gzip and zlib are known to raise on damaged or forged input.
_UNREADABLE = (
    tarfile.TarError,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    ArithmeticError,
    LookupError,
    RecursionError,
)


class ArchiveError(InputError):
    """The archive itself cannot be used; fetching it again may help."""

    DEFAULT = Cause.FORMAT


def extract_checkpoint(
    archive: Path,
    destination: Path,
    *,
    sha256: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Unpacks the checkpoint of a `.tar.gz` or `.tar` archive into a folder, all or nothing.

    Every member is checked before anything is written. The files appear in the folder in one
    step, so that a second process or an interruption never sees or leaves half a checkpoint. If
    the folder already holds the archive's files, by their content, it is reused; if it holds
    files of their names and nothing else, it is replaced.

    Args:
        archive: The archive.
        destination: The folder to create; the archive's own folders are not kept.
        sha256: The archive's SHA-256 as it is known by now, or None where any will do.
        max_bytes: The largest unpacked size that is accepted.

    Returns:
        The checkpoint's prefix: the path of its `.index` file without `.index`.

    Raises:
        ArchiveError: The archive is damaged, hostile or too large, or does not hold exactly one
            checkpoint and no state file says which one is meant.
        InputError: The archive cannot be opened or the folder cannot be written.
    """
    try:
        file = open_regular(archive)
    except OSError as error:
        raise InputError(
            f"archive {_show(archive)} cannot be opened ({error.strerror}); "
            "check its path and permissions",
            Cause.of(error),
        ) from error
    with file:
        plan = _plan(file, archive, max_bytes)
        if sha256 is not None and plan.archive_sha256 != sha256:
            raise ArchiveError(
                f"archive {_show(archive)} changed while it was read; try again once nobody writes "
                "to it"
            )
        prefix = destination / plan.prefix
        if not _holds(destination, plan):
            _extract(file, archive, destination, plan, max_bytes)
    return prefix


@dataclass(frozen=True)
class _Member:
    """A file to extract: its name, size and SHA-256 in the archive, and its name in the folder."""

    path: str
    size: int
    sha256: str
    name: str


@dataclass(frozen=True)
class _Plan:
    """What to extract.

    Attributes:
        members: By their position in the archive.
        prefix: The checkpoint's prefix, without folders.
        archive_sha256: Of the archive that was read for it, compressed as it is.
    """

    members: dict[int, _Member]
    prefix: str
    archive_sha256: str


def _too_large(archive: Path, limit: int) -> ArchiveError:
    return ArchiveError(
        f"archive {_show(archive)} unpacks to more than the {limit:,} bytes that are accepted; "
        "unpack it by hand if you trust it and pass the folder"
    )


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turns whatever the standard library raises while it reads into one ArchiveError."""
    try:
        yield
    except InputError:
        raise
    except _UNREADABLE as error:
        found = lookalike_of(archive)
        if found is not None and not _may_be_tar(archive):
            raise ArchiveError(
                f"archive {_show(archive)} is not a .tar.gz file but looks like {found.kind}; "
                f"{found.advice or 'give an archive of a checkpoint folder'}"
            ) from error
        reason = str(error) or type(error).__name__
        raise ArchiveError(
            f"archive {_show(archive)} is damaged, truncated or not a .tar.gz file "
            f"({printable(_shorten(reason))}); download or copy it again"
        ) from error


def _may_be_tar(archive: Path) -> bool:
    with contextlib.suppress(OSError), open_regular(archive) as file:
        head = file.read(_BLOCK)
        return head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar"
    return False


def _is_compressed(file: IO[bytes]) -> bool:
    file.seek(0)
    return file.read(2) == b"\x1f\x8b"


def _members(
    file: IO[bytes], compressed: bool, archive: Path, limit: int
) -> Iterator[tuple[int, tarfile.TarInfo, tarfile.TarFile, ForwardReader]]:
    """Goes through the members once, from the start of the file, and verifies the end."""
    stream = cast(IO[bytes], gzip.GzipFile(fileobj=file, mode="rb")) if compressed else file
    reader = ForwardReader(stream, limit, _too_large(archive, limit))
    reader.allowance = _HEADER_BYTES
    with tarfile.open(fileobj=cast(IO[bytes], reader), mode="r:") as tar:
        count = 0
        while (member := tar.next()) is not None:
            if count == MAX_MEMBERS:
                raise ArchiveError(
                    f"archive {_show(archive)} has more than {MAX_MEMBERS:,} members, but a "
                    "checkpoint has a handful of files; pass an archive of the checkpoint alone"
                )
            yield count, member, tar, reader
            count += 1
            reader.allowance = _HEADER_BYTES
        # tarfile takes a damaged header for the end of the archive; the true end is zeros.
        if reader.last_read != bytes(_BLOCK):
            raise tarfile.ReadError("it does not end like a tar archive")
        reader.drain()


def _plan(file: IO[bytes], archive: Path, max_bytes: int) -> _Plan:
    """Checks every member and decides what to extract."""
    files: dict[str, tuple[int, int, str]] = {}
    named: set[str] = set()
    total = 0
    with _reading(archive):
        compressed = _is_compressed(file)
        whole = Digested(file)
        members = _members(cast(IO[bytes], whole), compressed, archive, max_bytes)
        for position, member, tar, reader in members:
            path = _checked_path(member, archive)
            if member.isdir():
                continue
            # A sparse member may claim more bytes than the archive's stream holds.
            total += member.size
            if total > max_bytes:
                raise _too_large(archive, max_bytes)
            is_state = path.name == STATE_FILE
            is_beside = is_state or path.name == CONFIG_FILE
            if not is_beside and checkpoint_prefix(str(path)) is None:
                continue
            if str(path) in files:
                raise ArchiveError(
                    f"archive {_show(archive)} holds {_show(path)} twice, expected once; "
                    "pack or download it again"
                )
            digest, start = _digested(tar, member, reader)
            files[str(path)] = position, member.size, digest
            if is_state and member.size <= STATE_FILE_MAX_BYTES:
                target = parse_state_file(start)
                if target is not None:
                    named.add(str(path.with_name(PurePosixPath(target).name or STATE_FILE)))
        archive_sha256 = whole.finish()
    prefix = _chosen(archive, files, named)
    taken = [str(PurePosixPath(prefix).with_name(name)) for name in (STATE_FILE, CONFIG_FILE)]
    return _Plan(
        members={
            position: _Member(path, size, digest, PurePosixPath(path).name)
            for path, (position, size, digest) in files.items()
            if path in taken or checkpoint_prefix(path) == prefix
        },
        prefix=PurePosixPath(prefix).name,
        archive_sha256=archive_sha256,
    )


def _checked_path(member: tarfile.TarInfo, archive: Path) -> PurePosixPath:
    """Returns a member's path if it is a plain file or folder that stays inside the archive."""
    if member.isfile() or member.isdir():
        kind = ""
    elif member.issym():
        kind = "a symbolic link"
    elif member.islnk():
        kind = "a hard link"
    else:
        kind = "a device or other special file"
    parts = re.split(r"[/\\]", member.name)
    windows = PureWindowsPath(member.name)
    if not kind and (".." in parts or not parts[0] or windows.drive):
        kind = "a path that leads out of the archive"
    if not kind and (not member.name.isprintable() or "\\" in member.name or member.size < 0):
        kind = "a malformed entry"
    if kind:
        raise ArchiveError(
            f"archive {_show(archive)} holds {_show(member.name)}, which is {kind}, but only plain "
            "files and folders are accepted; nothing was extracted, so get the archive from "
            "another source"
        )
    return PurePosixPath(member.name)


def _digested(
    tar: tarfile.TarFile, member: tarfile.TarInfo, reader: ForwardReader
) -> tuple[str, bytes]:
    """Reads a member; returns its SHA-256 and its first bytes, which may be all."""
    digest, start = hashlib.sha256(), b""
    for chunk in _chunks(tar, member, reader):
        digest.update(chunk)
        start = start or chunk
    return digest.hexdigest(), start


def _chunks(
    tar: tarfile.TarFile, member: tarfile.TarInfo, reader: ForwardReader
) -> Iterator[bytes]:
    """Reads a member portion by portion and insists on its full size."""
    left = member.size
    stream = tar.extractfile(member)
    while left and stream is not None:
        size = min(CHUNK, left)
        # tarfile's own buffer may ask for up to one buffer more than is taken from it.
        reader.allowance = size + io.DEFAULT_BUFFER_SIZE
        data = stream.read(size)
        if not data:
            break
        left -= len(data)
        yield data
    if left:
        raise tarfile.ReadError(f"{_show(member.name)} ends {left:,} bytes early")


def _chosen(archive: Path, files: dict[str, tuple[int, int, str]], named: set[str]) -> str:
    """Picks the one checkpoint: the only one, or else the one that a state file names."""
    prefixes = sorted(path.removesuffix(".index") for path in files if path.endswith(".index"))
    if not prefixes:
        found = ", ".join(_show(path) for path in sorted(files)[:10]) or "none of its files"
        raise ArchiveError(
            f"archive {_show(archive)} holds no TensorFlow checkpoint, found {found}, expected a "
            ".index file and its .data files; pass an archive of a checkpoint folder"
        )
    meant = [prefix for prefix in prefixes if prefix in named] if len(prefixes) > 1 else prefixes
    if len(meant) != 1:
        found = ", ".join(_show(prefix) for prefix in prefixes[:20])
        raise ArchiveError(
            f"archive {_show(archive)} holds {len(prefixes)} checkpoints ({found}), expected one "
            "or a 'checkpoint' file that names one; unpack it and pass one of them"
        )
    return meant[0]


def _holds(destination: Path, plan: _Plan) -> bool:
    """Tells whether the folder has every file, each with the content that the archive has."""
    return all(_is_member(destination / member.name, member) for member in plan.members.values())


def _is_member(path: Path, member: _Member) -> bool:
    try:
        status = path.lstat()
        # Where a link leads may be changed by whoever may not write here.
        if not stat.S_ISREG(status.st_mode) or status.st_size != member.size:
            return False
        return file_sha256(path) == member.sha256
    except OSError:
        return False


def _extract(
    file: IO[bytes], archive: Path, destination: Path, plan: _Plan, max_bytes: int
) -> None:
    """Writes the planned members into a hidden folder, then moves it to its place."""
    needed = sum(member.size for member in plan.members.values())
    parent = destination.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(destination)
        free = shutil.disk_usage(parent).free
        if needed > free:
            raise InputError(
                f"folder {_show(parent)} has {free:,} bytes free, but the checkpoint of "
                f"{_show(archive)} needs {needed:,}; free some space or choose another folder",
                Cause.SPACE,
            )
        with _workspace(destination) as workspace:
            ready = workspace / "new"
            ready.mkdir()
            _write(file, archive, ready, plan, max_bytes)
            _move(ready, destination, plan, workspace / "old")
            sync_folder(parent)
    except OSError as error:
        raise InputError(
            f"folder {_show(destination)} cannot be written ({error.strerror or error}); "
            "free some space, or delete it or choose another folder",
            Cause.of(error),
        ) from error


@contextmanager
def _workspace(destination: Path) -> Iterator[Path]:
    """A new folder beside the destination, which vanishes at the end.

    A lock beside it tells other processes that it is in use.
    """
    while True:
        name = f".partial-{destination.name}-{secrets.token_hex(4)}"
        workspace = destination.with_name(name)
        with locked(_lock(workspace)) as ours:
            # Whoever sweeps may have been faster.
            if ours:
                workspace.mkdir()
                try:
                    yield workspace
                finally:
                    shutil.rmtree(workspace, ignore_errors=True)
                return


def _sweep(destination: Path) -> None:
    """Removes the workspaces of processes that were killed while they extracted to here."""
    known = re.compile(rf"(\.partial-{re.escape(destination.name)}-[0-9a-f]{{8}})(\.lock)?")
    found = {
        match[1] for path in destination.parent.iterdir() if (match := known.fullmatch(path.name))
    }
    for workspace in map(destination.with_name, found):
        with contextlib.suppress(OSError), locked(_lock(workspace)) as ours:
            if ours:
                shutil.rmtree(workspace, ignore_errors=True)


def _lock(workspace: Path) -> Path:
    return workspace.with_name(workspace.name + ".lock")


def _write(file: IO[bytes], archive: Path, folder: Path, plan: _Plan, max_bytes: int) -> None:
    """Copies the planned members; the archive must still be what was checked."""
    compressed = _is_compressed(file)
    file.seek(0)
    members = _members(file, compressed, archive, max_bytes)
    missing = dict(plan.members)
    while missing:
        with _reading(archive):
            step = next(members, None)
            if step is None:
                raise tarfile.ReadError(_CHANGED)
            position, member, tar, reader = step
            wanted = missing.pop(position, None)
            if wanted is None:
                continue
            path = str(_checked_path(member, archive))
            if (path, member.size) != (wanted.path, wanted.size) or not member.isfile():
                raise tarfile.ReadError(_CHANGED)
            chunks = _chunks(tar, member, reader)
        _write_member(chunks, archive, folder / wanted.name, wanted.sha256)
    sync_folder(folder)


def _write_member(chunks: Iterator[bytes], archive: Path, path: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with path.open("xb") as output:
        while True:
            with _reading(archive):
                chunk = next(chunks, None)
            if chunk is None:
                break
            digest.update(chunk)
            output.write(chunk)
    with _reading(archive):
        if digest.hexdigest() != sha256:
            raise tarfile.ReadError(_CHANGED)
    sync(path)


def _move(ready: Path, destination: Path, plan: _Plan, aside: Path) -> None:
    """Puts the finished folder in its place unless another process was faster."""
    if _is_replaceable(destination, plan):
        destination.rename(aside)
    try:
        # Fails, as it should, on a file or on a folder that is not empty.
        os.rename(ready, destination)
    except OSError:
        if not _holds(destination, plan):
            raise


def _is_replaceable(destination: Path, plan: _Plan) -> bool:
    """Tells whether a folder holds nothing but files with the names of the archive's."""
    known = {member.name for member in plan.members.values()}
    if destination.is_symlink() or not destination.is_dir():
        return False
    return all(
        path.name in known and (path.is_symlink() or not path.is_dir())
        for path in destination.iterdir()
    )


def _show(name: str | Path | PurePosixPath) -> str:
    """Quotes a name; control characters and undecodable bytes come out escaped."""
    return repr(_shorten(str(name)))


def _shorten(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:100]}...{text[-80:]}"
