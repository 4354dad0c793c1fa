"""What a process has read: the files on which its result depends besides its command line.

A process that is started with :data:`VARIABLE` in its environment writes there, as it ends, a JSON
list of the files that it opened to read, and of the source files of its modules. What belongs to
the system, to Python or to installed packages is left out: their versions stand for them.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

VARIABLE = "EFFICIENTDET_PARITY_READS"
"""The environment variable that names the file to be written."""

_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/run", "/lib", "/lib64", "/usr/lib", "/usr/share")
_PACKAGES = {"site-packages", "dist-packages"}


class Reads:
    """Collects the files that a process reads and writes.

    Attributes:
        read: Absolute paths of files opened to read, also of those that were not there.
        written: Absolute paths of files opened to write, and what they, or the folders that they
            are in, were renamed to.
    """

    def __init__(self) -> None:
        self.read: set[str] = set()
        self.written: set[str] = set()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook, see :func:`sys.addaudithook`; it must never fail."""
        if event == "open":
            path, _, flags = arguments
            writing = flags & (os.O_WRONLY | os.O_RDWR) if isinstance(flags, int) else 0
            self._add(self.written if writing else self.read, path)
        elif event == "os.rename":
            self._add(self.written, arguments[1])
            self._moved(*arguments[:2])

    def _moved(self, old: Any, new: Any) -> None:
        """What was written into a folder lies in it under the folder's new name too."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            before, after = (os.path.abspath(os.fsdecode(path)) for path in (old, new))
            inside = [path for path in self.written if _within(path, (before,))]
            self.written |= {after + path[len(before) :] for path in inside}

    def _add(self, paths: set[str], path: Any) -> None:
        # Some files are opened by their descriptor, which had a name before.
        if isinstance(path, str | bytes | os.PathLike):
            with contextlib.suppress(OSError, ValueError, TypeError):
                paths.add(os.path.abspath(os.fsdecode(path)))

    def files(self) -> list[str]:
        """The files on which the result depends so far."""
        ignored = _ignored()
        found = {_source(path) for path in self.read - self.written} | set(_modules())
        return sorted(
            path
            for path in found - self.written
            if not _within(path, ignored) and not _is_odd(path)
        )


_reads: Reads | None = None


def start() -> None:
    """Collect what this process reads from now on, if :data:`VARIABLE` asks for it."""
    global _reads
    # A process started by this one must not write over our list.
    target = os.environ.pop(VARIABLE, None)
    if target is None or _reads is not None:
        return
    _reads = Reads()
    # As the process ends, Python has forgotten which file the program itself was.
    program = getattr(sys.modules["__main__"], "__file__", None)
    if program is not None:
        note(program)
    sys.addaudithook(_reads)
    atexit.register(_write, _reads, Path(target))


def note(path: str | os.PathLike[str]) -> None:
    """Say that a file is read by code that Python does not see, such as a library of C's."""
    if _reads is not None:
        _reads.read.add(os.path.abspath(os.fspath(path)))


def _write(reads: Reads, target: Path) -> None:
    # Without the list whoever asked knows that it is unknown.
    with contextlib.suppress(OSError):
        target.write_text(json.dumps(reads.files()), "utf-8")


def _modules() -> Iterable[str]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and os.path.isabs(file):
            yield _source(file)


def _source(path: str) -> str:
    """The source file of a compiled module; any other path as it is."""
    if path.endswith(".pyc"):
        with contextlib.suppress(ValueError):
            return importlib.util.source_from_cache(path)
    return path


def _ignored() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    places = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    places += [site.getusersitepackages(), os.path.join(sys.base_prefix, "lib"), *_SYSTEM]
    if sys.prefix != sys.base_prefix:
        places.append(sys.prefix)
    return tuple({*places, *map(os.path.realpath, places)})


def _within(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place + os.sep) for place in places)


def _is_odd(path: str) -> bool:
    """Whether it is no file that can be looked at again, or one of an installed package."""
    return os.path.isdir(path) or not _PACKAGES.isdisjoint(Path(path).parts)
