"""Unpacks the one checkpoint of a tar archive without trusting the archive."""

import gzip
import io
import os
import re
import shutil
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, cast

from efficientdet_spec import Cause, InputError

MAX_BYTES = 4 * 2**30  # The largest release, D7x, needs less than 1 GiB.
MAX_MEMBERS = 10_000
STATE_FILE = "checkpoint"
STATE_FILE_MAX_BYTES = 2**20

_CHUNK = 2**20
_BLOCK = 512
# Long-name and PAX records are read into memory whole, and nested ones recursively: honest ones
# take a few hundred bytes.
_HEADER_BYTES = 2**16
_PART = re.compile(r"(?P<prefix>.+)\.(?:index|meta|data-\d{5}-of-\d{5})", re.DOTALL)
_STATE_PATH = re.compile(
    rb"""^[ \t]*model_checkpoint_path[ \t]*:[ \t]*(["'])((?:\\.|(?!\1)[^\\\n])*)\1""", re.MULTILINE
)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
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


def checkpoint_prefix(name: str) -> str | None:
    """Tells which checkpoint a file belongs to.

    Args:
        name: A file's name, with or without folders.

    Returns:
        The name without `.index`, `.meta` or `.data-00000-of-00001`, or None for any other file,
        including macOS's `._` companions of such files.
    """
    match = _PART.fullmatch(name)
    if match is None or PurePosixPath(name).name.startswith("._"):
        return None
    return match["prefix"]


def parse_state_file(content: bytes) -> str | None:
    r"""Reads `model_checkpoint_path` from the content of a `checkpoint` state file.

    Args:
        content: The file's bytes, a protocol buffer in text form.

    Returns:
        The path as written there, always with `/` between folders (TensorFlow on Windows writes
        `\`), or None if there is none.
    """
    match = _STATE_PATH.search(content)
    if match is None:
        return None

    def unescape(escape: re.Match[bytes]) -> bytes:
        code = escape[1]
        if code[:1].isdigit():
            return bytes([int(code, 8) & 0xFF])
        if len(code) > 1:
            return bytes([int(code[1:], 16)])
        return _ESCAPED.get(code, code)

    path = _ESCAPE.sub(unescape, match[2]).decode("utf-8", "replace").replace("\\", "/")
    return path if path and path.isprintable() else None


