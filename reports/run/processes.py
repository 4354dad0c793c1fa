"""Commands as processes of their own: watched, timed, and their memory given back at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from parity.process import reading
from parity.settings.programs import ROOT


@dataclass(frozen=True)
class Finished:
    """A process that has ended.

    Attributes:
        exit_code: Its exit code; the negative number of the signal that ended it.
        seconds: Wall time.
        peak_memory: Largest resident memory in bytes; on Linux at least that of this process when
            it started the other.
        output: What it printed.
        message: The last line that it wrote to standard error; empty where there is none.
        reads: The files that it read, see :mod:`parity.process.reading`; None if unknown.
    """

    exit_code: int
    seconds: float
    peak_memory: int
    output: str
    message: str
    reads: Sequence[str] | None = None


def run(command: Sequence[str]) -> Finished:
    """Run one of this project's command lines.

    What it writes to standard error appears on ours as it comes.

    Args:
        command: ``compare.py`` or ``convert.py`` and its arguments.
    """
    with tempfile.TemporaryDirectory(prefix="efficientdet-parity-") as folder:
        return _run(command, Path(folder) / "reads.json")


_PATIENCE = 10.0
"""Seconds in which an interrupted command may remove what it has half written."""


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _run(command: Sequence[str], reads: Path) -> Finished:
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / command[0]), *command[1:]],
        env={**os.environ, reading.VARIABLE: str(reads)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None and process.stderr is not None
    lines: list[str] = []
    watching = threading.Thread(target=_forward, args=(process.stderr, lines), daemon=True)
    watching.start()
    try:
        output = process.stdout.read()
        # Of all ways to wait only this one tells the memory of this very process.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
        _stop(process)
        raise
    finally:
        # A process of its own that still holds the pipe must not keep this one from ending.
        watching.join(_PATIENCE)
        process.stdout.close()
        if not watching.is_alive():
            process.stderr.close()
    return Finished(
        exit_code=process.returncode,
        seconds=time.perf_counter() - started,
        peak_memory=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        output=output,
        message=next((line for line in reversed(lines) if line), ""),
        reads=_listed(reads),
    )


def _listed(path: Path) -> list[str] | None:
    """The files that a process says it has read; None where it came to no end of its own."""
    try:
        return [str(name) for name in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError):
        return None


def _forward(stream: IO[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line.strip())
        sys.stderr.write(line)
        sys.stderr.flush()
