"""What a worker does with a task, however it got it: shards, by a model that stays open."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext

from efficientdet_spec import Cause, InputError, in_one_line, printable
from parity.detections.annotations import CocoImage
from parity.detections.messages import (
    MAX_TEXT,
    Answer,
    Failed,
    Recipe,
    Refused,
    Task,
    found,
    read_task,
    written,
)
from parity.detections.shard_files import Shard
from parity.detections.shards import Side, Work, fingerprint, in_process
from parity.process.console import out_of_memory

Opener = Callable[[Recipe], AbstractContextManager[Side]]
"""Opens the side that a recipe is of; equal recipes open the same side."""


def fingerprints(work: Work) -> list[str]:
    """SHA-256 of each image's id, name and content."""
    return [fingerprint(_of_one(work, image)) for image in work.images]


def _of_one(work: Work, image: CocoImage) -> Work:
    return Work(work.folder, [image], work.batch)


class Computing:
    """Answers tasks, with a model that is kept open from one to the next; of one thread alone.

    Args:
        open_side: Opens what computes.
        name: What messages call this worker.
    """

    def __init__(self, open_side: Opener, name: str) -> None:
        self._open_side = open_side
        self._name = name
        self._open = ExitStack()
        self._opened: tuple[Recipe, Side] | None = None

    def answer(self, line: bytes | str) -> bytes:
        """The answer to a task; it never fails.

        Args:
            line: The task as it was sent.
        """
        return written(self._answer(line))

    def close(self) -> None:
        """Close the model that is open, if one is."""
        self._opened = None
        self._open.close()

    def _answer(self, line: bytes | str) -> Answer:
        try:
            return found(self._shard(read_task(line)))
        except InputError as error:
            return Refused(message=in_one_line(f"{self._name}: {error}"), cause=error.cause)
        except Exception as error:
            if out_of_memory(error):
                return Refused(
                    message=f"{self._name}: memory ran out; give a smaller --size or --batch-size, "
                    f"or use workers with more memory.",
                    cause=Cause.SPACE,
                )
            return Failed(
                message=in_one_line(f"{self._name}: {type(error).__name__}: {error}"),
                traceback=_traceback(error),
            )

    def _shard(self, task: Task) -> Shard:
        work = task.work()
        _check_images(work, [image.content for image in task.images])
        side = self._side(task.recipe)
        try:
            ((_, shard),) = in_process(lambda: nullcontext(side))(
                work, {0: work.images}, lambda _: None
            )
        except BaseException:
            # Nobody knows what state it is in.
            self.close()
            raise
        return shard

    def _side(self, recipe: Recipe) -> Side:
        if self._opened is None or self._opened[0] != recipe:
            self.close()
            self._opened = recipe, self._open.enter_context(self._open_side(recipe))
        return self._opened[1]


def _traceback(error: BaseException) -> str:
    """The lines of a traceback, the last ones where there are too many."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(printable(line) for line in lines)[-MAX_TEXT:]


def _check_images(work: Work, contents: list[str]) -> None:
    """Raise where this machine has other image files than the sender."""
    for image, content in zip(work.images, contents, strict=True):
        if fingerprint(_of_one(work, image)) != content:
            path = work.folder / image.file_name
            what = "has another content than" if path.is_file() else "is no file, unlike"
            raise InputError(
                f"{path} {what} on the machine of this command; let every machine see the same "
                f"files under the same path.",
                Cause.FILE,
            )
