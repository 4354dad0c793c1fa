"""Every kind of container: which one a path is of, and which one a target is to be."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import converter.formats
from converter.formats.source import TensorSource
from converter.formats.target import Values, ValueStream, Written
from efficientdet_spec import Cause, InputError, did_you_mean


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
        files: The files that exist of what ``find`` has returned, which nothing may overwrite.
        write: Writes a target, completely or not at all; None where it is no target. Raises
            InputError where the model cannot be written so, or the file cannot.
        stream: The same of values that come one after another; None of a kind that needs all.
        suffixes: How names of such files end. Targets with one of them are of this kind where
            ``--to`` is not given, and in an archive such files are looked at.
        ending: The one of a file's name that it has by custom; empty for a folder.
        is_folder: Whether a target is a folder of its own.
        holds_both: Whether raw values and moving averages can be written together.
        order: Which kind is asked first, lowest first: a SavedModel holds a checkpoint.
    """

    name: str
    says: str
    find: Callable[[Path], Path | None] | None = None
    open: Callable[[Path], TensorSource] | None = None
    files: Callable[[Path], list[Path]] = lambda path: [path]
    write: Callable[[Path, Values], Written] | None = None
    stream: Callable[[Path, ValueStream], Written] | None = None
    suffixes: tuple[str, ...] = ()
    ending: str = ""
    is_folder: bool = False
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


@cache
def endings() -> Mapping[str, Format]:
    """The kind of container that a file is by how its name ends, with the dot."""
    return MappingProxyType({end: one for one in formats().values() for end in one.suffixes})


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


def target_format(target: Path, name: str | None) -> Format:
    """The kind of file that a target is to be.

    Args:
        target: The file or folder.
        name: As of ``--to``; None goes by the target's ending.

    Raises:
        InputError: Neither says it, or they contradict each other, or it cannot be written there.
    """
    known = {one.name: one for one in formats().values() if one.write is not None}
    if name is not None and name not in known:
        raise InputError(
            f"There is no kind of file {name!r:.80} to write{did_you_mean(name, known)}; give one "
            f"of {', '.join(known)}.",
            Cause.OPTION,
        )
    suffix = target.suffix.lower()
    meant = next((one for one in known.values() if suffix in one.suffixes), None)
    found = meant if name is None else known[name]
    if found is None:
        told = [end for end, one in endings().items() if one.name in known]
        raise InputError(
            f"{target} does not say by its ending what it is to be; let it end in "
            f"{', '.join(told)}, or give --to with one of {', '.join(known)}.",
            Cause.OPTION,
        )
    if meant is not None and meant is not found and suffix != found.ending:
        raise InputError(
            f"{target} ends like {meant.says}, but --to asks for {found.says}; "
            f"{_naming_advice(found)}, or leave --to out.",
            Cause.OPTION,
        )
    return found


def _naming_advice(found: Format) -> str:
    ending = found.ending or next(iter(found.suffixes), "")
    return f"let it end in {ending}" if ending else "name a folder without such an ending"


def check_target(target: Path, found: Format) -> None:
    """Refuse a place where a target cannot be, before any work is done.

    Args:
        target: The file or folder.
        found: Its kind.

    Raises:
        InputError: It is a folder where a file is to be, the other way round, or its folder does
            not exist.
    """
    what = ""
    if found.is_folder and os.path.exists(target) and not os.path.isdir(target):
        what = "is a file, where a folder is to be written; name a folder, or a new one"
    elif not found.is_folder and os.path.isdir(target):
        what = "is a folder; name a file in an existing folder"
    elif not os.path.isdir(target.absolute().parent):
        what = "lies in a folder that does not exist; name one in an existing folder"
    if what:
        raise InputError(f"{target} {what}.", Cause.FILE)
