"""Work done ahead of its consumer, in threads of its own, in order and bounded."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], count: int, threads: int = 1
) -> Generator[Result, None, None]:
    """``map(function, items)`` whose next results are computed while the last one is in use.

    Background threads call the function; the items are drawn in the consumer's. An exception
    of the function is raised where its result would be. Closing the generator drops what has
    not been begun, waits for what has, and ends the threads.

    Args:
        function: Used by so many threads at a time, of which the consumer's is none.
        items: What to call it with.
        count: Most results, one or more, that the threads are ahead of the consumer.
        threads: How many there are.
    """
    remaining = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    waiting: deque[Future[Result]] = deque()

    def submit(most: int) -> None:
        waiting.extend(pool.submit(function, item) for item in islice(remaining, most))

    try:
        submit(count)
        while waiting:
            result = waiting.popleft().result()
            submit(1)
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


class Cores:
    """Who uses this machine's cores: an operation that needs all of them, or work done ahead.

    An operation that is divided among all cores lasts as long as the slowest of them, so that work
    beside it delays it by more than that work takes. What is done ahead waits for it, and runs
    beside that which needs a single core.

    Args:
        threads: Of the operation; with fewer than there are cores nothing has to wait.
    """

    def __init__(self, threads: int) -> None:
        self._needs_all = threads >= (os.cpu_count() or 1)
        self._free = threading.Event()
        self._free.set()

    def take(self) -> None:
        """An operation begins that needs all cores."""
        if self._needs_all:
            self._free.clear()

    def give(self) -> None:
        """It has ended."""
        self._free.set()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Within it an operation needs all cores."""
        self.take()
        try:
            yield
        finally:
            self.give()

    def wait(self) -> None:
        """Wait until no operation needs them all."""
        self._free.wait()
