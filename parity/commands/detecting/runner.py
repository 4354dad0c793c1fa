"""Where detections are computed: in this process, in others of this machine, or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from efficientdet_spec import Cause, InputError
from parity.commands.detecting.detection import Detection
from parity.commands.detecting.detectors import Detecting
from parity.commands.detecting.recipes import opened, recipe_of
from parity.detections.shards import Compute, in_process
from parity.settings.coco import CocoSettings

if TYPE_CHECKING:
    from parity.detections.certificates import Certificates
    from parity.detections.messages import Recipe

WORKER = "parity.commands.detecting.worker"
"""The program of a local worker."""


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

        with existing_cluster(settings.scheduler, opened, gpu, _certificates(settings)) as cluster:
            yield Runner(_sending(setup, cluster.compute), cluster.describe())
    elif settings.workers is not None:
        from parity.detections.workers import local_workers

        gpus = _gpus(settings.workers) if gpu else None
        with local_workers(settings.workers, WORKER, gpus) as workers:
            yield Runner(_sending(setup, workers.compute), workers.describe())
    else:
        yield Runner(partial(_here, setup))


def _sending(
    setup: Detection, compute: Callable[[Recipe], Compute]
) -> Callable[[Detecting], Compute]:
    """What has a side's shards computed by other processes, where there is anything to compute."""

    def choose(side: Detecting) -> Compute:
        name = side.elsewhere()
        return _here(setup, side) if name is None else compute(recipe_of(setup, side, name))

    return choose


def _here(setup: Detection, side: Detecting) -> Compute:
    return in_process(partial(side.open, setup))


def _certificates(settings: CocoSettings) -> Certificates | None:
    """The files by which machines of a cluster know each other; None where they do not."""
    from parity.detections.certificates import Certificates

    authority, certificate, key = settings.tls_ca, settings.tls_cert, settings.tls_key
    if authority is None or certificate is None or key is None:
        return None
    return Certificates.checked(authority, certificate, key)


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
