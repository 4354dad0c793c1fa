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

_Found = tuple[list["Detections"], InputError | None]
"""What is detected in some images, and what is wrong with the next one."""

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
    together = -(-MIN_IMAGES // batch) * batch
    remaining = iter(images)
    groups = iter(lambda: list(islice(remaining, together)), [])
    waiting: deque[Future[_Found]] = deque()
    # What a process is started with goes through a pipe of which Python keeps both ends open: if it
    # is long, and the process ends before it has read all of it, Python waits for ever.
    with tempfile.TemporaryDirectory(prefix="efficientdet-parity-") as folder:
        made = Path(folder) / "detector"
        made.write_bytes(_pickled(make))
        pool = _started(processes, made)

        def submit(most: int) -> None:
            waiting.extend(pool.submit(_detect, group, batch) for group in islice(groups, most))

        try:
            submit(GROUPS_AHEAD * processes)
            while waiting:
                found, error = waiting.popleft().result()
                yield from found
                if error is not None:
                    raise error
                submit(1)
        except BrokenProcessPool as error:
            raise InputError(
                f"One of {processes} processes ended before its work was done: give fewer "
                f"processes if memory is short. {_UNGUARDED}",
                Cause.SPACE,
            ) from error
        except BaseException:
            # Nobody waits for what the others are at, least of all who has interrupted this.
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _pickled(make: Callable[[], Any]) -> bytes:
    try:
        return pickle.dumps(make)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"The model cannot be sent to other processes ({error!s:.120}); leave out what cannot "
            f"be pickled, such as hooks that are functions within others, or give one process.",
            Cause.MODEL,
        ) from error


def _started(processes: int, made: Path) -> ProcessPoolExecutor:
    """Processes that share this one's threads, each with a detector of its own.

    They are begun anew: a forked process would have threads' locks, but not the threads.
    """
    threads = max(1, torch.get_num_threads() // processes)
    return ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        initializer=_open,
        initargs=(str(made), threads),
    )


_own: dict[str, Any] = {}
"""The detector of this process, where it is one of several."""


def _open(made: str, threads: int) -> None:
    torch.set_num_threads(threads)
    # Of a folder that only this user's processes can read, written by the one that started this.
    _own["detector"] = pickle.loads(Path(made).read_bytes())()


def _detect(images: Sequence[Any], batch: int) -> _Found:
    found: list[Detections] = []
    try:
        found.extend(_own["detector"].detect(images, batch))
    except InputError as error:
        return found, error
    return found, None
