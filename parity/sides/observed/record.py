"""What a candidate did in one run: its operations in order, and the values that they made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from parity.process.arrays import Array
from parity.sides.observed.layouts import Layout

Content = tuple[int, int, int]
"""By which the numbers in a tensor are known, in whatever order: how many there are, and two sums
over their bits."""

Plain = bool | int | float | str | tuple[int | float | str, ...]
"""A setting."""


@dataclass(frozen=True)
class Operation:
    """One operation of a run.

    Attributes:
        number: Its place among all operations of the run.
        name: What the framework calls it, such as ``convolution``.
        module: Path of the innermost module that was running; empty for none.
        place: The line of the candidate's own code, such as ``port.py:17 (in forward)``; empty
            where it is not known.
        settings: What it was called with besides tensors, by the framework's names.
        shapes: Of the tensors that it was called with, likewise.
    """

    number: int
    name: str
    module: str
    place: str
    settings: Mapping[str, Plain] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """What memory holds between two operations that write to it.

    Attributes:
        number: Its place among all values of the run.
        operation: What made it; None for the images, and for what the candidate holds.
        output: Which of the operation's tensors it is.
        parents: The values that it was made from.
        shape: Of the tensor that was made.
        native: Whether it is of the type that is compared in.
        moved: Whether it only holds elements of its parents, in another arrangement.
        content: Of what the candidate holds: what is in it.
        held: Likewise the name of the parameter or buffer; empty where it has none.
        samples: By layout, elements at the positions of :func:`positions` of the layout's node.
        real: Whether its elements are real numbers, and not complex ones, such as a spectrum's.
    """

    number: int
    operation: Operation | None
    output: int
    parents: tuple[int, ...]
    shape: tuple[int, ...]
    native: bool = True
    moved: bool = False
    content: Content | None = None
    held: str = ""
    samples: Mapping[Layout, Array] = field(default_factory=dict)
    real: bool = True


@dataclass(frozen=True)
class Call:
    """A call of one of the candidate's modules.

    Attributes:
        path: Path of the module.
        begin: Number of the first value that is made from its beginning on.
        end: Number of the first value that is made behind it.
        outputs: For each tensor that it returns, the value that this is of at its end; None where
            no operation was seen to make it.
    """

    path: str
    begin: int
    end: int
    outputs: tuple[int | None, ...]


@dataclass(frozen=True)
class Record:
    """A run.

    Attributes:
        values: In the order in which they were made.
        images: Number of the value that the images are.
        returned: For each tensor that was returned, the value that it is of.
        calls: Of modules, in the order in which they ended.
    """

    values: Sequence[Made]
    images: int
    returned: Sequence[int | None]
    calls: Sequence[Call] = ()

    def arranged_from(self, number: int) -> Iterator[int]:
        """A value, then those that it holds the elements of in another arrangement."""
        yield number
        while self.values[number].moved and len(self.values[number].parents) == 1:
            (number,) = self.values[number].parents
            yield number
