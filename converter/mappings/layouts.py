"""How a parameter's values are laid out in TensorFlow and in PyTorch.

A layout takes all variables that a parameter is made of, and knows both directions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout(ABC):
    """One parameter's correspondence with its variables.

    Attributes:
        name: What the ledger prints.
    """

    name: str

    @abstractmethod
    def to_torch(self, arrays: Sequence[Array]) -> Array:
        """The parameter that some variables make, in an array of its own, contiguous.

        Args:
            arrays: All the variables' values, in the order of the pair.
        """

    @abstractmethod
    def to_tensorflow(self, array: Array) -> list[Array]:
        """The variables' values, contiguous, in the order of the pair; they may share memory.

        Args:
            array: The parameter's values.
        """

    @abstractmethod
    def tensorflow_shapes(self, torch_shape: Shape) -> tuple[Shape, ...]:
        """Shape of each variable of a parameter of this shape."""


@dataclass(frozen=True)
class Permuted(Layout):
    """One variable with its axes in another order.

    Attributes:
        to_torch_axes: For each axis of the PyTorch tensor, the TensorFlow axis it comes from.
    """

    to_torch_axes: tuple[int, ...]

    @cached_property
    def _to_tensorflow_axes(self) -> tuple[int, ...]:
        axes = self.to_torch_axes
        return tuple(sorted(range(len(axes)), key=axes.__getitem__))

    def to_torch(self, arrays: Sequence[Array]) -> Array:
        """See :class:`Layout`; there is one array."""
        (array,) = arrays
        return array.transpose(self.to_torch_axes).copy(order="C")

    def to_tensorflow(self, array: Array) -> list[Array]:
        """See :class:`Layout`."""
        return [np.ascontiguousarray(array.transpose(self._to_tensorflow_axes))]

    def tensorflow_shapes(self, torch_shape: Shape) -> tuple[Shape, ...]:
        """See :class:`Layout`."""
        return (tuple(torch_shape[axis] for axis in self._to_tensorflow_axes),)


@dataclass(frozen=True)
class Stacked(Layout):
    """One variable for each element along the first axis of the PyTorch tensor, in order."""

    def to_torch(self, arrays: Sequence[Array]) -> Array:
        """See :class:`Layout`."""
        return np.array(arrays)

    def to_tensorflow(self, array: Array) -> list[Array]:
        """See :class:`Layout`."""
        return [np.asarray(part) for part in array]

    def tensorflow_shapes(self, torch_shape: Shape) -> tuple[Shape, ...]:
        """See :class:`Layout`."""
        count, *rest = torch_shape
        return (tuple(rest),) * count


@dataclass(frozen=True)
class Kept(Layout):
    """One tensor that is laid out as the parameter is, as in another code base's state dict."""

    def to_torch(self, arrays: Sequence[Array]) -> Array:
        """See :class:`Layout`; there is one array."""
        (array,) = arrays
        return array.copy(order="C")

    def to_tensorflow(self, array: Array) -> list[Array]:
        """See :class:`Layout`."""
        return [np.ascontiguousarray(array)]

    def tensorflow_shapes(self, torch_shape: Shape) -> tuple[Shape, ...]:
        """See :class:`Layout`."""
        return (torch_shape,)


KEPT = Kept("as it is")
CONVOLUTION = Permuted("HWIO->OIHW", (3, 2, 0, 1))
DEPTHWISE = Permuted("HWC1->C1HW", (2, 3, 0, 1))
VECTOR = Permuted("vector", (0,))
SCALARS = Stacked("scalars->vector")
"""The fusion weights: one TensorFlow scalar for each element of the PyTorch vector."""
VECTORS = Stacked("vectors->matrix")
"""Fusion weights of each channel: one TensorFlow vector for each row of the PyTorch matrix."""
