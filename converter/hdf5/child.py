"""The process that opens an HDF5 file: it lists what is there, and unpacks what is packed.

It runs with little memory, little time and no right to write files. Whatever becomes of it, the
process that started it goes on. It answers on standard output, each answer behind its length in
eight bytes, the highest first: once with the list, as JSON; then for each number of a dataset that
it is asked for, a line on standard input, with that dataset's bytes.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

MEMORY = 2**30
"""Bytes of address space: the interpreter with h5py takes a third, and a packed tensor at most
half of the rest (:data:`converter.hdf5.listing.MOST_UNPACKED`)."""

SECONDS = 15
"""Of computing: the largest official model takes two, packed."""

_FILES = 64
"""Open files, for the libraries that are imported."""

MOST_OBJECTS = 20_000
"""Groups and datasets: an optimizer's slots double the 2,000 of the largest official model."""

_MOST_DEPTH = 32
_MOST_NAMES = 20_000
_MOST_ATTRIBUTE = 2**24
"""Bytes of an attribute, of which Keras writes at most 64,512."""

LISTS = ("layer_names", "weight_names")
"""The attributes that are read: names of groups and of datasets, in order."""

FAILED = 2**64 - 1
"""In the place of a length: what follows is a sentence, behind its own."""


class Refused(Exception):
    """What the file has is not what such a file may have; says what it is."""


def main(path: str, device: str, inode: str) -> None:
    """List a file, then unpack what is asked for, until nothing more is.

    Args:
        path: The file.
        device: Its device, and
        inode: its number there, by which it is known to be the file that is meant.
    """
    out = os.fdopen(os.dup(1), "wb")
    # Whatever else prints must not answer.
    os.dup2(2, 1)
    # Where it is missing, there is no child.
    h5py = importlib.import_module("h5py")
    _limit()
    try:
        stream = _opened(path, int(device), int(inode))
        file = h5py.File(stream, "r")
        datasets: list[Any] = []
        _answer(out, json.dumps(_listing(h5py, file, datasets)).encode())
        for line in sys.stdin:
            _answer(out, _unpacked(datasets[int(line)]))
    except Exception as error:  # whatever HDF5 raises, it says what is wrong with the file
        lines = str(error).splitlines() or [repr(error)]
        words = lines[0] if isinstance(error, Refused) else f"HDF5 cannot read it ({lines[0]})"
        out.write(FAILED.to_bytes(8, "big"))
        _answer(out, words[:400].encode("utf-8", "replace"))


def _limit() -> None:
    """Take from this process what it does not need, where the system can."""
    try:
        import resource
    except ImportError:
        return
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _FILES),
    ):
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _opened(path: str, device: int, inode: int) -> Any:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    found = os.fstat(descriptor)
    if (found.st_dev, found.st_ino) != (device, inode):
        raise Refused("another file has taken its place meanwhile")
    return os.fdopen(descriptor, "rb")


def _answer(out: Any, data: Any) -> None:
    out.write(len(data).to_bytes(8, "big"))
    out.write(data)
    out.flush()


def _unpacked(dataset: Any) -> Any:
    values = np.empty(dataset.shape, dataset.dtype)
    if values.size:
        dataset.read_direct(values)
    return values.reshape(-1).view(np.uint8).data


def _listing(h5py: Any, file: Any, datasets: list[Any]) -> dict[str, Any]:
    """What a file has: its groups with their lists of names, and its datasets.

    Args:
        h5py: The module.
        file: The file.
        datasets: Is filled with the datasets, in the list's order.
    """
    groups, listed = [], []
    for path, item in _walk(h5py, file):
        if isinstance(item, h5py.Group):
            groups.append([path, {name: _names(h5py, item, name) for name in LISTS}])
        else:
            listed.append([path, *_described(h5py, item)])
            datasets.append(item)
    return {"groups": groups, "datasets": listed}


