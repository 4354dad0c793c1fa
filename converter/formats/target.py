"""What every kind of file that can be written has in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converter.mappings.layouts import Array, Shape
from efficientdet_spec import Cause, EfficientDetConfig, InputError


@dataclass(frozen=True)
class Values:
    """A model's values, to be written.

    Attributes:
        config: The model.
        arrays: One writable, contiguous float32 array for each parameter, in PyTorch's layout:
            the values that are the model.
        raw: The raw values beside the moving averages, likewise; None where only one value of
            each parameter is wanted.
        provenance: Where they come from, as plain values.
        with_averages: Whether a TensorFlow 1 checkpoint gets moving averages beside the values.
    """

    config: EfficientDetConfig
    arrays: Mapping[str, Array]
    raw: Mapping[str, Array] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    with_averages: bool = True


@dataclass(frozen=True)
class ValueStream:
    """A model's values, to be written as they come, so that nobody holds all of them.

    Attributes:
        config: The model.
        values: Each parameter's name with an array as of :class:`Values`, once.
        raw: The raw values beside the moving averages, likewise, once ``values`` has ended; None
            where only one value of each parameter is wanted.
        told: Where they come from, as plain values; asked for when all have come. It raises
            InputError where they cannot be used, and then nothing must be left of the target.
    """

    config: EfficientDetConfig
    values: Iterable[tuple[str, Array]]
    raw: Iterable[tuple[str, Array]] | None
    told: Callable[[], Mapping[str, Any]]

    @staticmethod
    def of(values: Values) -> ValueStream:
        """Values that are there already, one after another.

        Args:
            values: They.
        """
        raw = None if values.raw is None else values.raw.items()
        return ValueStream(values.config, values.arrays.items(), raw, lambda: values.provenance)


def no_room(says: str) -> InputError:
    """What is said where a kind of file cannot keep raw values beside averages.

    Args:
        says: What such a file is, in words.
    """
    return InputError(
        f"{says[0].upper()}{says[1:]} holds one value of each variable, so that raw values and "
        f"moving averages (EMA) cannot both be kept; leave --weights both out, or write a kind of "
        f"file that has room for both, such as a .pth.",
        Cause.OPTION,
    )


@dataclass(frozen=True)
class WrittenRow:
    """What one tensor of the written file is made of.

    Attributes:
        name: Its name in the file.
        shape: Its shape there.
        parameter: The parameter whose values it holds, or an empty text.
        layout: How axes moved on the way from the file to PyTorch, or an empty text.
        reason: Which value it is (``ema``, ``raw``, ``model``), or why it is there without a
            parameter.
    """

    name: str
    shape: Shape
    parameter: str
    layout: str
    reason: str


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        files: The files, all of them complete.
        rows: What each tensor is made of, in the file's order.
        notes: What a user should know, a sentence each.
    """

    files: tuple[Path, ...]
    rows: tuple[WrittenRow, ...]
    notes: tuple[str, ...] = ()
