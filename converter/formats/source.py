"""What every kind of container has in common: tensors that can be listed, read and verified.

Which of several values is the model's is decided here, by the container, and never by the names:
a SavedModel of TensorFlow 1 has the very names of a training checkpoint, and other values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from converter.mappings.layouts import Array, Shape
from converter.mappings.official import Pair, iterate_pairs
from converter.tensorflow_files.bundle import BFLOAT16, TYPES, count_not_finite
from efficientdet_spec import EfficientDetConfig

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Entry(Protocol):
    """One tensor as a file describes it; nothing of it has been read."""

    @property
    def name(self) -> str:
        """Its name in the file."""

    @property
    def dtype_name(self) -> str:
        """TensorFlow's name of the type in which it is stored, such as ``DT_FLOAT``."""

    @property
    def shape(self) -> Shape:
        """Its shape in the file."""

    @property
    def size(self) -> int:
        """Bytes of its values in the file."""


@dataclass(frozen=True)
class StoredEntry:
    """An :class:`Entry` of a container that says no more of a tensor.

    Attributes:
        name: Its name in the file.
        dtype_name: TensorFlow's name of the type in which it is stored.
        shape: Its shape in the file.
        size: Bytes of its values in the file.
    """

    name: str
    dtype_name: str
    shape: Shape
    size: int


def _unused_none(config: EfficientDetConfig) -> Mapping[str, str]:
    return _NOTHING


@dataclass(frozen=True)
class Naming:
    """What a kind of file calls the parameters of a model.

    Attributes:
        name: Short, such as ``official`` or ``effdet``.
        whose: In words, to stand behind ``the names of``.
        pairs: For a model, every parameter with the names that its values have in such a file,
            how they are laid out there, and their shape in PyTorch.
        unused: For a model, what else such a file has by design, and why nothing is made of it.
    """

    name: str
    whose: str
    pairs: Callable[[EfficientDetConfig], Iterable[Pair]]
    unused: Callable[[EfficientDetConfig], Mapping[str, str]] = _unused_none


OFFICIAL = Naming("official", "Google's TensorFlow variables", iterate_pairs)
"""The names of TensorFlow 1 checkpoints."""


@dataclass(frozen=True)
class Said:
    """What a file says of itself besides its tensors, where it does.

    Attributes:
        config: The model.
        provenance: Where its values came from, as plain values.
    """

    config: EfficientDetConfig
    provenance: Mapping[str, Any] = field(default_factory=dict)


class TensorSource(ABC):
    """The tensors of one file, or of the files that belong together, open to be read.

    There is nothing to close. Every name below is one of the source's naming, for official names
    that of the variable; where a file has two values of it, the moving average has
    ``EMA_SUFFIX`` behind the name and the raw value has none.

    Attributes:
        path: What names it: the prefix of a checkpoint, a file, or ``saved_model.pb`` of a folder.
        naming: Whose names these are.
        entries: Every tensor of the file by its name, in the file's order. A name that is not in
            the naming is in the file's own words and will be a finding.
        left_out: Of tensors that are no part of any model, such as optimizer slots that the
            naming cannot tell, the reason, by name; each is in ``entries`` too.
        said: What the file says of itself.
        notes: What a user should know of how it is read, a sentence each.
        stripped: What stands before the names in the file and is not part of them.
        unwrapped: What the container has taken off before names by itself, each once.
    """

    FORMAT: str
    """Name of the container, such as ``tf1``."""

    SAYS: str
    """What it is in words, such as ``a Keras HDF5 file``."""

    ONLY_VALUE: str = ""
    """Where a container holds one value of each variable: which it is, as a clause to stand behind
    ``holds one value of each variable,``; empty where it may hold raw values and averages."""

    CHECKED: str = "this container carries no checksum"
    """What has been verified once every value was read, or that nothing could be."""

    path: Path
    naming: Naming = OFFICIAL
    entries: Mapping[str, Entry]
    left_out: Mapping[str, str] = _NOTHING
    said: Said | None = None
    notes: tuple[str, ...] = ()
    stripped: str = ""
    unwrapped: tuple[str, ...] = ()

    @property
    def has_values(self) -> bool:
        """Whether there is more than the list of what it holds."""
        return True

    @property
    def prefix(self) -> Path | None:
        """The prefix of the bundle of TensorFlow's that it is underneath; None of others."""
        return None

    @abstractmethod
    def read(self, name: str) -> Array:
        """The values of a tensor, in an array of their own, as the file has them.

        They are verified where the container has checksums. Half precisions that NumPy lacks
        (bfloat16) come as the float32 that they are.

        Args:
            name: One of ``entries``.

        Raises:
            InputError: They are damaged or no numbers.
        """

    def verify(self, name: str) -> int:
        """Verify a tensor that is not needed, with little memory where that can be.

        Of a container that records checksums several threads verify at a time.

        Args:
            name: One of ``entries``.

        Returns:
            How many of its values are NaN or infinite; 0 of what is not floating-point.

        Raises:
            InputError: It is damaged.
        """
        array = self.read(name)
        return count_not_finite(array) if array.dtype.kind == "f" else 0

    def check(self, config: EfficientDetConfig, part: str = "") -> tuple[str, ...]:
        """Hold what a file says twice of its tensors against each other, once the model is known.

        Args:
            config: The model.
            part: What the names of the parameters begin with that alone are wanted.

        Returns:
            What a user should know, a sentence each.

        Raises:
            InputError: It contradicts itself.
        """
        return ()

    def digests(self) -> Mapping[str, str]:
        """SHA-256 that identify the files, by the name that provenance gives each."""
        return {}

    def crc32c(self, name: str) -> int | None:
        """CRC32C of a tensor's bytes where the container records it; else None.

        Args:
            name: One of ``entries``.
        """
        return None


def dtype_name(dtype: np.dtype[Any]) -> str:
    """TensorFlow's name for a type of NumPy's, such as ``DT_FLOAT``.

    Args:
        dtype: The type; one that TensorFlow lacks is named as NumPy does.
    """
    return _NAMES.get(dtype.newbyteorder("<"), str(dtype))


def holds_numbers(entry: Entry) -> bool:
    """Whether a tensor's values are numbers that can be read, and not texts or handles.

    Args:
        entry: The tensor.
    """
    return entry.dtype_name in _NUMBERS


_NAMES = {dtype: name for name, dtype in TYPES.values() if dtype is not None}
_NUMBERS = frozenset({*_NAMES.values(), BFLOAT16})
