"""Archives, and files that are packed one by one, read without trusting them.

Whatever the packing is, it gives its members one after another: a name that stays inside, and the
content in portions. Nothing is written here.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, cast

from converter.fetch.streams import CHUNK, Digested, ForwardReader, Gunzipped
from efficientdet_spec import (
    Cause,
    InputError,
    file_sha256,
    lookalike_of,
    open_regular,
    printable,
)

MAX_BYTES = 4 * 2**30  # The largest release, D7x, needs less than 1 GiB.
MAX_ARCHIVE_BYTES = 4 * 2**30  # Nor has its archive more.
MAX_MEMBERS = 10_000

_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_TAR_NAMES = (".tar", ".tar.gz", ".tgz")
_BLOCK = 512
# Long-name and PAX records are read into memory whole, and nested ones recursively: honest ones
# take a few hundred bytes.
_HEADER_BYTES = 2**16
# A ZIP archive's table of contents becomes some kilobytes of objects for every member.
_DIRECTORY_BYTES = 2**21
# Deflate at its best makes 1032 bytes of one; other methods have no such bound, or need memory.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x41  # bits 0 and 6 of a member's flags (APPNOTE.TXT, 4.4.4)
_LOCAL_HEADER = 30
# What tarfile, zipfile and zlib are known to raise on damaged or forged input.
_UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    ArithmeticError,
    LookupError,
    RuntimeError,
)


class ArchiveError(InputError):
    """The archive itself cannot be used; fetching it again may help."""

    DEFAULT = Cause.FORMAT


class NotAnArchiveError(ArchiveError):
    """A file that is a ZIP archive, and is used or refused as it is and not unpacked."""


@dataclass(frozen=True)
class Member:
    """A file in a packing.

    Attributes:
        path: Its name, which stays inside.
        size: Its size; None where only reading it will tell.
        chunks: Reads it, portion by portion, and insists on its full size.
    """

    path: PurePosixPath
    size: int | None
    chunks: Callable[[], Iterator[bytes]]


class Packing(ABC):
    """What holds files.

    Args:
        path: The archive or folder.
        limit: The most bytes that all its files may have.
    """

    SEVERAL: bool = True
    """Whether it holds files by their names; else the one that it is made of."""

    IN_ORDER: bool = False
    """Whether a member can be read only while it is the latest."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.limit = limit

    @abstractmethod
    def members(self) -> Iterator[tuple[int, Member]]:
        """Every file and its position, once; folders are checked and left out."""

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of the whole, once the members have been gone through."""

    def too_large(self) -> ArchiveError:
        """What is said where it holds more than it may."""
        return ArchiveError(
            f"archive {show(self.path)} unpacks to more than the {self.limit:,} bytes that are "
            "accepted; unpack it by hand if you trust it and pass the folder"
        )

    def too_many(self) -> ArchiveError:
        """What is said where it has more members than it may."""
        return ArchiveError(
            f"archive {show(self.path)} has more than {MAX_MEMBERS:,} members, but a "
            "checkpoint has a handful of files; pass an archive of the checkpoint alone"
        )


def looks_like_archive(path: Path) -> bool:
    """Whether a file is a tar, ZIP or gzip archive by its content, or a tar archive by its name.

    Some ZIP archives are a model's file themselves: of what a reader knows, none is asked here.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        head = file.read(_BLOCK)
    return _has_mark(head) or path.name.lower().endswith(_TAR_NAMES)


def _has_mark(head: bytes) -> bool:
    return head[:2] == _GZIP or head[:4] in _ZIP or head[257:262] == b"ustar"


def packing_of(file: IO[bytes], path: Path, limit: int) -> Packing:
    """How an archive is packed, by its content.

    Args:
        file: It, open.
        path: Where it is.
        limit: The most bytes that all its files may have.
    """
    file.seek(0)
    head = file.read(4)
    if head in _ZIP:
        return ZipPacking(file, path, limit)
    if head[:2] == _GZIP and not _holds_tar(file, path):
        return GzipPacking(file, path, limit)
    return TarPacking(file, path, limit)


def _holds_tar(file: IO[bytes], path: Path) -> bool:
    """Whether a gzip file holds a tar archive rather than a single file."""
    if path.name.lower().endswith(_TAR_NAMES):
        return True
    try:
        file.seek(0)
        head = Gunzipped(file).read(_BLOCK)
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except _UNREADABLE:
        return False
    return True


