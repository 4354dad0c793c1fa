"""A Dask client that opens no pickle that a worker has made."""

from __future__ import annotations

from typing import Any

from distributed import Client, Security

KILLED = "KilledWorker"
"""The reason of a failure where workers have died of a task."""

_PLAIN = ["msgpack"]
"""How texts and numbers travel; anything else, a pickle above all, is refused unopened."""


class _CarefulClient(Client):
    """Dask's own client opens pickles with the type of each answer, with failures and warnings.

    The names of these methods are Dask's; the tests set a trap in every place, and fail where a
    version of it goes another way.
    """

    async def _ensure_connected(self, timeout: Any = None) -> Any:
        connected = await super()._ensure_connected(timeout=timeout)  # type: ignore[no-untyped-call]
        if self.scheduler_comm is not None and self.scheduler_comm.comm is not None:
            self.scheduler_comm.comm.deserialize = False
        return connected

    def _handle_key_in_memory(self, key: Any = None, type: Any = None, workers: Any = None) -> None:
        super()._handle_key_in_memory(key=key, workers=workers)  # type: ignore[no-untyped-call]

    async def _handle_event(self, topic: Any, event: Any) -> None:
        """Leave alone what workers print or warn of."""

    def _handle_task_erred(
        self, key: Any = None, exception: Any = None, traceback: Any = None
    ) -> None:
        super()._handle_task_erred(key=key, exception=_reason(exception))  # type: ignore[no-untyped-call]


def _reason(exception: Any) -> str:
    """What kind of failure it is, by looking at the bytes of the pickle."""
    # The scheduler's own come as they are, those of workers in parts.
    frames = [exception] if isinstance(exception, bytes) else getattr(exception, "frames", ())
    return KILLED if any(KILLED.encode() in bytes(frame) for frame in frames) else "unknown"


def careful_client(address: str, security: Security | None, timeout: float) -> Client:
    """A client that refuses pickled answers, and opens neither their type nor why there is none.

    A scheduler can still send it what Dask unpickles as it arrives.

    Args:
        address: Of the scheduler.
        security: Certificates; None for none.
        timeout: Seconds in which it must answer.
    """
    return _CarefulClient(  # type: ignore[no-untyped-call]
        address,
        timeout=timeout,
        security=security,
        deserializers=_PLAIN,
        set_as_default=False,
    )
