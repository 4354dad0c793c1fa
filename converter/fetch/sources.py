"""Turns what a user names as the source into a checkpoint on the local disk."""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from converter.fetch.archive import (
    STATE_FILE,
    STATE_FILE_MAX_BYTES,
    ArchiveError,
    checkpoint_prefix,
    extract_checkpoint,
    parse_state_file,
)
from converter.fetch.download import display_url, download
from efficientdet_spec import OFFICIAL_MODELS, Cause, InputError, did_you_mean, file_sha256
from efficientdet_spec.releases import ARCHIVE_SHA256, archive_address

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


def resolve(
    source: str,
    cache: Path,
    progress: Callable[[int, int | None], None] | None = None,
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

    Returns:
        The checkpoint's files.

    Raises:
        InputError: The source is none of these, cannot be read or holds no single checkpoint, or
            the cache cannot be written.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    if scheme is not None:
        if scheme[1].lower() not in ("http", "https"):
            raise InputError(
                f"source {display_url(source)} is a {scheme[1]} address, expected http or https; "
                "download it by hand and pass the file",
                Cause.OPTION,
            )
        return _from_url(source, None, cache, progress)
    try:
        found = _local(source, cache)
    except (OSError, RuntimeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise InputError(
            f"source {source!r} cannot be read ({reason}); check its path and permissions",
            Cause.FILE,
        ) from error
    if found is not None:
        return found
    if source in OFFICIAL_MODELS:
        url = archive_address(source)
        files = _from_url(url, ARCHIVE_SHA256.get(source), cache, progress)
        return replace(files, official_model=source)
    raise InputError(
        f"source {source!r} does not exist{did_you_mean(source, OFFICIAL_MODELS)}; pass {_FORMS}",
        Cause.FILE,
    )


def _local(source: str, cache: Path) -> CheckpointFiles | None:
    """Looks for the source on the disk; None if nothing there has its name."""
    if not source or "\0" in source:
        return None
    path = Path(source).expanduser()
    if path.is_dir():
        return _here(_in_folder(path))
    if _index(path).is_file():
        return _here(path)
    if path.is_file():
        return _from_file(path, cache)
    # A device or pipe would be read without end.
    if path.exists():
        raise InputError(
            f"source {source!r} is neither a file nor a folder; pass {_FORMS}", Cause.FILE
        )
    return None


def _from_file(path: Path, cache: Path) -> CheckpointFiles:
    prefix = checkpoint_prefix(path.name)
    if path.name.endswith(".index") and prefix is not None:
        return _here(path.with_name(prefix))
    if prefix is not None:
        if not _index(path.with_name(prefix)).is_file():
            raise InputError(
                f"source {str(path)!r} is part of a checkpoint whose {prefix + '.index'!r} is not "
                "beside it; copy that file there too",
                Cause.FILE,
            )
        return _here(path.with_name(prefix))
    if path.name == STATE_FILE:
        return _here(_in_folder(path.parent))
    looks = _foreign_kind(path)
    if looks is not None:
        raise InputError(f"source {str(path)!r} looks like {looks}; {_NEEDED}", Cause.FORMAT)
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    if compressed or path.name.lower().endswith(_ARCHIVE_SUFFIXES):
        return _from_archive(path, str(path.absolute()), file_sha256(path), cache)
    raise InputError(
        f"source {str(path)!r} is a file of an unknown kind; pass {_FORMS}", Cause.FORMAT
    )


def _foreign_kind(path: Path) -> str | None:
    """Says what a model file of another format looks like."""
    with path.open("rb") as file:
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
    with state.open("rb") as file:
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


def _from_url(
    url: str,
    sha256: str | None,
    cache: Path,
    progress: Callable[[int, int | None], None] | None,
) -> CheckpointFiles:
    shown = display_url(url)
    # The same file name comes from many addresses; the query may hold an access token.
    hashed = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", shown.rpartition("/")[2])[-80:]
    archive = _cache_folder(cache, "downloads") / f"{hashed}-{name}"
    try:
        found = file_sha256(archive) if archive.is_file() else None
    except OSError as error:
        raise InputError(
            f"cached file {str(archive)!r} cannot be read ({error.strerror}); delete it",
            Cause.of(error),
        ) from error
    if found is None or found != (sha256 or found):
        found = download(url, archive, sha256=sha256, progress=progress)
    try:
        return _from_archive(archive, shown, found, cache)
    except ArchiveError as error:
        # A login page or a file broken on the server must not stay in the cache for ever.
        archive.unlink(missing_ok=True)
        raise ArchiveError(f"{shown} cannot be used: {error}", error.cause) from error


def _from_archive(archive: Path, origin: str, sha256: str, cache: Path) -> CheckpointFiles:
    folder = _cache_folder(cache, "checkpoints") / sha256
    return CheckpointFiles(extract_checkpoint(archive, folder), origin, sha256)


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
    return CheckpointFiles(prefix, str(prefix.absolute()), None)


def _index(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
