"""Ends connections that give next to nothing, which would otherwise last for ever."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType

WINDOW = 30.0
"""Seconds in which a server must have done something worth waiting for: agree on encryption, give
its answer's headers, or give the next :data:`LEAST_BYTES` bytes of the file. The timeout of a
connection does not see to that: one byte in time satisfies it."""

LEAST_BYTES = 30_000
"""Bytes of a file that must arrive in each :data:`WINDOW`: 1 kB/s, with which the largest archive
would take days. Modems of the nineties were faster."""

_LOOKS = 20
"""How often in each window the clock is looked at."""


class Watchdog:
    """Watches one connection at a time from a thread of its own, and shuts it down if need be.

    What takes time elsewhere, such as a slow disk or a callback, counts for nothing: the clock runs
    only within :meth:`waiting`.

    Args:
        window: See :data:`WINDOW`.
        least: See :data:`LEAST_BYTES`.

    Attributes:
        cut: Whether a connection has been shut down; what it gave last is no end of a file then.
    """

    def __init__(self, window: float, least: int) -> None:
        self.cut = False
        self._window = window
        self._least = least
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._since: float | None = None
        self._spent = 0.0
        self._arrived = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        self._let_go()

    @property
    def reason(self) -> str:
        """Why a connection was shut down."""
        return f"fewer than {self._least:,} bytes in {self._window:g} seconds"

    def watch(self, connection: socket.socket) -> None:
        """Watch a connection from now on, instead of any other.

        Args:
            connection: A plain or an encrypted one. Agreeing on encryption replaces the object, so
                that what is kept is a second handle of what the system knows as the connection.
        """
        handle = socket.fromfd(connection.fileno(), connection.family, connection.type)
        with self._lock:
            self._let_go()
            self._connection = handle
            self._restart()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Within it time passes that the server is to answer for."""
        with self._lock:
            self._since = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._spent = self._passed()
                self._since = None

    def arrived(self, count: int) -> None:
        """Say that bytes of the file have come.

        Args:
            count: How many.
        """
        with self._lock:
            self._arrived += count
            if self._arrived >= self._least:
                self._restart()

    def restart(self) -> None:
        """Give the server a whole window again, as it has done something."""
        with self._lock:
            self._restart()

    def _passed(self) -> float:
        """Seconds waited so far."""
        return self._spent + (0.0 if self._since is None else time.monotonic() - self._since)

    def _restart(self) -> None:
        self._arrived = 0
        self._spent = 0.0
        if self._since is not None:
            self._since = time.monotonic()

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _look(self) -> None:
        while not self._done.wait(self._window / _LOOKS):
            with self._lock:
                if self._connection is not None and self._passed() > self._window:
                    self.cut = True
                    # It may have ended by itself meanwhile.
                    with contextlib.suppress(OSError):
                        self._connection.shutdown(socket.SHUT_RDWR)
                    self._let_go()
