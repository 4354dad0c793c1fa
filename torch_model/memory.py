"""Memory that a network's layers take again and again, kept by the process that has had it."""

from __future__ import annotations

import ctypes
import os

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""``M_MMAP_THRESHOLD`` and ``M_TRIM_THRESHOLD`` of the C library's ``malloc.h``."""

_LARGEST_BUFFER = 1 << 30
"""Bytes up to which a buffer that is let go stays with the process; those of D7x's largest layer,
of which one image takes 0.45 GB, are below."""


def keep_memory() -> bool:
    """Let this process keep the memory of buffers that it frees, for the next ones.

    A layer's output is a buffer of many megabytes that lives until the next layers have read it.
    The C library hands such buffers back to the operating system at once, which clears each page
    of them again when the next layer asks for memory: with D4 that is a quarter of the time. Only
    glibc can be told to keep them. It is told for the whole process, whose resident memory then
    stays at the most that it has needed. Large buffers come in huge pages where PyTorch has not
    taken memory yet, unless the environment says otherwise (``THP_MEM_ALLOC_ENABLE``).

    Returns:
        Whether the C library will do so.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        # Neither macOS nor musl has it.
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BUFFER)) and bool(
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    )
