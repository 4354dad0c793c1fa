"""Writes TensorFlow V2 checkpoints: complete, or not there at all, also where a process is killed.

A checkpoint is several files, which no file system can exchange at once. So one that takes the
place of another is written under a second name, and then the small state file ``checkpoint``, by
which TensorFlow and this project find the newest checkpoint of a folder, is exchanged: at every
moment it names files that belong together.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from converter import wire
from converter.bundle import TYPE_NUMBERS, index_file, shard_path
from converter.fetch.naming import STATE_FILE, STATE_FILE_MAX_BYTES, parse_state_file
from converter.table import mask_crc, write_table
from efficientdet_spec import (
    Cause,
    InputError,
    file_sha256,
    locked,
    read_regular,
    replacing,
    sync_folder,
)

_SECOND = ".2"
"""What is added to a name for the one that takes turns with it."""

Tensors = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


def write_bundle(prefix: Path, tensors: Tensors) -> Path:
    """Write a checkpoint as TensorFlow's Saver does: data file, index and `checkpoint` state file.

    Where there is one of this name already, it is written as `NAME.2`, or as `NAME` again where
    that is taken by turns; the old one is removed last. One that has the same bytes stays.

    Args:
        prefix: What the names of the files begin with.
        tensors: Values by name; stored in name order.

    Returns:
        What the names of the files that were written begin with.

    Raises:
        InputError: The files cannot be written, or another process is writing them.
        TypeError: TensorFlow has no type for a tensor's elements.
        ValueError: A tensor's name is empty, begins with a zero byte or cannot be printed.
    """
    for name, tensor in tensors.items():
        if not name or not name.isprintable():
            raise ValueError(f"a tensor cannot be named {name!r}")
        if tensor.dtype.newbyteorder("<") not in TYPE_NUMBERS:
            raise TypeError(f"tensor {name!r} has dtype {tensor.dtype}, which cannot be stored")
    turns = [prefix, prefix.with_name(index_file(prefix).stem + _SECOND)]
    try:
        for path in _files(prefix):
            if path.is_dir():
                raise IsADirectoryError(f"{path.name} is a folder")
        with locked(prefix.with_name(f".{prefix.name}.efficientdet-parity.lock")) as ours:
            if not ours:
                raise InputError(
                    f"the checkpoint {prefix} is being written by another process; wait until it "
                    f"has ended, or give another folder",
                    Cause.FILE,
                )
            return _written(turns, tensors)
    except OSError as error:
        raise InputError(
            f"the checkpoint {prefix} cannot be written: {error.strerror or error}; expected a"
            " folder that exists, is writable and has enough space, so give another or make room",
            Cause.of(error),
        ) from error


def _written(turns: list[Path], tensors: Tensors) -> Path:
    """Write under the name whose turn it is, switch the state file, remove the other."""
    current = _current(turns)
    new = next(name for name in turns if name != current)
    try:
        with contextlib.ExitStack() as stack:
            # Each takes its place as its context ends, the last one first.
            index, data = (stack.enter_context(replacing(path)) for path in _files(new))
            with open(data, "wb") as stream:
                items = _write_tensors(stream, tensors)
            with open(index, "wb") as stream:
                stream.write(write_table(items))
            if current is not None and _same(_files(current), (index, data)):
                new = current
                raise _Unchanged
    except _Unchanged:
        pass
    except BaseException:
        _remove(new, of=turns, but=current)
        raise
    try:
        with replacing(new.with_name(STATE_FILE)) as state, open(state, "wb") as stream:
            stream.write(_state_text(new.name))
    except BaseException:
        _remove(new, of=turns, but=current)
        raise
    for name in turns:
        _remove(name, of=turns, but=new)
    sync_folder(new.parent)
    return new


class _Unchanged(Exception):
    """What is written is there already."""


def _files(prefix: Path) -> tuple[Path, Path]:
    """The index and the data file, in this order."""
    return index_file(prefix), shard_path(prefix, 0, 1)


def _current(turns: list[Path]) -> Path | None:
    """The name under which there is a checkpoint; the state file decides between two."""
    there = [name for name in turns if all(path.exists() for path in _files(name))]
    if len(there) == 2:
        with contextlib.suppress(OSError):
            content = read_regular(turns[0].with_name(STATE_FILE), STATE_FILE_MAX_BYTES)
            named = parse_state_file(content)
            there.sort(key=lambda name: name.name != named)
    return there[0] if there else None


def _same(files: tuple[Path, Path], others: tuple[Path, Path]) -> bool:
    return all(
        path.is_file()
        and path.stat().st_size == other.stat().st_size
        and file_sha256(path) == file_sha256(other)
        for path, other in zip(files, others, strict=True)
    )


def _remove(name: Path, *, of: list[Path], but: Path | None) -> None:
    """Remove one of the checkpoints that take turns; the index first, without which it is none."""
    if name in of and name != but:
        for path in _files(name):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _write_tensors(
    stream: BinaryIO, tensors: Mapping[str, np.ndarray[Any, np.dtype[Any]]]
) -> list[tuple[bytes, bytes]]:
    """Write the tensors' bytes; return the pairs of the index."""
    items = [(b"", wire.encode_header(num_shards=1))]
    offset = 0
    for name, tensor in sorted(tensors.items()):
        dtype = tensor.dtype.newbyteorder("<")
        content = tensor.astype(dtype, order="C", copy=False).reshape(-1).view(np.uint8)
        stream.write(content.data)
        crc = google_crc32c.value(content)
        record = wire.Record(
            TYPE_NUMBERS[dtype], tensor.shape, 0, offset, content.size, mask_crc(crc)
        )
        items.append((name.encode(), wire.encode_record(record)))
        offset += content.size
    return items


def _state_text(name: str) -> bytes:
    """Return the text by which TensorFlow finds the newest checkpoint of a folder."""
    quoted = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"\"'\\" else f"\\{byte:03o}"
        for byte in os.fsencode(name)
    )
    return (f'model_checkpoint_path: "{quoted}"\nall_model_checkpoint_paths: "{quoted}"\n').encode()
