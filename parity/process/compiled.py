"""Work on arrays that keeps all cores busy: compiled functions, and parts in threads."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """A function in the part of Python that numba compiles; it may add up in any order.

    What is compiled is kept beside the source or in the user's cache, where either can be written,
    so that only the first process takes the seconds that it needs.

    Args:
        function: Loops over arrays and numbers.
    """
    # NaN and infinity keep their meaning.
    return _compiled(function, {"reassoc", "contract", "nsz"})


def compiled_as_written(function: Callable[P, R]) -> Callable[P, R]:
    """As :func:`compiled`, with every rounding where the source has it.

    Args:
        function: Likewise.
    """
    return _compiled(function, set())


def _compiled(function: Callable[P, R], relaxed: set[str]) -> Callable[P, R]:
    @functools.cache
    def machine_code() -> Callable[P, R]:
        # Most commands have no use for it, and it takes half a second to import.
        import numba

        options: dict[str, Any] = {"nogil": True, "fastmath": relaxed}
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
    found: list[Any] = [None] * len(todo)
    # Taking the next of a list is one step for Python, whichever thread does it.
    left = iter(range(len(todo)))

    def work() -> None:
        for number in left:
            found[number] = function(todo[number])

    # One task for each core, not for each part, and this thread is one of them.
    helpers = min(os.cpu_count() or 1, len(todo)) - 1
    tasks = [_workers().submit(work) for _ in range(helpers)]
    try:
        work()
    finally:
        # What has not begun by now has nothing left to do, and might never begin.
        failures = [task.exception() for task in tasks if not task.cancel()]
    for failure in failures:
        if failure:
            raise failure
    return iter(found)


@contextmanager
def products_on_one_core() -> Iterator[None]:
    """Within it each of NumPy's matrix products keeps to the core that calls it.

    Parts are products enough for all cores. NumPy's own threads would stay awake after each
    product, at the expense of whatever comes next.
    """
    with _products().limit(limits=1):
        yield


@functools.cache
def _products() -> Any:
    """The library that NumPy's products are made by, and none that belongs to another package."""
    import numpy
    from threadpoolctl import ThreadpoolController

    # A wheel has its libraries beside the package.
    place = str(Path(numpy.__file__).parent)
    every = ThreadpoolController()
    found = [item["filepath"] for item in every.info() if item["filepath"].startswith(place)]
    return every.select(filepath=found)


@functools.cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="measuring")


# A process that is forked off has none of the threads.
os.register_at_fork(after_in_child=_workers.cache_clear)
