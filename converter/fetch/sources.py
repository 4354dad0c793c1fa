"""Turns what a user names as the source into a checkpoint on the local disk."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from converter.fetch.addresses import display_url
from converter.fetch.cached import (
    CheckpointFiles,
    Expected,
    Fetching,
    from_archive,
    from_packed_files,
)
from converter.fetch.packings import MAX_ARCHIVE_BYTES, looks_like_archive
from converter.formats.registry import Format, endings, find
from converter.formats.shards import refuse_shard
from converter.tensorflow_files.naming import SAVED_MODEL
from efficientdet_spec import (
    HEAD_BYTES,
    OFFICIAL_MODELS,
    Cause,
    InputError,
    did_you_mean,
    file_sha256,
    full_name,
    listed,
    lookalike,
    open_regular,
    printable,
)
from efficientdet_spec.lookalikes import ONNX, TFLITE
from efficientdet_spec.releases import (
    ARCHIVE_BYTES,
    ARCHIVE_SHA256,
    RELEASES,
    archive_address,
    backbone_address,
)

OFFLINE = "EFFICIENTDET_OFFLINE"
"""The environment variable that forbids downloads, as ``--offline`` does."""

_LOOKED_AT = 20
"""Folders inside of one without a checkpoint that are looked into."""

_NO = frozenset({"", "0", "no", "off", "false"})
_FORMS = (
    "a checkpoint's folder, prefix or .index, a SavedModel folder, a .pb, .h5, .pth or "
    ".safetensors, an archive or http(s) address of one, or an official name "
    f"({OFFICIAL_MODELS[0]} to {OFFICIAL_MODELS[-2]}, {OFFICIAL_MODELS[-1]}, and the others that "
    "efficientdet-parity models lists)"
)
_LOST = {".tflite": TFLITE, ".onnx": ONNX}
"""Kinds of files from which the variables cannot be had, by the endings of their names."""


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
    fetch = Fetching(cache, progress, _obstacle(offline))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    if scheme is not None:
        if scheme[1].lower() not in ("http", "https"):
            raise InputError(
                f"source {display_url(source)} is a {scheme[1]} address, expected http or https; "
                "download it by hand and pass the file",
                Cause.OPTION,
            )
        return fetch.address(source, Expected(sha256, asked=sha256 is not None))
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
    if source in RELEASES:
        files = fetch.address(archive_address(source), _official(source, sha256))
        return replace(files, official_model=source)
    raise InputError(
        f"source {source!r} does not exist{_meant(source)}; pass {_FORMS}",
        Cause.FILE,
    )


def _meant(source: str) -> str:
    """What else an official name that is no file stands for, or which name is meant."""
    address = backbone_address(source)
    if address is not None:
        return (
            f": a backbone has several releases, so pass the address of one with --backbone, such "
            f"as {address}, which official training starts from"
        )
    return did_you_mean(full_name(source), RELEASES) if "/" not in source else ""


def _place(error: Exception, source: str) -> str:
    """Which of a source's files an error is about, where it is another than what was named."""
    name = error.filename if isinstance(error, OSError) else None
    return f"{str(name)!r}: " if name is not None and str(name) != source else ""


def _obstacle(offline: bool) -> str | None:
    """What forbids downloads; None where nothing does."""
    if offline:
        return "--offline is given"
    return None if os.environ.get(OFFLINE, "").lower() in _NO else f"{OFFLINE} is set"


def _official(model: str, sha256: str | None) -> Expected:
    known = ARCHIVE_SHA256.get(model)
    if None not in (sha256, known) and sha256 != known:
        raise InputError(
            f"--sha256 is {sha256}, but the official archive of {model} has {known}; leave "
            f"--sha256 out, or pass the address or file of the archive that you mean",
            Cause.OPTION,
        )
    return Expected(sha256 or known, ARCHIVE_BYTES.get(model), asked=sha256 is not None)


def _local(source: str, cache: Path, sha256: str | None) -> CheckpointFiles | None:
    """Looks for the source on the disk; None if nothing there has its name."""
    if not source or "\0" in source:
        return None
    path = Path(source).expanduser()
    packed = from_packed_files(path, cache) if sha256 is None else None
    if packed is not None:
        return packed
    found = find(path)
    if found is None and path.is_dir():
        found = _in_folder(path)
    if found is not None:
        return _here(source, found[1], sha256)
    if path.is_file():
        return _from_local_archive(path, cache, sha256)
    # A device or pipe would be read without end.
    if path.exists():
        raise InputError(
            f"source {source!r} is neither a file nor a folder; pass {_FORMS}", Cause.FILE
        )
    return None


