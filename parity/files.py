"""Result files: checked before the work, complete or not there at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from efficientdet_spec import InputError


def check_writable(path: Path, keep: Iterable[Path] = ()) -> None:
    """Raise at once where writing a file would fail after all the work, or destroy an input.

    Args:
        path: The file to write.
        keep: Files that must stay as they are.

    Raises:
        InputError: The folder does not exist or cannot be written to, or ``path`` is a folder or
            one of the files to keep.
    """
    for other in keep:
        if other.resolve() == path.resolve():
            raise InputError(f"{path} is in use by this very run; name another file to write.")
    if not path.name or path.is_dir():
        raise InputError(f"{path} is a folder; name a file for the result.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(
            f"{path} cannot be written; choose a file in a folder that exists and is writable."
        )


def make_folder(path: Path) -> None:
    """Make a folder, and those around it, unless it is there.

    Raises:
        InputError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be made a folder ({error.strerror}); choose another --out."
        ) from error


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, "utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); choose a file in a folder that exists, "
            f"is writable and has room."
        ) from error
    finally:
        # Where it could not be made there is also no looking for it, and this must not hide why.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
