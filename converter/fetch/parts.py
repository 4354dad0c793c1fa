"""The file in which a download collects, and what killed downloads have left beside it."""

from __future__ import annotations

import contextlib
import glob
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.fetch.versions import is_resumable, notes_of, remove
from efficientdet_spec import locked

_TOKEN_BYTES = 8
_PRIVATE = re.compile(rf"(.*\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}\.part)(\.json|\.lock)?", re.DOTALL)


@contextmanager
def part_file(target: Path) -> Iterator[tuple[Path, bool]]:
    """Gives the resumable part file, or a private one while another process has that.

    The lock is on a file of its own that is never renamed: a lock on the part itself would follow
    it to the target's name and let a waiting process write there. What is left at the end and
    cannot be resumed is removed, and so is what processes have left that were killed.

    Args:
        target: The file to download.

    Yields:
        The part file's path, and whether it stays for a later call to resume.

    Raises:
        OSError: No file can be made there.
    """
    _sweep(target)
    with locked(target.with_name(target.name + ".lock")) as ours:
        if ours:
            part = target.with_name(target.name + ".part")
            _require_own(part)
            try:
                yield part, True
            finally:
                if not is_resumable(part):
                    remove(part)
            return
    with _private(target) as part:
        yield part, False


@contextmanager
def _private(target: Path) -> Iterator[Path]:
    while True:
        part = target.with_name(f"{target.name}.{secrets.token_hex(_TOKEN_BYTES)}.part")
        with locked(_lock(part)) as ours:
            # Whoever sweeps may have been faster.
            if ours:
                try:
                    yield part
                finally:
                    remove(part)
                return


def _require_own(part: Path) -> None:
    """Removes what stands in the place of a download's files and is no file: links, pipes.

    A link would lead to somebody's file, and a pipe would be waited for.
    """
    for path in (part, notes_of(part)):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(path.lstat().st_mode):
                path.unlink()


def _sweep(target: Path) -> None:
    """Removes the private files of processes that were killed while they downloaded."""
    names = glob.glob(f"{glob.escape(target.name)}.*.part*", root_dir=target.parent)
    found = {match[1] for name in names if (match := _PRIVATE.fullmatch(name))}
    for part in map(target.with_name, found):
        with contextlib.suppress(OSError), locked(_lock(part)) as ours:
            if ours:
                remove(part)


def _lock(part: Path) -> Path:
    return part.with_name(part.name + ".lock")
