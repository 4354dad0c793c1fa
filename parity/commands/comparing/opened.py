"""A checkpoint that has been read, with the networks opened for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.conversion import convert
from converter.fetch.cached import CheckpointFiles
from converter.hparams.given import Hyperparameters
from converter.hparams.words import assumed_words
from efficientdet_spec import Cause, EfficientDetConfig, InputError
from parity.commands.asking.options import convert_checkpoint, describe_checkpoint
from parity.commands.references import Wanted, kind_of, open_reference, open_reference_trace
from parity.process import environment
from parity.results.records.shared import Checkpoint
from parity.settings.shared import ComputeSettings
from parity.sides.side import Reference
from parity.traces.reader import Trace

if TYPE_CHECKING:
    from parity.sides.pytorch import FaithfulReferee


class Opened:
    """A checkpoint's values, and the references and referees that were made of them so far.

    A reference is opened once for a shape of images and stays open until :meth:`close`.

    Args:
        settings: Which checkpoint, which of its values, and how to compute.
        files: The checkpoint's files.
        reference: As of ``--reference``; None for this project's own graph.
        device: Where the reference computes where it can choose.

    Attributes:
        settings: As given.
        files: As given.
        conversion: The checkpoint's values as the PyTorch model has them.
        trace: Recorded tensors that are the reference; None where they are not.

    Raises:
        InputError: The checkpoint or the reference cannot be used.
    """

    def __init__(
        self,
        settings: ComputeSettings,
        files: CheckpointFiles,
        *,
        reference: Path | None = None,
        device: str = "cpu",
    ) -> None:
        started = time.perf_counter()
        self.settings = settings
        self.files = files
        self.conversion = convert_checkpoint(settings, files)
        environment.prepare()
        self._path = reference
        self._device = device
        self.trace: Trace | None = None
        self.trace = open_reference_trace(self.wanted((), None))
        self._seconds = time.perf_counter() - started
        self._stack = ExitStack()
        self._closed = False
        self._references: dict[tuple[int, ...], Reference] = {}
        self._referees: dict[tuple[int, ...], FaithfulReferee] = {}

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every reference; none can be opened any more."""
        self._closed = True
        self._references.clear()
        self._referees.clear()
        self._stack.close()

    def take_seconds(self) -> float:
        """Wall time that reading took, told once: later comparisons do not wait for it."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    @property
    def config(self) -> EfficientDetConfig:
        """The model."""
        return self.conversion.config

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input that is asked for, in pixels.

        Raises:
            InputError: The model cannot process it.
        """
        size = self.settings.size or self.config.image_size
        self.config.feature_sizes(*size)
        return size

    @property
    def described(self) -> Checkpoint:
        """The checkpoint as results name it."""
        return describe_checkpoint(self.settings, self.conversion)

    @property
    def assumed(self) -> list[str]:
        """What the checkpoint's tensors do not say, and nobody else does."""
        return assumed_words(self.conversion.ledger.hyperparameters["assumed"])

    @cached_property
    def faithful(self) -> Any:
        """The PyTorch model with the checkpoint's parameters, in the type of computation."""
        import torch

        from torch_model.checkpoint import from_arrays

        model = from_arrays(self.config, self.conversion.arrays, source=str(self.files.prefix))
        return model.to(getattr(torch, self.settings.dtype))

    @cached_property
    def alternatives(self) -> dict[str, Mapping[str, Any]]:
        """The checkpoint's other values, which a candidate may have been given by mistake."""
        other = "raw" if self.settings.weights == "ema" else "ema"
        try:
            conversion = convert(
                self.files, weights=other, hyperparameters=Hyperparameters.exactly(self.config)
            )
        except InputError:
            # A checkpoint with one kind of values only.
            return {}
        return {other: conversion.arrays}

    def wanted(self, shape: tuple[int, ...], threads: int | None) -> Wanted:
        """What a reference is opened for.

        Args:
            shape: Of the images, [N, H, W, 3].
            threads: Within one operation; None for the framework's default.
        """
        return Wanted(
            path=self._path,
            conversion=self.conversion,
            faithful=lambda: self.faithful,
            prefix=self.files.prefix,
            shape=shape,
            dtype=self.settings.dtype,
            weights=self.settings.weights,
            threads=threads,
            device=self._device,
            trace=self.trace,
        )

    def reference(self, shape: tuple[int, ...]) -> Reference:
        """The network to compare with, ready for images of this shape.

        Args:
            shape: Of the images, [N, H, W, 3].

        Raises:
            InputError: What computes it is missing, it is of another model, or all was closed.
        """
        if self._closed:
            raise InputError("The reference has been closed; open it again.", Cause.OPTION)
        if shape not in self._references:
            wanted = self.wanted(shape, self.settings.threads)
            self._references[shape] = self._stack.enter_context(open_reference(wanted))
        return self._references[shape]

    @property
    def any_size(self) -> bool:
        """Whether there is a reference for images of any number and size."""
        return kind_of(self._path).ANY_SIZE

    def referee(self, shape: tuple[int, ...]) -> FaithfulReferee:
        """The faithful model, ready to judge images of this shape.

        Args:
            shape: Of the images, [N, H, W, 3].
        """
        from parity.sides.pytorch import FaithfulReferee

        if shape not in self._referees:
            kinds = self.reference(shape).kinds
            self._referees[shape] = FaithfulReferee(self.faithful, kinds, shape)
        return self._referees[shape]


@contextmanager
def computing(threads: int | None) -> Iterator[int]:
    """Let PyTorch compute with so many threads; yields the number, None being its default.

    Afterwards it computes as before, with the process's own threads and settings.

    Args:
        threads: Within one operation.
    """
    import torch

    from parity.sides.pytorch.device import settings_kept

    before = torch.get_num_threads()
    with settings_kept():
        if threads:
            torch.set_num_threads(threads)
        try:
            yield torch.get_num_threads()
        finally:
            torch.set_num_threads(before)
