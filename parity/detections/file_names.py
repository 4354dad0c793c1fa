"""Where the file of an image lies, from what exporters write: folders, and addresses."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

MAX_PART = 255
"""Longest name of a folder or file, in characters."""


def relative_name(text: str) -> str | None:
    """A path below the folder of images, with ``/`` between its parts; None where it is none.

    It never leads out of the folder.

    Args:
        text: Printable text, as of ``file_name``.
    """
    path = text.replace("\\", "/")
    if path.startswith("/") or path.endswith("/"):
        return None
    parts = [part for part in path.split("/") if part not in ("", ".")]
    # A colon is a drive's, or a stream's.
    if any(part == ".." or ":" in part or len(part) > MAX_PART for part in parts):
        return None
    return "/".join(parts) or None


def name_in_address(text: str) -> str | None:
    """The name of the file behind an address; None where there is none.

    Args:
        text: Printable text, as of ``coco_url``.
    """
    try:
        name = unquote(urlsplit(text).path.rpartition("/")[2])
    except ValueError:
        return None
    if not name.isprintable() or set(name) & set("/\\"):
        return None
    return relative_name(name)
