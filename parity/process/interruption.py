"""Signals that ask the program to stop, from the first moment to the last.

While the work runs, a signal raises an exception where the work is, so that everything that is
open or temporary is tidied up on the way out. Before and after there is nothing to tidy up, and
the process ends at once. Scripts import this module first, so it imports next to nothing itself.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from parity.process.outcome import INTERRUPTED, TERMINATED

_RETRY_SECONDS = 0.1


class Terminated(KeyboardInterrupt):
    """Another process asked to stop. Whatever handles an interrupt handles this in the same way."""


_EXCEPTIONS: dict[signal.Signals, type[KeyboardInterrupt]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
}
_EXIT_CODES: dict[signal.Signals, int] = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
_WORDS: dict[signal.Signals, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def end_at_once(program: str) -> None:
    """Let an interrupt or a request to stop end the process with one line and the right exit code.

    For the time in which there is nothing to tidy up: while a script imports what it needs, and
    after its work. An exception would not do there: imports wrap it in others or swallow it.

    Args:
        program: Name to begin the line with.
    """

    def end(number: int, frame: FrameType | None) -> None:
        which = signal.Signals(number)
        os.write(2, f"{message(program, which)}\n".encode())
        os._exit(_EXIT_CODES[which])

    for number in _listened():
        signal.signal(number, end)


def message(program: str, number: signal.Signals) -> str:
    """The line that says that a signal has ended the program."""
    return f"{program}: {_WORDS[number]}; nothing half-written is left"


def exit_code(number: signal.Signals) -> int:
    """The exit code after a signal, as shells report it."""
    return _EXIT_CODES[number]


def _listened() -> list[signal.Signals]:
    """The signals that this process reacts to; a shell may have told it to ignore some."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in _EXCEPTIONS if signal.getsignal(number) is not signal.SIG_IGN]


class Interruptions:
    """Raises :class:`KeyboardInterrupt` or :class:`Terminated` in the work when a signal comes.

    The exception may get lost on its way: a library swallows it while it is being imported, or
    Python runs a destructor or a callback of a weak reference just then, from which none comes
    through. One that is lost is raised again a little later.

    Attributes:
        signal: The first signal that has come, or None.
        over: Set this as soon as the work has ended: from then on signals are only noted.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.over = False
        self._again = False
        self._before: dict[signal.Signals, Any] = {}
        self._unraisable = sys.unraisablehook

    def __enter__(self) -> Interruptions:
        for number in _listened():
            self._before[number] = signal.signal(number, self._come)
        sys.unraisablehook = self._lost_in_a_callback
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.over = True
        sys.unraisablehook = self._unraisable
        for number, handler in self._before.items():
            # None stands for a handler that was not set from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _come(self, number: int, frame: FrameType | None) -> None:
        again, self._again = self._again, False
        if self.signal is None:
            self.signal = signal.Signals(number)
        if self.over:
            return
        self._look_again_later()
        if not (again and _on_its_way()):
            raise _EXCEPTIONS[self.signal]

    def _look_again_later(self) -> None:
        timer = threading.Timer(_RETRY_SECONDS, self._repeat)
        timer.daemon = True
        timer.start()

    def _repeat(self) -> None:
        if not self.over and self.signal is not None:
            self._again = True
            # As if the signal came once more, but without breaking off a system call.
            _thread.interrupt_main(self.signal)

    def _lost_in_a_callback(self, unraisable: Any) -> None:
        if self.signal is None or not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._unraisable(unraisable)


def _on_its_way() -> bool:
    """Whether the code that runs now is handling an interrupt, as by tidying up."""
    error = sys.exc_info()[1]
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
