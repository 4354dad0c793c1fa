"""What runs in the worker processes of a Dask cluster: shards, by a model that stays open.

Everything here is sent by name, so that scheduler and workers need this package too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

from distributed import Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from efficientdet_spec import Cause, InputError
from parity.detections.annotations import CocoImage
from parity.detections.shards import Shard, Side, Work, fingerprint, in_process
from parity.process.console import out_of_memory

Opener = Callable[[], AbstractContextManager[Side]]
"""Opens a model in whatever process it is sent to; equal openers open the same model."""

IN_TASK = "raised_in_task"
"""Attribute of what the work itself has raised, to be told from what Dask raises around it."""


@dataclass(frozen=True)
class Task:
    """A shard to compute.

    Attributes:
        opener: Opens the model to compute it with.
        work: The shard's images, in the folder where the worker finds them.
        contents: Of each image what the sender's file holds, by :func:`fingerprints`.
    """

    opener: Opener
    work: Work
    contents: Sequence[str]


def fingerprints(work: Work) -> list[str]:
    """SHA-256 of each image's id, name and content."""
    return [fingerprint(_of_one(work, image)) for image in work.images]


def _of_one(work: Work, image: CocoImage) -> Work:
    return Work(work.folder, [image], work.batch)


class Models(WorkerPlugin):
    """The model that a worker process has open, kept from one shard to the next.

    One thread opens, uses and closes it, however many threads the worker has: TensorFlow's
    sessions are bound to theirs, and two shards at once would share its processors anyway.

    Args:
        name: By which :func:`compute_shard` finds it among the worker's plugins.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def setup(self, worker: Worker) -> None:
        """Called by Dask when the plugin or the worker is new."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=self.name)
        self._open = ExitStack()
        self._opened: tuple[Opener, Side] | None = None

    def teardown(self, worker: Worker) -> None:
        """Called by Dask when the run or the worker ends."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def compute(self, task: Task) -> Shard:
        """Compute a shard; waits for others of this process.

        Raises:
            InputError: The model cannot be opened here, or the images are not the sender's.
        """
        return self._thread.submit(self._compute, task).result()

    def _compute(self, task: Task) -> Shard:
        _check_images(task)
        side = self._side(task.opener)
        try:
            found = in_process(lambda: nullcontext(side))(
                task.work, {0: task.work.images}, lambda _: None
            )
            ((_, shard),) = found
        except BaseException:
            # Nobody knows what state it is in.
            self._close()
            raise
        return shard

    def _side(self, opener: Opener) -> Side:
        if self._opened is None or self._opened[0] != opener:
            self._close()
            self._opened = opener, self._open.enter_context(opener())
        return self._opened[1]

    def _close(self) -> None:
        self._opened = None
        self._open.close()


def _check_images(task: Task) -> None:
    """Raise where this machine has other image files than the sender."""
    for image, content in zip(task.work.images, task.contents, strict=True):
        if fingerprint(_of_one(task.work, image)) != content:
            path = task.work.folder / image.file_name
            found = "has another content than" if path.is_file() else "is no file, unlike"
            raise InputError(
                f"{path} {found} on the machine of this command; let every machine see the same "
                f"files under the same path.",
                Cause.FILE,
            )


def compute_shard(models: str, task: Task) -> Shard:
    """Compute a shard in the worker process that this is called in.

    Args:
        models: Name of the worker's :class:`Models`.
        task: The shard.

    Raises:
        InputError: The shard cannot be computed here; the message names the worker.
    """
    worker = get_worker()
    plugin = worker.plugins[models]
    assert isinstance(plugin, Models)
    try:
        return plugin.compute(task)
    except InputError as error:
        raise InputError(f"Worker {worker.address}: {error}", error.cause) from error
    except Exception as error:
        if not out_of_memory(error):
            setattr(error, IN_TASK, True)
            raise
        raise InputError(
            f"Worker {worker.address}: memory ran out; give a smaller --size or --batch-size, or "
            f"use workers with more memory.",
            Cause.SPACE,
        ) from error
