"""Files of this project, ``.pth`` and ``.safetensors``, as sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from converter.formats.source import (
    Entry,
    Said,
    StoredEntry,
    TensorSource,
    dtype_name,
)
from converter.formats.state_dict import source_naming
from converter.formats.target import Values, WrittenRow
from converter.mappings.layouts import KEPT, Array, Shape
from converter.mappings.own import OWN
from efficientdet_spec import EMA_SUFFIX, file_sha256
from torch_model.model_file import EMA, MODEL, RAW, ModelFile, value_of

NAMING = source_naming(OWN)
"""The names of this project's own files."""


class OwnSource(TensorSource):
    """The tensors of a file of this project.

    A moving average is under the parameter's name with ``EMA_SUFFIX`` behind it, so that nobody
    who asks for raw values gets it; every other value is under the parameter's name.

    Args:
        file: The file.
        format_name: Of the container, such as ``pth``.
        says: What it is in words.
    """

    naming = NAMING

    def __init__(self, file: ModelFile, format_name: str, says: str) -> None:
        self.FORMAT, self.SAYS, self.CHECKED = format_name, says, file.checked
        self.path = file.path
        self.said = Said(file.config, file.provenance)
        self._file = file
        if MODEL in file.parts:
            self.ONLY_VALUE = "and does not say whether it is the raw one or a moving average"
        self._places = {
            name + (EMA_SUFFIX if part == EMA else ""): (part, name)
            for part, tensors in file.parts.items()
            for name in tensors
        }
        self.entries: dict[str, Entry] = {
            name: self._entry(name, *place) for name, place in self._places.items()
        }

    def _entry(self, full: str, part: str, name: str) -> StoredEntry:
        item = self._file.parts[part][name]
        if item.type == "bfloat16":
            kind, width = "DT_BFLOAT16", 2
        else:
            dtype = np.dtype(item.type)
            kind, width = dtype_name(dtype), dtype.itemsize
        return StoredEntry(full, kind, item.shape, int(np.prod(item.shape, dtype=int)) * width)

    def read(self, name: str) -> Array:
        """See :meth:`TensorSource.read`."""
        return self._file.read(*self._places[name])

    def digests(self) -> Mapping[str, str]:
        """See :meth:`TensorSource.digests`."""
        return {"file_sha256": file_sha256(self.path)}


def written_rows(values: Values, raw_prefix: str) -> tuple[WrittenRow, ...]:
    """What each tensor of a file of this project is made of.

    Args:
        values: What was written.
        raw_prefix: What stands before the name of a raw value that is beside an average.
    """
    raw = None if values.raw is None else _shapes(values.raw.items())
    return rows_of(values.provenance, _shapes(values.arrays.items()), raw, raw_prefix)


def _shapes(arrays: Iterable[tuple[str, Array]]) -> dict[str, Shape]:
    return {name: tuple(array.shape) for name, array in arrays}


def rows_of(
    provenance: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    raw: Mapping[str, Shape] | None,
    raw_prefix: str,
) -> tuple[WrittenRow, ...]:
    """What each tensor of a file of this project is made of.

    Args:
        provenance: What the file says of where its values came from.
        shapes: Of the values that are the model, by parameter.
        raw: Of the raw values beside the averages; None where there are none.
        raw_prefix: What stands before the name of one of these.
    """
    main = value_of(provenance) if raw is None else EMA
    rows = [WrittenRow(name, shape, name, KEPT.name, main) for name, shape in shapes.items()]
    rows += [
        WrittenRow(raw_prefix + name, shape, name, KEPT.name, RAW)
        for name, shape in (raw or {}).items()
    ]
    return tuple(rows)
