"""Shards computed by the processes of a Dask cluster, which its scheduler hands them out to.

The process that asks for them keeps at most one shard a worker under way, and gets each back as
it is done. So what a killed worker takes with it is the one shard that it was computing, which
another worker computes again; and what a killed client loses are the shards under way.

Tasks and answers are JSON text, and an answer is used once it has been checked. Dask itself is made
to run code of whoever takes part, so what keeps others out is that it asks for certificates.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from efficientdet_spec import Cause, InputError, installed_version, printable, require_extra
from parity.detections.annotations import CocoImage
from parity.detections.certificates import Certificates
from parity.detections.computing import Opener, fingerprints
from parity.detections.messages import Recipe, Task, no_answer, read_answer, written
from parity.detections.shard_files import Shard
from parity.detections.shards import Compute, Work

if TYPE_CHECKING:
    from distributed import Client, Future, Security

CONNECT_TIMEOUT = 10.0
"""Seconds in which a scheduler must answer and have a worker."""

WORKERS_TIMEOUT = 60.0
"""Seconds without any worker after which the work is given up; a killed one restarts in a few."""

GPU = "GPU"
"""The resource that a worker declares for each GPU and a task on a GPU takes one of."""

_LOOK_INTERVAL = 2.0
_ANSWER_TIMEOUT = 60.0
_TLS = "tls"

_INSTALL = "install the same version of efficientdet-parity for scheduler and workers"


@dataclass(frozen=True)
class Cluster:
    """A connection to a scheduler and its workers.

    Attributes:
        name: What messages and results call it: the scheduler's address.
        workers: Their number when the connection was made.
        encrypted: Whether its members know each other by certificates.
    """

    name: str
    workers: int
    encrypted: bool
    _client: Client
    _models: str
    _gpu: bool

    def compute(self, recipe: Recipe) -> Compute:
        """Compute shards on the cluster.

        Args:
            recipe: Of what computes; each worker process opens it once for all its shards.

        Returns:
            What computes; it raises an InputError that names the worker or the shard where a
            worker cannot do the work, several died of the same shard, or no worker is left.
        """

        def compute(
            work: Work, left: Mapping[int, Sequence[CocoImage]], progress: Callable[[int], None]
        ) -> Generator[tuple[int, Shard], None, None]:
            # Tasks name absolute paths.
            everything = replace(work, folder=work.folder.absolute())
            waiting = deque(left.items())
            running: dict[Future[str], int] = {}
            done = 0
            try:
                while waiting or running:
                    self._submit(recipe, everything, waiting, running)
                    for future in self._finished(running):
                        number = running.pop(future)
                        shard = self._result(future, number, left[number])
                        # No worker is idle while the caller writes a file.
                        self._submit(recipe, everything, waiting, running)
                        done += len(left[number])
                        progress(done)
                        yield number, shard
            finally:
                with suppress(Exception):
                    self._client.cancel(list(running))  # type: ignore[no-untyped-call]

        return compute

    def describe(self) -> dict[str, Any]:
        """What results say about it, as plain values."""
        versions = {name: installed_version(name) for name in ("dask", "distributed")}
        here = {"scheduler": self.name, "encrypted": self.encrypted, "workers": self.workers}
        return {"cluster": {**here, **versions}}

    def _submit(
        self,
        recipe: Recipe,
        work: Work,
        waiting: deque[tuple[int, Sequence[CocoImage]]],
        running: dict[Future[str], int],
    ) -> None:
        """Keep one shard a worker under way.

        More at a time would let the death of a worker count against shards that only waited for
        it.
        """
        from parity.detections.cluster_worker import compute_shard

        for _ in range(max(1, self._usable()) - len(running)):
            if not waiting:
                return
            number, images = waiting.popleft()
            part = replace(work, images=images)
            future = self._client.submit(
                compute_shard,
                self._models,
                written(Task.of(recipe, part, fingerprints(part))).decode(),
                resources={GPU: 1} if self._gpu else None,
                pure=False,
            )
            running[future] = number

    def _usable(self) -> int:
        try:
            return _usable(self._client, self._gpu)
        except (OSError, RuntimeError) as error:
            raise self._lost() from error

    def _finished(self, running: Mapping[Future[str], int]) -> list[Future[str]]:
        """Those that are done, once there are some; failed ones last, so that no shard is lost."""
        from distributed import CancelledError, wait

        alive = time.monotonic()
        while True:
            try:
                with self._client.as_current():
                    done = wait(  # type: ignore[no-untyped-call]
                        list(running), timeout=_LOOK_INTERVAL, return_when="FIRST_COMPLETED"
                    )
                return sorted(done.done, key=lambda future: future.status != "finished")
            except CancelledError as error:
                raise self._lost() from error
            except asyncio.TimeoutError:
                now = time.monotonic()
                if self._usable():
                    alive = now
                elif now - alive > WORKERS_TIMEOUT:
                    raise InputError(
                        f"No worker is left in the cluster {self.name}; start workers and run the "
                        f"same command again, which goes on behind the finished shards.",
                        Cause.NETWORK,
                    ) from None

    def _result(self, future: Future[str], number: int, images: Sequence[CocoImage]) -> Shard:
        if future.status == "cancelled" or future.status == "lost":
            raise self._lost()
        if future.status != "finished":
            raise self._failure(future, number, images)
        try:
            answer = future.result(timeout=_ANSWER_TIMEOUT)
        except TypeError as error:
            # What is not plain is not even unpacked.
            raise no_answer(self._worker_of(future), str(error)) from error
        except Exception as error:
            raise self._lost() from error
        if not isinstance(answer, str):
            raise no_answer(self._worker_of(future), f"it is a {type(answer).__name__}")
        return read_answer(answer, images, self._worker_of(future))

    def _failure(self, future: Future[str], number: int, images: Sequence[CocoImage]) -> InputError:
        """What is said of a shard without an answer, which only the cluster itself brings about."""
        from parity.detections.cluster_client import KILLED

        if str(future.exception(timeout=_ANSWER_TIMEOUT)) == KILLED:  # type: ignore[no-untyped-call]
            return InputError(
                f"Shard {number} (images {images[0].file_name} to {images[-1].file_name}) could "
                f"not be computed: worker processes died of it again and again; give them more "
                f"memory or a smaller --batch-size, and run the same command again.",
                Cause.NETWORK,
            )
        return InputError(
            f"The cluster {self.name} cannot load what is sent to it, so that shard {number} was "
            f"not computed; {_INSTALL}, and look into the logs of its workers.",
            Cause.NETWORK,
        )

    def _worker_of(self, future: Future[str]) -> str:
        """What a sentence calls the worker that has a result."""
        with suppress(Exception):
            holders = self._client.who_has([future])  # type: ignore[no-untyped-call]
            for addresses in holders.values():
                if addresses:
                    return f"Worker {printable(addresses[0]):.80}"
        return f"A worker of {self.name}"

    def _lost(self) -> InputError:
        return InputError(
            f"The connection to the scheduler of the cluster {self.name} was lost; start it and "
            f"run the same command again, which goes on behind the finished shards.",
            Cause.NETWORK,
        )


@contextmanager
def existing_cluster(
    address: str, open_side: Opener, gpu: bool, certificates: Certificates | None
) -> Iterator[Cluster]:
    """The cluster of a scheduler that is running already, and goes on running.

    Args:
        address: Of the scheduler, such as ``tls://host:8786``.
        open_side: Opens what computes in each worker process; sent by name.
        gpu: Whether each shard needs a GPU.
        certificates: By which its members know each other; None to connect to anybody.

    Raises:
        InputError: Dask is not installed, no scheduler that may be trusted answers at the address,
            or it has no worker, or none with a GPU where one is needed.
    """
    require_extra("cluster", "Computing on a cluster")
    if certificates is not None:
        address = _encrypted(address)
    security = certificates.security() if certificates is not None else None
    with _quiet(), _connected(address, security) as client:
        count = _check_workers(client, address, gpu)
        models = f"efficientdet-parity-{client.id}"
        with _models(client, models, open_side, address):
            yield Cluster(address, count, security is not None, client, models, gpu)


def _encrypted(address: str) -> str:
    """The address in full.

    Raises:
        InputError: It is of a connection without encryption.
    """
    protocol, separator, host = address.rpartition("://")
    if separator and protocol != _TLS:
        raise InputError(
            f"--scheduler is {printable(address)!r:.120}, whose connections are not encrypted, but "
            f"certificates are given; give {_TLS}://{printable(host):.80} and start the scheduler "
            f"with certificates too (docs/cluster.md says how).",
            Cause.OPTION,
        )
    return f"{_TLS}://{host}"


@contextmanager
def _connected(address: str, security: Security | None) -> Iterator[Client]:
    from parity.detections.cluster_client import careful_client

    try:
        # A client that cannot connect takes its time to end.
        _greeted(address, security)
        client = careful_client(address, security, CONNECT_TIMEOUT)
    except (OSError, asyncio.TimeoutError, ValueError, TypeError, RuntimeError) as error:
        trusted = ", or none whose certificate holds before --tls-ca" if security else ""
        advice = (
            f"the address that dask scheduler prints, such as {_TLS}://host:8786, and start it "
            f"with --tls-ca-file, --tls-cert and --tls-key"
            if security
            else "the address that dask scheduler prints, such as tcp://host:8786"
        )
        raise InputError(
            f"No Dask scheduler answers at {printable(address)!r:.120}{trusted} "
            f"({_short(error)}); give {advice}.",
            Cause.NETWORK,
        ) from error
    with client:
        yield client


def _greeted(address: str, security: Security | None) -> None:
    """See that a scheduler answers; a thread of its own, as a notebook's has a running loop."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(
            lambda: asyncio.run(asyncio.wait_for(_greet(address, security), CONNECT_TIMEOUT))
        ).result()


