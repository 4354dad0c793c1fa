"""A reference and a candidate on one input, and how both are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np

from efficientdet_spec import NodeKind
from parity.judge.referee import Referee
from parity.process.arrays import Array
from parity.sides.side import PLAIN, Candidate, Mode, Reference, Value, Visit
from parity.sides.stream import Tensors

_CONTRAST, _BRIGHTNESS = 0.75, 0.125
"""Of images beside those that are compared on; both are numbers without roundings."""

Progress = Callable[[float, int | None], None]
"""Told how much is done, and how much there is."""


def part_of(progress: Progress | None, number: int, count: int) -> Progress | None:
    """Progress of one of several passes over the same things.

    A pass over 531 nodes is a part of what is done with these 531: the whole stays what it is, and
    each pass brings each of them a part of the way.

    Args:
        progress: Of all passes together.
        number: Which pass it is of.
        count: How many passes there are.
    """
    if progress is None:
        return None

    def report(done: float, total: int | None) -> None:
        whole = total or 0
        progress((number * whole + done) / count, whole)

    return report


@dataclass(frozen=True)
class Pairing:
    """A reference and a candidate on one input.

    Attributes:
        reference: What is compared with.
        candidate: What is compared.
        referee: The faithful model with the checkpoint's parameters.
        images: [N, H, W, 3], of the type in which both sides compute.
        elements: Number of output elements that the whole comparison judges, both sides and all
            inputs together; None where this input is all.
        mode: How the candidate is run when it is observed.
    """

    reference: Reference
    candidate: Candidate
    referee: Referee
    images: Array
    elements: int | None = None
    mode: Mode = PLAIN

    @property
    def kinds(self) -> Mapping[str, NodeKind]:
        """What each node of the reference computes, in the order of computation."""
        return self.referee.kinds

    @property
    def outputs(self) -> Sequence[str]:
        """Nodes whose tensors the candidate must return, in this order."""
        return self.reference.outputs

    def stream(self) -> AbstractContextManager[Tensors]:
        """Make the reference compute; the body of the context takes its tensors."""
        # Finding the candidate's nodes takes runs of the reference, which computes one at a time.
        self._prepare()
        return self.reference.compute(self.images)

    def _prepare(self) -> None:
        self.candidate.prepare(self.reference, self.referee, self.images, self.mode)

    def run(self, visit: Visit) -> list[Value]:
        """Run the candidate, calling ``visit`` at each node.

        Returns:
            Copies of its output tensors, as it returns them.
        """
        referee = self.referee
        self._prepare()
        return self.candidate.run(self.images, visit, referee.inputs_of, referee.wiring, self.mode)

    def run_unobserved(self, mode: Mode = PLAIN) -> list[Value]:
        """Run the candidate as its user does; returns copies of its output tensors.

        Args:
            mode: How it is run.
        """
        return self.candidate.run_unobserved(self.images, mode)

    def on_others(self) -> Pairing:
        """The same on other images of this shape.

        Left and right are exchanged, and brightness and contrast are others, so that whatever a
        candidate keeps of images is another.
        """
        kind = self.images.dtype.type
        others = self.images[:, :, ::-1] * kind(_CONTRAST) + kind(_BRIGHTNESS)
        return replace(self, images=np.ascontiguousarray(others))
