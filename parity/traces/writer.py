"""Writes traces: a reference's tensors to disk, one after another as they are computed."""

from __future__ import annotations

import fnmatch
import io
import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientdet_spec import Cause, InputError
from parity.process.arrays import Array
from parity.process.files import check_writable, writing, writing_to
from parity.sides.side import Reference
from parity.sides.stream import Stream, StreamError
from parity.traces.file import COMPLETE, HEADER, IMAGES, NODES, load_h5py
from parity.traces.header import TraceHeader, TraceNode

_OVERHEAD_BYTES = 4096
"""What HDF5 keeps about one dataset, with room to spare, and its part of the two texts."""
_CHUNK_BYTES = 2**20
"""Of a compressed piece; HDF5's cache holds one such."""


def select(names: Sequence[str], globs: Sequence[str]) -> frozenset[str]:
    """The names that match any of the patterns, or all where there are none.

    Args:
        names: Of all nodes.
        globs: Patterns as of file names, ``backbone.blocks.3.*``; upper case differs from lower.

    Raises:
        InputError: A pattern matches nothing.
    """
    chosen: set[str] = set()
    for glob in globs:
        matching = fnmatch.filter(names, glob)
        if not matching:
            some = ", ".join(names[len(names) * part // 4] for part in range(4))
            raise InputError(
                f"--nodes {glob!r} matches none of the {len(names)} nodes, among which are {some}; "
                f"give a pattern such as 'class_head.*'.",
                Cause.OPTION,
            )
        chosen.update(matching)
    return frozenset(chosen if globs else names)


def trace_nodes(reference: Reference, globs: Sequence[str]) -> tuple[TraceNode, ...]:
    """All nodes of a reference, and which of them to record.

    Args:
        reference: It knows the shapes of its tensors.
        globs: Patterns of the names of the nodes to record; all where there are none.

    Raises:
        InputError: A pattern matches nothing.
    """
    chosen = select(list(reference.kinds), globs)
    return tuple(
        TraceNode(
            name=name,
            kind=kind,
            tensor=reference.tensors[name],
            shape=tuple(reference.sizes[name]),
            recorded=name in chosen,
        )
        for name, kind in reference.kinds.items()
    )


def summary(header: TraceHeader) -> str:
    """One line on what a recording will hold."""
    images = header.input
    return (
        f"{header.config.name}, {header.dtype}, {images['height']}x{images['width']}, image "
        f"{images['source']}: {len(header.recorded)} of {len(header.nodes)} nodes, "
        f"{header.bytes / 1e9:.2f} GB uncompressed"
    )


def write_trace(
    path: Path,
    header: TraceHeader,
    images: Array,
    stream: Stream,
    *,
    compress: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> None:
    """Let a reference compute once and record its tensors; the file appears complete or not at all.

    No more than one tensor is held at a time, and nodes behind the last one to record are not
    computed.

    Args:
        path: The file to write.
        header: What is recorded.
        images: The input, [N, H, W, 3].
        stream: Makes the reference compute; the body of the context takes its tensors.
        compress: Compress without loss, which takes several times as long.
        progress: Told how many nodes are done.

    Raises:
        InputError: h5py is not installed, or the file cannot be written or would not fit.
        StreamError: The reference failed, or computes something else than the header says.
    """
    h5py = load_h5py()
    check_writable(path)
    if not compress:
        _check_room(path, header.bytes + _OVERHEAD_BYTES * (len(header.nodes) + 1))
    with writing_to(path) as temporary, _raw(temporary, path) as raw:
        sink = _Sink(raw, path)
        with _created(h5py, sink) as file:
            _record(_Parts(file, sink, header, compress), header, images, stream, progress)
        sink.check()


def _created(h5py: Any, sink: _Sink) -> Any:
    """An empty HDF5 file that says nothing of when it was made: equal traces are equal bytes."""
    access, creation = h5py.h5p.create(h5py.h5p.FILE_ACCESS), h5py.h5p.create(h5py.h5p.FILE_CREATE)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, sink)
    # Since 1.10 HDF5 has checksums of its own for all that is not values.
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    creation.set_obj_track_times(False)
    return h5py.File(h5py.h5f.create(b"trace", h5py.h5f.ACC_TRUNC, creation, access))


def _group(h5py: Any, file: Any, name: str) -> Any:
    """A group that keeps the order of what is put into it, and is not dated either."""
    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    order = h5py.h5p.CRT_ORDER_TRACKED | h5py.h5p.CRT_ORDER_INDEXED
    creation.set_link_creation_order(order)
    creation.set_attr_creation_order(order)
    creation.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(file.id, name.encode(), gcpl=creation))


def _raw(temporary: Path, path: Path) -> io.FileIO:
    with writing(path):
        return open(temporary, "w+b", buffering=0)


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise InputError(
            f"{path} needs {needed / 1e9:.2f} GB, but {free / 1e9:.2f} GB are free there; choose "
            f"another disk, record fewer nodes with --nodes, or try --compress.",
            Cause.SPACE,
        )


class _Sink:
    """The file below HDF5, which never learns that writing failed.

    HDF5 crashes the whole process when it closes a file that could not be written. Here the first
    failure, an interruption too, is kept until asked for, and what comes after it is dropped: the
    file is given up anyway.
    """

    def __init__(self, raw: io.FileIO, path: Path) -> None:
        self._raw = raw
        self._path = path
        self._position = 0
        self._size = 0
        self._failure: BaseException | None = None

    def check(self) -> None:
        """Raise the failure, if there was one."""
        if self._failure is not None:
            with writing(self._path):
                raise self._failure

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (self._size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        try:
            rest = memoryview(data)
            self._raw.seek(self._position)
            while rest and self._failure is None:
                rest = rest[self._raw.write(rest) :]
        except BaseException as failure:
            self._failure = self._failure or failure
        self._position += len(data)
        self._size = max(self._size, self._position)
        return len(data)

    def read(self, size: int) -> bytes:
        self._raw.seek(self._position)
        data = self._raw.read(size) or b""
        self._position += size
        return data.ljust(size, b"\0")

    def truncate(self, size: int) -> int:
        self._size = size
        try:
            self._raw.truncate(size)
        except BaseException as failure:
            self._failure = self._failure or failure
        return size

    def flush(self) -> None:
        """Nothing is buffered."""


class _Parts:
    """The parts of a trace, written one after another."""

    def __init__(self, file: Any, sink: _Sink, header: TraceHeader, compress: bool) -> None:
        self._file = file
        self._sink = sink
        self._type = header.stored_type
        self._compress = compress
        self._nodes = _group(load_h5py(), file, NODES)

    def text(self, name: str, text: bytes) -> None:
        self._file.create_dataset(name, data=np.bytes_(text))
        self._sink.check()

    def images(self, images: Array) -> None:
        self._file.create_dataset(IMAGES, data=images.astype(self._type, copy=False))
        self._sink.check()

    def node(self, node: TraceNode, position: int, array: Array) -> int:
        """Write a node's tensor and return its checksum."""
        stored = np.ascontiguousarray(array, self._type)
        dataset = self._nodes.create_dataset(node.name, data=stored, **self._packing(stored))
        # For people who look at the file; the header says the same.
        dataset.attrs["kind"] = np.bytes_(node.kind.value)
        dataset.attrs["tensor"] = np.bytes_(node.tensor)
        dataset.attrs["position"] = position
        self._sink.check()
        return zlib.crc32(stored.data)

    def _packing(self, array: Array) -> dict[str, Any]:
        if not self._compress:
            return {}
        _, height, width, channels = array.shape
        rows = _CHUNK_BYTES // (width * channels * array.itemsize)
        return {
            "chunks": (1, min(max(rows, 1), height), width, channels),
            "compression": "gzip",
            "compression_opts": 1,
            "shuffle": True,
        }


def _record(
    parts: _Parts,
    header: TraceHeader,
    images: Array,
    stream: Stream,
    progress: Callable[[int, int | None], None] | None,
) -> None:
    text = json.dumps(header.to_dict(), allow_nan=False).encode()
    parts.text(HEADER, text)
    parts.images(images)
    checksums: dict[str, int] = {}
    last = header.nodes.index(header.recorded[-1])
    with stream() as tensors:
        for position, node in enumerate(header.nodes[: last + 1]):
            if node.recorded:
                array = tensors.take(node.name)
                if array.shape != node.shape or array.dtype != header.stored_type:
                    raise StreamError(
                        f"{node.name} is {array.dtype} {array.shape}, not {header.dtype} "
                        f"{node.shape}"
                    )
                checksums[node.name] = parts.node(node, position, array)
                tensors.release()
            else:
                tensors.skip()
            if progress:
                progress(position + 1, last + 1)
    parts.text(COMPLETE, json.dumps({"header": zlib.crc32(text), "nodes": checksums}).encode())
