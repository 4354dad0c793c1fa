"""The files of a reproduction: refused before the work, checked, complete or not there at all."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from efficientdet_spec import Cause, InputError, replacing
from parity.process.arrays import Array
from parity.process.files import check_writable, writing
from parity.reproduction.script import SCRIPT, TENSORS


def files_in(folder: Path) -> tuple[Path, Path]:
    """The script and the tensors of a reproduction.

    Args:
        folder: In which they are.
    """
    return folder / SCRIPT, folder / TENSORS


def check_folder(folder: Path, keep: Iterable[Path] = ()) -> None:
    """Raise at once where a reproduction could not be written. Nothing is made yet.

    Args:
        folder: Where it is to go; made when it is written.
        keep: Files that must stay as they are.

    Raises:
        InputError: Says why.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        if not there.is_dir():
            raise InputError(
                f"{there} is not a folder; name a folder for the reproduction.", Cause.FILE
            )
        if there != folder and not os.access(there, os.W_OK | os.X_OK):
            raise InputError(
                f"{folder} cannot be made, as {there} is not writable; name another folder for "
                f"the reproduction.",
                Cause.FILE,
            )
    except OSError as error:
        raise InputError(
            f"{folder} cannot be used ({error.strerror}); name another folder for the "
            f"reproduction.",
            Cause.of(error),
        ) from error
    if there == folder:
        for path in files_in(folder):
            check_writable(path, keep)


def packed(tensors: Mapping[str, Array]) -> bytes:
    """Tensors as the bytes of an ``.npz`` file, the same for the same numbers.

    Args:
        tensors: By name.
    """
    stream = io.BytesIO()
    # The stubs take the names for the options that they are not.
    arguments: dict[str, Any] = dict(tensors)
    np.savez_compressed(stream, **arguments)
    return stream.getvalue()


def digest_of(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def write_files(folder: Path, script: str, tensors: bytes) -> int:
    """Write both, in place of those of an earlier reproduction; other files stay.

    The script knows the digest of its tensors, so that one of each is never taken for a pair.

    Args:
        folder: Is made if it is not there.
        script: The script.
        tensors: As of :func:`packed`.

    Returns:
        Bytes of both together.

    Raises:
        InputError: They cannot be written.
    """
    path, numbers = files_in(folder)
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as text, replacing(numbers) as temporary:
            temporary.write_bytes(tensors)
            text.write_text(script, "utf-8")
    return len(tensors) + len(script.encode())
