"""What a node computes, as the text of functions that need PyTorch alone.

The text is what a user reads, what is carried out here, and what the script that is written holds:
there is one of it, so that what was checked is what is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.process.arrays import Array

IMAGES, INPUTS, OUTPUTS, CHANNELS = "images", "input channels", "output channels", "channels"
ROWS, COLUMNS = "rows", "columns"

FEATURES = (IMAGES, CHANNELS, ROWS, COLUMNS)
"""The axes of features of which each channel is computed by itself."""

_AROUND = """
import math

import torch
import torch.nn.functional as F


def _made(function, arrays, dtype):
    given = {name: torch.from_numpy(array).to(getattr(torch, dtype))
             for name, array in arrays.items()}
    with torch.no_grad():
        return function(**given).contiguous().numpy()
"""


@dataclass(frozen=True)
class Tensor:
    """A tensor that functions take.

    Attributes:
        values: Its numbers.
        axes: What each of its axes counts; None for one that is never cut.
    """

    values: Array
    axes: tuple[str | None, ...]

    def cut(self, axis: str, kept: Any) -> Tensor:
        """Some of an axis, wherever it has that axis.

        Args:
            axis: Which.
            kept: A slice, or numbers of those that remain.
        """
        if axis not in self.axes:
            return self
        index = tuple(kept if name == axis else slice(None) for name in self.axes)
        return Tensor(np.ascontiguousarray(self.values[index]), self.axes)


@dataclass(frozen=True)
class Function:
    """A function of tensors, as text.

    Attributes:
        takes: The tensors by name.
        lines: What stands in it; the last is the expression that it returns.
        says: What it is, one sentence.
    """

    takes: tuple[str, ...]
    lines: tuple[str, ...]
    says: str

    def text(self, name: str) -> str:
        """Its definition.

        Args:
            name: What it is called.
        """
        *before, last = self.lines
        body = "".join(f"    {line}\n" for line in [*before, f"return {last}"])
        return f'def {name}({", ".join(self.takes)}):\n    """{self.says}"""\n{body}'


@dataclass(frozen=True)
class Along:
    """How an operation walks along rows or columns.

    Attributes:
        down: Positions of the input from one output to the next.
        up: Outputs of one position of the input.
        before: Positions that are put before the first.
        window: Positions that one output is made of.
    """

    down: int = 1
    up: int = 1
    before: int = 0
    window: int = 1

    def part(self, place: int, size: int, margin: int) -> tuple[slice, int]:
        """The part of the input that an output is made of, and where the output is in it then.

        Args:
            place: Of the output.
            size: Of the input.
            margin: How many positions more to keep on either side.
        """
        first = place // self.up if self.up > 1 else place * self.down - self.before
        start = max(0, first - margin) // self.down * self.down
        stop = min(size, first + self.window + margin)
        moved = start * self.up if self.up > 1 else start // self.down
        return slice(start, max(stop, start + 1)), place - moved


@dataclass(frozen=True)
class Computation:
    """A node's operation as it should be and as it is, on some tensors.

    Attributes:
        tensors: By name.
        functions: ``right``; ``magnitude``, on which roundings act; and ``wrong``, where what the
            candidate computes is known.
        at: The element that is looked at: image, channel, row, column of the output.
        along: How rows and columns of the output come from those of the input; None where each
            needs all of them.
    """

    tensors: Mapping[str, Tensor]
    functions: Mapping[str, Function]
    at: tuple[int, int, int, int] = (0, 0, 0, 0)
    along: tuple[Along | None, Along | None] = (None, None)
    _defined: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def source(self) -> str:
        """The text of all functions."""
        return "\n\n".join(item.text(name) for name, item in self.functions.items())

    def output(self, name: str, dtype: str = "float64") -> Array:
        """The whole output of a function.

        Args:
            name: The function.
            dtype: In which it is computed.
        """
        if not self._defined:
            # The text is made here, of numbers and of names that are written here.
            exec(compile(f"{_AROUND}\n\n{self.source()}", "reproduction", "exec"), self._defined)
        arrays = {name: self.tensors[name].values for name in self.functions[name].takes}
        made: Array = self._defined["_made"](self._defined[name], arrays, dtype)
        return made

    def value(self, name: str, dtype: str = "float64") -> float:
        """The element that a function gives.

        Args:
            name: The function.
            dtype: In which it is computed.
        """
        return float(self.output(name, dtype)[self.at])

    def used(self) -> dict[str, Tensor]:
        """The tensors that a function takes."""
        names = {name for item in self.functions.values() for name in item.takes}
        return {name: tensor for name, tensor in self.tensors.items() if name in names}