async def _greet(address: str, security: Security | None) -> None:
    """Exchange the first message with a scheduler."""
    from distributed.comm.core import connect

    # Its types are not declared.
    opener: Any = connect
    given: Any = security
    trust = given.get_connection_args("client") if security is not None else {}
    comm = await asyncio.wait_for(
        opener(address, timeout=CONNECT_TIMEOUT, **trust), CONNECT_TIMEOUT
    )
    await comm.close()


def _check_workers(client: Client, address: str, gpu: bool) -> int:
    """The number of workers that can be used."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_TIMEOUT)
    except asyncio.TimeoutError:
        raise InputError(
            f"The scheduler at {address} has no workers; start some with dask worker {address} "
            f"--nthreads 1.",
            Cause.NETWORK,
        ) from None
    count = _usable(client, gpu)
    if not count:
        raise InputError(
            f"No worker of the scheduler at {address} declares a GPU; start workers with "
            f'dask worker {address} --nthreads 1 --resources "GPU=1", or leave --device out.',
            Cause.DEVICE,
        )
    return count


def _usable(client: Client, gpu: bool) -> int:
    """The number of workers that can take a shard."""
    workers = client.scheduler_info()["workers"].values()
    return sum(1 for worker in workers if not gpu or worker["resources"].get(GPU, 0) >= 1)


@contextmanager
def _models(client: Client, name: str, open_side: Opener, address: str) -> Iterator[None]:
    """Have the workers, also those to come, keep a model; they close it with the context."""
    from parity.detections.cluster_worker import Models

    try:
        client.register_plugin(Models(name, open_side), name)
    except Exception as error:
        # A worker's error comes with its type or as text alone.
        raise InputError(
            f"The workers of {address} cannot load what is sent to them ({_short(error)}); "
            f"{_INSTALL}.",
            Cause.NETWORK,
        ) from error
    try:
        yield
    finally:
        # A cluster that is gone has closed everything.
        with suppress(Exception):
            client.unregister_worker_plugin(name)  # type: ignore[no-untyped-call]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's log of connections, restarts and ends from the console."""
    # Importing it sets its logging up.
    import distributed

    handlers = logging.getLogger(distributed.__name__).handlers
    before = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in zip(handlers, before, strict=True):
            handler.setLevel(level)


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{printable(text):.160}"
