"""``efficientdet-parity/run``: what was run for a model's page, and how each step ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from parity.results.records.record import Count, Record, ResultFile, Seconds, Whole, says
from parity.results.records.shared import Environment

Digests = Mapping[str, str | None]


class Status(str, Enum):
    """How a step ended."""

    DONE = "done"
    """With a result."""
    FAILED = "failed"
    """Without one."""
    SKIPPED = "skipped"
    """It was not tried."""


class PlannedStep(Record, frozen=True):
    """A step that a run was asked to make."""

    name: Annotated[str, says("short name")]
    title: Annotated[str, says("what it does")]


class StepResult(Record, kw_only=True, frozen=True):
    """What became of a step."""

    name: Annotated[str, says("short name")]
    title: Annotated[str, says("what it does")]
    command: Annotated[Sequence[str], says("what was run")]
    status: Annotated[Status, says("how it ended")]
    exit_code: Annotated[
        Whole | None,
        says(
            "of the command; the negative number of the signal that ended it; null where nothing "
            "was run"
        ),
    ]
    message: Annotated[str, says("why there is no result; empty where there is one")]
    cause: Annotated[
        str | None,
        says("why there is no result, as `cause` of a failure; null where the command wrote none"),
    ] = None
    seconds: Annotated[Seconds | None, says("wall time")]
    peak_memory_bytes: Annotated[Count | None, says("largest resident memory of its process")]
    result: Annotated[str | None, says("the file with its result; null where there is none")]
    reused: Annotated[bool, says("whether its result is an earlier run's")] = False
    again: Annotated[
        str, says("why it was made again although an earlier run had made it; may be empty")
    ] = ""
    reads: Annotated[
        Digests | None,
        says(
            "SHA-256 of every file that it has read: the modules outside of Python's library and "
            "of installed packages (the candidate's own helpers and this project's code), images, "
            "checkpoints, annotations and results of earlier steps. Null stands for a file that "
            "was not there, and in place of the whole for a process that did not come to an end of "
            "its own"
        ),
    ] = None
    outputs: Annotated[
        Digests,
        says(
            "SHA-256 of every file that it has written. A result whose digest is another is no "
            "parity, also where the pages are made with `--from`"
        ),
    ] = {}
    earlier: Annotated[
        bool,
        says(
            "whether it is an earlier run's, and this run has not come to it: no part of this "
            "result"
        ),
    ] = False


class RunResult(ResultFile, kw_only=True, frozen=True):
    """What was run for one model."""

    schema: Annotated[Literal["efficientdet-parity/run"], says("what the file is")] = (
        "efficientdet-parity/run"
    )
    version: Annotated[Literal[2], says("the version of this schema")] = 2
    model: Annotated[str, says("name of the model")]
    slug: Annotated[str, says("name of its page and folder")]
    source: Annotated[str, says("its checkpoint, or the official name")]
    trained: Annotated[bool, says("whether the weights are trained ones")]
    started: Annotated[str, says("when, as ISO 8601")]
    command: Annotated[str, says("makes it all again")]
    code: Annotated[
        str,
        says(
            "SHA-256 over this project's own code; parts of an evaluation that another code has "
            "computed are not gone on with"
        ),
    ]
    complete: Annotated[
        bool,
        says("whether the run came to its end; false while it runs and after an interruption"),
    ]
    planned: Annotated[
        Sequence[PlannedStep],
        says("all steps that it was asked to make, written before the first of them"),
    ]
    environment: Environment
    note: Annotated[str | UnsetType, says("something that a reader should know")] = UNSET
    steps: Annotated[Sequence[StepResult], says("what became of each step")]
