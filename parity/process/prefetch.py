"""Work done ahead of its consumer, in one thread, in order and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Generator[Result, None, None]:
    """``map(function, items)`` whose next results are computed while the last one is in use.

    One background thread calls the function; the items are drawn in the consumer's. An exception
    of the function is raised where its result would be. Closing the generator drops what has
    not been begun, waits for what has, and ends the thread.

    Args:
        function: Used by one thread at a time, but not by the consumer's.
        items: What to call it with.
        count: Most results, one or more, that the thread is ahead of the consumer.
    """
    remaining = iter(items)
    pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
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
