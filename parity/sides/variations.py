"""What is changed to see how far a side is from itself; it should not matter."""

from __future__ import annotations

import os

REPEATED = "repeated"
"""The name of the variation that changes nothing."""


def other_threads(current: int) -> list[int]:
    """Numbers of threads to try: one and all cores, where that is not the current number."""
    cores = os.cpu_count() or 1
    # More threads than cores share out the work in other portions all the same.
    return sorted({1, max(2, cores)} - {current})


def threads_name(count: int) -> str:
    """A number of threads in words."""
    return "1 thread" if count == 1 else f"{count} threads"
