"""Shards computed by the processes of a Dask cluster, on this machine or on others.

The process that asks for them keeps at most one shard a worker under way, and gets each back as
it is done. So what a killed worker takes with it is the one shard that it was computing, which
another worker computes again; and what a killed client loses are the shards under way.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from efficientdet_spec import Cause, InputError, installed_version, require_extra
from parity.detections.annotations import CocoImage
from parity.detections.shards import Compute, Shard, Work

if TYPE_CHECKING:
    from distributed import Client, Future

    from parity.detections.cluster_worker import Opener

CONNECT_TIMEOUT = 10.0
"""Seconds in which a scheduler must answer and have a worker."""

WORKERS_TIMEOUT = 60.0
"""Seconds without any worker after which the work is given up; a killed one restarts in a few."""

ALLOWED_FAILURES = 3
"""Worker processes of a local cluster that may die while computing one shard."""

GPU = "GPU"
"""The resource that a worker declares for each GPU and a task on a GPU takes one of."""

_LOOK_INTERVAL = 2.0
_INSTALL = "install the same version of efficientdet-parity for scheduler and workers"


@dataclass(frozen=True)
class Cluster:
    """A connection to a scheduler and its workers.

    Attributes:
        name: What messages and results call it: the scheduler's address, or ``local``.
        workers: Their number when the connection was made.
    """

    name: str
    workers: int
    _client: Client
    _models: str
    _gpu: bool

    def compute(self, opener: Opener) -> Compute:
        """Compute shards on the cluster.

        Args:
            opener: Opens the model in each worker process, once for all its shards.

        Returns:
            What computes; it raises an InputError that names the worker or the shard where a
            worker cannot do the work, several died of the same shard, or no worker is left.
        """

        def compute(
            work: Work, left: Mapping[int, Sequence[CocoImage]], progress: Callable[[int], None]
        ) -> Generator[tuple[int, Shard], None, None]:
            # Workers have a current folder of their own.
            everything = replace(work, folder=work.folder.absolute())
            waiting = deque(left.items())
            running: dict[Future[Shard], int] = {}
            done = 0
            try:
                while waiting or running:
                    self._submit(opener, everything, waiting, running)
                    for future in self._finished(running):
                        number = running.pop(future)
                        shard = self._result(future, number, left[number])
                        # No worker is idle while the caller writes a file.
                        self._submit(opener, everything, waiting, running)
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
        return {"scheduler": self.name, "workers": self.workers, **versions}

    def _submit(
        self,
        opener: Opener,
        work: Work,
        waiting: deque[tuple[int, Sequence[CocoImage]]],
        running: dict[Future[Shard], int],
    ) -> None:
        """Keep one shard a worker under way.

        More at a time would let the death of a worker count against shards that only waited for
        it.
        """
        from parity.detections.cluster_worker import Task, compute_shard, fingerprints

        for _ in range(max(1, self._usable()) - len(running)):
            if not waiting:
                return
            number, images = waiting.popleft()
            part = replace(work, images=images)
            future = self._client.submit(
                compute_shard,
                self._models,
                Task(opener, part, fingerprints(part)),
                resources={GPU: 1} if self._gpu else None,
                pure=False,
            )
            running[future] = number

    def _usable(self) -> int:
        try:
            return _usable(self._client, self._gpu)
        except (OSError, RuntimeError) as error:
            raise self._lost() from error

    def _finished(self, running: Mapping[Future[Shard], int]) -> list[Future[Shard]]:
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

    def _result(self, future: Future[Shard], number: int, images: Sequence[CocoImage]) -> Shard:
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        from parity.detections.cluster_worker import IN_TASK

        try:
            return future.result()
        except KilledWorker as error:
            raise InputError(
                f"Shard {number} (images {images[0].file_name} to {images[-1].file_name}) could "
                f"not be computed: {error.allowed_failures + 1} worker processes died of it, the "
                f"last {error.last_worker.address}; give them more memory or a smaller "
                f"--batch-size, and run the same command again.",
                Cause.NETWORK,
            ) from error
        except CancelledError as error:
            raise self._lost() from error
        except (ImportError, RuntimeError) as error:
            # The scheduler says so by a plain RuntimeError, and a task's own bears a mark.
            if isinstance(error, RuntimeError) and hasattr(error, IN_TASK):
                raise
            raise InputError(
                f"The cluster {self.name} cannot load what is sent to it ({_short(error)}); "
                f"{_INSTALL}.",
                Cause.NETWORK,
            ) from error

    def _lost(self) -> InputError:
        return InputError(
            f"The connection to the scheduler of the cluster {self.name} was lost; start it and "
            f"run the same command again, which goes on behind the finished shards.",
            Cause.NETWORK,
        )


@contextmanager
def local_cluster(count: int, gpus: Sequence[str] | None = None) -> Iterator[Cluster]:
    """A cluster of processes on this machine, ended with the context.

    Args:
        count: Number of worker processes.
        gpus: The GPU of each worker as ``CUDA_VISIBLE_DEVICES`` has it; None where the work needs
            none.

    Raises:
        InputError: Dask is not installed, or the processes cannot be started.
    """
    _require_dask()
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    with ExitStack() as stack:
        stack.enter_context(_quiet())
        # Else workers have OpenMP and malloc set up for small tasks, and give every freed buffer
        # back to the system.
        stack.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": {}}))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="efficientdet-parity-"))
        shared = {"host": "127.0.0.1", "dashboard": False}
        options = {
            **shared,
            "nthreads": 1,
            # A process that needs much memory is not to be killed for it.
            "memory_limit": 0,
            "local_directory": folder,
            "silence_logs": logging.CRITICAL,
        }
        placed = [
            options | ({"resources": {GPU: 1}, "env": {"CUDA_VISIBLE_DEVICES": gpus[number]}})
            if gpus is not None
            else options
            for number in range(count)
        ]
        scheduler = {
            **shared,
            "port": 0,
            # Any port: another cluster may have the usual one.
            "dashboard_address": "127.0.0.1:0",
            "allowed_failures": ALLOWED_FAILURES,
        }
        with _interrupts_held():
            cluster = stack.enter_context(
                SpecCluster(  # type: ignore[no-untyped-call]
                    scheduler={"cls": Scheduler, "options": scheduler},
                    workers=dict(enumerate({"cls": Nanny, "options": each} for each in placed)),
                    silence_logs=logging.CRITICAL,
                )
            )
        yield stack.enter_context(_connect(cluster.scheduler_address, "local", gpus is not None))


@contextmanager
def existing_cluster(address: str, gpu: bool) -> Iterator[Cluster]:
    """The cluster of a scheduler that is running already, and goes on running.

    Args:
        address: Of the scheduler, such as ``tcp://host:8786``.
        gpu: Whether each shard needs a GPU.

    Raises:
        InputError: Dask is not installed, no scheduler answers at the address, or it has no
            worker, or none with a GPU where one is needed.
    """
    _require_dask()
    with _quiet(), _connect(address, address, gpu) as cluster:
        yield cluster


@contextmanager
def _connect(address: str, name: str, gpu: bool) -> Iterator[Cluster]:
    from distributed import Client

    try:
        # A client that cannot connect takes its time to end.
        _greeted(address)
        client: Client = Client(  # type: ignore[no-untyped-call]
            address, timeout=CONNECT_TIMEOUT, set_as_default=False
        )
    except (OSError, asyncio.TimeoutError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"No Dask scheduler answers at {address!r:.120} ({_short(error)}); give the "
            f"address that dask scheduler prints, such as tcp://host:8786.",
            Cause.NETWORK,
        ) from error
    with client:
        count = _check_workers(client, address, gpu)
        models = f"efficientdet-parity-{client.id}"
        with _models(client, models, address):
            yield Cluster(name, count, client, models, gpu)


def _greeted(address: str) -> None:
    """See that a scheduler answers; a thread of its own, as a notebook's has a running loop."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(
            lambda: asyncio.run(asyncio.wait_for(_greet(address), CONNECT_TIMEOUT))
        ).result()


async def _greet(address: str) -> None:
    """Exchange the first message with a scheduler."""
    from distributed.comm.core import connect

    # Its types are not declared.
    opener: Any = connect
    comm = await asyncio.wait_for(opener(address, timeout=CONNECT_TIMEOUT), CONNECT_TIMEOUT)
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
def _models(client: Client, name: str, address: str) -> Iterator[None]:
    """Have the workers, also those to come, keep a model; they close it with the context."""
    from parity.detections.cluster_worker import Models

    try:
        client.register_plugin(Models(name), name)
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
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back, here until the context ends, in threads and processes begun in it for good.

    A terminal sends it to all processes, but this one alone is to end the others.
    """
    # Begun by the first process otherwise, and lets Ctrl-C through again where it is begun.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    return f"{text:.160}"


def _require_dask() -> None:
    require_extra("cluster", "Computing on a cluster")
