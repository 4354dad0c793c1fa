"""Reads traces: a reference's tensors on disk, to be compared where TensorFlow need not be."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientdet_spec import (
    Cause,
    EfficientDetConfig,
    InputError,
    NodeKind,
    first_difference,
    open_regular,
)
from parity.process.arrays import Array
from parity.sides.stream import StreamError
from parity.traces.file import (
    COMPLETE,
    HEADER,
    IMAGES,
    NODES,
    content_of,
    damaged,
    dataset_of,
    linked,
    no_trace,
    opened,
    reading,
    text_of,
)
from parity.traces.header import SCHEMA, SCHEMA_VERSION, TraceHeader

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""The first bytes of an HDF5 file (its format's specification)."""


@dataclass(frozen=True)
class Trace:
    """A recorded reference.

    Attributes:
        path: The file.
        header: What was recorded.
        images: The input, [N, H, W, 3], of the type in which the reference computed.
        checksums: CRC-32 of each recorded tensor's bytes, little endian.
    """

    path: Path
    header: TraceHeader
    images: Array
    checksums: Mapping[str, int]

    @property
    def kinds(self) -> dict[str, NodeKind]:
        """What each node of the network computes, in order, whether it is recorded or not."""
        return {node.name: node.kind for node in self.header.nodes}

    @property
    def tensors(self) -> dict[str, str]:
        """Name of each node's TensorFlow tensor."""
        return {node.name: node.tensor for node in self.header.nodes}

    @property
    def recorded(self) -> frozenset[str]:
        """Names of the nodes whose tensors are here."""
        return frozenset(node.name for node in self.header.recorded)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the nodes that are the network's outputs, in order."""
        return self.header.outputs

    @contextlib.contextmanager
    def stream(self) -> Iterator[RecordedTensors]:
        """The tensors in the order of computation, in place of a reference that computes.

        Raises:
            InputError: The file can no longer be read.
        """
        with opened(self.path) as file:
            yield RecordedTensors(self, file)


class RecordedTensors:
    """The consumer's side of a :class:`~parity.sides.stream.Rendezvous`, fed from a trace.

    Only recorded nodes come; the others are passed over as if the network had none.
    """

    def __init__(self, trace: Trace, file: Any) -> None:
        self._trace = trace
        self._file = file
        self._nodes = trace.header.recorded
        self._position = 0

    def take(self, name: str) -> Array:
        """The next tensor, which must be ``name``, as an array of its own; release it after.

        Raises:
            StreamError: Another node is next, or this one is not recorded.
            InputError: The file is damaged.
        """
        path = self._trace.path
        if name not in self._trace.checksums:
            raise StreamError(f"{path} was recorded without {name}")
        self._require_more(name)
        node = self._nodes[self._position]
        if node.name != name:
            raise StreamError(f"{path} offers {node.name} where {name} was due")
        with reading(path):
            dataset = dataset_of(
                self._file, f"{NODES}/{name}", node.shape, self._trace.header.stored_type
            )
            array = content_of(dataset)
        if zlib.crc32(array.data) != self._trace.checksums[name]:
            raise damaged(path, f"the bytes of {name} do not have their checksum")
        return array

    def skip(self) -> None:
        """Let the next tensor pass; it is not even read.

        Raises:
            StreamError: There are no more.
        """
        self._require_more("another tensor")
        self.release()

    def release(self) -> None:
        """Go on to the next tensor."""
        self._position += 1

    def _require_more(self, name: str) -> None:
        if self._position >= len(self._nodes):
            raise StreamError(f"{self._trace.path} ends before {name}")


def open_trace(path: Path) -> Trace:
    """Open a trace; its tensors are read when they are taken from its stream.

    Raises:
        InputError: h5py is not installed, or the file is missing, no trace, a newer one,
            incomplete or damaged.
    """
    with opened(path) as file, reading(path):
        if not linked(file, HEADER):
            raise no_trace(path, "an HDF5 file without a header")
        text = text_of(file, HEADER)
        header = _parse_header(path, text)
        if not linked(file, COMPLETE):
            raise InputError(
                f"{path} is an incomplete trace, whose recording was cut short; record it again.",
                Cause.FORMAT,
            )
        checksums = _parse_checksums(path, text_of(file, COMPLETE), text, header)
        for node in header.recorded:
            dataset_of(file, f"{NODES}/{node.name}", node.shape, header.stored_type)
        images = content_of(dataset_of(file, IMAGES, header.images_shape, header.stored_type))
    if hashlib.sha256(images.data).hexdigest() != header.input["sha256"]:
        raise damaged(path, "the bytes of its images do not have their SHA-256")
    return Trace(path, header, images, checksums)