class TarPacking(Packing):
    """A tar archive, compressed or not.

    Args:
        file: It, open.
        path: See :class:`Packing`.
        limit: See :class:`Packing`.
    """

    IN_ORDER = True

    def __init__(self, file: IO[bytes], path: Path, limit: int) -> None:
        super().__init__(path, limit)
        self._file = file
        self._whole = Digested(file)

    def members(self) -> Iterator[tuple[int, Member]]:
        """See :class:`Packing`; at the end, the end is verified."""
        self._whole = Digested(self._file)
        compressed = self._file.read(2) == _GZIP
        self._file.seek(0)
        whole = cast(IO[bytes], self._whole)
        stream = cast(IO[bytes], Gunzipped(whole)) if compressed else whole
        reader = ForwardReader(stream, self.limit, self.too_large())
        reader.allowance = _HEADER_BYTES
        with tarfile.open(fileobj=cast(IO[bytes], reader), mode="r:") as tar:
            count = 0
            while (info := tar.next()) is not None:
                if count == MAX_MEMBERS:
                    raise self.too_many()
                path = _checked_path(info, self.path)
                if not info.isdir():
                    yield count, Member(path, info.size, _reader_of(tar, info, reader))
                count += 1
                reader.allowance = _HEADER_BYTES
            # tarfile takes a damaged header for the end of the archive; the true end is zeros.
            if reader.last_read != bytes(_BLOCK):
                raise tarfile.ReadError("it does not end like a tar archive")
            reader.drain()

    def digest(self) -> str:
        """See :class:`Packing`; it is digested on the way."""
        return self._whole.finish()


def _reader_of(
    tar: tarfile.TarFile, info: tarfile.TarInfo, reader: ForwardReader
) -> Callable[[], Iterator[bytes]]:
    return lambda: _chunks(tar, info, reader)


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
        raise tarfile.ReadError(f"{show(member.name)} ends {left:,} bytes early")


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
    return _inside(member.name, kind, member.size < 0, archive)


def _inside(name: str, kind: str, malformed: bool, archive: Path) -> PurePosixPath:
    """A member's name as a path; refused where it is of some other kind or leads out."""
    parts = re.split(r"[/\\]", name)
    windows = PureWindowsPath(name)
    if not kind and (".." in parts or not parts[0] or windows.drive):
        kind = "a path that leads out of the archive"
    if not kind and (not name.isprintable() or "\\" in name or malformed):
        kind = "a malformed entry"
    if kind:
        raise ArchiveError(
            f"archive {show(archive)} holds {show(name)}, which is {kind}, but only plain "
            "files and folders are accepted; nothing was extracted, so get the archive from "
            "another source"
        )
    return PurePosixPath(name)


class ZipPacking(Packing):
    """A ZIP archive that is not itself a model's file.

    Args:
        file: It, open.
        path: See :class:`Packing`.
        limit: See :class:`Packing`.
    """

    def __init__(self, file: IO[bytes], path: Path, limit: int) -> None:
        super().__init__(path, limit)
        self._file = file

    def members(self) -> Iterator[tuple[int, Member]]:
        """See :class:`Packing`."""
        with zipfile.ZipFile(cast(IO[bytes], _Measured(self._file))) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_MEMBERS:
                raise self.too_many()
            _require_archive([info.orig_filename for info in infos], self.path)
            _require_apart(infos)
            for position, info in enumerate(infos):
                path = _checked_entry(info, self.path)
                if not info.is_dir():
                    yield position, Member(path, info.file_size, _zip_reader(archive, info))

    def digest(self) -> str:
        """See :class:`Packing`."""
        return Digested(self._file).finish()


class _Measured:
    """A file of which no large portion is read at once, as a table of contents would be."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell
        self.seekable = file.seekable

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        if size < 0 or size > _DIRECTORY_BYTES:
            # Without a size it is the end of the archive that is read, from near it.
            here = self._file.tell()
            left = self._file.seek(0, io.SEEK_END) - here
            self._file.seek(here)
            if min(left, size if size >= 0 else left) > _DIRECTORY_BYTES:
                raise zipfile.BadZipFile("its table of contents is far too long")
        return self._file.read(size)


def _zip_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        left = info.file_size
        with archive.open(info) as stream:
            # The checksum is compared once nothing more comes.
            while data := stream.read(CHUNK):
                left -= len(data)
                yield data
        if left:
            raise zipfile.BadZipFile(f"{show(info.filename)} ends {left:,} bytes early")

    return chunks


def _require_archive(names: list[str], path: Path) -> None:
    """Refuse the ZIP archives that are a model's file themselves."""
    parts = [name.split("/") for name in names]
    if any(part[1:] == ["data.pkl"] for part in parts):
        raise NotAnArchiveError(
            f"{show(path)} is a PyTorch file, which is a ZIP archive itself and is not unpacked; "
            f"pass it as it is, as a .pth file"
        )
    if {"config.json", "model.weights.h5"} <= set(names):
        raise NotAnArchiveError(
            f"{show(path)} is a model of Keras 3 (a .keras file), which the official code neither "
            f"writes nor reads; pass the weights as the official code saves them, with "
            f"model.save_weights to a path that ends in .h5 or to a TensorFlow checkpoint"
        )


