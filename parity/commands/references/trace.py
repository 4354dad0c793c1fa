"""Recorded tensors as the reference."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from parity.commands.references import Wanted, no_gradients
from parity.gradients.sides import ReferenceGradients
from parity.sides.side import Reference
from parity.traces.reader import Trace, is_trace, open_trace

ANY_SIZE = False
"""It is of the input that was recorded."""


def accepts(path: Path | None) -> bool:
    """Whether it is named, or begins, like a trace."""
    return path is not None and is_trace(path)


def opened(wanted: Wanted) -> AbstractContextManager[Reference]:
    """The trace, whose tensors are read as they are taken.

    Raises:
        InputError: It cannot be read.
    """
    assert wanted.path is not None
    return nullcontext(reference_of(wanted.trace or open_trace(wanted.path)))


def gradients(wanted: Wanted) -> ReferenceGradients:
    """None: recorded tensors are not differentiated.

    Raises:
        InputError: Always.
    """
    raise no_gradients(wanted)


def reference_of(trace: Trace) -> Reference:
    """A trace as a reference, whatever images it is asked about."""
    return Reference(
        kinds=trace.kinds,
        outputs=trace.outputs,
        compute=lambda images: trace.stream(),
        described={
            "kind": "trace",
            "source": str(trace.path),
            "environment": dict(trace.header.environment),
        },
        framework="TensorFlow",
        recorded=trace.recorded,
        tensors=trace.tensors,
    )
