"""Starts a worker for a target and watches it: one that hangs or dies is a failure too."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzzing.board import Board
from fuzzing.verdict import Kind, Verdict
from fuzzing.worker import keep

_ROOT = Path(__file__).resolve().parents[2]

_OPENING = 180.0
"""Seconds in which a target has to be open."""

_LOOK = 0.1
"""Seconds between two looks at a worker."""

_RESTARTS = 25
"""So often is a worker started again that hung or died."""


@dataclass
class Tally:
    """What became of a target's inputs.

    Attributes:
        tried: Inputs that were read.
        refused: Of them those that were refused.
        harmless: Those that were read as the sound ones.
        other: Those that were read as other sound values.
        failed: Those that failed.
        peak: Most bytes that were taken for an input.
        seconds: Spent on them.
        failures: What was said of each failure, the first of each kind first.
        broken: Why the target could not be tried to the end.
    """

    tried: int = 0
    refused: int = 0
    harmless: int = 0
    other: int = 0
    failed: int = 0
    peak: int = 0
    seconds: float = 0.0
    failures: list[dict[str, Any]] = field(default_factory=list)
    broken: str | None = None

    @property
    def held(self) -> int:
        """Inputs that did not fail."""
        return self.refused + self.harmless + self.other


@dataclass(frozen=True)
class Plan:
    """What to try of a target."""

    name: str
    seed: int
    examples: int
    seconds: float
    material: Path
    kept: Path


def explored(plan: Plan, progress: Callable[[Tally], None] = lambda tally: None) -> Tally:
    """Try a target's inputs in processes of their own, one after the other.

    Args:
        plan: What to try.
        progress: Told the counts now and then.
    """
    tally = Tally()
    began, restarts = time.monotonic(), 0
    while tally.broken is None:
        left = plan.seconds - tally.seconds
        if tally.tried >= plan.examples or left <= 0:
            break
        if restarts > _RESTARTS:
            tally.broken = f"given up after {restarts} workers hung or died"
            break
        watched = _Watched(plan, tally, restarts, left)
        watched.run(lambda: progress(tally))
        restarts += 1
        if watched.finished:
            break
        tally.seconds = time.monotonic() - began
    tally.seconds = time.monotonic() - began
    return tally


class _Watched:
    """One worker."""

    def __init__(self, plan: Plan, tally: Tally, restart: int, seconds: float) -> None:
        self.plan, self.tally, self.finished = plan, tally, False
        self.folder = scratch(plan.name)
        self.board = Board(self.folder / "board")
        self.base = (tally.tried, tally.refused, tally.harmless, tally.other, tally.failed)
        self.log = (self.folder / "log").open("wb")
        examples = plan.examples - tally.tried
        command = [sys.executable, "-W", "ignore", "-m", "fuzzing.worker", plan.name]
        command += ["--folder", str(self.folder), "--material", str(plan.material)]
        command += ["--kept", str(plan.kept), "--seed", str(plan.seed + 7919 * restart)]
        command += ["--examples", str(examples), "--seconds", str(seconds)]
        command += ["--done", str(tally.tried)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log, env=quiet(), text=True
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                if isinstance(told, dict) and "signature" in told:
                    self.tally.failures.append(told)

    def run(self, progress: Callable[[], None]) -> None:
        """Watch until it ends, by itself or not."""
        hung, looks, same, before = False, 0, 0, 0.0
        while self.process.poll() is None:
            time.sleep(_LOOK)
            self._count()
            progress()
            # By looks, not by the clock: a machine that was suspended has hung as a whole.
            looks, same = looks + 1, same + 1 if self.board.started == before else 0
            before = self.board.started
            late = before and same * _LOOK > self.board.limit / 1000
            slow = not self.board.limit and looks * _LOOK > _OPENING
            if late or slow:
                hung = True
                self._stop()
                break
        self.process.wait()
        self.reader.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._count()
        if hung or (self.process.returncode != 0 and self.board.started):
            self._died(Kind.HANG if hung else Kind.CRASH)
        elif self.process.returncode != 0:
            lines = self._logged().strip().splitlines()[-8:]
            self.tally.broken = "the harness failed: " + " | ".join(lines)
        else:
            self.finished = True
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _count(self) -> None:
        board, tally = self.board, self.tally
        board.look()
        now = (board.tried, board.refused, board.harmless, board.other, board.failed)
        tally.tried, tally.refused, tally.harmless, tally.other, tally.failed = (
            before + count for before, count in zip(self.base, now, strict=True)
        )
        tally.peak = max(tally.peak, board.peak)

    def _stop(self) -> None:
        """Let it say where it is, and end it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(0.5)
            self.process.kill()

    def _logged(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def _died(self, kind: Kind) -> None:
        """Count the input that was being read."""
        self.tally.tried += 1
        self.tally.failed += 1
        lines = [line.strip() for line in self._logged().splitlines() if line.strip()]
        start = next((n for n, line in enumerate(lines) if line.startswith("Current thread")), None)
        stack = lines[start + 1 : start + 13] if start is not None else lines[-8:]
        code = "" if kind is Kind.HANG else f"exit {self.process.returncode}; "
        where = next((line for line in stack if "/tests/" not in line), "?")
        verdict = Verdict(kind, code + "\n".join(stack), f"{kind.value} {where}")
        files = _read_folder(self.folder / "read")
        alike = sum(f["signature"] == verdict.signature for f in self.tally.failures)
        told = keep(self.plan.kept, self.plan.name, verdict, files, self.board.text, alike + 1)
        self.tally.failures.append(told)


def _read_folder(folder: Path) -> dict[str, bytes]:
    """The regular files of a folder that are not large."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 2**24:
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def scratch(name: str) -> Path:
    """A new folder in memory, where the system has one."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-", dir=place))


def quiet() -> dict[str, str]:
    """The environment of the processes: one thread each, and no chatter."""
    paths = f"{_ROOT}{os.pathsep}{_ROOT / 'tests'}"
    named = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths}
    return {**os.environ, **named}
