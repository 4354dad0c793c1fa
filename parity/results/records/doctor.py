"""The result of ``doctor``: what a machine has and lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from parity.results.records.record import Count, Record, ResultFile, says


class ExtraState(Record, kw_only=True, frozen=True):
    """An optional part of the project."""

    name: Annotated[str, says("its name")]
    versions: Annotated[
        Mapping[str, str | None],
        says("by package, the version; null where it is not installed"),
    ]
    install: Annotated[
        str | None, says("a command that installs it; null where nothing is missing")
    ]


class FrameworkState(Record, kw_only=True, frozen=True):
    """A framework, imported in a process of its own."""

    name: Annotated[str, says("its name")]
    installed: Annotated[bool, says("whether it is installed")]
    works: Annotated[bool, says("whether it can be imported and computes")]
    facts: Annotated[Mapping[str, Any], says("version, threads, devices")]
    message: Annotated[str, says("why it does not work; empty where it does or is not installed")]


class CommandState(Record, kw_only=True, frozen=True):
    """A command with its default settings."""

    name: Annotated[str, says("its name")]
    missing: Annotated[Sequence[str], says("the extras that it needs and that are not there")]


class FoundCheckpoint(Record, kw_only=True, frozen=True):
    """A checkpoint in the cache."""

    name: Annotated[str, says("its file or folder")]
    size: Annotated[Count, says("in bytes")]
    complete: Annotated[bool, says("whether all of it has been downloaded")]


class DoctorResult(ResultFile, kw_only=True, frozen=True):
    """What a machine has and lacks."""

    step: ClassVar[str] = "doctor"

    schema: Annotated[Literal["efficientdet-parity/doctor"], says("what the file is")] = (
        "efficientdet-parity/doctor"
    )
    version: Annotated[Literal[1], says("the version of this schema")] = 1
    healthy: Annotated[bool, says("whether everything that is installed works")]
    project: Annotated[str, says("the version of this project")]
    python: Annotated[str, says("version and place of Python")]
    platform: Annotated[str, says("operating system and processor")]
    cpus: Annotated[Count, says("processors that this process may use")]
    memory_bytes: Annotated[Count | None, says("memory in all; null where it is not known")]
    available_bytes: Annotated[Count | None, says("of that, what is free to use")]
    frameworks: Annotated[Sequence[FrameworkState], says("PyTorch and TensorFlow")]
    extras: Annotated[Sequence[ExtraState], says("the optional parts")]
    commands: Annotated[Sequence[CommandState], says("every command, as it is without options")]
    settings: Annotated[
        Mapping[str, str], says("environment variables that change what is computed or found")
    ]
    cache: Annotated[str, says("the folder of downloads")]
    cache_free_bytes: Annotated[Count | None, says("room on its disk; null where not known")]
    checkpoints: Annotated[Sequence[FoundCheckpoint], says("what has been downloaded to it")]