def _here(source: str, place: Path, sha256: str | None) -> CheckpointFiles:
    """What lies on the disk and needs no unpacking.

    Raises:
        InputError: It has another SHA-256 than asked for, or none because it is several files.
    """
    if sha256 is not None:
        if not place.is_file() or place.name == SAVED_MODEL:
            raise InputError(
                f"source {source!r} is no archive or other single file, and --sha256 is of a "
                f"file's bytes; leave --sha256 out or pass the archive",
                Cause.OPTION,
            )
        _require_sha256(place, sha256, "file")
    return CheckpointFiles(place, printable(place.absolute()), None)


def _require_sha256(path: Path, sha256: str | None, what: str) -> str:
    """The SHA-256 of a file, which must be the one asked for, where one is."""
    found = file_sha256(path)
    if found != (sha256 or found):
        raise InputError(
            f"{what} {str(path)!r} has SHA-256 {found}, expected {sha256}: it is another file or "
            f"was altered, and nothing of it was used; get it again or correct --sha256",
            Cause.FORMAT,
        )
    return found


def _in_folder(folder: Path) -> tuple[Format, Path]:
    """The one file of a known kind in a folder.

    Raises:
        InputError: There is none, or there are several.
    """
    names = sorted(entry.name for entry in folder.iterdir())
    files = [folder / name for name in names if (folder / name).is_file()][:_LOOKED_AT]
    found = [(path, one) for path in files if (one := find(path)) is not None]
    if len(found) == 1:
        return found[0][1]
    if found:
        raise InputError(
            f"folder {str(folder)!r} holds {len(found)} files with a model's values "
            f"({_listed([path.name for path, _ in found])}); pass one of them",
            Cause.FILE,
        )
    raise InputError(
        f"folder {str(folder)!r} holds no checkpoint, found {_listed(names) or 'nothing'}, "
        f"expected an .index file and its .data files; pass {_holder(folder, names)}",
        Cause.FILE,
    )


def _holder(folder: Path, names: list[str]) -> str:
    """The folders inside that hold a checkpoint, or words for what is looked for."""
    inside = [folder / name for name in names if (folder / name).is_dir()][:_LOOKED_AT]
    holding = [path for path in inside if any(path.glob("*.index"))]
    if not holding:
        return "the folder that holds them"
    return f"the folder inside that holds one, {listed(map(repr, map(str, holding)), 3, 200)}"


def _from_local_archive(path: Path, cache: Path, sha256: str | None) -> CheckpointFiles:
    """An archive that holds what is meant.

    Raises:
        InputError: It is another kind of file, is damaged, or holds something else.
    """
    with open_regular(path) as file:
        head = file.read(HEAD_BYTES)
    suffix = path.suffix.lower()
    other = lookalike(head) if not looks_like_archive(path) else None
    other = other or _LOST.get(suffix)
    if other is not None:
        raise InputError(
            f"source {str(path)!r} looks like {other.kind}; {other.advice or f'pass {_FORMS}'}",
            Cause.FORMAT,
        )
    meant = endings().get(suffix)
    if meant is not None:
        state = "holds something else" if head else "is empty"
        raise InputError(
            f"source {str(path)!r} is named like {meant.says} but {state}; copy or download it "
            f"again, or pass the file that it was made from",
            Cause.FORMAT,
        )
    if not looks_like_archive(path):
        refuse_shard(path)
        state = "a file of an unknown kind" if head else "an empty file"
        raise InputError(f"source {str(path)!r} is {state}; pass {_FORMS}", Cause.FORMAT)
    if (size := path.stat().st_size) > MAX_ARCHIVE_BYTES:
        raise InputError(
            f"archive {str(path)!r} has {size:,} bytes, more than the "
            f"{MAX_ARCHIVE_BYTES:,} that are accepted; pass the archive of a checkpoint",
            Cause.FORMAT,
        )
    found = _require_sha256(path, sha256, "archive")
    return from_archive(path, printable(path.absolute()), found, cache)


def _listed(names: list[str]) -> str:
    return listed(map(repr, names), most=6)
