"""A process of this machine that computes shards, as the process that started it sees it."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from efficientdet_spec import printable
from parity.detections.messages import Task, most_bytes, no_answer, written

_ROOT = Path(__file__).resolve().parents[2]
"""The folder that this package is in: a checkout, or that of installed packages."""

_BEGIN = (
    "import sys; program, name, *sys.path = sys.argv[1:]; sys.argv[1:] = []; "
    "import importlib; importlib.import_module(program).main(name)"
)
"""What a worker runs; it imports nothing before it knows where from, not in the current folder."""

_BLOCK = 2**18
_LAST_WORDS = 4096
_END_TIMEOUT = 1.0


class WorkerProcess:
    """One process, started when it is first needed and again when it has died.

    Args:
        name: What messages call it.
        program: The module whose ``main(name)`` serves tasks.
        gpu: Its GPU as ``CUDA_VISIBLE_DEVICES`` has it; None where it needs none.

    Attributes:
        name: What messages call it.
        under_way: The number of the shard that it computes; None where it is idle.
    """

    def __init__(self, name: str, program: str, gpu: str | None = None) -> None:
        self.name = name
        self.under_way: int | None = None
        self._command = [sys.executable, "-c", _BEGIN, program, name, *_places()]
        self._environment = os.environ | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
        self._process: subprocess.Popen[bytes] | None = None
        self._most = 0
        self._answer = bytearray()
        self._words = b""
        self._open: set[int] = set()

    def send(self, number: int, task: Task) -> None:
        """Give it a shard to compute.

        Args:
            number: Of the shard.
            task: The shard.
        """
        if self._process is None or self._process.poll() is not None:
            self.kill()
            self._start()
        self.under_way, self._most = number, most_bytes(len(task.images))
        self._answer.clear()
        assert self._process is not None and self._process.stdin is not None
        # One that has died meanwhile is found to have.
        with suppress(BrokenPipeError):
            self._process.stdin.write(written(task) + b"\n")
            self._process.stdin.flush()

    def answer(self) -> bytes | None:
        """Its answer, once it is there; the worker is idle from then on.

        Raises:
            InputError: What it writes is none.
        """
        length = self._answer.find(b"\n")
        if max(length, len(self._answer) - 1) > self._most:
            raise no_answer(self.name, f"it has more than {self._most:,} bytes")
        if length < 0:
            return None
        self.under_way = None
        return bytes(self._answer[:length])

    def death(self) -> str | None:
        """How it has died, with the last line that it wrote to standard error; None if it lives."""
        process = self._process
        if process is None or process.stdout is None:
            return None
        if process.stdout.fileno() not in self._open:
            # Whoever has no pipe left to answer through is about to end.
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_TIMEOUT)
            process.kill()
            process.wait()
        elif process.poll() is None:
            return None
        while self.read(self._open):
            pass
        lines = [line.strip() for line in self._words.decode("utf-8", "replace").splitlines()]
        last = next((line for line in reversed(lines) if line), "")
        words = f", its last words being {printable(last):.200}" if last else ""
        return f"{_how(process.returncode)}{words}"

    def streams(self) -> Collection[int]:
        """Where there may be something to read."""
        return self._open

    def read(self, ready: Collection[int]) -> bool:
        """Take what is there, so that nothing it writes ever waits.

        Args:
            ready: Those of :meth:`streams` that may have something.

        Returns:
            Whether there was anything.
        """
        if self._process is None or self._process.stdout is None:
            return False
        answers = self._process.stdout.fileno()
        taken = False
        for stream in self._open & set(ready):
            try:
                part = os.read(stream, _BLOCK)
            except BlockingIOError:
                continue
            taken = True
            if not part:
                self._open.discard(stream)
            elif stream == answers:
                self._answer += part
            else:
                self._words = (self._words + part)[-_LAST_WORDS:]
        return taken

    def let_go(self) -> None:
        """Tell it that no more will come."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def lives(self) -> bool:
        """Whether there is such a process."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it, and what it has started, at once."""
        process, self._process = self._process, None
        self.under_way = None
        self._open.clear()
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        process.wait()

    def _start(self) -> None:
        self._words = b""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
            # A terminal interrupts its processes together, but this one is to end the others.
            start_new_session=True,
        )
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._open.add(stream.fileno())


def listen(workers: Collection[WorkerProcess], seconds: float) -> None:
    """Wait until one of them writes something, and take it.

    Args:
        workers: The processes.
        seconds: The longest time to wait.
    """
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            for stream in worker.streams():
                selector.register(stream, selectors.EVENT_READ, worker)
        for key, _ in selector.select(seconds):
            key.data.read([key.fd])


def _places() -> list[str]:
    """Where a worker imports from: where this process does, and in any case this package."""
    # The current folder is an empty entry, and may hold anybody's files.
    places = [place for place in sys.path if os.path.isabs(place)]
    return places if str(_ROOT) in places else [*places, str(_ROOT)]


def _how(code: int) -> str:
    """How a process has ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
