"""Shows how far a long piece of work has come, without flooding a log."""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

_TERMINAL_INTERVAL = 0.1
_LOG_INTERVAL = 5.0

READING_PATIENCE = 2.0
"""Seconds after which reading a checkpoint, which mostly takes less, is worth a line."""


class Progress:
    """A progress line: call it with the amount done and, where known, the total.

    On a terminal one line is rewritten in place; elsewhere a plain line is written at most every
    few seconds. The first call is the baseline of the rate, so that a resumed download does not
    count what it already had.

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
            interval: Least seconds between two lines; by default 0.1 on a terminal, else 5.
            patience: Seconds of work before the first line; work that ends sooner shows none.
            clock: Returns seconds; tests replace it.
        """
        self._label = label
        self._unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        default = _TERMINAL_INTERVAL if self._terminal else _LOG_INTERVAL
        self._interval = default if interval is None else interval
        self._patience = patience
        self._clock = clock
        self._start: tuple[float, int] | None = None
        self._latest: tuple[int, int | None] | None = None
        self._shown: tuple[int, int | None] | None = None
        self._shown_at = 0.0

    def __call__(self, done: int, total: int | None = None) -> None:
        """Reports progress.

        Args:
            done: The amount done so far; going back means that the work has started over.
            total: The whole amount, or None where it is not known.
        """
        now = self._clock()
        restarted = self._latest is not None and done < self._latest[0]
        if self._start is None or restarted:
            self._start = now, done
            # On a log, work that ends within one interval needs only its last line.
            if not self._terminal and not restarted:
                self._shown_at = now
        self._latest = done, total
        due = now - self._shown_at >= self._interval
        first = self._terminal and self._shown is None
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

    def __enter__(self) -> "Progress":
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
        line = self._line(now, *self._latest)
        if self._terminal:
            width = max(shutil.get_terminal_size().columns - 1, 20)
            self._write("\r" + line[:width].ljust(width))
        else:
            self._write(line + "\n")

    def _line(self, now: float, done: int, total: int | None) -> str:
        amount = _amount(done, self._unit)
        if total:
            percent = min(100, 100 * done // total)
            amount = f"{percent}%, {amount} of {_amount(total, self._unit)}"
        parts = [f"{self._label}: {amount}"]
        began, baseline = self._start or (now, done)
        seconds = now - began
        if seconds > 0 and done > baseline:
            rate = (done - baseline) / seconds
            parts.append(f"{_amount(rate, self._unit)}/s")
            if total is not None and total > done:
                parts.append(f"{_duration((total - done) / rate)} left")
            elif total == done:
                parts.append(f"took {_duration(seconds)}")
        return ", ".join(parts)

    def _write(self, text: str) -> None:
        # A closed pipe or terminal must not stop the work that is being watched.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def _amount(value: float, unit: str) -> str:
    if unit != "bytes":
        return f"{value:,} {unit}" if isinstance(value, int) else f"{value:,.1f} {unit}"
    for name in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {name}" if name == "bytes" else f"{value:.1f} {name}"
        value /= 1000
    return f"{value:.1f} GB"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
