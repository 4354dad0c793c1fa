"""How a tensor is laid out in TensorFlow and in PyTorch; every layout knows both directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Layout:
    """A permutation of axes between the two frameworks.

    Attributes:
        name: What the ledger prints.
        to_torch_axes: For each axis of the PyTorch tensor, the TensorFlow axis it comes from.
    """

    name: str
    to_torch_axes: tuple[int, ...]

    @property
    def _to_tensorflow_axes(self) -> tuple[int, ...]:
        return tuple(int(axis) for axis in np.argsort(self.to_torch_axes))

    def torch_shape(self, tensorflow_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape in PyTorch of a variable of this shape."""
        return tuple(tensorflow_shape[axis] for axis in self.to_torch_axes)

    def tensorflow_shape(self, torch_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the variable of a parameter of this shape."""
        return tuple(torch_shape[axis] for axis in self._to_tensorflow_axes)

    def to_torch(self, array: Array) -> Array:
        """A view of a TensorFlow array in PyTorch's order of axes."""
        return array.transpose(self.to_torch_axes)

    def to_tensorflow(self, array: Array) -> Array:
        """A view of a PyTorch array in TensorFlow's order of axes."""
        return array.transpose(self._to_tensorflow_axes)


CONVOLUTION = Layout("HWIO->OIHW", (3, 2, 0, 1))
DEPTHWISE = Layout("HWC1->C1HW", (2, 3, 0, 1))
VECTOR = Layout("vector", (0,))
SCALARS = Layout("scalars->vector", ())
"""One TensorFlow scalar for each element of the PyTorch vector, in order."""