def is_trace(path: Path) -> bool:
    """Whether a file is named or begins like a trace; :func:`open_trace` says if it is none."""
    if path.suffix.lower() in (".h5", ".hdf5"):
        return True
    try:
        with open_regular(path) as file:
            return file.read(len(_SIGNATURE)) == _SIGNATURE
    except OSError:
        return False


def check_matches(
    trace: Trace,
    *,
    config: EfficientDetConfig | None = None,
    fingerprint: str | None = None,
    weights: str | None = None,
    images_sha256: str | None = None,
    dtype: str | None = None,
) -> None:
    """Raise where a candidate cannot be compared with a trace because it is of something else.

    What is None is not checked.

    Args:
        trace: The trace.
        config: The candidate's model.
        fingerprint: Of the checkpoint that fills the candidate.
        weights: Which of the checkpoint's values do, ``ema`` or ``raw``.
        images_sha256: Of the input asked for.
        dtype: Type of computation asked for.

    Raises:
        InputError: They do not match; the message says both values.
    """
    header = trace.header
    checkpoint, images = header.checkpoint, header.input
    if config is not None:
        _check_config(trace, config)
    if fingerprint not in (None, checkpoint["fingerprint"]):
        raise InputError(
            f"{trace.path} is of a checkpoint with the fingerprint "
            f"{checkpoint['fingerprint'][:16]} ({checkpoint['source']!r}), but the candidate's has "
            f"{fingerprint:.16}; give the one that was recorded, or record this one.",
            Cause.MODEL,
        )
    if weights not in (None, checkpoint["weights"]):
        raise InputError(
            f"{trace.path} was recorded with the {checkpoint['weights']} weights, but the "
            f"candidate has the {weights} ones; give --weights {checkpoint['weights']}, or record "
            f"the others.",
            Cause.MODEL,
        )
    if images_sha256 not in (None, images["sha256"]):
        raise InputError(
            f"{trace.path} was recorded on image {images['source']!r} at "
            f"{images['height']}x{images['width']} with the SHA-256 {images['sha256'][:16]}, but "
            f"the input asked for has {images_sha256:.16}; leave --image and --size out to use "
            f"the trace's own, or record this one.",
            Cause.MODEL,
        )
    if dtype not in (None, header.dtype):
        raise InputError(
            f"{trace.path} was recorded in {header.dtype}, but {dtype} is asked for; give "
            f"--dtype {header.dtype}, or record it in {dtype}.",
            Cause.MODEL,
        )


def _check_config(trace: Trace, config: EfficientDetConfig) -> None:
    recorded = trace.header.config
    found = first_difference(recorded, config)
    if found is not None:
        raise InputError(
            f"{trace.path} is of {recorded.name} with {found.key} {found.ours}, but the candidate "
            f"is {config.name} with {found.key} {found.theirs}; give the checkpoint that was "
            f"recorded ({trace.header.checkpoint['source']!r}), or another trace.",
            Cause.MODEL,
        )


def _parse_header(path: Path, text: bytes) -> TraceHeader:
    try:
        values = json.loads(text)
        schema, version = values["schema"], values["version"]
    except (ValueError, TypeError, LookupError, RecursionError):
        raise damaged(path, "its header is no JSON that names a schema") from None
    if schema != SCHEMA:
        raise no_trace(path, f"{str(schema)!r:.60}")
    if type(version) is not int or version < 1:
        raise damaged(path, f"its header has the version {version!r:.20}")
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{path} is a trace of version {version}, but this program reads up to "
            f"{SCHEMA_VERSION}; update efficientdet-parity.",
            Cause.FORMAT,
        )
    try:
        return TraceHeader.from_dict(values)
    except InputError as error:
        raise damaged(path, str(error).removesuffix(".")) from error


def _parse_checksums(
    path: Path, mark: bytes, header_text: bytes, header: TraceHeader
) -> dict[str, int]:
    try:
        values = json.loads(mark)
        of_header = values["header"]
        checksums = {node.name: int(values["nodes"][node.name]) for node in header.recorded}
    except (ValueError, TypeError, LookupError, RecursionError):
        raise damaged(path, "its list of checksums cannot be read") from None
    if of_header != zlib.crc32(header_text):
        raise damaged(path, "the bytes of its header do not have their checksum")
    return checksums
