"""What runs in the worker processes of a Dask cluster: shards, by a model that stays open.

Everything here is sent by name, so that scheduler and workers need this package too.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from distributed import Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from parity.detections.computing import Computing, Opener


class Models(WorkerPlugin):
    """The model that a worker process has open, kept from one shard to the next.

    One thread opens, uses and closes it, however many threads the worker has: TensorFlow's
    sessions are bound to theirs, and two shards at once would share its processors anyway.

    Args:
        name: By which :func:`compute_shard` finds it among the worker's plugins.
        open_side: Opens what computes.
    """

    def __init__(self, name: str, open_side: Opener) -> None:
        self.name = name
        self._open_side = open_side

    def setup(self, worker: Worker) -> None:
        """Called by Dask when the plugin or the worker is new."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=self.name)
        self._computing = Computing(self._open_side, f"Worker {worker.address}")

    def teardown(self, worker: Worker) -> None:
        """Called by Dask when the run or the worker ends."""
        self._thread.submit(self._computing.close)
        self._thread.shutdown(wait=False)

    def answer(self, task: str) -> str:
        """The answer to a task; waits for others of this process."""
        return self._thread.submit(self._computing.answer, task).result().decode()


def compute_shard(models: str, task: str) -> str:
    """Compute a shard in the worker process that this is called in.

    Args:
        models: Name of the worker's :class:`Models`.
        task: The shard, as :mod:`parity.detections.messages` writes it.

    Returns:
        The answer, in the same form.
    """
    plugin = get_worker().plugins[models]
    assert isinstance(plugin, Models)
    return plugin.answer(task)
