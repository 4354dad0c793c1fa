"""Turns what a user names as the source into a checkpoint on the local disk."""

import glob
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from converter.fetch.addresses import BY_HAND, display_url
from converter.fetch.archive import (
    STATE_FILE,
    STATE_FILE_MAX_BYTES,
    ArchiveError,
    checkpoint_prefix,
    extract_checkpoint,
    parse_state_file,
)
from converter.fetch.download import MismatchError, download
from efficientdet_spec import (
    OFFICIAL_MODELS,
    Cause,
    InputError,
    did_you_mean,
    file_sha256,
    open_regular,
    printable,
)
from efficientdet_spec.releases import ARCHIVE_BYTES, ARCHIVE_SHA256, archive_address

OFFLINE = "EFFICIENTDET_OFFLINE"
"""The environment variable that forbids downloads, as ``--offline`` does."""

_NO = frozenset({"", "0", "no", "off", "false"})
_ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar")
_FORMS = (
    "a checkpoint folder, a checkpoint prefix, an .index file, a .tar.gz or .tgz archive, an http "
    f"or https address of one, or an official name ({OFFICIAL_MODELS[0]} to {OFFICIAL_MODELS[-2]}, "
    f"{OFFICIAL_MODELS[-1]})"
)
_NEEDED = "pass the TF1 training checkpoint (an .index file and its .data files) instead"
_FOREIGN = {
    (".h5", ".hdf5", ".keras"): "Keras weights",
    (".pth", ".pt", ".safetensors"): "PyTorch weights, the result of a conversion",
    (".pb", ".pbtxt"): "a frozen graph or SavedModel",
    (".tflite",): "a TensorFlow Lite model",
    (".onnx",): "an ONNX model",
}


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint on the local disk and where it came from.

    Attributes:
        prefix: The path of the `.index` file without `.index`.
        origin: The absolute path or the address (without its query) that the source stood for.
        archive_sha256: The SHA-256 of the archive that held it, or None if there was none.
        official_model: The official name, where the source was one.
    """

    prefix: Path
    origin: str
    archive_sha256: str | None
    official_model: str | None = None


def default_cache() -> Path:
    """Returns the folder for downloads and unpacked archives; it need not exist yet.

    It is the environment variable EFFICIENTDET_CACHE, else `efficientdet-parity` in
    XDG_CACHE_HOME or in `~/.cache`.

    Raises:
        InputError: There is no home folder to put it in.
    """
    try:
        if chosen := os.environ.get("EFFICIENTDET_CACHE"):
            return Path(chosen).expanduser()
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # The XDG specification has relative paths ignored.
        return (base if base.is_absolute() else Path.home() / ".cache") / "efficientdet-parity"
    except RuntimeError as error:
        raise InputError(
            "no home folder was found for the cache; set EFFICIENTDET_CACHE to a folder",
            Cause.FILE,
        ) from error


@dataclass(frozen=True)
class _Expected:
    """What is known of a file before it is there.

    Attributes:
        sha256: Its SHA-256; None where it is not known.
        size: In bytes; None where it is not known.
        asked: Whether it was the user who gave the SHA-256.
    """

    sha256: str | None = None
    size: int | None = None
    asked: bool = False


def resolve(
    source: str,
    cache: Path,
    progress: Callable[[int, int | None], None] | None = None,
    *,
    sha256: str | None = None,
    offline: bool = False,
) -> CheckpointFiles:
    """Finds, unpacks or downloads the checkpoint that a source stands for.

    What exists on the disk comes before an official name. Only the `.index` file is required to
    exist. Official names are downloaded from Google's storage, or from where the environment
    variable EFFICIENTDET_DOWNLOADS says. The archives of D0 and D1 are checked against their known
    SHA-256; those of the others are not known, and the one found is recorded in the result. What
    has been downloaded once is not downloaded again, even if the server has a newer file by now.

    Args:
        source: A folder, a prefix, one of a checkpoint's files, an archive, an http(s) address of
            an archive, or an official name.
        cache: The folder for downloads and unpacked archives.
        progress: Called with the bytes downloaded and, where known, their total.
        sha256: What the archive must have, in lower-case hexadecimal; None where any will do.
        offline: Connect to nothing. The environment variable EFFICIENTDET_OFFLINE says so too.

    Returns:
        The checkpoint's files.

    Raises:
        InputError: The source is none of these, cannot be read or holds no single checkpoint, has
            another SHA-256, would have to be downloaded, or the cache cannot be written.
    """
    fetch = _Fetching(cache, progress, _obstacle(offline))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    if scheme is not None:
        if scheme[1].lower() not in ("http", "https"):
            raise InputError(
                f"source {display_url(source)} is a {scheme[1]} address, expected http or https; "
                "download it by hand and pass the file",
                Cause.OPTION,
            )
        return fetch.address(source, _Expected(sha256, asked=sha256 is not None))
    try:
        found = _local(source, cache, sha256)
    except (OSError, RuntimeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or printable(error)
        raise InputError(
            f"source {source!r} cannot be read ({_place(error, source)}{reason}); check its path "
            f"and permissions",
            Cause.FILE,
        ) from error
    if found is not None:
        return found
    if source in OFFICIAL_MODELS:
        files = fetch.address(archive_address(source), _official(source, sha256))
        return replace(files, official_model=source)
    raise InputError(
        f"source {source!r} does not exist{did_you_mean(source, OFFICIAL_MODELS)}; pass {_FORMS}",
        Cause.FILE,
    )


def _place(error: Exception, source: str) -> str:
    """Which of a source's files an error is about, where it is another than what was named."""
    name = error.filename if isinstance(error, OSError) else None
    return f"{str(name)!r}: " if name is not None and str(name) != source else ""


