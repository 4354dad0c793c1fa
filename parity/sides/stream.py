"""Hands tensors from the thread that computes them to the thread that compares them, one at a time.

The producer waits until the consumer has finished with a tensor before it computes the next:
no more than one is in flight, however large the network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from parity.process.arrays import Array


class Tensors(Protocol):
    """The reference's tensors as they come, one at a time in the order of computation."""

    def take(self, name: str) -> Array:
        """The next tensor, which must be this node's."""

    def skip(self) -> None:
        """Let the next tensor pass."""

    def release(self) -> None:
        """The tensor taken is no longer looked at."""


Stream = Callable[[], AbstractContextManager[Tensors]]
"""Makes the reference compute once; the body of the context takes its tensors."""


class StreamError(RuntimeError):
    """The other side failed, ended early, or offers another tensor than the one asked for."""


class Rendezvous:
    """A meeting place of one producer and one consumer thread.

    Args:
        timeout: Longest wait of the consumer for a tensor, in seconds.
    """

    def __init__(self, timeout: float = 3600.0) -> None:
        self._timeout = timeout
        self._changed = threading.Condition()
        self._offer: tuple[str, Array] | None = None
        self._closed = False
        self._failure: BaseException | None = None

    def offer(self, name: str, array: Array) -> None:
        """Producer: hand over a tensor and wait until the consumer has finished with it.

        Raises:
            StreamError: The consumer has gone.
        """
        with self._changed:
            if not self._closed:
                self._offer = (name, array)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._is_taken() or self._closed)
                # Whoever took the last tensor may close before this thread wakes up.
                if self._is_taken():
                    return
            raise StreamError("the comparison ended before the network did")

    def _is_taken(self) -> bool:
        return self._offer is None

    def take(self, name: str) -> Array:
        """Consumer: wait for the next tensor, which must be ``name``; :meth:`release` follows.

        Raises:
            StreamError: The producer failed, ended, or offers another tensor.
        """
        offered, array = self._wait(name)
        if offered != name:
            raise StreamError(f"the reference offers {offered} where {name} was due")
        return array

    def _wait(self, name: str) -> tuple[str, Array]:
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: self._offer is not None or self._closed, self._timeout
            )
            if self._failure is not None:
                raise self._failure
            if not arrived:
                raise StreamError(f"no tensor came in {self._timeout:.0f} s where {name} was due")
            if self._offer is None:
                raise StreamError(f"the reference ended before {name}")
            return self._offer

    def skip(self) -> None:
        """Consumer: let the next tensor pass unused.

        Raises:
            StreamError: The producer failed or ended.
        """
        self._wait("another tensor")
        self.release()

    def release(self) -> None:
        """Consumer: the tensor is no longer needed; the producer goes on."""
        with self._changed:
            self._offer = None
            self._changed.notify_all()

    def close(self, failure: BaseException | None = None) -> None:
        """Either side: nothing more will come or be taken.

        Args:
            failure: Why, if something went wrong.
        """
        with self._changed:
            self._closed = True
            self._failure = self._failure or failure
            self._changed.notify_all()


@contextmanager
def producing(produce: Callable[[Rendezvous], object], name: str) -> Iterator[Rendezvous]:
    """Let a producer run once in a thread of its own while the body takes its tensors.

    Args:
        produce: Offers every tensor; what it raises reaches the consumer.
        name: Of the thread.
    """
    stream = Rendezvous()

    def run() -> None:
        try:
            produce(stream)
        except Exception as error:
            stream.close(error)
        else:
            stream.close()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield stream
    finally:
        stream.close()
        thread.join()
