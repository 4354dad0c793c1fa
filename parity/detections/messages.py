"""What travels between a command and its workers, as one line of JSON each way.

A task says everything that another process needs to compute a shard; an answer is the shard, or
why there is none. Nothing of it can run as code, and each end takes only what it has checked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from efficientdet_spec import Cause, InputError, in_one_line, printable
from efficientdet_spec.forms import EAGER, FORMS
from parity.detections.annotations import CocoImage
from parity.detections.brought import MAX_DETECTIONS
from parity.detections.shard_files import ImageResult, Shard
from parity.detections.shards import Work

MAX_TASK_BYTES = 2**26
"""Longest task; one of a few images has some kilobytes."""

MAX_TEXT = 4000
"""Longest text in an answer, such as the last lines of a traceback."""

_ROW_BYTES = 200
"""Of a detection in JSON: six numbers of at most 25 characters, with what separates them."""

_MAX_STAGES = 64
_COLUMNS = 6

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Number = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**31)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
Fingerprint = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Row = tuple[float, float, float, float, float, float]


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of what travels, of exactly these fields."""


class SideName(_Message, frozen=True, kw_only=True):
    """A side that another process can find by its name.

    Attributes:
        kind: One of the frameworks, a candidate's network, or a function that detects.
        text: Of the last two, what the command was given, with absolute paths.
        names: Of a candidate, the absolute path of a file that names its submodules.
    """

    kind: Literal["tensorflow", "torch", "candidate", "function"]
    text: Name | None = None
    names: Name | None = None


class Recipe(_Message, frozen=True, kw_only=True):
    """What another process needs to set up a side's detection for itself.

    Attributes:
        prefix: The checkpoint.
        config: The model, as :meth:`EfficientDetConfig.to_dict` gives it.
        weights: Which of the checkpoint's values.
        profile: Its name, and the variant of each stage.
        size: Height and width of the network's input.
        device: Where the network runs.
        threads: Within one operation.
        batch: Images that go through the network together.
        side: What detects.
        manifest: What the other process's detections must depend on.
        strip_prefix: What stands before the checkpoint's names.
        form: How the converted model computes.
    """

    prefix: Name
    config: dict[str, Any]
    weights: Name
    profile: dict[str, str]
    size: tuple[Positive, Positive]
    device: Name
    threads: Positive
    batch: Positive
    side: SideName
    manifest: dict[str, Any]
    strip_prefix: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    form: Annotated[str, Meta(pattern=f"^({'|'.join(FORMS)})$")] = EAGER


class ImageEntry(_Message, frozen=True, kw_only=True):
    """An image, as the annotations describe it, and what its file holds."""

    id: Number
    file_name: Name
    width: Positive
    height: Positive
    content: Fingerprint


class Task(_Message, frozen=True, kw_only=True):
    """A shard to compute.

    Attributes:
        recipe: Of what computes it.
        folder: Absolute path of the folder of the images.
        images: In order, each with its fingerprint at the sender.
        batch: Images that go through the network together.
    """

    recipe: Recipe
    folder: Name
    images: Annotated[tuple[ImageEntry, ...], Meta(min_length=1)]
    batch: Positive

    @classmethod
    def of(cls, recipe: Recipe, work: Work, contents: Sequence[str]) -> Task:
        """The task for these images.

        Args:
            recipe: Of what computes it.
            work: The shard's images.
            contents: The fingerprint of each.
        """
        images = tuple(
            ImageEntry(
                id=image.id,
                file_name=image.file_name,
                width=image.width,
                height=image.height,
                content=content,
            )
            for image, content in zip(work.images, contents, strict=True)
        )
        return cls(recipe=recipe, folder=str(work.folder), images=images, batch=work.batch)

    def work(self) -> Work:
        """Its images, in the folder where this machine finds them."""
        images = [CocoImage(item.id, item.file_name, item.width, item.height)
                  for item in self.images]  # fmt: skip
        return Work(Path(self.folder), images, self.batch)


class Detected(_Message, frozen=True, kw_only=True):
    """What became of an image; its detections are :data:`parity.detections.rows.Rows`."""

    image_id: Number
    failure: Text | None
    detections: Annotated[tuple[Row, ...], Meta(max_length=MAX_DETECTIONS)]


class Found(_Message, frozen=True, kw_only=True, tag_field="answer", tag="shard"):
    """The answer of a worker that has computed the shard."""

    images: tuple[Detected, ...]
    seconds: Annotated[dict[Name, float], Meta(max_length=_MAX_STAGES)]


class Refused(_Message, frozen=True, kw_only=True, tag_field="answer", tag="refused"):
    """The answer of a worker that cannot compute it, for a reason that a user can do away with."""

    message: Text
    cause: Cause


