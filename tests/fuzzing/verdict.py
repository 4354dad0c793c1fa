"""What became of one damaged input."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from efficientdet_spec import InputError
from fuzzing.target import Target
from parity.process.console import out_of_memory

LONGEST = 1000
"""Bytes of the longest message that a refusal may have."""

_ALLOCATORS = ("can't allocate", "cannot allocate", "not enough memory", "unable to allocate")


class Kind(str, Enum):
    """How an input ended; the first three hold, the others are failures."""

    REFUSED = "refused"
    """One printable line said so."""
    HARMLESS = "harmless"
    """Exactly what the sound input holds was read."""
    OTHER = "other"
    """Another sound value was read, where no checksum could tell."""
    WRONG = "wrong value"
    """Another value was read although the container has checksums."""
    PROMISE = "broken promise"
    """A value was read that is none the reader may return, or litter was left."""
    TRACEBACK = "traceback"
    """Something else than a refusal was raised."""
    MESSAGE = "bad message"
    """The refusal's words are not one printable line of less than 1 kB."""
    MEMORY = "memory"
    """More memory was taken, or asked for, than the stated constant."""
    HANG = "hang"
    """It took longer than the limit."""
    CRASH = "crash"
    """The process died."""


HELD = frozenset((Kind.REFUSED, Kind.HARMLESS, Kind.OTHER))


@dataclass(frozen=True)
class Verdict:
    """How one input ended.

    Attributes:
        kind: How.
        detail: What happened, in a line or with a traceback's last lines.
        signature: The same for failures that are the same defect.
    """

    kind: Kind
    detail: str = ""
    signature: str = ""

    @property
    def held(self) -> bool:
        """Whether it is no failure."""
        return self.kind in HELD


def judged(target: Target, folder: Path, changed: frozenset[str], forged: bool) -> Verdict:
    """Read the files of a folder and judge how that ends.

    Args:
        target: The reader.
        folder: The files.
        changed: Which of them are damaged.
        forged: Whether the damage has sound checksums, so that another value is right.
    """
    try:
        value = target.read(folder, changed)
    except InputError as error:
        return _refused(target, folder, error)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        kind = Kind.MEMORY if _ran_out(error) else Kind.TRACEBACK
        return Verdict(kind, _last_lines(error), f"{kind.value} {_where(error)}")
    return _returned(target, value, changed, forged)


def _returned(target: Target, value: Any, changed: frozenset[str], forged: bool) -> Verdict:
    if target.same(value, changed):
        return Verdict(Kind.HARMLESS)
    if target.CHECKSUMS and not forged and not target.other(value):
        return Verdict(Kind.WRONG, f"read another value: {value!r:.200}", Kind.WRONG.value)
    broken = target.promise(value)
    if broken is not None:
        return Verdict(Kind.PROMISE, broken, f"{Kind.PROMISE.value} {broken:.60}")
    return Verdict(Kind.OTHER)


def _refused(target: Target, folder: Path, error: InputError) -> Verdict:
    if _ran_out(error):
        return Verdict(Kind.MEMORY, _last_lines(error), f"{Kind.MEMORY.value} {_where(error)}")
    wrong = wrong_words(str(error))
    if wrong is not None:
        detail = f"{wrong}: {str(error)!a:.400}"
        return Verdict(Kind.MESSAGE, detail, f"{wrong.split(',')[0]} {_where(error)}")
    left = target.left(folder)
    if left is not None:
        return Verdict(Kind.PROMISE, left, f"{Kind.PROMISE.value} {left:.60}")
    return Verdict(Kind.REFUSED, str(error))


def wrong_words(text: str) -> str | None:
    """Why a message is not one printable line of less than 1 kB; None if it is one."""
    if not text.strip():
        return "an empty message"
    if not text.isprintable():
        odd = next(letter for letter in text if not letter.isprintable())
        return f"a message that cannot be printed, with {odd!a}"
    size = len(text.encode("utf-8", "replace"))
    return f"a message too long, {size} bytes" if size >= LONGEST else None


def _ran_out(error: BaseException) -> bool:
    """Whether memory ran out, perhaps behind what was raised of it."""
    seen: set[int] = set()
    now: BaseException | None = error
    while now is not None and id(now) not in seen:
        seen.add(id(now))
        text = "" if isinstance(now, InputError) else str(now).lower()
        if out_of_memory(now) or any(words in text for words in _ALLOCATORS):
            return True
        now = now.__cause__ or now.__context__
    return False


def _where(error: BaseException) -> str:
    """Type and innermost place within the program: the same for the same defect."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "site-packages" not in f.filename and "/tests/" not in f.filename]
    ours = [f for f in ours if "/lib/python" not in f.filename] or list(frames)
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} at {place}"


def _last_lines(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error)).strip().splitlines()
    return "\n".join(line[:300] for line in lines[-12:])
