"""A reference whose tensors are kept while it first computes, and shown again from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import numpy as np

from parity.process.arrays import Array
from parity.sides.side import Reference
from parity.sides.stream import StreamError, Tensors

KEPT_BYTES = 1 << 30
"""Most that is kept of one input: a whole run of D0 takes 0.55 GB, of D4 already 5."""


def kept(reference: Reference) -> Reference:
    """A reference whose first complete run on some images serves all later ones on them.

    Args:
        reference: What computes.
    """
    return replace(reference, compute=_Kept(reference.compute, reference.names))


class _Kept:
    """Computes once.

    Args:
        compute: Makes the reference compute.
        names: Its tensors in the order of computation.
    """

    def __init__(
        self, compute: Callable[[Array], AbstractContextManager[Tensors]], names: Sequence[str]
    ) -> None:
        self._compute = compute
        self._names = list(names)
        self._images: Array | None = None
        self._arrays: dict[str, Array] = {}

    @contextmanager
    def __call__(self, images: Array) -> Iterator[Tensors]:
        """As the reference itself; nothing is computed where everything is kept."""
        if self._images is images and list(self._arrays) == self._names:
            yield _Again(self._arrays)
            return
        # A run that ended early leaves nothing.
        arrays: dict[str, Array] = {}
        with self._compute(images) as tensors:
            yield _Keeping(tensors, arrays)
        self._images, self._arrays = images, arrays


class _Keeping:
    """Hands the tensors on and keeps copies."""

    def __init__(self, tensors: Tensors, arrays: dict[str, Array]) -> None:
        self._tensors = tensors
        self._arrays = arrays

    def take(self, name: str) -> Array:
        kept = self._arrays[name] = np.array(self._tensors.take(name))
        return kept

    def skip(self) -> None:
        self._tensors.skip()

    def release(self) -> None:
        self._tensors.release()


class _Again:
    """Hands out kept tensors in their order."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._left = iter(arrays.items())

    def take(self, name: str) -> Array:
        offered = next(self._left, None)
        if offered is None:
            raise StreamError(f"the reference ended before {name}")
        if offered[0] != name:
            raise StreamError(f"the reference offers {offered[0]} where {name} was due")
        return offered[1]

    def skip(self) -> None:
        next(self._left, None)

    def release(self) -> None:
        """Nothing is in flight."""
