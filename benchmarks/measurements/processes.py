"""Whole processes, from start to exit, that take turns."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.workers import WayFailed


def seconds(command: Sequence[str], folder: Path) -> float:
    """Run a process to its end.

    Args:
        command: Program and arguments.
        folder: Where it runs, and whose Python modules it imports.

    Raises:
        WayFailed: It failed.
    """
    return peak(command, folder)[0]


def peak(command: Sequence[str], folder: Path) -> tuple[float, int]:
    """As :func:`seconds`, with the process's largest resident memory in bytes."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=errors
        )
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            last = errors.read()[-2000:].strip().rpartition("\n")[2]
            raise WayFailed(f"{Path(command[1]).name} failed: {last:.300}")
    return taken, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
