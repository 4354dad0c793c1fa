"""The largest differences that nodes make themselves, kept while they are measured."""

from __future__ import annotations

from collections.abc import Collection

from parity.judge.measure import Difference
from parity.lockstep.isolated import Meeting
from parity.process.arrays import Array
from parity.results.ranking import ordered

MOST_BYTES = 1 << 28
"""Most that is kept of differences; the largest tensor of D7 at 1536x1536 takes 0.45 GB."""


class OwnDifferences:
    """Keeps the differences of a few nodes, which would take a whole pass to find again.

    Args:
        count: Of how many nodes.

    Attributes:
        arrays: Reference minus candidate on identical inputs, NHWC, by node.
        outputs: What the reference has at its output nodes, NHWC, by node.
    """

    def __init__(self, count: int = 0) -> None:
        self.arrays: dict[str, Array] = {}
        self.outputs: dict[str, Array] = {}
        self._count = count
        self._sizes: dict[str, float] = {}

    def note(self, met: Meeting, own: Difference | None, outputs: Collection[str]) -> None:
        """Keep what a node shows, where it is among the largest so far.

        Args:
            met: The node.
            own: How far the candidate is from the reference there.
            outputs: Nodes that are the network's outputs.
        """
        if not self._count or met.reference is None:
            return
        if met.name in outputs:
            self.outputs[met.name] = met.reference.copy()
        size = ordered(own.relative_max) if own else 0.0
        output = met.output
        if output is None or not size or not self._is_large(size):
            return
        # Even where it is too large to keep it takes the place of a smaller one.
        self._sizes[met.name] = size
        if len(self._sizes) > self._count:
            smallest = min(reversed(self._sizes), key=self._sizes.__getitem__)
            del self._sizes[smallest]
            self.arrays.pop(smallest, None)
        if sum(array.nbytes for array in self.arrays.values()) + output.nbytes <= MOST_BYTES:
            self.arrays[met.name] = met.reference - output

    def _is_large(self, size: float) -> bool:
        return len(self._sizes) < self._count or size > min(self._sizes.values())
