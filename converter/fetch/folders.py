"""Folders in which files of a container are compressed one by one with gzip."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from converter.fetch.contents import Container, chosen, containers
from converter.fetch.packings import ArchiveError, show, unpacked_name
from converter.tensorflow_files.naming import (
    SAVED_MODEL,
    STATE_FILE,
    STATE_FILE_MAX_BYTES,
    VARIABLES,
    checkpoint_prefix,
    parse_state_file,
)
from efficientdet_spec import open_regular

_GRAPHS = (SAVED_MODEL, f"{SAVED_MODEL}.gz")
_MOST = 10_000
"""Files of a folder that are looked at; training folders have hundreds."""


def packed_files(path: Path) -> tuple[Path, Mapping[str, Path]] | None:
    """The files of the container at a path, where some of them are compressed.

    Args:
        path: A folder, the prefix of a checkpoint, or one of a container's files.

    Returns:
        The folder, and the files by the names that they have unpacked, relative to it; None where
        none of them is compressed, or the path is that of a single file.

    Raises:
        ArchiveError: Several containers could be meant.
    """
    try:
        folder, wanted = _meant(path)
        files = _listed(folder)
    except OSError:
        return None
    if not any(unpacked_name(each.name) is not None for each in files.values()):
        return None
    found = [one for one in containers(files) if wanted is None or wanted in one.names.values()]
    packed = [one for one in found if _is_packed(one, files)]
    if not packed or (wanted is None and len(packed) < len(found)):
        # What lies there unpacked is meant.
        return None
    one = chosen(packed, _named(folder, files))
    if one is None:
        shown = ", ".join(show(each.shown) for each in packed[:10])
        raise ArchiveError(
            f"folder {show(folder)} holds {len(packed)} models' files ({shown}), expected one; "
            f"pass one of them"
        )
    return folder, {name: files[name] for name in one.names}


def _meant(path: Path) -> tuple[Path, str | None]:
    """The folder in which a container is, and one of its files; None where any is meant."""
    inside = path if path.is_dir() else path.parent
    if inside.name == VARIABLES and any(inside.with_name(name).is_file() for name in _GRAPHS):
        # Its values are not to be taken for a checkpoint, whose names they may have.
        return inside.parent, SAVED_MODEL
    if path.is_dir():
        return path, None
    name = unpacked_name(path.name) or path.name
    if checkpoint_prefix(name) is None and name not in (SAVED_MODEL, STATE_FILE):
        # The prefix of a checkpoint, or a file of its own, which no other can go with.
        name = f"{name}.index"
    return path.parent, None if name == STATE_FILE else name


def _is_packed(container: Container, files: Mapping[str, Path]) -> bool:
    return any(unpacked_name(files[name].name) is not None for name in container.names)


def _listed(folder: Path) -> dict[str, Path]:
    """The files in a folder, and in ``variables`` inside it, by the names they have unpacked."""
    files: dict[str, Path] = {}
    for inner in ("", f"{VARIABLES}/"):
        if inner and (not (folder / inner).is_dir() or (folder / inner).is_symlink()):
            continue
        with os.scandir(folder / inner) as entries:
            for count, entry in enumerate(entries):
                if count == _MOST:
                    break
                name = f"{inner}{unpacked_name(entry.name) or entry.name}"
                # What is there unpacked is what the other was packed from, or came from.
                known = name in files and unpacked_name(entry.name) is not None
                if entry.is_file() and not known:
                    files[name] = Path(entry.path)
    return files


def _named(folder: Path, files: Mapping[str, Path]) -> set[str]:
    """The prefixes that the folder's state file names."""
    state = files.get(STATE_FILE)
    if state is None or unpacked_name(state.name) is not None:
        return set()
    with open_regular(state) as file:
        target = parse_state_file(file.read(STATE_FILE_MAX_BYTES))
    return set() if target is None else {target.rpartition("/")[2]}
