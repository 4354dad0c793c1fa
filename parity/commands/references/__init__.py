"""The networks that a candidate can be compared with, one module for each kind.

A module of this package has three things: ``accepts``, whether what ``--reference`` names is of its
kind; ``opened``, which makes it ready to compute; and ``ANY_SIZE``, whether it can be opened for
images of any size. Nothing else needs to know of it.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from converter.conversion import Conversion
from efficientdet_spec import EfficientDetConfig
from parity.sides.side import Reference
from parity.traces.reader import Trace


@dataclass(frozen=True)
class Wanted:
    """What a reference is opened for.

    Attributes:
        path: What ``--reference`` names; None for this project's own graph.
        conversion: The checkpoint's values.
        prefix: The checkpoint.
        shape: Of the images, [N, H, W, 3].
        dtype: Type of computation.
        weights: Which of the checkpoint's values, ``ema`` or ``raw``.
        threads: Within one operation; None for the framework's default.
        device: ``cpu`` or ``cuda``.
        trace: What is recorded, where it has been opened already.
    """

    path: Path | None
    conversion: Conversion
    prefix: Path
    shape: tuple[int, ...]
    dtype: str
    weights: str
    threads: int | None
    device: str
    trace: Trace | None = None

    @property
    def config(self) -> EfficientDetConfig:
        """The model."""
        return self.conversion.config


class Kind(Protocol):
    """A module of this package."""

    ANY_SIZE: bool

    def accepts(self, path: Path | None) -> bool:
        """Whether what ``--reference`` names is of this kind, judged by its name."""

    def opened(self, wanted: Wanted) -> AbstractContextManager[Reference]:
        """The network, ready to compute."""


def kinds() -> Iterator[Kind]:
    """All kinds of references."""
    for found in pkgutil.iter_modules(__path__):
        yield cast(Kind, importlib.import_module(f"{__name__}.{found.name}"))


def kind_of(path: Path | None) -> Kind:
    """The kind of what ``--reference`` names."""
    found = next((kind for kind in kinds() if kind.accepts(path)), None)
    if found is None:
        # Its reader says what a file is that is none.
        found = cast(Kind, importlib.import_module(f"{__name__}.trace"))
    return found


@contextmanager
def open_reference(
    arguments: argparse.Namespace,
    conversion: Conversion,
    prefix: Path,
    shape: tuple[int, ...],
    trace: Trace | None = None,
) -> Iterator[Reference]:
    """The network to compare with, ready to compute.

    Args:
        arguments: The command line.
        conversion: The checkpoint's values.
        prefix: The checkpoint.
        shape: Of the images, [N, H, W, 3].
        trace: Recorded tensors to take, where they have been opened already.

    Raises:
        InputError: What computes it is missing, or it is of another model.
    """
    path: Path | None = getattr(arguments, "reference", None)
    wanted = Wanted(
        path=path,
        conversion=conversion,
        prefix=prefix,
        shape=shape,
        dtype=arguments.dtype,
        weights=arguments.weights,
        threads=arguments.threads,
        device=getattr(arguments, "device", "cpu"),
        trace=trace,
    )
    with kind_of(path).opened(wanted) as reference:
        yield reference
