"""Result files: checked before the work, complete or not there at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from efficientdet_spec import Cause, InputError, locked, replacing, temporary_beside


def check_writable(path: Path, keep: Iterable[Path] = ()) -> None:
    """Raise at once where writing a file would fail after all the work, or destroy an input.

    Args:
        path: The file to write.
        keep: Files that must stay as they are.

    Raises:
        InputError: The folder does not exist or cannot be written to, or ``path`` is a folder, a
            device or one of the files to keep.
    """
    try:
        if not path.name or path.is_dir():
            raise InputError(f"{path} is a folder; name a file for the result.", Cause.FILE)
        if any(os.path.realpath(other) == os.path.realpath(path) for other in keep):
            raise InputError(
                f"{path} is in use by this very run; name another file to write.", Cause.FILE
            )
        # A device or pipe would be replaced by a file, /dev/null for everybody.
        if path.exists() and not path.is_file():
            raise InputError(
                f"{path} is not a regular file; name another file for the result.", Cause.FILE
            )
        # A name may be too long for the one that is written to first.
        temporary_beside(path).exists()
        # Rights do not tell it all: a system may be full, read-only or none for files.
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise FileNotFoundError
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        reason = f" ({error.strerror})" if error.strerror else ""
        raise InputError(
            f"{path} cannot be written{reason}; choose a file in a folder that exists and is "
            f"writable.",
            Cause.of(error),
        ) from error


def make_folder(path: Path, *, below: Path | None = None) -> None:
    """Make a folder, and those around it, unless it is there.

    Args:
        path: The folder.
        below: As of :func:`refuse_links`; None where the user has named the folder.

    Raises:
        InputError: It cannot be made, or is a link that it must not be.
    """
    if below is not None:
        refuse_links(path, below)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be made a folder ({error.strerror}); choose another --out.",
            Cause.of(error),
        ) from error


def refuse_links(path: Path, below: Path) -> None:
    """Refuse links to folders on the way to a folder: what is written would go elsewhere.

    Args:
        path: The folder to write to.
        below: The folder around it that the user has named, which itself may be a link.

    Raises:
        InputError: A folder below it is a link.
    """
    for folder in takewhile(lambda folder: folder != below, [path, *path.parents]):
        if folder.is_symlink():
            raise InputError(
                f"{folder} is a link, so that what is written to {below} would go elsewhere; "
                f"remove the link, or choose another --out.",
                Cause.FILE,
            )


LOCK = ".efficientdet-parity.lock"
"""The file in a folder of results that its run holds."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other runs from writing to a folder at the same time; it is made if need be.

    The lock ends with the context, and with the process, however it ends.

    Raises:
        InputError: Another run holds it, or the folder cannot be made.
    """
    make_folder(folder)
    with ExitStack() as stack:
        with writing(folder):
            ours = stack.enter_context(locked(folder / LOCK))
        if not ours:
            raise InputError(
                f"{folder} is in use by another run; wait until it has ended, or choose another "
                f"--out.",
                Cause.FILE,
            )
        yield


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a result; the file appears complete or not at all.

    Raises:
        InputError: The file cannot be written.
    """
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text; the file appears complete or not at all.

    Raises:
        InputError: The file cannot be written.
    """
    check_writable(path)
    with writing_to(path) as temporary, writing(path):
        temporary.write_text(text, "utf-8")


@contextmanager
def writing_to(path: Path) -> Iterator[Path]:
    """A file to write to that takes the place of ``path`` at the end of the context.

    What the body raises passes; see :func:`efficientdet_spec.replacing`.

    Raises:
        InputError: The file cannot be made, completed or put in its place.
    """
    with ExitStack() as stack:
        with writing(path):
            temporary = stack.enter_context(replacing(path))
        yield temporary
        with writing(path):
            stack.pop_all().close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Where the system refuses to write a file, say so in one sentence.

    Args:
        path: The file.

    Raises:
        InputError: The body could not write it.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); choose a file in a folder that exists, "
            f"is writable and has room.",
            Cause.of(error),
        ) from error
