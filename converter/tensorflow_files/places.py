"""Where a checkpoint's files are, given what a user names of them: folder, prefix or a file."""

from __future__ import annotations

import glob
from pathlib import Path

from converter.tensorflow_files.naming import (
    STATE_FILE,
    STATE_FILE_MAX_BYTES,
    checkpoint_prefix,
    parse_state_file,
)
from efficientdet_spec import Cause, InputError, listed, open_regular


def checkpoint_at(path: Path) -> Path | None:
    """The prefix of the checkpoint that a path names by its folder or one of its files.

    Args:
        path: A folder, a prefix, or a file.

    Returns:
        What the names of its files begin with; None where nothing there is a checkpoint's.

    Raises:
        InputError: Its index is not there, or there are several and nothing says which is meant.
        OSError: It cannot be looked at.
    """
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


def _in_folder(folder: Path) -> Path | None:
    """The prefix of the one checkpoint of a folder; None where there is none."""
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
    if not prefixes:
        return None
    state = "no 'checkpoint' file says which"
    if named is not None:
        state = f"the one its 'checkpoint' file names, {named!r}, is not there"
    raise InputError(
        f"folder {str(folder)!r} holds {len(prefixes)} checkpoints ({_listed(prefixes)}) and "
        f"{state}; pass the .index file of one",
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


def require_readable(prefix: Path) -> None:
    """Open and close a checkpoint's files: what reads them later would wait for a pipe for ever.

    Args:
        prefix: The checkpoint.

    Raises:
        OSError: One of them cannot be opened, or is no regular file.
    """
    open_regular(_index(prefix)).close()
    for path in map(Path, glob.glob(f"{glob.escape(str(prefix))}.*")):
        belongs = checkpoint_prefix(path.name) == prefix.name
        if belongs and path.exists() and not path.is_file():
            open_regular(path).close()


def _index(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")


def _listed(names: list[str]) -> str:
    return listed(map(repr, names), most=6)
