"""A model's values by their content, whatever kind of file and whosever names they are in.

The fingerprint of a checkpoint (:func:`converter.tensorflow_files.bundle.fingerprint`) is over all
that is in it under the names that it has there. Another file of the same weights has other names,
and one value of each variable. The fingerprint here is of the same form, over the model's variables
alone: their official names without any suffix, and the CRC32C of their float32 values in
TensorFlow's layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import google_crc32c
import numpy as np

from converter.mappings.layouts import Array
from converter.mappings.official import Pair, iterate_pairs
from converter.tensorflow_files.bundle import fingerprint
from efficientdet_spec import EMA_SUFFIX, EfficientDetConfig

FLOAT = "DT_FLOAT"
"""TensorFlow's name of the type whose bytes are summed up."""


class _Recorded(Protocol):
    """A tensor as an index describes it."""

    @property
    def dtype_name(self) -> str: ...

    @property
    def crc32c(self) -> int: ...


def checksum(array: Array) -> int:
    """CRC32C of an array's values, row by row, as the bytes that a little-endian file has.

    Args:
        array: Of any layout in memory.
    """
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    content = little.reshape(-1).view(np.uint8)
    # Its signature asks for bytes, but any memory that cannot be written will do.
    content.flags.writeable = False
    return int(google_crc32c.value(content))


_NONE: Mapping[str, int] = MappingProxyType({})


def of_arrays(
    config: EfficientDetConfig,
    arrays: Mapping[str, Array],
    known: Mapping[str, int] = _NONE,
) -> str:
    """The fingerprint of a model's values.

    Args:
        config: The model.
        arrays: By parameter, in PyTorch's layout; one is copied at a time.
        known: Checksums of variables that have been made already, by official name.

    Raises:
        KeyError: A parameter is missing.
    """
    checksums: dict[str, int] = {}
    for pair in iterate_pairs(config):
        if all(name in known for name in pair.variables):
            checksums |= {name: known[name] for name in pair.variables}
            continue
        checksums |= of_parameter(pair, arrays[pair.parameter])
    return fingerprint(checksums)


def of_parameter(pair: Pair, array: Array) -> dict[str, int]:
    """The checksums of the official variables that a parameter's values are.

    Args:
        pair: The parameter, by its official names.
        array: Its values, in PyTorch's layout.
    """
    parts = pair.layout.to_tensorflow(np.asarray(array, np.float32))
    return {name: checksum(part) for name, part in zip(pair.variables, parts, strict=True)}


def of_index(
    entries: Mapping[str, _Recorded], config: EfficientDetConfig, weights: str = "ema"
) -> str | None:
    """The fingerprint of a model's values from what an index says of them; nothing is read.

    Args:
        entries: Of a checkpoint with official names, by name.
        config: The model.
        weights: ``ema`` for the moving averages, of which all have to be there, or ``raw``.

    Returns:
        None where a value is missing or is not stored as float32.
    """
    suffix = EMA_SUFFIX if weights == "ema" else ""
    checksums: dict[str, int] = {}
    for pair in iterate_pairs(config):
        for name in pair.variables:
            entry = entries.get(name + suffix)
            if entry is None or entry.dtype_name != FLOAT:
                return None
            checksums[name] = entry.crc32c
    return fingerprint(checksums)
