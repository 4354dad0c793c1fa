"""Where detections are computed: in this process or on a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.conversion import convert
from converter.fetch.cached import CheckpointFiles
from efficientdet_spec import Cause, InputError
from parity.commands.detecting.detection import Detection
from parity.commands.detecting.detectors import Detecting
from parity.process import environment
from parity.settings.coco import CocoSettings

if TYPE_CHECKING:
    from parity.detections.shards import Compute, Side


@dataclass(frozen=True)
class Runner:
    """What computes the shards of a run.

    Attributes:
        compute: Gives what computes those of a side.
        environment: What results say about it.
    """

    compute: Callable[[Detecting], Compute]
    environment: Mapping[str, Any] = field(default_factory=dict)


def threads_of(settings: CocoSettings) -> int | None:
    """The threads of each process: workers share the processors where nothing else is said.

    Args:
        settings: Of the command.
    """
    if settings.workers is None or settings.threads is not None:
        return settings.threads
    return max(1, (os.cpu_count() or 1) // settings.workers)


@contextmanager
def open_runner(settings: CocoSettings, setup: Detection) -> Iterator[Runner]:
    """What a command asks to compute with.

    Args:
        settings: Of the command.
        setup: The model and the stages around it.

    Raises:
        InputError: The cluster cannot be used, or this machine has fewer GPUs than workers.
    """
    gpu = setup.device == "cuda"
    if settings.scheduler is not None:
        from parity.detections.cluster import existing_cluster

        opened = existing_cluster(settings.scheduler, gpu)
    elif settings.workers is not None:
        from parity.detections.cluster import local_cluster

        opened = local_cluster(settings.workers, _gpus(settings.workers) if gpu else None)
    else:
        from parity.detections.shards import in_process

        yield Runner(lambda side: in_process(partial(side.open, setup)))
        return
    with opened as cluster:
        yield Runner(
            lambda side: cluster.compute(Recipe.of(setup, side)),
            {"cluster": cluster.describe()},
        )


def _gpus(workers: int) -> list[str]:
    """The GPU of each worker, one of those that this process may use."""
    import torch

    count = torch.cuda.device_count()
    if workers > count:
        raise InputError(
            f"--workers is {workers}, but PyTorch finds {count} GPUs, one of which each worker "
            f"needs; give at most as many workers.",
            Cause.DEVICE,
        )
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return named[:workers] if len(named) >= count else [str(number) for number in range(workers)]


@dataclass(frozen=True)
class Recipe:
    """What another process needs to set up one side's detection for itself.

    Attributes:
        settings: The attributes of :class:`Detection`, without the checkpoint's values.
        model: Name of the model.
        num_classes: The checkpoint's number of classes.
        side: What detects.
        manifest: What the other process's detections must depend on.
    """

    settings: Mapping[str, Any]
    model: str
    num_classes: int
    side: Detecting
    manifest: Mapping[str, Any]

    @classmethod
    def of(cls, setup: Detection, side: Detecting) -> Recipe:
        """The recipe for what has been set up here.

        Raises:
            InputError: The side is of this process alone.
        """
        names = [item.name for item in fields(Detection) if item.name != "conversion"]
        settings = {name: getattr(setup, name) for name in names}
        # Another process has a current folder of its own.
        settings["prefix"] = setup.prefix.absolute()
        config = setup.conversion.config
        manifest = side.manifest(setup)
        return cls(settings, config.name, config.num_classes, side.elsewhere(), manifest)

    @contextmanager
    def __call__(self) -> Iterator[Side]:
        """Set it up.

        Raises:
            InputError: The checkpoint cannot be read here, or the detections would depend on
                something else than those of the process that sent the recipe.
        """
        environment.prepare(in_turns=False)
        prefix: Path = self.settings["prefix"]
        conversion = convert(
            CheckpointFiles(prefix, str(prefix), None),
            model=self.model,
            num_classes=self.num_classes,
            weights=self.settings["weights"],
        )
        setup = Detection(conversion=conversion, **self.settings)
        found = self.side.manifest(setup)
        differing = [
            f"{name} is {found.get(name)!s:.40}, not {wanted!s:.40}"
            for name, wanted in self.manifest.items()
            if found.get(name) != wanted
        ]
        if differing:
            raise InputError(
                f"{prefix} would be detected with otherwise than by the machine of this command: "
                f"{', '.join(differing)}; let every machine have the same files and versions."
            )
        with self.side.open(setup) as side:
            yield side
