"""The names of TensorFlow's files, and the file that names one of several checkpoints."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

STATE_FILE = "checkpoint"
STATE_FILE_MAX_BYTES = 2**20

SAVED_MODEL = "saved_model.pb"
"""The graph of a SavedModel, whose name never changes."""

VARIABLES = "variables"
"""The folder of a SavedModel's values, and what the names of the files in it begin with."""

_PART = re.compile(r"(?P<prefix>.+)\.(?:index|meta|data-\d{5}-of-\d{5})", re.DOTALL)
_STATE_PATH = re.compile(
    rb"""^[ \t]*model_checkpoint_path[ \t]*:[ \t]*(["'])((?:\\.|(?!\1)[^\\\n])*)\1""", re.MULTILINE
)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def checkpoint_prefix(name: str) -> str | None:
    """Tells which checkpoint a file belongs to.

    Args:
        name: A file's name, with or without folders.

    Returns:
        The name without `.index`, `.meta` or `.data-00000-of-00001`, or None for any other file,
        including macOS's `._` companions of such files.
    """
    match = _PART.fullmatch(name)
    if match is None or PurePosixPath(name).name.startswith("._"):
        return None
    return match["prefix"]


def parse_state_file(content: bytes) -> str | None:
    r"""Reads `model_checkpoint_path` from the content of a `checkpoint` state file.

    Args:
        content: The file's bytes, a protocol buffer in text form.

    Returns:
        The path as written there, always with `/` between folders (TensorFlow on Windows writes
        `\`), or None if there is none.
    """
    match = _STATE_PATH.search(content)
    if match is None:
        return None

    def unescape(escape: re.Match[bytes]) -> bytes:
        code = escape[1]
        if code[:1].isdigit():
            return bytes([int(code, 8) & 0xFF])
        if len(code) > 1:
            return bytes([int(code[1:], 16)])
        return _ESCAPED.get(code, code)

    path = _ESCAPE.sub(unescape, match[2]).decode("utf-8", "replace").replace("\\", "/")
    return path if path and path.isprintable() else None