def extract_checkpoint(archive: Path, destination: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Unpacks the checkpoint of a `.tar.gz` or `.tar` archive into a folder, all or nothing.

    Every member is checked before anything is written. The files appear in the folder in one
    step, so that a second process or an interruption never sees or leaves half a checkpoint. If
    the folder already holds the archive's files in their full sizes it is reused; if it holds
    some of them and nothing else, it is replaced.

    Args:
        archive: The archive.
        destination: The folder to create; the archive's own folders are not kept.
        max_bytes: The largest unpacked size that is accepted.

    Returns:
        The checkpoint's prefix: the path of its `.index` file without `.index`.

    Raises:
        ArchiveError: The archive is damaged, hostile or too large, or does not hold exactly one
            checkpoint and no state file says which one is meant.
        InputError: The archive cannot be opened or the folder cannot be written.
    """
    try:
        file = archive.open("rb")
    except OSError as error:
        raise InputError(
            f"archive {_show(archive)} cannot be opened ({error.strerror}); "
            "check its path and permissions",
            Cause.of(error),
        ) from error
    with file:
        plan = _plan(file, archive, max_bytes)
        prefix = destination / plan.prefix
        if not _holds(destination, plan):
            _extract(file, archive, destination, plan, max_bytes)
    return prefix


@dataclass(frozen=True)
class _Member:
    """A file to extract: its name and size in the archive, and its name in the folder."""

    path: str
    size: int
    name: str


@dataclass(frozen=True)
class _Plan:
    """What to extract: members by their position in the archive, and the prefix's file name."""

    members: dict[int, _Member]
    prefix: str


class _ForwardReader(io.BufferedIOBase):
    """A stream that only goes forward, no further than a limit and in measured portions.

    Going back in a gzip stream means decompressing it again from its start, which a forged archive
    could demand over and over.
    """

    def __init__(self, stream: IO[bytes], archive: Path, limit: int) -> None:
        self._stream = stream
        self._archive = archive
        self._limit = limit
        self._position = 0
        self.allowance = 0
        self.last_read = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._position:
            raise tarfile.ReadError("its members overlap")
        self._check_limit(offset)
        while self._position < offset:
            skipped = len(self._stream.read(min(_CHUNK, offset - self._position)))
            if not skipped:
                break
            self._position += skipped
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
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
        while data := self._stream.read(_CHUNK):
            self._position += len(data)
            self._check_limit(self._position)

    def _check_limit(self, position: int) -> None:
        if position > self._limit:
            raise _too_large(self._archive, self._limit)


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
        reason = str(error) or type(error).__name__
        raise ArchiveError(
            f"archive {_show(archive)} is damaged, truncated or not a .tar.gz file "
            f"({_shorten(reason)}); download or copy it again"
        ) from error


def _members(
    file: IO[bytes], archive: Path, limit: int
) -> Iterator[tuple[int, tarfile.TarInfo, tarfile.TarFile, _ForwardReader]]:
    """Goes through the members once, from the start of the file, and verifies the end."""
    file.seek(0)
    compressed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream = cast(IO[bytes], gzip.GzipFile(fileobj=file, mode="rb")) if compressed else file
    reader = _ForwardReader(stream, archive, limit)
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
    files: dict[str, tuple[int, int]] = {}
    named: set[str] = set()
    total = 0
    with _reading(archive):
        for position, member, tar, reader in _members(file, archive, max_bytes):
            path = _checked_path(member, archive)
            if member.isdir():
                continue
            # A sparse member may claim more bytes than the archive's stream holds.
            total += member.size
            if total > max_bytes:
                raise _too_large(archive, max_bytes)
            is_state = path.name == STATE_FILE
            if not is_state and checkpoint_prefix(str(path)) is None:
                continue
            if str(path) in files:
                raise ArchiveError(
                    f"archive {_show(archive)} holds {_show(path)} twice, expected once; "
                    "pack or download it again"
                )
            files[str(path)] = position, member.size
            if is_state and member.size <= STATE_FILE_MAX_BYTES:
                target = parse_state_file(_content(tar, member, reader))
                if target is not None:
                    named.add(str(path.with_name(PurePosixPath(target).name or STATE_FILE)))
    prefix = _chosen(archive, files, named)
    state = str(PurePosixPath(prefix).with_name(STATE_FILE))
    return _Plan(
        members={
            position: _Member(path, size, PurePosixPath(path).name)
            for path, (position, size) in files.items()
            if path == state or checkpoint_prefix(path) == prefix
        },
        prefix=PurePosixPath(prefix).name,
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


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, reader: _ForwardReader) -> bytes:
    """Reads a small member whole."""
    return b"".join(_chunks(tar, member, reader))


def _chunks(
    tar: tarfile.TarFile, member: tarfile.TarInfo, reader: _ForwardReader
) -> Iterator[bytes]:
    """Reads a member portion by portion and insists on its full size."""
    left = member.size
    stream = tar.extractfile(member)
    while left and stream is not None:
        size = min(_CHUNK, left)
        # tarfile's own buffer may ask for up to one buffer more than is taken from it.
        reader.allowance = size + io.DEFAULT_BUFFER_SIZE
        data = stream.read(size)
        if not data:
            break
        left -= len(data)
        yield data
    if left:
        raise tarfile.ReadError(f"{_show(member.name)} ends {left:,} bytes early")


def _chosen(archive: Path, files: dict[str, tuple[int, int]], named: set[str]) -> str:
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
    """Tells whether the folder already has every file in its full size."""
    for member in plan.members.values():
        try:
            if (destination / member.name).stat().st_size != member.size:
                return False
        except OSError:
            return False
    return True


def _extract(
    file: IO[bytes], archive: Path, destination: Path, plan: _Plan, max_bytes: int
) -> None:
    """Writes the planned members into a hidden folder, then moves it to its place."""
    needed = sum(member.size for member in plan.members.values())
    parent = destination.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(parent).free
        if needed > free:
            raise InputError(
                f"folder {_show(parent)} has {free:,} bytes free, but the checkpoint of "
                f"{_show(archive)} needs {needed:,}; free some space or choose another folder",
                Cause.SPACE,
            )
        with tempfile.TemporaryDirectory(
            prefix=".partial-", dir=parent, ignore_cleanup_errors=True
        ) as workspace:
            ready = Path(workspace, "new")
            ready.mkdir()
            _write(file, archive, ready, plan, max_bytes)
            _move(ready, destination, plan, Path(workspace, "old"))
    except OSError as error:
        raise InputError(
            f"folder {_show(destination)} cannot be written ({error.strerror or error}); "
            "free some space, or delete it or choose another folder",
            Cause.of(error),
        ) from error


def _write(file: IO[bytes], archive: Path, folder: Path, plan: _Plan, max_bytes: int) -> None:
    """Copies the planned members; the archive must still be what was checked."""
    members = _members(file, archive, max_bytes)
    missing = dict(plan.members)
    while missing:
        with _reading(archive):
            step = next(members, None)
            if step is None:
                raise tarfile.ReadError("it changed while it was read")
            position, member, tar, reader = step
            wanted = missing.pop(position, None)
            if wanted is None:
                continue
            path = str(_checked_path(member, archive))
            if (path, member.size) != (wanted.path, wanted.size) or not member.isfile():
                raise tarfile.ReadError("it changed while it was read")
            chunks = _chunks(tar, member, reader)
        with (folder / wanted.name).open("xb") as output:
            while True:
                with _reading(archive):
                    chunk = next(chunks, None)
                if chunk is None:
                    break
                output.write(chunk)


def _move(ready: Path, destination: Path, plan: _Plan, aside: Path) -> None:
    """Puts the finished folder in its place unless another process was faster."""
    known = {member.name for member in plan.members.values()}
    if destination.is_dir() and {path.name for path in destination.iterdir()} <= known:
        destination.rename(aside)
    try:
        # Fails, as it should, on a file or on a folder that is not empty.
        os.rename(ready, destination)
    except OSError:
        if not _holds(destination, plan):
            raise


def _show(name: str | Path | PurePosixPath) -> str:
    """Quotes a name; control characters and undecodable bytes come out escaped."""
    return repr(_shorten(str(name)))


def _shorten(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:100]}...{text[-80:]}"