def _obstacle(offline: bool) -> str | None:
    """What forbids downloads; None where nothing does."""
    if offline:
        return "--offline is given"
    return None if os.environ.get(OFFLINE, "").lower() in _NO else f"{OFFLINE} is set"


def _official(model: str, sha256: str | None) -> _Expected:
    known = ARCHIVE_SHA256.get(model)
    if None not in (sha256, known) and sha256 != known:
        raise InputError(
            f"--sha256 is {sha256}, but the official archive of {model} has {known}; leave "
            f"--sha256 out, or pass the address or file of the archive that you mean",
            Cause.OPTION,
        )
    return _Expected(sha256 or known, ARCHIVE_BYTES.get(model), asked=sha256 is not None)


def _local(source: str, cache: Path, sha256: str | None) -> CheckpointFiles | None:
    """Looks for the source on the disk; None if nothing there has its name."""
    if not source or "\0" in source:
        return None
    path = Path(source).expanduser()
    prefix = _checkpoint_at(path)
    if prefix is not None:
        if sha256 is not None:
            raise InputError(
                f"source {source!r} is no archive, and --sha256 is of an archive's bytes; leave "
                f"--sha256 out or pass the archive",
                Cause.OPTION,
            )
        return _here(prefix)
    if path.is_file():
        return _from_local_archive(path, cache, sha256)
    # A device or pipe would be read without end.
    if path.exists():
        raise InputError(
            f"source {source!r} is neither a file nor a folder; pass {_FORMS}", Cause.FILE
        )
    return None


def _checkpoint_at(path: Path) -> Path | None:
    """The prefix of the checkpoint that a path names by its folder or one of its files."""
    if path.is_dir():
        return _in_folder(path)
    index = _index(path)
    if index.is_file() or (index.exists() and not path.is_file()):
        return path
    return _of_file(path) if path.is_file() else None


def _of_file(path: Path) -> Path | None:
    """The prefix of the checkpoint that a file belongs to; None where it is none of its files."""
    prefix = checkpoint_prefix(path.name)
    if path.name.endswith(".index") and prefix is not None:
        return path.with_name(prefix)
    if prefix is not None:
        if not _index(path.with_name(prefix)).is_file():
            raise InputError(
                f"source {str(path)!r} is part of a checkpoint whose {prefix + '.index'!r} is not "
                "beside it; copy that file there too",
                Cause.FILE,
            )
        return path.with_name(prefix)
    return _in_folder(path.parent) if path.name == STATE_FILE else None


def _from_local_archive(path: Path, cache: Path, sha256: str | None) -> CheckpointFiles:
    looks = _foreign_kind(path)
    if looks is not None:
        raise InputError(f"source {str(path)!r} looks like {looks}; {_NEEDED}", Cause.FORMAT)
    with open_regular(path) as file:
        compressed = file.read(2) == b"\x1f\x8b"
    if not compressed and not path.name.lower().endswith(_ARCHIVE_SUFFIXES):
        raise InputError(
            f"source {str(path)!r} is a file of an unknown kind; pass {_FORMS}", Cause.FORMAT
        )
    found = file_sha256(path)
    if found != (sha256 or found):
        raise InputError(
            f"archive {str(path)!r} has SHA-256 {found}, expected {sha256}: it is another file or "
            f"was altered, and nothing of it was used; get it again or correct --sha256",
            Cause.FORMAT,
        )
    return _from_archive(path, printable(path.absolute()), found, cache)


