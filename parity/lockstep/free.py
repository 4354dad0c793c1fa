"""Both networks on their own: what accumulates."""

from __future__ import annotations

import numpy as np

from parity.judge.measure import difference
from parity.judge.verdict import Measurement
from parity.lockstep.walk import Walk, problem_of
from parity.process.arrays import Array
from parity.sides.side import Made


class FreeWalk(Walk):
    """Lets both networks compute on their own.

    Attributes:
        missed: Whether a node came after the reference had passed it, unexpected.
    """

    name = "free"
    missed = False

    def meet(self, name: str, reference: Array | None, made: Made | None) -> None:
        """See :class:`Walk`; nothing is replaced."""
        if made is None:
            if self.comes_later(name):
                self._waiting[name] = None if reference is None else np.array(reference)
            return
        self._measure(name, reference, made)

    def meet_late(self, name: str, made: Made) -> None:
        """See :class:`Walk`; it is given the reference's tensor that was kept for it."""
        if name in self._waiting:
            self._measure(name, self._waiting.pop(name), made)
        elif name not in self.measured:
            self.missed = True
            self.measured[name] = Measurement(made.value.shape)

    def _measure(self, name: str, reference: Array | None, made: Made) -> None:
        value = made.value
        problem = problem_of(value, reference, self.pairing.images.dtype)
        if problem or reference is None:
            self.measured[name] = Measurement(value.shape, problem=problem)
            return
        self.measured[name] = Measurement(value.shape, difference(reference, value.array()))
