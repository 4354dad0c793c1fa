"""Both networks on their own: what accumulates."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.judge.measure import difference
from parity.judge.verdict import Measurement
from parity.lockstep.pairing import Ours
from parity.lockstep.walk import Walk, problem_of
from parity.sides import pytorch
from parity.sides.stream import Array


class FreeWalk(Walk):
    """Lets both networks compute on their own.

    Attributes:
        missed: Whether a node came after the reference had passed it, unexpected.
    """

    name = "free"
    missed = False

    def meet(self, name: str, theirs: Array | None, ours: Ours | None) -> Any:
        """As of any walk; nothing is replaced."""
        if ours is None:
            if self.comes_later(name):
                self._waiting[name] = None if theirs is None else np.array(theirs)
            return
        self._measure(name, theirs, ours)

    def meet_late(self, name: str, ours: Ours) -> Any:
        """As of any walk, with what was kept."""
        if name in self._waiting:
            self._measure(name, self._waiting.pop(name), ours)
        elif name not in self.measured:
            self.missed = True
            self.measured[name] = Measurement(pytorch.nhwc_shape(ours[2]))

    def _measure(self, name: str, theirs: Array | None, ours: Ours) -> None:
        problem = problem_of(ours[2], theirs, self.pairing.images.dtype)
        shape = pytorch.nhwc_shape(ours[2])
        if problem or theirs is None:
            self.measured[name] = Measurement(shape, problem=problem)
            return
        distance = difference(theirs, pytorch.nhwc(ours[2]))
        self.measured[name] = Measurement(shape, distance)