def _walk(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Every group and dataset by its path; nothing is followed out of the file, or twice."""
    waiting: list[tuple[str, Any, int]] = [("", file["/"], 0)]
    seen = {h5py.h5o.get_info(file["/"].id).addr}
    while waiting:
        path, item, depth = waiting.pop()
        yield path, item
        if not isinstance(item, h5py.Group):
            continue
        if depth == _MOST_DEPTH:
            raise Refused(f"its groups lie more than {_MOST_DEPTH} deep")
        if len(item) + len(seen) > MOST_OBJECTS:
            raise Refused(f"it has more than {MOST_OBJECTS:,} groups and datasets")
        for name in reversed(list(item)):
            inner = f"{path}/{name}" if path else name
            kind = item.id.links.get_info(name.encode("utf-8", "surrogateescape")).type
            if kind != h5py.h5l.TYPE_HARD:
                raise Refused(f"{inner} is a link to elsewhere")
            found = item[name]
            if not isinstance(found, (h5py.Group, h5py.Dataset)):
                raise Refused(f"{inner} is neither a group nor a dataset")
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                raise Refused(f"{inner} is another name of what stands elsewhere in the file")
            seen.add(address)
            waiting.append((inner, found, depth + 1))


def _names(h5py: Any, group: Any, name: str) -> list[str] | None:
    """A list of names, which Keras splits where it is long; None where there is none."""
    if name in group.attrs:
        return _texts(h5py, group, name)
    found: list[str] = []
    part = 0
    while f"{name}{part}" in group.attrs and len(found) <= _MOST_NAMES:
        found += _texts(h5py, group, f"{name}{part}")
        part += 1
    return found if part else None


def _texts(h5py: Any, group: Any, name: str) -> list[str]:
    attribute = group.attrs.get_id(name)
    count = attribute.get_space().get_simple_extent_npoints()
    where = f"the attribute {name} of {group.name}"
    if len(attribute.shape) != 1 or count > _MOST_NAMES:
        raise Refused(f"{where} is no list of at most {_MOST_NAMES:,} names")
    if not count:
        return []
    kind = attribute.get_type()
    if not isinstance(kind, h5py.h5t.TypeStringID) or count * kind.get_size() > _MOST_ATTRIBUTE:
        raise Refused(f"{where} has no names")
    found = [
        item.decode("utf-8", "backslashreplace") if isinstance(item, bytes) else str(item)
        for item in group.attrs[name]
    ]
    if sum(map(len, found)) > _MOST_ATTRIBUTE:
        raise Refused(f"{where} has more than {_MOST_ATTRIBUTE:,} letters")
    return found


def _described(h5py: Any, dataset: Any) -> list[Any]:
    """Type, shape, place, bytes on disk, filters and number of chunks of a dataset."""
    plan = dataset.id.get_create_plist()
    layout = plan.get_layout()
    if layout not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED, h5py.h5d.COMPACT):
        raise Refused(f"{dataset.name[1:]} is a view of other datasets")
    if plan.get_external_count():
        raise Refused(f"the values of {dataset.name[1:]} are in another file")
    if dataset.shape is None:
        raise Refused(f"{dataset.name[1:]} has no values")
    place = dataset.id.get_offset() if layout == h5py.h5d.CONTIGUOUS else None
    chunk = list(dataset.chunks) if layout == h5py.h5d.CHUNKED else None
    return [
        _type(h5py, dataset),
        list(dataset.shape),
        place,
        dataset.id.get_storage_size(),
        [plan.get_filter(number)[0] for number in range(plan.get_nfilters())],
        chunk,
        dataset.id.get_num_chunks() if chunk is not None else None,
        {h5py.h5d.CONTIGUOUS: "contiguous", h5py.h5d.CHUNKED: "chunked"}.get(layout, "compact"),
    ]


def _type(h5py: Any, dataset: Any) -> str | None:
    """NumPy's name of a type of numbers that are stored just so; None of any other."""
    stored = dataset.id.get_type()
    try:
        kind = stored.dtype
        same = stored.equal(h5py.h5t.py_create(kind, logical=True))
    except (TypeError, ValueError, KeyError):
        return None
    return str(kind.str) if same and kind.kind in "fiub" and kind.itemsize <= 8 else None
