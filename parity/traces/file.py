"""A trace's HDF5 file, of which nothing is trusted.

The parts of a file:

* ``/header``: JSON text that says what was recorded, and every node of the network;
* ``/images``: the input, [N, H, W, 3];
* ``/nodes/NAME``: the tensor of each recorded node, NHWC, in the order of computation;
* ``/complete``: JSON text with the CRC-32 of the header and of each tensor, written last.

The header is a dataset, since attributes of HDF5 are meant for less than 64 KiB. Types, sizes and
places are held to the header and to the file's own size before memory is taken for them.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from efficientdet_spec import Cause, InputError, install_command
from parity.process.arrays import Array
from parity.process.reading import note

HEADER, IMAGES, NODES, COMPLETE = "header", "images", "nodes", "complete"

_MAX_TEXT_BYTES = 2**25
"""Of a header, of which the largest official model's takes 0.4 MB."""
_MAX_EXPANSION = 1032
"""Deflate's greatest ratio (zlib's technical details)."""
_FILTERS = frozenset({1, 2})
"""Deflate and shuffle, by their numbers in HDF5's registry."""


def load_h5py() -> Any:
    """The h5py module.

    Raises:
        InputError: It is not installed; says which extra to install.
    """
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise InputError(
            f"Traces need h5py, which cannot be imported ({error}); run "
            f"{install_command('traces')}.",
            Cause.MISSING_PACKAGE,
        ) from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, open while the body runs.

    Raises:
        InputError: h5py is not installed, or the file is missing, no HDF5 or damaged.
    """
    h5py = load_h5py()
    if not path.is_file():
        raise InputError(
            f"{path} is no file; give a trace written by compare.py record.", Cause.FILE
        )
    note(path)
    with reading(path):
        if not h5py.is_hdf5(path):
            raise no_trace(path, "not even an HDF5 file")
        # A trace appears complete or not at all, so that there is no writer to lock out; some
        # network file systems know no locks.
        file = h5py.File(path, "r", locking=False)
    with file:
        yield file


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """What HDF5 says of a file that it cannot read, as one sentence."""
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        lines = str(error).splitlines() or [repr(error)]
        raise damaged(path, f"HDF5 cannot read it ({lines[0]:.120})") from error


def damaged(path: Path, found: str) -> InputError:
    """The error of a file that is not as it was written."""
    return InputError(
        f"{path} is cut off or damaged: {found}; copy it again, or record it again.", Cause.FORMAT
    )


def no_trace(path: Path, found: str) -> InputError:
    """The error of a file that is something else."""
    return InputError(
        f"{path} is no trace but {found}; give a file written by compare.py record.", Cause.FORMAT
    )


def linked(file: Any, name: str) -> bool:
    """Whether ``name`` is there, in this very file; nothing is followed elsewhere to find out."""
    group, _, _ = name.rpartition("/")
    links = file.id.links
    hard = load_h5py().h5l.TYPE_HARD
    return all(
        links.exists(step) and links.get_info(step).type == hard
        for step in (part.encode() for part in (group, name) if part)
    )


def _own_dataset(file: Any, name: str) -> Any:
    """The dataset ``name``, whose values are in this very file.

    Raises:
        ValueError: There is none, or its values are elsewhere.
    """
    if not linked(file, name):
        raise ValueError(f"{name} is missing or a link")
    dataset = file[name]
    if not isinstance(dataset, load_h5py().Dataset):
        raise ValueError(f"{name} is no dataset")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"the values of {name} are in another file")
    return dataset


def _check_storage(dataset: Any, path: Path) -> None:
    """Refuse a dataset that claims more than its bytes on disk can hold.

    Raises:
        ValueError: It does, or its bytes are packed in a way that a trace does not use.
    """
    plan = dataset.id.get_create_plist()
    filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
    # Each once: deflated twice, little could become a million times as much.
    if not _FILTERS.issuperset(filters) or len(set(filters)) < len(filters):
        raise ValueError(f"{dataset.name} has the filters {filters}")
    stored, size = dataset.id.get_storage_size(), path.stat().st_size
    offset = dataset.id.get_offset() or 0
    if offset + stored > size or dataset.nbytes > stored * (_MAX_EXPANSION if filters else 1):
        raise ValueError(f"{dataset.name} claims {dataset.nbytes} bytes, but has {stored}")


def dataset_of(file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """A dataset of exactly this shape and type, all of whose bytes are in this file.

    Raises:
        ValueError: It is anything else.
    """
    dataset = _own_dataset(file, name)
    if dataset.shape != shape or dataset.dtype != dtype:
        raise ValueError(f"{name} is {dataset.dtype} {dataset.shape}, not {dtype} {shape}")
    _check_storage(dataset, Path(file.filename))
    return dataset


def content_of(dataset: Any) -> Array:
    """The values of a dataset in an array of its own."""
    array = np.empty(dataset.shape, dataset.dtype)
    dataset.read_direct(array)
    return array


def text_of(file: Any, name: str) -> bytes:
    """A text that is stored as one string of fixed length.

    Raises:
        ValueError: It is anything else, or too long.
    """
    dataset = _own_dataset(file, name)
    if dataset.shape != () or dataset.dtype.kind != "S" or dataset.nbytes > _MAX_TEXT_BYTES:
        raise ValueError(f"{name} is no text")
    _check_storage(dataset, Path(file.filename))
    return bytes(dataset[()])
