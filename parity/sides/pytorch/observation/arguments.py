"""What an operation was called with, as plain numbers and words."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from parity.sides.observed.record import Plain
from parity.sides.pytorch.dispatch import Step

_MOST = 8
"""Numbers of a list that is kept: settings are short, and values are no settings."""


def settings_of(step: Step) -> dict[str, Plain]:
    """The arguments that are no tensors, by their names, with defaults where none was given."""
    return {
        name: found
        for name, value in _arguments(step)
        if not isinstance(value, Tensor) and (found := _plain(value)) is not None
    }


def shapes_of(step: Step) -> dict[str, tuple[int, ...]]:
    """The shapes of the arguments that are tensors, by their names."""
    return {
        name: tuple(value.shape)
        for name, value in _arguments(step)
        if isinstance(value, Tensor) and not value.is_nested
    }


def _arguments(step: Step) -> list[tuple[str, Any]]:
    schema = getattr(step.function, "_schema", None)
    if schema is None:
        return []
    return [
        (
            argument.name,
            step.args[place]
            if place < len(step.args)
            else step.kwargs.get(argument.name, argument.default_value),
        )
        for place, argument in enumerate(schema.arguments)
    ]


def _plain(value: Any) -> Plain | None:
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and len(value) <= _MOST:
        numbers = tuple(item for item in value if isinstance(item, bool | int | float))
        return numbers if len(numbers) == len(value) else None
    return None
