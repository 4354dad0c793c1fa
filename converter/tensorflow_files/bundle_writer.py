"""Writes TensorFlow V2 checkpoints: complete, or not there at all, also where a process is killed.

A checkpoint is several files, which no file system can exchange at once. So one that takes the
place of another is written under a second name, and then the small state file ``checkpoint``, by
which TensorFlow and this project find the newest checkpoint of a folder, is exchanged: at every
moment it names files that belong together.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from converter.tensorflow_files import string_tensors, wire
from converter.tensorflow_files.bundle import (
    STRING_NUMBER,
    TYPE_NUMBERS,
    index_file,
    open_bundle,
    shard_path,
)
from converter.tensorflow_files.naming import STATE_FILE, STATE_FILE_MAX_BYTES, parse_state_file
from converter.tensorflow_files.table import mask_crc, write_table
from efficientdet_spec import (
    Cause,
    InputError,
    discard,
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
        tensors: Values by name, of strings as objects of type bytes; stored in name order.

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
        if _is_strings(tensor):
            continue
        if tensor.dtype.newbyteorder("<") not in TYPE_NUMBERS:
            raise TypeError(f"tensor {name!r} has dtype {tensor.dtype}, which cannot be stored")
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
            return _written(turns(prefix), tensors)
    except OSError as error:
        raise InputError(
            f"the checkpoint {prefix} cannot be written: {error.strerror or error}; expected a"
            " folder that exists, is writable and has enough space, so give another or make room",
            Cause.of(error),
        ) from error


def turns(prefix: Path) -> list[Path]:
    """Under which names a checkpoint is written by turns.

    Args:
        prefix: What the names of the files begin with.
    """
    return [prefix, prefix.with_name(index_file(prefix).stem + _SECOND)]


def _written(names: list[Path], tensors: Tensors) -> Path:
    """Write under the name whose turn it is, switch the state file, remove the other."""
    current, index = _current(names), write_table(_items(tensors))
    unchanged = current is not None and _holds(current, index)
    new = current if current is not None and unchanged else _other(names, current)
    try:
        if not unchanged:
            _put(new, index, tensors)
        with replacing(new.with_name(STATE_FILE)) as state, open(state, "wb") as stream:
            stream.write(_state_text(new.name))
    except BaseException:
        if not unchanged:
            _remove(new)
        raise
    _remove(_other(names, new))
    sync_folder(new.parent)
    return new


def _other(names: list[Path], name: Path | None) -> Path:
    """The name whose turn it is where ``name`` has had its own."""
    return next(other for other in names if other != name)


def _put(prefix: Path, index: bytes, tensors: Tensors) -> None:
    """Write a checkpoint's files; the index, without which there is none, takes its place last."""
    index_path, data_path = _files(prefix)
    with replacing(index_path) as beside, replacing(data_path) as data:
        with open(data, "wb") as stream:
            for content in _contents(tensors):
                stream.write(content.data)
        with open(beside, "wb") as stream:
            stream.write(index)


def _holds(prefix: Path, index: bytes) -> bool:
    """Whether a checkpoint has this very index, and the data that it says."""
    try:
        if read_regular(index_file(prefix), len(index)) != index:
            return False
        bundle = open_bundle(prefix)
        for name in bundle.index.entries:
            bundle.verify(name)
    except (OSError, InputError):
        return False
    return True


def _files(prefix: Path) -> tuple[Path, Path]:
    """The index and the data file, in this order."""
    return index_file(prefix), shard_path(prefix, 0, 1)


def _current(names: list[Path]) -> Path | None:
    """The name under which there is a checkpoint; the state file decides between two."""
    there = [name for name in names if all(path.exists() for path in _files(name))]
    if len(there) == 2:
        with contextlib.suppress(OSError):
            content = read_regular(names[0].with_name(STATE_FILE), STATE_FILE_MAX_BYTES)
            named = parse_state_file(content)
            there.sort(key=lambda name: name.name != named)
    return there[0] if there else None


def _remove(prefix: Path) -> None:
    """Remove a checkpoint's files, the index first, without which it is none; never fails."""
    for path in _files(prefix):
        discard(path)


def _is_strings(tensor: np.ndarray[Any, np.dtype[Any]]) -> bool:
    return tensor.dtype == object and all(isinstance(item, bytes) for item in tensor.flat)


def _contents(tensors: Tensors) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
    """The bytes of each tensor, in the order of their names."""
    for _, tensor in sorted(tensors.items()):
        if tensor.dtype == object:
            yield np.frombuffer(string_tensors.encode(list(tensor.flat))[0], np.uint8)
            continue
        dtype = tensor.dtype.newbyteorder("<")
        yield tensor.astype(dtype, order="C", copy=False).reshape(-1).view(np.uint8)


def _items(tensors: Tensors) -> list[tuple[bytes, bytes]]:
    """The pairs of the index."""
    items = [(b"", wire.encode_header(num_shards=1))]
    offset = 0
    for (name, tensor), content in zip(sorted(tensors.items()), _contents(tensors), strict=True):
        if tensor.dtype == object:
            kind, crc = STRING_NUMBER, string_tensors.encode(list(tensor.flat))[1]
        else:
            kind = TYPE_NUMBERS[tensor.dtype.newbyteorder("<")]
            crc = google_crc32c.value(content)
        record = wire.Record(kind, tensor.shape, 0, offset, content.size, mask_crc(crc))
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
