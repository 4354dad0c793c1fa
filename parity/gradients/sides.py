"""What each framework computes when it differentiates, and which values correspond."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from parity.process.arrays import Array

IMAGES = "images"
SCALAR = "scalar"


@dataclass(frozen=True)
class Gradients:
    """What one framework computed in one run.

    Attributes:
        scalar: The function that was differentiated.
        images: Gradient with respect to the images, [N, H, W, 3].
        parameters: Gradient with respect to each parameter, in PyTorch's layout.
        statistics: What one training step makes of each batch norm's statistics; empty in
            inference.
    """

    scalar: float
    images: Array
    parameters: Mapping[str, Array]
    statistics: Mapping[str, Array]

    def arrays(self) -> dict[str, Array]:
        """All values under one name each, the scalar first."""
        scalar: Array = np.asarray(self.scalar, np.float64)
        return {SCALAR: scalar, IMAGES: self.images, **self.parameters, **self.statistics}


@dataclass(frozen=True)
class Sensitivity:
    """What rounding does to the gradients, and where a relu closes them.

    Attributes:
        units: For each of :meth:`Gradients.arrays` the root mean square norm of its change
            for each float32 rounding that all numbers move by.
        double_units: The same for one float64 rounding.
        negative: Fusion weights not above zero: which of each vector.
        closed: Gradients that are zero because of them.
    """

    units: Mapping[str, float]
    double_units: Mapping[str, float]
    negative: Mapping[str, tuple[int, ...]]
    closed: frozenset[str]


class ReferenceGradients(Protocol):
    """Computes gradients of what is compared with."""

    def __call__(
        self, images: Array, patterns: Sequence[Array], *, dtype: str, training: bool
    ) -> Gradients:
        """Gradients for [N, H, W, 3] images and one NHWC pattern for each output."""


class CandidateGradients(Protocol):
    """Computes gradients in PyTorch, and how rounding moves them."""

    def gradients(
        self, images: Array, patterns: Sequence[Array], *, dtype: str, training: bool
    ) -> Gradients:
        """Gradients for [N, H, W, 3] images and one NHWC pattern for each output."""

    def sensitivity(
        self,
        images: Array,
        patterns: Sequence[Array],
        exact: Gradients,
        *,
        training: bool,
        draws: int,
    ) -> Sensitivity:
        """How far ``exact``, the float64 gradients, move when all numbers are rounded."""


class Layout(Protocol):
    """How a parameter's values correspond to those of its variables."""

    def to_torch(self, arrays: Sequence[Array]) -> Array:
        """The parameter that all its variables make."""


class Pair(Protocol):
    """One parameter and the variables that it is made of."""

    @property
    def parameter(self) -> str:
        """Name of the parameter."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables."""

    @property
    def layout(self) -> Layout:
        """How their axes correspond."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter."""


def map_gradients(pairs: Iterable[Pair], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays by variable as arrays by parameter, in PyTorch's layout.

    Args:
        pairs: The mapping; pairs whose variables have no array are left out.
        arrays: An array for some of the variables.

    Raises:
        ValueError: An array belongs to no pair, or a pair lacks some of its variables.
    """
    mapped = {}
    left = set(arrays)
    for pair in pairs:
        found = [arrays[name] for name in pair.variables if name in arrays]
        if not found:
            continue
        if len(found) != len(pair.variables):
            raise ValueError(f"{pair.parameter} lacks some of {', '.join(pair.variables)}")
        array = pair.layout.to_torch(found)
        if array.shape != pair.shape:
            raise ValueError(f"{pair.parameter} is {list(array.shape)}, not {list(pair.shape)}")
        mapped[pair.parameter] = array
        left -= set(pair.variables)
    if left:
        raise ValueError(f"no parameter is made of {', '.join(sorted(left)[:3])}")
    return mapped
