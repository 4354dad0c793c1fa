"""The process of a local worker: it answers tasks that come through a pipe until the pipe ends."""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import BinaryIO

from parity.detections.computing import Computing, Opener
from parity.detections.messages import MAX_TASK_BYTES

_GRACE = 5.0
"""Seconds for closing the model once the pipe has ended."""


def serve(open_side: Opener, name: str) -> None:
    """Answer tasks from standard input on standard output, one line each, until input ends.

    It ends so with the process that writes to it, by whatever means that ended.

    Args:
        open_side: Opens what computes.
        name: What messages call this worker.
    """
    tasks, answers = _own_pipes()
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(tasks, lines), name="tasks", daemon=True).start()
    computing = Computing(open_side, name)
    try:
        while line := lines.get():
            answers.write(computing.answer(line) + b"\n")
            answers.flush()
    except BrokenPipeError:
        # Nobody is there to be told.
        os._exit(0)
    computing.close()


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The ends of both pipes, under numbers that nothing else in this process knows.

    What frameworks or a candidate's code print goes to standard error, and what they read is empty.
    """
    tasks, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(tasks, "rb"), os.fdopen(answers, "wb")


def _read(tasks: BinaryIO, lines: queue.SimpleQueue[bytes]) -> None:
    """Hand tasks on; when there are no more, so that a shard under way is of no use, end."""
    while (line := tasks.readline(MAX_TASK_BYTES)).endswith(b"\n"):
        lines.put(line)
    lines.put(b"")
    time.sleep(_GRACE)
    os._exit(0)
