"""A recorded reference."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.damage.hdf5 import HDF5
from fuzzing.damage.raw import RAW, splice
from fuzzing.target import Target
from parity.traces.reader import open_trace
from parity.traces.writer import write_trace

_RECORDED = Path(__file__).resolve().parents[3] / "benchmarks" / "tiny_trace.h5"
_NODES = 6


class Reader(Target):
    """The header, the images and every tensor."""

    WHAT = "trace of a recording (`open_trace`, every tensor)"
    # Of the header alone: the bytes of tensors and images keep their checksums.
    FORGED = frozenset(("header", "header-2"))
    BATCH = 20
    EXAMPLES = 15_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        self.files = {"trace.h5": _small(material / "trace.h5")}
        other = _small(material / "other.h5", 2.0)
        self.damages = {"trace.h5": {**RAW, **HDF5, "splice": splice(other)}}
        self._sound = _content(material / "trace.h5")
        self._other = _content(material / "other.h5")

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        return _content(folder / "trace.h5")

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)

    def other(self, value: Any) -> bool:
        return bool(value == self._other)


def _content(path: Path) -> Any:
    trace = open_trace(path)
    found = {}
    with trace.stream() as tensors:
        for node in trace.header.recorded:
            found[node.name] = tensors.take(node.name).tobytes()
            tensors.release()
    return trace.header.to_dict(), trace.images.tobytes(), found


def _small(path: Path, factor: float = 1.0) -> bytes:
    """A trace of the smallest nodes of a real one."""
    trace = open_trace(_RECORDED)
    chosen = sorted(trace.header.recorded, key=lambda node: int(np.prod(node.shape)))[:_NODES]
    nodes = tuple(node for node in trace.header.nodes if node in chosen)
    arrays = {}
    with trace.stream() as tensors:
        for node in trace.header.recorded:
            arrays[node.name] = tensors.take(node.name) * np.float32(factor)
            tensors.release()
    header = replace(trace.header, nodes=nodes, outputs=(nodes[-1].name,), globs=())
    images = trace.images
    if images.nbytes > 10_000:
        # Of a few rows and columns: what is damaged should mostly be something else.
        images = np.ascontiguousarray(images[:, :8, :8])
        header = replace(header, input=_described(header.input, images))
    write_trace(path, header, images, lambda: _stream(arrays))
    return path.read_bytes()


def _described(described: Any, images: Any) -> Any:
    import hashlib

    digest = hashlib.sha256(images.data).hexdigest()
    return {**described, "height": images.shape[1], "width": images.shape[2], "sha256": digest}


@contextlib.contextmanager
def _stream(arrays: dict[str, Any]) -> Iterator[Any]:
    yield _Tensors(arrays)


class _Tensors:
    """Gives tensors that are there already."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self._arrays = arrays

    def take(self, name: str) -> Any:
        """The tensor of a node."""
        return self._arrays[name]

    def release(self) -> None:
        """It is not needed any more."""

    def skip(self) -> None:
        """It is not needed at all."""
