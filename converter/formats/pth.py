"""PyTorch's files: models of this project, and state dicts of others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.formats.own import OwnSource, rows_of
from converter.formats.registry import Format
from converter.formats.shards import refuse_shard
from converter.formats.source import StoredEntry, TensorSource, dtype_name
from converter.formats.state_dict import state_dict_source
from converter.formats.target import ValueStream, Written
from converter.mappings.layouts import Array, Shape
from efficientdet_spec import Cause, InputError, file_sha256, printable, shortened
from torch_model.container import (
    BFLOAT16,
    TorchFile,
    is_torch_file,
    open_torch_file,
    storage_bytes,
)
from torch_model.model_file import BACKBONE_FORMAT, KINDS, TorchModel
from torch_model.pickled import StoredTensor, iterate_tensors
from torch_model.saving import save_stream

NAME = "pth"
SAYS = "a PyTorch file"

_ADVICE = (
    "load it where its code is, and save its state dict alone with torch.save(model.state_dict(), "
    "PATH)"
)
_RAW_PREFIX = "raw_state_dict/"
"""How rows name the tensors of the second dictionary."""

_READ_AGAIN = 16
"""How often a file's bytes are read at most. Tensors that are parts of one storage have it read
for each of them; tied weights are twice there."""

_SMALL = 2**26
"""Bytes that may be read in any case."""

_CRC = "every CRC-32 verified"


def find(path: Path) -> Path | None:
    """The file, where it is PyTorch's.

    Raises:
        InputError: It is one of several of a model.
    """
    if not is_torch_file(path):
        return None
    refuse_shard(path)
    return path


def open_source(path: Path) -> TensorSource:
    """Open a file as a source.

    Raises:
        InputError: It cannot be read, is damaged, would run code, holds a backbone alone, or no
            model in names that are known.
    """
    file = open_torch_file(path, _ADVICE)
    mark = file.content.get("format") if isinstance(file.content, dict) else None
    if isinstance(mark, str) and mark in KINDS:
        if mark == BACKBONE_FORMAT:
            raise InputError(
                f"{path} holds {KINDS[BACKBONE_FORMAT]}, which no other file can be made of; give "
                f"a whole detector's, or start training from it with "
                f"efficientdet_parity.load_backbone.",
                Cause.MODEL,
            )
        return OwnSource(TorchModel(file), NAME, "a PyTorch file of this project")
    stored = _groups(file)
    return state_dict_source(
        path=path,
        format_name=NAME,
        says=SAYS if file.is_archive else "a PyTorch file as of versions before 1.6",
        groups={
            group: {key: _entry(key, tensor) for key, tensor in tensors.items()}
            for group, tensors in stored.items()
        },
        read=lambda group, key: file.read(stored[group][key]),
        digests={"file_sha256": file_sha256(path)},
        checked=_CRC if file.is_archive else TensorSource.CHECKED,
    )


def _groups(file: TorchFile) -> Mapping[str, Mapping[str, StoredTensor]]:
    """The tensors of a file by the dictionary that holds them, whose keys are joined by ``/``.

    Raises:
        InputError: Two have one name, one cannot be read, or reading all of them would read the
            file again and again.
    """
    found: dict[str, dict[str, StoredTensor]] = {}
    most, total = _READ_AGAIN * file.size + _SMALL, 0
    for path, tensor in iterate_tensors(file.content):
        group, key = "/".join(path[:-1]), path[-1] if path else ""
        tensors = found.setdefault(group, {})
        if key in tensors:
            raise InputError(
                f"{file.path} holds two tensors called {shortened(printable(key), 100)}; save "
                f"the model's state dict alone.",
                Cause.FORMAT,
            )
        file.check(tensor)
        tensors[key] = tensor
        total += storage_bytes(tensor.storage)
        if total > most:
            raise InputError(
                f"{file.path} holds tensors that are small parts of large storages, so that "
                f"reading all would read the file more than {_READ_AGAIN} times; save the state "
                f"dict with tensors of their own, as clone() makes them.",
                Cause.FORMAT,
            )
    return found


def _entry(name: str, tensor: StoredTensor) -> StoredEntry:
    """A tensor as the file describes it."""
    kind = tensor.storage.type
    stored = "DT_BFLOAT16" if kind == BFLOAT16 else dtype_name(np.dtype(kind))
    size = storage_bytes(replace(tensor.storage, count=math.prod(tensor.shape)))
    return StoredEntry(name, stored, tensor.shape, size)


def stream(path: Path, values: ValueStream) -> Written:
    """Write a model as a file of this project, with raw values where there are such.

    Args:
        path: The file.
        values: The model's.

    Raises:
        InputError: It cannot be written, or the values cannot be used.
    """
    shapes: dict[str, Shape] = {}
    raw: dict[str, Shape] = {}
    told: dict[str, Any] = {}

    def passing(
        arrays: Iterable[tuple[str, Array]], into: dict[str, Shape]
    ) -> Iterator[tuple[str, Array]]:
        for name, array in arrays:
            into[name] = tuple(array.shape)
            yield name, array

    def asked() -> Mapping[str, Any]:
        told.update(values.told())
        return told

    beside = None if values.raw is None else passing(values.raw, raw)
    save_stream(path, values.config, passing(values.values, shapes), asked, beside)
    rows = rows_of(told, shapes, None if values.raw is None else raw, _RAW_PREFIX)
    return Written((path,), rows)


FORMATS = (
    Format(
        name=NAME,
        says=SAYS,
        find=find,
        open=open_source,
        write=lambda path, values: stream(path, ValueStream.of(values)),
        stream=stream,
        suffixes=(".pth", ".pt"),
        holds_both=True,
    ),
)
