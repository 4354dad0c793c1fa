"""Whole processes, from start to exit, that take turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.launcher import launched
from benchmarks.workers import WayFailed


def peak(command: Sequence[str], folder: Path) -> tuple[float, int]:
    """Run a process to its end.

    Args:
        command: Program and arguments.
        folder: Where it runs, and whose Python modules it imports.

    Returns:
        Its wall time in seconds, and its largest resident memory in bytes.

    Raises:
        WayFailed: It failed.
    """
    found = launched(command, folder)
    if found["status"]:
        last = found["said"].strip().rpartition("\n")[2]
        raise WayFailed(f"{Path(command[1]).name} failed: {last:.300}")
    return found["seconds"], found["peak_bytes"]
