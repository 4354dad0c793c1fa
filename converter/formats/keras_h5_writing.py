"""Weights as Keras writes them to HDF5, for ``load_weights`` of the official network.

The form is that of ``hdf5_format.save_weights_to_hdf5_group`` of legacy Keras (tf_keras 2.21).
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converter.formats.hyperparameters import unsaid
from converter.formats.target import Values, Written, WrittenRow, no_room
from converter.mappings.keras_order import iterate_layers
from converter.mappings.official import iterate_pairs
from efficientdet_spec import Cause, InputError, printable, replacing, require_extra, shortened

KERAS_VERSION = "2.21.0"
"""The version of legacy Keras whose form this is; the attribute tells readers to change nothing."""

MOST_ATTRIBUTE_BYTES = 64_512
"""Keras' ``HDF5_OBJECT_HEADER_LIMIT``: longer lists are split."""


def write(path: Path, values: Values) -> Written:
    """Write a model's values, completely or not at all.

    Args:
        path: The file.
        values: The model's; raw values beside them have no place in such a file.

    Raises:
        InputError: h5py is not installed, there are raw values too, or the file cannot be written.
    """
    require_extra("traces", "Writing a Keras HDF5 file")
    shown = shortened(printable(path), 300)
    if values.raw is not None:
        raise no_room("a Keras HDF5 file")
    h5py = importlib.import_module("h5py")
    try:
        content = io.BytesIO()
        # Of a file that cannot grow any more HDF5 itself ends the process as it is closed.
        with h5py.File(content, "w") as file:
            rows = _fill(file, values)
        with replacing(path) as temporary, open(temporary, "wb") as stream:
            stream.write(content.getbuffer())
    except OSError as error:
        raise InputError(
            f"{shown} cannot be written ({error.strerror or 'HDF5 failed'}); give a path in a "
            f"folder that exists, is writable and has room.",
            Cause.of(error),
        ) from error
    return Written((path,), tuple(rows), unsaid(values.config))


def _fill(file: Any, values: Values) -> list[WrittenRow]:
    """Write all; each tensor is made when it is its turn, so that there is one at a time."""
    made = {
        name: (pair, number)
        for pair in iterate_pairs(values.config)
        for number, name in enumerate(pair.variables)
    }
    layers = list(iterate_layers(values.config))
    _write_names(file, "layer_names", [layer for layer, _ in layers])
    file.attrs["backend"] = b"tensorflow"
    file.attrs["keras_version"] = KERAS_VERSION.encode()
    rows = []
    # Keras makes the groups in the order of their names, and the list has that of the layers.
    for layer, names in sorted(layers):
        group = file.create_group(layer)
        _write_names(group, "weight_names", [f"{name}:0" for name in names])
        for name in names:
            pair, number = made[name]
            array = np.asarray(
                pair.layout.to_tensorflow(values.arrays[pair.parameter])[number], "<f4"
            )
            dataset = group.create_dataset(f"{name}:0", array.shape, array.dtype)
            if array.shape:
                dataset[:] = array
            else:
                dataset[()] = array
            rows.append(
                WrittenRow(
                    f"{layer}/{name}:0", array.shape, pair.parameter, pair.layout.name, "model"
                )
            )
    _write_names(file.create_group("top_level_model_weights"), "weight_names", [])
    order = {name: number for number, (name, _) in enumerate(layers)}
    return sorted(rows, key=lambda row: order[row.name.split("/", 1)[0]])


def _write_names(group: Any, attribute: str, names: Sequence[str]) -> None:
    """A list of names as an attribute, or as several where it is long, as Keras writes them.

    Args:
        group: Gets the attribute.
        attribute: Its name.
        names: Each shorter than what an attribute may have.
    """
    encoded = [name.encode() for name in names]
    array = np.asarray(encoded)
    parts = [array]
    while any(part.nbytes > MOST_ATTRIBUTE_BYTES for part in parts):
        parts = np.array_split(array, len(parts) + 1)
    if len(parts) == 1:
        group.attrs[attribute] = encoded
        return
    for number, part in enumerate(parts):
        group.attrs[f"{attribute}{number}"] = part