def _require_apart(infos: list[zipfile.ZipInfo]) -> None:
    """Refuse members that share bytes, as in archives that unpack to far more than they hold."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise zipfile.BadZipFile("its members overlap")
        end = info.header_offset + _LOCAL_HEADER + info.compress_size


def _checked_entry(info: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    """As :func:`_checked_path` of a ZIP archive's member."""
    # The upper half of the attributes is the mode where Unix has written them, else zero.
    kind, mode = "", stat.S_IFMT(info.external_attr >> 16)
    if mode == stat.S_IFLNK:
        kind = "a symbolic link"
    elif mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind = "a device or other special file"
    elif info.flag_bits & _ENCRYPTED:
        kind = "encrypted"
    elif info.compress_type not in _METHODS:
        kind = "compressed by another method than deflate"
    # zipfile cuts a name at a zero byte.
    path = _inside(info.orig_filename, kind, info.orig_filename != info.filename, archive)
    if info.is_dir() and info.file_size:
        _inside(info.orig_filename, "a folder with a content", False, archive)
    return path


class GzipPacking(Packing):
    """A single file, compressed with gzip.

    Args:
        file: It, open.
        path: See :class:`Packing`.
        limit: See :class:`Packing`.
    """

    SEVERAL = False

    def __init__(self, file: IO[bytes], path: Path, limit: int) -> None:
        super().__init__(path, limit)
        self._file = file

    def members(self) -> Iterator[tuple[int, Member]]:
        """See :class:`Packing`; its name is the archive's, without what says gzip."""
        name = unpacked_name(self.path.name) or self.path.name
        if not name.isprintable() or name in ("", ".", ".."):
            name = "unpacked"
        yield 0, Member(PurePosixPath(name), None, lambda: gunzipped(self._file, self))

    def digest(self) -> str:
        """See :class:`Packing`."""
        return Digested(self._file).finish()


def gunzipped(file: IO[bytes], packing: Packing) -> Iterator[bytes]:
    """What a gzip file holds, portion by portion; its checksum and size are compared at the end.

    Args:
        file: It, open.
        packing: What it belongs to, for the limit.
    """
    file.seek(0)
    total = 0
    stream = Gunzipped(file)
    while data := stream.read(CHUNK):
        total += len(data)
        if total > packing.limit:
            raise packing.too_large()
        yield data


def unpacked_name(name: str) -> str | None:
    """The name of the file that a gzip file's name says is in it; None of other names.

    Args:
        name: Such as ``d0.h5.gz``.
    """
    lower = name.lower()
    if not lower.endswith(".gz") or lower.endswith(".tar.gz") or len(name) == 3:
        return None
    return name[:-3]


class FolderPacking(Packing):
    """Files of a folder, of which some are compressed with gzip one by one.

    Args:
        path: The folder.
        files: The files by the names that they have unpacked, relative to the folder.
        limit: See :class:`Packing`.
    """

    def __init__(self, path: Path, files: Mapping[str, Path], limit: int) -> None:
        super().__init__(path, limit)
        self._files = files

    def members(self) -> Iterator[tuple[int, Member]]:
        """See :class:`Packing`."""
        for position, (name, path) in enumerate(self._files.items()):
            yield position, Member(PurePosixPath(name), None, self._reader(path))

    def _reader(self, path: Path) -> Callable[[], Iterator[bytes]]:
        def chunks() -> Iterator[bytes]:
            with open_regular(path) as file:
                if file.read(2) == _GZIP:
                    yield from gunzipped(file, self)
                    return
                file.seek(0)
                while data := file.read(CHUNK):
                    yield data

        return chunks

    def digest(self) -> str:
        """See :class:`Packing`: that of the files' names and digests, packed as they are."""
        lines = [f"{name}\0{file_sha256(path)}\n" for name, path in sorted(self._files.items())]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


@contextmanager
def reading(archive: Path) -> Iterator[None]:
    """Turns whatever the standard library raises while it reads into one ArchiveError.

    Args:
        archive: What is read, for the message.
    """
    try:
        yield
    except InputError:
        raise
    except _UNREADABLE as error:
        found = lookalike_of(archive) if archive.is_file() else None
        if found is not None and not _may_be_archive(archive):
            raise ArchiveError(
                f"archive {show(archive)} is not a .tar.gz, .zip or .gz file but looks like "
                f"{found.kind}; {found.advice or 'give an archive of a checkpoint folder'}"
            ) from error
        reason = str(error) or type(error).__name__
        raise ArchiveError(
            f"archive {show(archive)} is damaged, truncated or not a .tar.gz, .zip or .gz file "
            f"({printable(shorten(reason))}); download or copy it again"
        ) from error


def _may_be_archive(archive: Path) -> bool:
    with contextlib.suppress(OSError), open_regular(archive) as file:
        return _has_mark(file.read(_BLOCK))
    return False


def show(name: str | Path | PurePosixPath) -> str:
    """Quotes a name; control characters and undecodable bytes come out escaped."""
    return repr(shorten(str(name)))


def shorten(text: str) -> str:
    """A text without its middle where it is long."""
    return text if len(text) <= 200 else f"{text[:100]}...{text[-80:]}"
