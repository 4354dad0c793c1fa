"""How much memory this process takes, and a limit to it."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

from parity.process.environment import peak_memory_bytes

_PAGE = resource.getpagesize()
_SPARE = 512 * 2**20
"""Address space beyond the constant: what is asked for and never touched takes no memory."""


def taken() -> int:
    """Bytes in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def at_most() -> int:
    """At least what :func:`most` says, and quickly known.

    It begins with the most that the process that started this one had taken.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def most() -> int:
    """Most bytes in memory since :func:`forget`."""
    return peak_memory_bytes()


def forget() -> None:
    """Let :func:`most` begin again; where the system does not allow it, nothing happens."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def limit(constant: int) -> None:
    """Let an allocation fail that goes far beyond a constant above what is mapped now."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + constant + _SPARE, hard))