def _foreign_kind(path: Path) -> str | None:
    """Says what a model file of another format looks like."""
    with open_regular(path) as file:
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return "Keras weights (HDF5)"
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    suffix = path.suffix.lower()
    return next((kind for suffixes, kind in _FOREIGN.items() if suffix in suffixes), None)


def _in_folder(folder: Path) -> Path:
    """Finds the one checkpoint of a folder and returns its prefix."""
    names = sorted(entry.name for entry in folder.iterdir())
    prefixes = [
        name.removesuffix(".index")
        for name in names
        if name.endswith(".index") and checkpoint_prefix(name) is not None
    ]
    named = _named_by_state_file(folder)
    for candidate in _inside(folder, named) if named is not None else ():
        if _index(candidate).is_file():
            return candidate
    if len(prefixes) == 1:
        return folder / prefixes[0]
    if prefixes:
        state = "no 'checkpoint' file says which"
        if named is not None:
            state = f"the one its 'checkpoint' file names, {named!r}, is not there"
        raise InputError(
            f"folder {str(folder)!r} holds {len(prefixes)} checkpoints ({_listed(prefixes)}) and "
            f"{state}; pass the .index file of one",
            Cause.FILE,
        )
    if "saved_model.pb" in names:
        raise InputError(f"folder {str(folder)!r} looks like a SavedModel; {_NEEDED}", Cause.FORMAT)
    raise InputError(
        f"folder {str(folder)!r} holds no checkpoint, found {_listed(names) or 'nothing'}, "
        "expected an .index file and its .data files; pass the folder that holds them",
        Cause.FILE,
    )


def _named_by_state_file(folder: Path) -> str | None:
    state = folder / STATE_FILE
    if not state.is_file():
        return None
    with open_regular(state) as file:
        return parse_state_file(file.read(STATE_FILE_MAX_BYTES))


def _inside(folder: Path, named: str) -> list[Path]:
    """Lists where a state file's path may be meant: never outside of the folder.

    Checkpoints are copied around while their state file keeps the path of the training machine, so
    that an absolute path or one with `..` counts for its last part only.
    """
    parts = [part for part in named.split("/") if part not in ("", ".")]
    if not parts or parts[-1] == "..":
        return []
    by_name = folder / parts[-1]
    leads_out = ".." in parts or named.startswith("/") or ":" in parts[0]
    return [by_name] if leads_out else [folder.joinpath(*parts), by_name]


@dataclass(frozen=True)
class _Fetching:
    """How archives come from addresses.

    Attributes:
        cache: The folder for downloads and unpacked archives.
        progress: Called with the bytes downloaded and, where known, their total.
        obstacle: Why nothing may be downloaded; None where it may.
    """

    cache: Path
    progress: Callable[[int, int | None], None] | None
    obstacle: str | None

    def address(self, url: str, expected: _Expected) -> CheckpointFiles:
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
            return _from_archive(archive, shown, found, self.cache)
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

    def _downloaded(self, url: str, archive: Path, expected: _Expected, cached: str | None) -> str:
        """The SHA-256 of an archive that is downloaded to the cache."""
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
    obstacle: str, shown: str, archive: Path, found: str | None, expected: _Expected
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


def _from_archive(archive: Path, origin: str, sha256: str, cache: Path) -> CheckpointFiles:
    folder = _cache_folder(cache, "checkpoints") / sha256
    return CheckpointFiles(extract_checkpoint(archive, folder, sha256=sha256), origin, sha256)


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


def _here(prefix: Path) -> CheckpointFiles:
    """A checkpoint whose files can be read: what reads them later would wait for a pipe for ever.

    Raises:
        OSError: One of them cannot be opened.
    """
    open_regular(_index(prefix)).close()
    for path in map(Path, glob.glob(f"{glob.escape(str(prefix))}.*")):
        belongs = checkpoint_prefix(path.name) == prefix.name
        if belongs and path.exists() and not path.is_file():
            open_regular(path).close()
    return CheckpointFiles(prefix, printable(prefix.absolute()), None)


def _index(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
