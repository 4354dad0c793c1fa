"""What a user can do something about, and of which kind it is."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from enum import Enum
from typing import ClassVar

from efficientdet_spec.texts import printable

MAX_BYTES = 990
"""Longest message."""

_END_BYTES = 300
_BREAKS = str.maketrans("\n\r\t", "   ")


class Cause(str, Enum):
    """Why an input cannot be used: what programs decide by, as people do by the message."""

    INPUT = "input"
    """A value that is none of the others, such as the shape of a tensor."""
    OPTION = "option"
    """An option of a command line, or a setting, has a wrong value or does not go with another."""
    FILE = "file"
    """A file or folder is missing, or cannot be read or written."""
    FORMAT = "format"
    """The content of a file is something else than expected, damaged, or of another version."""
    MODEL = "model"
    """A sound file or tensor does not fit the model, or the image, that it is to go with."""
    CANDIDATE = "candidate"
    """The user's own code fails, or returns something else than a model."""
    MISSING_PACKAGE = "missing package"
    """An optional Python package is not installed, or cannot be imported."""
    DEVICE = "device"
    """The machine has no such device, or too few."""
    NETWORK = "network"
    """A download or a machine of a cluster cannot be reached, or sends something else."""
    SPACE = "space"
    """A disk or the memory has too little room."""

    @classmethod
    def of(cls, error: BaseException) -> Cause:
        """The cause behind what reading or writing a file has raised.

        The operating system says what it cannot read or write, and whether for want of space;
        whatever else a reader raises comes from what the file holds.
        """
        if not isinstance(error, OSError):
            return cls.FORMAT
        return cls.SPACE if error.errno in _FULL else cls.FILE


_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.ENOMEM))


class InputError(ValueError):
    """A user's mistake: a file, name or option that cannot be used.

    The message is one sentence that names the thing, what was found, what was
    expected and what to do. Command lines print it and exit with code 2. Whatever names
    from elsewhere are in it, it is one printable line of less than a kilobyte.

    Attributes:
        cause: Of which kind the mistake is. Programs decide by it, never by the message.
    """

    DEFAULT: ClassVar[Cause] = Cause.INPUT
    """The cause where none is given; a subclass may have its own."""

    def __init__(self, message: str, cause: Cause | None = None) -> None:
        super().__init__(in_one_line(message))
        self.cause = self.DEFAULT if cause is None else cause


def in_one_line(text: str) -> str:
    """A text as messages have it: printable, without line breaks, of less than a kilobyte.

    Of a longer one the middle is left out: the beginning says what it is about, the end what to do.

    Args:
        text: Any text.
    """
    line = printable(text.translate(_BREAKS))
    encoded = line.encode("utf-8", "replace")
    if len(encoded) <= MAX_BYTES:
        return line
    head, tail = encoded[: MAX_BYTES - _END_BYTES - 5], encoded[-_END_BYTES:]
    # A character that was cut through is left out.
    return f"{head.decode('utf-8', 'ignore')} ... {tail.decode('utf-8', 'ignore')}"


def plain_name(name: str) -> str:
    """A name as all of ours are written: small letters, with ``-`` between the parts.

    Args:
        name: As somebody has written it.
    """
    return name.strip().lower().replace("_", "-").replace(" ", "-")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A question after the known name that is most like what was given; empty where none is.

    Args:
        given: What was given.
        known: The names that there are.
    """
    written = {plain_name(name): name for name in known}
    close = difflib.get_close_matches(plain_name(given), list(written), n=1)
    return f" (did you mean {written[close[0]]}?)" if close else ""
