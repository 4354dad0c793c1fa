"""Which version of a file the bytes belong to that have been downloaded so far."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path

from efficientdet_spec import read_regular

_MAX_NOTES = 2**16
"""Bytes of notes, of which honest ones have a few hundred."""


@dataclass(frozen=True)
class Version:
    """What a server says about the version of a file; decides whether parts fit together.

    Attributes:
        url_sha256: Of the address, which may carry an access token itself.
        etag: The server's name for exactly these bytes.
        modified: When they were changed, in the server's words.
        total: The whole file's size in bytes.
    """

    url_sha256: str
    etag: str | None
    modified: str | None
    total: int | None

    @classmethod
    def of(cls, url: str, headers: Message, total: int | None) -> Version:
        """Returns what an answer says.

        Args:
            url: The address that was asked for.
            headers: Of the answer.
            total: The whole file's size.
        """
        etag = headers.get("ETag")
        # A weak tag promises the same meaning, not the same bytes.
        strong = etag if etag and not etag.startswith("W/") else None
        return cls(_hashed(url), strong, headers.get("Last-Modified"), total)

    @property
    def validator(self) -> str | None:
        """What a server is asked by whether it still has these bytes; None where it cannot be."""
        return self.etag or self.modified

    def note(self, part: Path) -> None:
        """Writes down that the part file's bytes are of this version."""
        notes_of(part).write_text(json.dumps(asdict(self)), encoding="utf-8")


def noted_version(part: Path, url: str) -> Version | None:
    """Reads what an earlier attempt noted; anything odd there means starting over.

    Args:
        part: The part file.
        url: The address; what is of another one does not count.
    """
    known = _noted(part)
    return known if known is not None and known.url_sha256 == _hashed(url) else None


def is_resumable(part: Path) -> bool:
    """Tells whether a later download of the same address can go on with a part file."""
    known = _noted(part)
    try:
        size = part.stat().st_size
    except OSError:
        return False
    return bool(size) and known is not None and (bool(known.validator) or known.total == size)


def remove(part: Path) -> None:
    """Removes a part file with its notes."""
    part.unlink(missing_ok=True)
    notes_of(part).unlink(missing_ok=True)


def notes_of(part: Path) -> Path:
    """Returns where the notes on a part file are."""
    return part.with_name(part.name + ".json")


def stated_length(headers: Message) -> int | None:
    """Returns how many bytes an answer says that it has."""
    text = str(headers.get("Content-Length", ""))
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def range_total(headers: Message, start: int) -> int | None:
    """Returns the whole file's size if the answer continues at `start` to the file's end."""
    text = str(headers.get("Content-Range", ""))
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", text)
    if match is None:
        return None
    first, last, total = map(int, match.groups())
    return total if first == start and last == total - 1 else None


def _noted(part: Path) -> Version | None:
    try:
        known = Version(**json.loads(read_regular(notes_of(part), _MAX_NOTES).decode("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    texts = [text for text in (known.etag, known.modified) if text is not None]
    # A line break in a header would let the notes write further headers.
    sound = all(isinstance(t, str) and t.isascii() and t.isprintable() for t in texts)
    return known if sound else None


def _hashed(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
