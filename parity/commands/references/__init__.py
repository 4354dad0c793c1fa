"""The networks that a candidate can be compared with, one module for each kind.

A module of this package has four things: ``accepts``, whether what ``--reference`` names is of its
kind; ``opened``, which makes it ready to compute; ``gradients``, which differentiates it where it
can be; and ``ANY_SIZE``, whether it can be opened for images of any size. Nothing else needs to
know of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from converter.conversion import Conversion
from efficientdet_spec import Cause, EfficientDetConfig, InputError
from parity.gradients.sides import ReferenceGradients
from parity.sides.side import Reference
from parity.traces.reader import Trace, check_matches, open_trace


@dataclass(frozen=True)
class Wanted:
    """What a reference is opened for.

    Attributes:
        path: What ``--reference`` names; None for this project's own graph.
        conversion: The checkpoint's values.
        faithful: Makes the PyTorch model with these values, or gives the one made before.
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
    faithful: Callable[[], Any]
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

    def gradients(self, wanted: Wanted) -> ReferenceGradients:
        """What differentiates it.

        Raises:
            InputError: It cannot be.
        """


def kinds() -> Iterator[Kind]:
    """All kinds of references."""
    for found in pkgutil.iter_modules(__path__):
        yield cast(Kind, importlib.import_module(f"{__name__}.{found.name}"))


def kind_of(path: Path | None) -> Kind:
    """The kind of what ``--reference`` names."""
    found = next((kind for kind in kinds() if kind.accepts(path)), None)
    # Its reader says what a file is that is none.
    return _trace_kind() if found is None else found


def _trace_kind() -> Kind:
    return cast(Kind, importlib.import_module(f"{__name__}.trace"))


def no_gradients(wanted: Wanted) -> InputError:
    """What is said where a reference cannot be differentiated.

    Args:
        wanted: What was asked for.
    """
    return InputError(
        f"--backward differentiates the reference, which {wanted.path} does not allow; give graph, "
        f"exact or a .pth of convert as --reference.",
        Cause.OPTION,
    )


def open_reference(wanted: Wanted) -> AbstractContextManager[Reference]:
    """The network to compare with, ready to compute.

    Args:
        wanted: What it is opened for.

    Raises:
        InputError: What computes it is missing, or it is of another model.
    """
    return kind_of(wanted.path).opened(wanted)


def open_reference_trace(wanted: Wanted) -> Trace | None:
    """The trace given as reference; None where the reference is none.

    Args:
        wanted: What it is opened for; of its images nothing need be known.

    Raises:
        InputError: It cannot be read, or is of another checkpoint.
    """
    if wanted.path is None or kind_of(wanted.path) is not _trace_kind():
        return None
    trace = open_trace(wanted.path)
    check_trace(trace, wanted.conversion, wanted.weights, wanted.dtype)
    return trace


def check_trace(
    trace: Trace,
    conversion: Conversion,
    weights: str,
    dtype: str,
    images_sha256: str | None = None,
) -> None:
    """Raise where a trace is of another checkpoint, type or input.

    Args:
        trace: The trace.
        conversion: The checkpoint's values.
        weights: Which of them.
        dtype: Type of computation.
        images_sha256: Of the input; None where any will do.

    Raises:
        InputError: Says what differs.
    """
    check_matches(
        trace,
        config=conversion.config,
        fingerprint=conversion.provenance["checkpoint_fingerprint"],
        weights=weights,
        images_sha256=images_sha256,
        dtype=dtype,
    )
