"""Archives from the web, kept in a folder, and what was unpacked from archives there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from converter.fetch.addresses import BY_HAND, display_url
from converter.fetch.archive import extract_container, extract_files
from converter.fetch.folders import packed_files
from converter.fetch.packings import MAX_BYTES, ArchiveError, FolderPacking
from converter.formats.registry import find
from efficientdet_spec import Cause, InputError, file_sha256, printable


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint on the local disk and where it came from.

    Attributes:
        prefix: What names it: the path of a checkpoint's `.index` file without `.index`, a file,
            or `saved_model.pb`.
        origin: The absolute path or the address (without its query) that the source stood for.
        archive_sha256: The SHA-256 of the archive that held it, or None if there was none.
        official_model: The official name of a release, where the source was one.
        download: The archive in the cache, where it was downloaded.
        strip: What is to be left out before its names, such as ``model/``.
    """

    prefix: Path
    origin: str
    archive_sha256: str | None
    official_model: str | None = None
    download: Path | None = None
    strip: str = ""


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it is there.

    Attributes:
        sha256: Its SHA-256; None where it is not known.
        size: In bytes; None where it is not known.
        asked: Whether it was the user who gave the SHA-256.
    """

    sha256: str | None = None
    size: int | None = None
    asked: bool = False


@dataclass(frozen=True)
class Fetching:
    """How archives come from addresses.

    Attributes:
        cache: The folder for downloads and unpacked archives.
        progress: Called with the bytes downloaded and, where known, their total.
        obstacle: Why nothing may be downloaded; None where it may.
    """

    cache: Path
    progress: Callable[[int, int | None], None] | None
    obstacle: str | None

    def address(self, url: str, expected: Expected) -> CheckpointFiles:
        """The checkpoint of the archive at an address, downloaded unless it has been.

        Raises:
            InputError: It cannot be had, or is not what was expected.
        """
        shown = display_url(url)
        archive = self._place(url)
        found = _digest(archive)
        if found is None or found != (expected.sha256 or found):
            if self.obstacle is not None:
                raise _would_download(self.obstacle, shown, archive, found, expected)
            found = self._downloaded(url, archive, expected, found)
        try:
            single = find(archive)
            if single is not None:
                return CheckpointFiles(single[1], shown, found, download=archive)
            return replace(from_archive(archive, shown, found, self.cache), download=archive)
        except ArchiveError as error:
            # A login page or a file broken on the server must not stay in the cache for ever.
            if self.obstacle is None:
                archive.unlink(missing_ok=True)
            raise ArchiveError(f"{shown} cannot be used: {error}", error.cause) from error

    def _place(self, url: str) -> Path:
        """Where the archive of an address is kept."""
        # The same file name comes from many addresses; the query may hold an access token.
        hashed = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        last = display_url(url).rpartition("/")[2]
        name = re.sub(r"[^A-Za-z0-9._-]", "_", last)[-80:]
        return _cache_folder(self.cache, "downloads") / f"{hashed}-{name}"

    def _downloaded(self, url: str, archive: Path, expected: Expected, cached: str | None) -> str:
        """The SHA-256 of an archive that is downloaded to the cache."""
        # What speaks with servers takes long to import, and most sources are on the disk.
        from converter.fetch.download import MismatchError, download

        try:
            return download(
                url, archive, sha256=expected.sha256, size=expected.size, progress=self.progress
            )
        except MismatchError as error:
            # What was kept before is not the expected one either.
            if cached is not None:
                archive.unlink(missing_ok=True)
            if not expected.asked:
                raise
            # The network has done its work: this is no reason to do without the checkpoint.
            raise MismatchError(f"{error}, or correct --sha256", Cause.FORMAT) from error


def _digest(archive: Path) -> str | None:
    """The SHA-256 of a file in the cache; None where there is none."""
    try:
        return file_sha256(archive) if archive.is_file() else None
    except OSError as error:
        raise InputError(
            f"cached file {str(archive)!r} cannot be read ({error.strerror}); delete it",
            Cause.of(error),
        ) from error


def _would_download(
    obstacle: str, shown: str, archive: Path, found: str | None, expected: Expected
) -> InputError:
    """What is said where something is not in the cache and may not be downloaded."""
    state = f"is not in the cache as {str(archive)!r}"
    if found is not None:
        state = f"is in the cache with SHA-256 {found}, expected {expected.sha256}"
    return InputError(
        f"{obstacle}, and {shown} {state}; {BY_HAND}, put it there under that name, or run once "
        f"online",
        Cause.NETWORK,
    )


def from_archive(archive: Path, origin: str, sha256: str, cache: Path) -> CheckpointFiles:
    """The container of an archive, unpacked into the cache.

    Args:
        archive: The archive.
        origin: Where it is from.
        sha256: Its SHA-256.
        cache: The folder for downloads and unpacked archives.

    Raises:
        InputError: It is no archive of a container, or the cache cannot be written.
    """
    folder = _cache_folder(cache, "checkpoints") / sha256
    return CheckpointFiles(extract_container(archive, folder, sha256=sha256), origin, sha256)


def from_packed_files(path: Path, cache: Path) -> CheckpointFiles | None:
    """The container at a path where files of it are compressed one by one with gzip.

    Args:
        path: A folder, the prefix of a checkpoint, or one of a container's files.
        cache: The folder for downloads and unpacked archives.

    Returns:
        It, unpacked into the cache; None where nothing of the kind is there, so that the path is
        to be read as it is, or is an archive or a single compressed file.

    Raises:
        InputError: Several containers could be meant, a file is damaged, or the cache cannot be
            written.
    """
    packed = packed_files(path)
    if packed is None:
        return None
    folder, files = packed
    try:
        sha256 = FolderPacking(folder, files, MAX_BYTES).digest()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); check its files",
            Cause.of(error),
        ) from error
    destination = _cache_folder(cache, "checkpoints") / sha256
    place = extract_files(folder, files, destination, sha256=sha256)
    return CheckpointFiles(place, printable(path.absolute()), sha256)


def _cache_folder(cache: Path, name: str) -> Path:
    folder = cache / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cache folder {str(folder)!r} cannot be created ({error.strerror}); set "
            "EFFICIENTDET_CACHE to a folder that can be written",
            Cause.of(error),
        ) from error
    return folder
