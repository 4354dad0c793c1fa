"""A converted checkpoint's values in a graph of TensorFlow's."""

from __future__ import annotations

from typing import Any

from converter.conversion import Conversion, to_tensorflow
from converter.unchanged import check_unchanged, unchanged


def fill(built: Any, session: Any, conversion: Conversion) -> None:
    """Give every variable of a graph the value that was converted.

    TensorFlow reads a TensorFlow 1 checkpoint itself, so that two readers have to agree. What it
    cannot read under these names is given to it.

    Args:
        built: The graph, as of ``reference_tf``.
        session: A session on it.
        conversion: What was made of the checkpoint.

    Raises:
        InputError: The checkpoint is of another model, or no longer the one that was converted.
    """
    readable = conversion.readable
    if readable is None:
        built.assign(session, to_tensorflow(conversion.config, conversion.arrays))
        return
    with unchanged(conversion, readable.prefix):
        built.restore(session, readable.prefix, ema=readable.averages, scope=readable.scope)


def require_unchanged(conversion: Conversion) -> None:
    """Refuse a checkpoint that TensorFlow would read otherwise than it was converted.

    Args:
        conversion: What was made of it.

    Raises:
        InputError: It is no longer the one that was converted.
    """
    if conversion.readable is not None:
        check_unchanged(conversion, conversion.readable.prefix)