class Failed(_Message, frozen=True, kw_only=True, tag_field="answer", tag="failed"):
    """The answer of a worker in which the program itself has failed."""

    message: Text
    traceback: Text


Answer = Found | Refused | Failed

_TASKS = msgspec.json.Decoder(Task)
_ANSWERS: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class WorkerDefect(RuntimeError):
    """The program has failed in a worker; the traceback there follows the first line."""


def written(message: Task | Answer) -> bytes:
    """A message as one line, without its end."""
    return msgspec.json.encode(message)


def read_task(line: bytes | str) -> Task:
    """Read a task.

    Raises:
        InputError: It is none.
    """
    try:
        return _TASKS.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InputError(
            f"what was sent is no task of this version ({printable(error):.200}); install the same "
            f"version of efficientdet-parity everywhere.",
            Cause.NETWORK,
        ) from error


def most_bytes(images: int) -> int:
    """Longest answer for so many images.

    Args:
        images: Their number.
    """
    return images * (MAX_DETECTIONS * _ROW_BYTES + 8 * MAX_TEXT) + 2**20


def found(shard: Shard) -> Found:
    """A shard as an answer."""
    return Found(
        images=tuple(
            Detected(
                image_id=item.image_id,
                failure=None if item.failure is None else in_one_line(item.failure),
                detections=tuple(map(tuple, item.rows.tolist())),
            )
            for item in shard.images
        ),
        seconds=dict(shard.seconds),
    )


def read_answer(line: bytes | str, images: Sequence[CocoImage], worker: str) -> Shard:
    """The shard that a worker has sent.

    Args:
        line: What it has sent.
        images: Of the shard that it was asked for.
        worker: What a sentence calls it.

    Raises:
        InputError: It cannot compute the shard, or what it has sent is no answer.
        WorkerDefect: The program has failed there.
    """
    try:
        if len(line) > most_bytes(len(images)):
            raise ValueError(f"it has more than {most_bytes(len(images)):,} bytes")
        answer = _ANSWERS.decode(line)
        if isinstance(answer, Found):
            return _shard(answer, images)
        _require_printable(answer.message)
        if isinstance(answer, Failed):
            for part in answer.traceback.splitlines():
                _require_printable(part)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise no_answer(worker, str(error)) from error
    if isinstance(answer, Refused):
        raise InputError(answer.message, answer.cause)
    raise WorkerDefect(f"{answer.message}\n{answer.traceback}")


def no_answer(worker: str, reason: str) -> InputError:
    """What is said of something that a worker sends in the place of an answer.

    Args:
        worker: What the sentence calls it.
        reason: What is wrong with it.
    """
    return InputError(
        f"{worker} has sent something else than the detections of the images that it was asked for "
        f"({printable(reason):.200}); nothing of it was used: install the same version of "
        f"efficientdet-parity for every worker, see that its code prints nothing into its answers, "
        f"and run the same command again.",
        Cause.NETWORK,
    )


def _shard(answer: Found, images: Sequence[CocoImage]) -> Shard:
    """The shard of an answer.

    Raises:
        ValueError: Something is in it that no shard of these images can have.
    """
    given = [item.image_id for item in answer.images]
    if given != [image.id for image in images]:
        raise ValueError(f"its images are {str(given):.60}, not those of the shard")
    if not all(math.isfinite(value) and value >= 0 for value in answer.seconds.values()):
        raise ValueError("its times are no numbers of seconds")
    for stage in answer.seconds:
        _require_printable(stage)
    return Shard([_result(item) for item in answer.images], answer.seconds)


def _result(item: Detected) -> ImageResult:
    rows = np.array(item.detections, np.float64).reshape(-1, _COLUMNS)
    if item.failure is not None:
        _require_printable(item.failure)
        if len(rows):
            raise ValueError(f"image {item.image_id} has failed and has detections")
    if not np.isfinite(rows).all():
        raise ValueError(f"image {item.image_id} has numbers that are not finite")
    scores, categories = rows[:, 4], rows[:, 5]
    if ((scores < 0) | (scores > 1)).any():
        raise ValueError(f"image {item.image_id} has scores that are not from 0 to 1")
    if (categories != np.round(categories)).any():
        raise ValueError(f"image {item.image_id} has categories that are no whole numbers")
    return ImageResult(item.image_id, rows, item.failure)


def _require_printable(text: str) -> None:
    if not text.isprintable():
        raise ValueError("a text in it has characters that a terminal would obey")


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values as they are once they have travelled: tuples are lists.

    Args:
        values: By name.
    """
    found: dict[str, Any] = json.loads(json.dumps(values))
    return found
