"""Every kind of container: which one a path is of, and which one a target is to be."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import converter.formats
from converter.formats.source import TensorSource
from converter.formats.target import Values, Written


@dataclass(frozen=True)
class Format:
    """One kind of container.

    Attributes:
        name: As ``--to`` has it, such as ``h5``.
        says: What such a file is in words, such as ``a Keras HDF5 file``.
        find: For a path that exists or is the prefix of files that do, the path that names the
            container there (see :class:`~converter.formats.source.TensorSource`); None where it
            is of another kind. It looks at the content and never at the suffix alone; it reads
            little, and raises InputError only for what is of this kind and incomplete.
        open: Opens what ``find`` has returned.
        write: Writes a target, completely or not at all; None where it is no target. Raises
            InputError where the model cannot be written so, or the file cannot.
        suffixes: Which targets are of this kind where ``--to`` is not given.
        holds_both: Whether raw values and moving averages can be written together.
        order: Which kind is asked first, lowest first: a SavedModel holds a checkpoint.
    """

    name: str
    says: str
    find: Callable[[Path], Path | None] | None = None
    open: Callable[[Path], TensorSource] | None = None
    write: Callable[[Path, Values], Written] | None = None
    suffixes: tuple[str, ...] = ()
    holds_both: bool = False
    order: int = 50


@cache
def formats() -> Mapping[str, Format]:
    """Every kind of container by its name, in the order in which they are asked."""
    found = []
    for item in pkgutil.iter_modules(converter.formats.__path__):
        module = importlib.import_module(f"{converter.formats.__name__}.{item.name}")
        found += vars(module).get("FORMATS", ())
    return MappingProxyType({one.name: one for one in sorted(found, key=lambda one: one.order)})


def find(path: Path) -> tuple[Format, Path] | None:
    """The kind of container that a path is of, and the path that names it there.

    Args:
        path: A file, a folder, or the prefix of a checkpoint's files.

    Raises:
        InputError: It is of a known kind and incomplete.
    """
    for one in formats().values():
        if one.find is not None and (place := one.find(path)) is not None:
            return one, place
    return None
