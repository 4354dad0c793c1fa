"""An HDF5 file, open to be read without HDF5 in this process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from converter.hdf5.child import FAILED
from converter.hdf5.listing import MOST_BYTES, Dataset, Inconsistent, Listing, read_listing
from converter.mappings.layouts import Array
from efficientdet_spec import (
    Cause,
    InputError,
    OpenFile,
    printable,
    require_extra,
    shortened,
)

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_BLOCK = 2**20
"""Bytes that are read at once where that will do; a multiple of every element's size."""

SECONDS = 30.0
"""The longest wait for an answer of the child process, whose computing is limited too."""

_ROOT = Path(__file__).resolve().parents[2]
_BEGIN = (
    "import sys; path, device, inode, *sys.path = sys.argv[1:]; "
    "from converter.hdf5.child import main; main(path, device, inode)"
)
"""What the child runs; it imports nothing before it knows where from, not in the current folder."""

_ENVIRONMENT = {
    # Threads that each ask for room of their own, in a process that has little.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # HDF5 looks for code that unpacks unknown filters, unless it is told not to.
    "HDF5_PLUGIN_PRELOAD": "::",
    "HDF5_USE_FILE_LOCKING": "FALSE",
}


def is_hdf5(stream: Any, size: int) -> bool:
    """Whether an open file is of this format: its signature is at 0, 512, 1024, 2048 and so on.

    Args:
        stream: The file.
        size: Its bytes.
    """
    place = 0
    while place + len(SIGNATURE) <= size:
        stream.seek(place)
        if stream.read(len(SIGNATURE)) == SIGNATURE:
            return True
        place = place * 2 or 512
    return False


class Hdf5File:
    """An HDF5 file of which nothing is trusted.

    There is nothing to close: the file, and the child process where one is needed to unpack
    tensors, stay open as long as this lives.

    Args:
        path: The file.

    Attributes:
        path: The file.
        listing: What it has.

    Raises:
        InputError: It cannot be read, is damaged, or claims what it cannot have; or h5py is not
            installed.
    """

    def __init__(self, path: Path) -> None:
        require_extra("traces", f"To read the HDF5 file {shortened(printable(path), 300)} one")
        self.path = path
        try:
            self._file = OpenFile(path)
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}); give a file that can.", Cause.of(error)
            ) from error
        self._child = _Child(path, self._file.status)
        try:
            self.listing: Listing = read_listing(self._child.answer(MOST_BYTES), self._file.size)
        except Inconsistent as error:
            raise damaged(path, str(error)) from error
        if not any(item.offset is None and item.size for item in self.listing.datasets.values()):
            self._child.end()

    def read(self, dataset: Dataset) -> Array:
        """The values of a dataset of numbers, in an array of their own.

        Args:
            dataset: One of the listing's.

        Raises:
            InputError: They cannot be read, or are not as they were written.
        """
        assert dataset.dtype is not None
        content = np.empty(dataset.size, np.uint8)
        if dataset.offset is not None:
            self._file.fill(content.data, dataset.offset)
        elif dataset.size:
            self._child.ask(dataset.number)
            found = self._child.answer(dataset.size)
            if len(found) != dataset.size:
                raise damaged(self.path, f"{dataset.path} has {len(found):,} bytes")
            content[:] = np.frombuffer(found, np.uint8)
        values = content.view(dataset.dtype).reshape(dataset.shape)
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def blocks(self, dataset: Dataset) -> Iterator[Array]:
        """As :meth:`read`, one part after another, flat, with little memory unless it is packed.

        Args:
            dataset: Likewise.

        Raises:
            InputError: Likewise.
        """
        if dataset.offset is None:
            yield self.read(dataset).reshape(-1)
            return
        assert dataset.dtype is not None
        for start in range(0, dataset.size, _BLOCK):
            part = np.empty(min(_BLOCK, dataset.size - start), np.uint8)
            self._file.fill(part.data, dataset.offset + start)
            yield part.view(dataset.dtype)


class _Child:
    """The process that opens the file."""

    def __init__(self, path: Path, status: os.stat_result) -> None:
        self._path = path
        # The current folder is an empty entry, and may hold anybody's files.
        places = [place for place in sys.path if os.path.isabs(place)]
        if str(_ROOT) not in places:
            places.append(str(_ROOT))
        place = os.path.abspath(path)
        what = [place, str(status.st_dev), str(status.st_ino)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BEGIN, *what, *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT},
            # An interruption is for the process that started it, which ends it.
            start_new_session=True,
        )
        self._end = weakref.finalize(self, _ended, self._process)

    def end(self) -> None:
        """Let it go; it has nothing more to do."""
        self._end()

    def ask(self, number: int) -> None:
        """Ask for the values of a dataset.

        Args:
            number: The dataset's.
        """
        assert self._process.stdin is not None
        # One that has died meanwhile is found to have.
        with suppress(OSError):
            self._process.stdin.write(b"%d\n" % number)
            self._process.stdin.flush()

    def answer(self, most: int) -> bytearray:
        """The next answer.

        Args:
            most: Bytes that it may have.

        Raises:
            InputError: The file is damaged, or the process has died of it.
        """
        until = time.monotonic() + SECONDS
        length = int.from_bytes(self._bytes(8, until), "big")
        if length == FAILED:
            words = self._bytes(min(int.from_bytes(self._bytes(8, until), "big"), 400), until)
            self.end()
            raise damaged(self._path, printable(words.decode("utf-8", "replace")))
        if length > most:
            self.end()
            raise damaged(self._path, f"what it has takes {length:,} bytes, and {most:,} are read")
        return self._bytes(length, until)

    def _bytes(self, count: int, until: float) -> bytearray:
        assert self._process.stdout is not None
        found = bytearray(count)
        left = memoryview(found)
        stream = self._process.stdout.fileno()
        while left:
            ready, _, _ = select.select([stream], [], [], max(0.0, until - time.monotonic()))
            taken = os.readv(stream, [left]) if ready else 0
            if not taken:
                raise self._died(timed_out=not ready)
            left = left[taken:]
        return found

    def _died(self, timed_out: bool) -> InputError:
        if timed_out:
            self._process.kill()
            how = f"took longer than {SECONDS:.0f} seconds"
        else:
            how = _how(self._process.wait(SECONDS))
        self.end()
        return damaged(
            self._path, f"the process that opened it, with little memory and time, {how}"
        )


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    process.wait()


def _how(code: int) -> str:
    """How a process has died, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"


def damaged(path: Path, found: str) -> InputError:
    """The error of a file that is not as it was written.

    Args:
        path: The file.
        found: What is wrong, as a clause.
    """
    return InputError(
        f"{shortened(printable(path), 300)} is damaged, or not as Keras writes files: "
        f"{shortened(printable(found), 400)}; copy, download or save it again.",
        Cause.FORMAT,
    )
