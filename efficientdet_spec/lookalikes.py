"""Files that are handed over in place of what is expected, told by their first bytes.

A reader that finds something else than it can read asks here what that is, and what to do.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from efficientdet_spec.files import open_regular

HEAD_BYTES = 512
"""How much of a file's beginning is looked at."""

_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_SIZE = re.compile(rb"^size ([0-9]{1,15})\s*$", re.MULTILINE)
_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head|<\?xml)", re.IGNORECASE)


@dataclass(frozen=True)
class Lookalike:
    """What a file looks like.

    Attributes:
        kind: In words, such as ``a ZIP archive``.
        advice: What to do with it where something else was expected; may be empty.
    """

    kind: str
    advice: str = ""


TFLITE = Lookalike(
    "a TensorFlow Lite model",
    "give the checkpoint or the SavedModel folder that it was made from, for its batch norms are "
    "folded into the convolutions and the variables lost",
)
ONNX = Lookalike(
    "an ONNX model",
    "give the checkpoint, the SavedModel folder or the .pth file that it was exported from, for "
    "exporters fold batch norms and rename the variables",
)
# ir_version 3 (2017) or later, then who has written it, or the graph. A SavedModel's is 1.
_ONNX = re.compile(rb"\x08[\x03-\x1e](\x12[\x01-\x7f][ -~]|\x3a)")

_UNPACK = "unpack it and give what is in it"
_BEGINNINGS = (
    (b"\x89HDF\r\n\x1a\n", Lookalike("a Keras HDF5 file")),
    (b"PK\x03\x04", Lookalike("a ZIP archive (a PyTorch or .keras file, perhaps)", _UNPACK)),
    (b"PK\x05\x06", Lookalike("an empty ZIP archive", "pack or download it again")),
    (b"\x1f\x8b", Lookalike("a gzip archive (a .tar.gz, perhaps)", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Lookalike("a 7-Zip archive", _UNPACK)),
    (b"Rar!\x1a\x07", Lookalike("a RAR archive", _UNPACK)),
    (b"\xfd7zXZ\x00", Lookalike("an XZ archive (a .tar.xz, perhaps)", _UNPACK)),
    (b"BZh", Lookalike("a bzip2 archive (a .tar.bz2, perhaps)", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", Lookalike("a Zstandard archive (a .tar.zst, perhaps)", _UNPACK)),
    (
        b"node {",
        Lookalike("a TensorFlow graph as text", "give the checkpoint or the frozen graph (.pb)"),
    ),
    (
        b"model_checkpoint_path:",
        Lookalike(
            "a checkpoint state file, which only names checkpoints",
            "give the folder that holds them",
        ),
    ),
)


def lookalike(head: bytes) -> Lookalike | None:
    """What a file looks like that begins with these bytes; None where nothing is known.

    Args:
        head: Its first :data:`HEAD_BYTES` bytes, or all.
    """
    if head.startswith(_POINTER):
        size = _POINTER_SIZE.search(head)
        stands = f" in the place of a file of {int(size[1]):,} bytes" if size else ""
        return Lookalike(
            f"a Git LFS pointer{stands}",
            "run git lfs pull in the clone it is from, or download the file itself",
        )
    if _PAGE.match(head):
        return Lookalike(
            "a web page, as servers answer for a login or an error",
            "download the file itself again",
        )
    if head[257:262] == b"ustar":
        return Lookalike("a tar archive", _UNPACK)
    if head[4:8] == b"TFL3":
        return TFLITE
    if _ONNX.match(head):
        return ONNX
    return next((found for start, found in _BEGINNINGS if head.startswith(start)), None)


def lookalike_of(path: str | os.PathLike[str]) -> Lookalike | None:
    """As :func:`lookalike` of a file; None too where it cannot be read, which others say.

    Args:
        path: The file.
    """
    try:
        with open_regular(path) as stream:
            return lookalike(stream.read(HEAD_BYTES))
    except OSError:
        return None
