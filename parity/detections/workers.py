"""Shards computed by processes of this machine, which talk to this one through pipes alone.

Nothing listens on a network, and nothing that a worker sends can run as code here. Each worker has
at most one shard under way, so that what a killed one takes with it is the one shard that it was
computing, which another process computes again.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from efficientdet_spec import Cause, InputError
from parity.detections.annotations import CocoImage
from parity.detections.computing import fingerprints
from parity.detections.messages import Recipe, Task, WorkerDefect, read_answer
from parity.detections.shard_files import Shard
from parity.detections.shards import Compute, Work
from parity.detections.worker_process import WorkerProcess, listen

ALLOWED_FAILURES = 3
"""Worker processes that may die while computing one shard."""

_LOOK_INTERVAL = 1.0
_END_TIMEOUT = 10.0


@dataclass(frozen=True)
class Workers:
    """Processes of this machine that compute shards.

    Attributes:
        processes: Each of them.
    """

    processes: Sequence[WorkerProcess]

    def compute(self, recipe: Recipe) -> Compute:
        """Compute shards in these processes.

        Args:
            recipe: Of what computes; each process opens it once for all its shards.

        Returns:
            What computes; it raises an InputError that names the worker or the shard where a
            worker cannot do the work, or several died of the same shard.
        """

        def compute(
            work: Work, left: Mapping[int, Sequence[CocoImage]], progress: Callable[[int], None]
        ) -> Generator[tuple[int, Shard], None, None]:
            run = _Run(self.processes, recipe, work, left)
            done = 0
            try:
                for number, shard in run.results():
                    done += len(left[number])
                    progress(done)
                    yield number, shard
            finally:
                # What is under way is wanted no longer.
                for process in run.busy():
                    process.kill()

        return compute

    def describe(self) -> dict[str, Any]:
        """What results say about them, as plain values."""
        return {"workers": len(self.processes)}


@contextmanager
def local_workers(count: int, program: str, gpus: Sequence[str] | None = None) -> Iterator[Workers]:
    """Processes on this machine, which end with the context and at the latest with this process.

    Args:
        count: Their number.
        program: The module whose ``main(name)`` serves tasks in each.
        gpus: The GPU of each as ``CUDA_VISIBLE_DEVICES`` has it; None where the work needs none.
    """
    processes = [
        WorkerProcess(f"Worker {number + 1}", program, gpus[number] if gpus is not None else None)
        for number in range(count)
    ]
    try:
        yield Workers(processes)
        for process in processes:
            process.let_go()
        deadline = time.monotonic() + _END_TIMEOUT
        while (left := [item for item in processes if item.lives()]) and (
            time.monotonic() < deadline
        ):
            # What they say last must not fill a pipe; and the end of a process is no news in one.
            listen(left, _LOOK_INTERVAL / 20)
    finally:
        for process in processes:
            process.kill()


class _Run:
    """Some shards of one run.

    Args:
        processes: What computes.
        recipe: Of what they open.
        work: All the work.
        left: The images of each shard that is left.
    """

    def __init__(
        self,
        processes: Sequence[WorkerProcess],
        recipe: Recipe,
        work: Work,
        left: Mapping[int, Sequence[CocoImage]],
    ) -> None:
        self._processes = processes
        self._recipe = recipe
        # Tasks name absolute paths.
        self._work = replace(work, folder=work.folder.absolute())
        self._left = left
        self._waiting = deque(left)
        self._deaths: Counter[int] = Counter()

    def busy(self) -> list[WorkerProcess]:
        """The processes that compute."""
        return [process for process in self._processes if process.under_way is not None]

    def results(self) -> Iterator[tuple[int, Shard]]:
        """Each shard once it is there.

        Raises:
            InputError: A worker cannot compute one, or several died of it.
        """
        while True:
            self._hand_out()
            busy = self.busy()
            if not busy:
                return
            listen(busy, _LOOK_INTERVAL)
            failure: Exception | None = None
            for process in busy:
                try:
                    done = self._done(process)
                except (InputError, WorkerDefect) as error:
                    failure = failure or error
                    continue
                if done is not None:
                    # No worker is idle while the caller writes a file.
                    self._hand_out()
                    yield done
            # Last, so that no shard is lost that another worker has finished.
            if failure is not None:
                raise failure

    def _hand_out(self) -> None:
        for process in self._processes:
            if self._waiting and process.under_way is None:
                number = self._waiting.popleft()
                part = replace(self._work, images=self._left[number])
                process.send(number, Task.of(self._recipe, part, fingerprints(part)))

    def _done(self, process: WorkerProcess) -> tuple[int, Shard] | None:
        number = process.under_way
        assert number is not None
        died = process.death()
        line = process.answer()
        if line is not None:
            return number, read_answer(line, self._left[number], process.name)
        if died is not None:
            process.under_way = None
            self._again(number, died)
        return None

    def _again(self, number: int, died: str) -> None:
        """Have a shard computed by another process, unless it has killed too many."""
        self._deaths[number] += 1
        if self._deaths[number] > ALLOWED_FAILURES:
            images = self._left[number]
            raise InputError(
                f"Shard {number} (images {images[0].file_name} to {images[-1].file_name}) could "
                f"not be computed: {self._deaths[number]} worker processes died of it, the last "
                f"by {died}; give them more memory, fewer --workers or a smaller --batch-size, or, "
                f"where their own code ends them, mend it, and run the same command again.",
                Cause.SPACE,
            )
        self._waiting.appendleft(number)
