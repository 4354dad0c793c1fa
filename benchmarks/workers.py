"""Each way computes in a process of its own, as it would for its user, and waits for its turn.

Two runtimes in one process share the memory allocator, OpenMP's threads and the environment
variables, by which the first slows down or helps the second. In processes of their own each has
what it sets for itself, and the memory that it takes can be told. Those that wait are stopped by
the operating system, since some runtimes' threads go on spinning after their work.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from efficientdet_spec import printable
from parity.process import environment

BURST_SECONDS = 0.25
"""Short calls are made again until a turn has lasted so long; their median counts. Else the caches,
which other ways have filled, would be measured."""

MAX_BURST = 50

_PARENT_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of Linux's ``sys/prctl.h``."""


@dataclass(frozen=True)
class Opened:
    """A way that is ready.

    Attributes:
        run: Does the work once, given the number of the turn; the result is what it hands out.
        outputs: That result as arrays that can be compared with those of other ways.
        stages: Seconds of parts of the work; the way adds to them.
        profile: What takes how many milliseconds of the work, by operation.
        repeatable: Whether a short call may be made several times in a turn.
    """

    run: Callable[[int], Any]
    outputs: Callable[[Any], Any]
    stages: dict[str, float] = field(default_factory=dict)
    profile: Callable[[], dict[str, float]] | None = None
    repeatable: bool = True


class WayFailed(Exception):
    """A way cannot do the work; the text says why."""


class Worker:
    """The process of a way, seen from outside.

    Args:
        function: ``module:function`` that opens the way there and returns :class:`Opened`.
        arguments: For it; they are pickled.
    """

    def __init__(self, function: str, arguments: Mapping[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(function, dict(arguments), theirs))
        self._process.start()
        theirs.close()

    def opened(self) -> None:
        """Wait until the way is ready.

        Raises:
            WayFailed: It cannot be.
        """
        self._answer()

    def outputs(self, turn: int) -> Any:
        """What the way makes of a turn's work; from then on it runs only when it is asked."""
        with self._running():
            return self._ask("outputs", turn)

    def seconds(self, turn: int) -> float:
        """Do a turn's work and say how long it took; the process is stopped before and after."""
        with self._running():
            return float(self._ask("seconds", turn))

    def account(self) -> dict[str, Any]:
        """``stages``: seconds by part of the work since the first run; ``peak_memory_bytes``."""
        with self._running():
            return dict(self._ask("account", None))

    def profile(self) -> dict[str, float] | None:
        """Milliseconds by operation; None where the way has no profiler."""
        with self._running():
            found = self._ask("profile", None)
        return None if found is None else dict(found)

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Within it the process's threads run, and processes that it has started; none after it."""
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def close(self) -> None:
        """End the process, and those that it has left behind."""
        self._signal(signal.SIGCONT)
        with suppress(OSError):
            self._pipe.send(None)
        self._process.join(10)
        self._signal(signal.SIGKILL)
        self._process.join()
        self._pipe.close()

    def _ask(self, what: str, about: Any) -> Any:
        try:
            self._pipe.send((what, about))
        except OSError as error:
            raise WayFailed("its process has ended") from error
        return self._answer()

    def _answer(self) -> Any:
        try:
            good, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(10)
            raise WayFailed(
                f"its process ended with exit code {self._process.exitcode}; too little memory is "
                f"the usual reason"
            ) from error
        if not good:
            raise WayFailed(value)
        return value


def _serve(function: str, arguments: dict[str, Any], pipe: Connection) -> None:
    """The process of a way, from inside."""
    # With those that it starts it is a group, which is stopped as one.
    os.setpgid(0, 0)
    with suppress(OSError, AttributeError):
        # A stopped process would stay for ever where the one that measures is killed.
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    with suppress(OSError, ValueError):
        # What libraries print is not the benchmark's output.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        module, _, name = function.partition(":")
        opened = getattr(importlib.import_module(module), name)(**arguments)
        pipe.send((True, None))
        while (asked := pipe.recv()) is not None:
            pipe.send((True, _done(opened, *asked)))
    except (EOFError, KeyboardInterrupt):
        return
    except BaseException as error:
        if os.environ.get("BENCHMARKS_DEBUG"):
            traceback.print_exc()
        # Some say first where, and then what.
        lines = str(error).strip().splitlines() or [""]
        told = lines[0] if len(lines) == 1 else f"{lines[0]:.200} ... {lines[-1]:.200}"
        pipe.send((False, printable(f"{type(error).__name__}: {told}")))


def _done(opened: Opened, what: str, about: Any) -> Any:
    if what == "outputs":
        found = opened.outputs(opened.run(about))
        # The first run warms up.
        opened.stages.clear()
        return found
    if what == "seconds":
        return _burst(opened, about)
    if what == "account":
        stages = dict(opened.stages)
        return {"stages": stages, "peak_memory_bytes": environment.peak_memory_bytes()}
    assert what == "profile"
    return opened.profile() if opened.profile is not None else None


def _burst(opened: Opened, turn: int) -> float:
    """The median of as many calls as a turn has time for, the first left out if there are more."""
    taken: list[float] = []
    began = time.perf_counter()
    while not taken or (
        opened.repeatable and len(taken) < MAX_BURST and time.perf_counter() - began < BURST_SECONDS
    ):
        started = time.perf_counter()
        opened.run(turn)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:] or taken)
