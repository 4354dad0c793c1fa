"""Says how far a long piece of work has come: to people without flooding a log, or to a program."""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import TextIO

_TERMINAL_INTERVAL = 0.1
_LOG_INTERVAL = 5.0

READING_PATIENCE = 2.0
"""Seconds after which reading a checkpoint, which mostly takes less, is worth a line."""


@dataclass(frozen=True)
class ProgressEvent:
    """How far a piece of work has come.

    Attributes:
        title: What is being done.
        done: The amount done so far; a part of the next unit may be in it.
        total: The whole amount; None where it is not known.
        unit: "bytes", or the plural of what is counted.
        seconds_left: How long the rest will take at the rate so far; None where that is not known.
    """

    title: str
    done: float
    total: int | None
    unit: str
    seconds_left: float | None


Reporter = Callable[[ProgressEvent], None]
"""Is told of progress."""


def _say_nothing(event: ProgressEvent) -> None:
    """The reporter of work that is done in silence."""


_REPORTER: ContextVar[Reporter | None] = ContextVar("reporter", default=None)
"""Takes the place of standard error; None where that is written to."""


@contextlib.contextmanager
def reported_to(callback: Reporter | None) -> Iterator[None]:
    """Report the progress of all work that begins inside to a function; nothing is written then.

    It holds for this thread, or asynchronous task, alone. The function is called by the thread that
    works, at most ten times a second for each piece of work, and always at its end; what it raises
    ends the work.

    Args:
        callback: The function; None for silence.

    Example:
        with reported_to(lambda event: bar.update(event.done, event.total)):
            compare(...)
    """
    token = _REPORTER.set(_say_nothing if callback is None else callback)
    try:
        yield
    finally:
        _REPORTER.reset(token)


class Progress:
    """A progress line: call it with the amount done and, where known, the total.

    On a terminal one line is rewritten in place; elsewhere a plain line is written at most every
    few seconds. The first call is the baseline of the rate, so that a resumed download does not
    count what it already had. Within :func:`reported_to` nothing is written, and a function is told
    instead.

    Example:
        with Progress("comparing", unit="nodes") as progress:
            progress(1, 850)
    """

    def __init__(
        self,
        label: str,
        *,
        unit: str = "bytes",
        stream: TextIO | None = None,
        interval: float | None = None,
        patience: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares the line; nothing is shown before the first call.

        Args:
            label: What is being done.
            unit: "bytes", shown as MB and the like, or the plural of what is counted.
            stream: Where to write, standard error by default.
            interval: Least seconds between two lines; by default 0.1 on a terminal and for a
                function, else 5.
            patience: Seconds of work before the first line; work that ends sooner shows none.
            clock: Returns seconds; tests replace it.
        """
        self._label = label
        self._unit = unit
        self._reporter = _REPORTER.get() if stream is None else None
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._reporter is None and _is_terminal(self._stream)
        # A function is told as soon, and as often, as a line on a terminal changes.
        self._live = self._terminal or self._reporter is not None
        default = _TERMINAL_INTERVAL if self._live else _LOG_INTERVAL
        self._interval = default if interval is None else interval
        self._patience = patience
        self._clock = clock
        self._start: tuple[float, float] | None = None
        self._latest: tuple[float, int | None] | None = None
        self._shown: tuple[float, int | None] | None = None
        self._shown_at = 0.0

    def __call__(self, done: float, total: int | None = None) -> None:
        """Reports progress.

        Args:
            done: The amount done so far, which may hold a part of the next unit; going back means
                that the work has started over.
            total: The whole amount, or None where it is not known.
        """
        now = self._clock()
        restarted = self._latest is not None and done < self._latest[0]
        if self._start is None or restarted:
            self._start = now, done
            # On a log, work that ends within one interval needs only its last line.
            if not self._live and not restarted:
                self._shown_at = now
        self._latest = done, total
        due = now - self._shown_at >= self._interval
        first = self._live and self._shown is None
        if due or first or done == total:
            self._show(now)

    def close(self) -> None:
        """Shows the last amount and ends the line; calling it again does nothing."""
        if self._latest is None:
            return
        self._show(self._clock())
        if self._terminal and self._shown is not None:
            self._write("\n")
        self._latest = self._shown = self._start = None

    def __enter__(self) -> Progress:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the line, so that whatever is printed next starts on its own."""
        self.close()

    def _show(self, now: float) -> None:
        if self._latest is None or self._latest == self._shown:
            return
        if self._shown is None and self._start and now - self._start[0] < self._patience:
            return
        self._shown = self._latest
        self._shown_at = now
        done, total = self._latest
        if self._reporter is not None:
            left = self._seconds_left(now, done, total)
            self._reporter(ProgressEvent(self._label, done, total, self._unit, left))
            return
        line = self._line(now, done, total)
        if self._terminal:
            width = max(shutil.get_terminal_size().columns - 1, 20)
            self._write("\r" + line[:width].ljust(width))
        else:
            self._write(line + "\n")

    def _rate(self, now: float, done: float) -> float | None:
        """Units in a second since the start; None while nothing is done."""
        began, baseline = self._start or (now, done)
        return (done - baseline) / (now - began) if now > began and done > baseline else None

    def _seconds_left(self, now: float, done: float, total: int | None) -> float | None:
        rate = self._rate(now, done)
        if total is not None and done >= total:
            return 0.0
        return None if total is None or rate is None else (total - done) / rate

    def _line(self, now: float, done: float, total: int | None) -> str:
        parts = [f"{self._label}: {_amount(done, total, self._unit)}"]
        rate = self._rate(now, done)
        if rate is not None:
            parts.append(_rate_text(rate, self._unit))
            left = self._seconds_left(now, done, total)
            if left:
                parts.append(f"{_duration(max(left, 1.0))} left")
            elif left is not None and self._start:
                parts.append(f"took {_duration(now - self._start[0], exact=True)}")
        return ", ".join(parts)

    def _write(self, text: str) -> None:
        # A closed pipe or terminal must not stop the work that is being watched, nor must a program
        # that has no standard error at all.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)
            self._stream.flush()


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        # It is closed.
        return False


def _amount(done: float, total: int | None, unit: str) -> str:
    """Such as ``25%, 133 of 531 nodes``."""
    if unit == "bytes":
        amount = _bytes(done)
        whole = _bytes(total) if total else ""
    else:
        amount = f"{math.floor(done):,}"
        whole = _counted(total, unit) if total else ""
    if not total:
        return amount if unit == "bytes" else _counted(math.floor(done), unit)
    percent = min(100, math.floor(100 * done / total))
    return f"{percent}%, {amount} of {whole}"


def _counted(count: int, unit: str) -> str:
    return f"{count:,} {unit if count != 1 else _singular(unit)}"


def _singular(unit: str) -> str:
    return unit.removesuffix("s")


def _rate_text(rate: float, unit: str) -> str:
    """Units in a second, or seconds for a unit where one takes more than a second."""
    if unit == "bytes":
        return f"{_bytes(rate)}/s"
    if rate < 1:
        return f"{_short(1 / rate)} s/{_singular(unit)}"
    return f"{_short(rate)} {unit}/s"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def _bytes(value: float) -> str:
    for name in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {name}" if name == "bytes" else f"{value:.1f} {name}"
        value /= 1000
    return f"{value:.1f} GB"


def _duration(seconds: float, *, exact: bool = False) -> str:
    """A time; with ``exact``, tenths of a second where it is short."""
    if exact and seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
