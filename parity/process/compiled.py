"""Functions that are compiled when they are first called, and run without holding Python's lock."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """A function in the part of Python that numba compiles.

    What is compiled is kept beside the source or in the user's cache, where either can be written,
    so that only the first process takes the seconds that it needs.

    Args:
        function: Loops over arrays and numbers.
    """

    @functools.cache
    def machine_code() -> Callable[P, R]:
        # Most commands have no use for it, and it takes half a second to import.
        import numba

        # Sums may be taken in any order; NaN and infinity keep their meaning.
        options: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz"}}
        try:
            found: Callable[P, R] = numba.njit(cache=True, **options)(function)
        except RuntimeError:
            # There is no place to keep it in.
            found = numba.njit(**options)(function)
        return found

    @functools.wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        return machine_code()(*arguments, **named)

    return call


def in_order(function: Callable[[slice], R], parts: Iterable[slice]) -> Iterator[R]:
    """What a function makes of parts of arrays, in their order, on as many cores as there are.

    Args:
        function: Does not hold Python's lock for long.
        parts: The parts; of a single one no thread is made.
    """
    todo = list(parts)
    if len(todo) < 2:
        return map(function, todo)
    return _workers().map(function, todo)


@functools.cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="measuring")


# A process that is forked off has none of the threads.
os.register_at_fork(after_in_child=_workers.cache_clear)
