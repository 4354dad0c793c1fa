"""A Keras HDF5 file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from converter.formats.keras_h5 import KerasH5, find
from efficientdet_spec import Cause, InputError
from fuzzing.damage.hdf5 import keras_damages
from fuzzing.damage.raw import RAW, splice
from fuzzing.target import Target

_TENSORS = {
    "first": {"first/conv/kernel": (3, 3, 2, 4), "first/conv/bias": (4,), "first/WSM": ()},
    "second": {"second/bn/gamma": (40,), "second/bn/moving_mean": (40,)},
    "third": {},
}
_PACKED = {
    "second/bn/gamma": {"chunks": (16,), "compression": "gzip", "shuffle": True},
    "second/bn/moving_mean": {"chunks": (40,), "fletcher32": True},
}


class Reader(Target):
    """Every tensor, of a file in which some are packed."""

    WHAT = "Keras HDF5 file (`converter.formats.keras_h5`, every tensor, in a child process)"
    CHECKSUMS = False
    # The child process may compute for half a minute, and is waited for for a whole one.
    SECONDS = 90.0
    BATCH = 10
    EXAMPLES = 3_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        sound = _file(0)
        self.files = {"model.h5": sound}
        self.damages = {"model.h5": {**RAW, **keras_damages(sound), "splice": splice(_file(1))}}
        self._sound = _expected(0)
        self._other = _expected(1)

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        place = find(folder / "model.h5")
        if place is None:
            raise InputError(f"{folder / 'model.h5'} is no HDF5 file; give one.", Cause.FORMAT)
        source = KerasH5(place)
        return {name: source.read(name).tobytes() for name in source.entries}

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(value == self._sound)

    def other(self, value: Any) -> bool:
        return bool(value == self._other)


def _values(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal(shape).astype(np.float32)
        for tensors in _TENSORS.values()
        for name, shape in tensors.items()
    }


def _expected(seed: int) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in _values(seed).items()}


def _file(seed: int) -> bytes:
    values, stream = _values(seed), io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in _TENSORS]
        file.attrs["keras_version"] = b"2.21.0"
        for layer, tensors in _TENSORS.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{name}:0".encode() for name in tensors]
            for name in tensors:
                group.create_dataset(f"{name}:0", data=values[name], **_PACKED.get(name, {}))
    return stream.getvalue()
