"""Detection of many images in several processes of this machine."""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from efficientdet_spec import Cause, InputError

if TYPE_CHECKING:
    from torch_model.postprocess import Detections

GROUPS_AHEAD = 2
"""So many groups of images wait for each process, so that none is idle."""

MIN_IMAGES = 4
"""Images that a process is sent together, or the next multiple of the batch: it prepares the next
one while it postprocesses one."""


_UNGUARDED = (
    "Each of several processes imports the program: call detect behind "
    "`if __name__ == '__main__':`."
)


def detect_in_processes(
    make: Callable[[], Any], images: Sequence[Any], batch: int, processes: int
) -> Iterator[Detections]:
    """The detections of each image, in order, computed by several processes.

    The processes share the cores: each computes with its part of this process's threads.

    Args:
        make: Makes the detector in each process; it can be pickled.
        images: As of :meth:`torch_model.detector.Detector.detect`.
        batch: Images that go through a network together.
        processes: How many.

    Raises:
        InputError: An image cannot be used, the network's predictions hold NaN, or a process
            cannot be started or has ended.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A process that has only begun to import the program; it would wait for itself.
        raise InputError(_UNGUARDED, Cause.OPTION)
    threads = max(1, torch.get_num_threads() // processes)
    together = -(-MIN_IMAGES // batch) * batch
    remaining = iter(images)
    groups = iter(lambda: list(islice(remaining, together)), [])
    # A forked process would have threads' locks, but not the threads; pickled by this function,
    # values are copied and not shared.
    # What a process is started with goes through a pipe of which Python keeps both ends open: if it
    # is long, and the process ends before it has read all of it, Python waits for ever.
    folder = tempfile.TemporaryDirectory(prefix="efficientdet-parity-")
    made = Path(folder.name) / "detector"
    made.write_bytes(pickle.dumps(make))
    pool = ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        initializer=_open,
        initargs=(str(made), threads),
    )
    waiting: deque[Future[list[Detections]]] = deque()

    def submit(most: int) -> None:
        waiting.extend(pool.submit(_detect, group, batch) for group in islice(groups, most))

    try:
        submit(GROUPS_AHEAD * processes)
        while waiting:
            found = waiting.popleft().result()
            submit(1)
            yield from found
    except BrokenProcessPool as error:
        raise InputError(
            f"One of {processes} processes ended before its work was done: give fewer processes "
            f"if memory is short. {_UNGUARDED}",
            Cause.SPACE,
        ) from error
    except BaseException:
        # Nobody waits for what the others are at, least of all who has interrupted this.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        folder.cleanup()


_own: dict[str, Any] = {}
"""The detector of this process, where it is one of several."""


def _open(made: str, threads: int) -> None:
    torch.set_num_threads(threads)
    # Of a folder that only this user's processes can read, written by the one that started this.
    _own["detector"] = pickle.loads(Path(made).read_bytes())()


def _detect(images: Sequence[Any], batch: int) -> list[Detections]:
    return list(_own["detector"].detect(images, batch))
