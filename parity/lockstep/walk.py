"""One pass through both networks, whatever is looked at there."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from parity.judge.verdict import Measurement, Problem, Verdict
from parity.lockstep.pairing import Pairing, Progress
from parity.process.arrays import Array
from parity.sides.side import Made, Value
from parity.sides.stream import Tensors

_RETURNS = "the candidate returns"
"""How the reason begins where the fault lies not in a node but in what the network returns."""

_UNKNOWN = "the reference has no such node"


@dataclass(frozen=True)
class PassTiming:
    """Wall time of one pass.

    Attributes:
        name: ``unobserved``, ``free`` or ``isolated``.
        seconds: Its duration, both frameworks and the measuring included.
    """

    name: str
    seconds: float


def visited(pairing: Pairing) -> set[str]:
    """The nodes that a candidate makes, in whatever order; it is run once."""
    seen: set[str] = set()
    pairing.run(lambda name, made: seen.add(name))
    return seen


class Walk(ABC):
    """One pass through both networks.

    The reference's tensors come in one order. Where the candidate computes in another, those
    that it will ask for later are kept until it does.

    Args:
        pairing: What to compare.
        progress: Told how many nodes are done.
        visited: The nodes that the candidate is known to make, in whatever order; None where
            that is not known and the reference's order is expected.
    """

    name = ""

    def __init__(
        self,
        pairing: Pairing,
        progress: Progress | None,
        visited: Collection[str] | None = None,
    ) -> None:
        self.measured: dict[str, Measurement] = {}
        self.pairing = pairing
        self.seen: set[str] = set()
        self.returned: list[Value] = []
        self.outputs: list[Value] = []
        # What a node that the candidate makes later will be met with, by node.
        self._waiting: dict[str, Any] = {}
        self._visited = frozenset(visited or ())
        self._kinds = pairing.kinds
        self._order = {name: position for position, name in enumerate(self._kinds)}
        self._names = list(self._kinds)
        self._progress = progress
        self._position = 0

    def run(self) -> PassTiming:
        """Run both networks once."""
        started = time.perf_counter()
        kept: dict[str, Value] = {}
        with self.pairing.stream() as tensors:

            def visit(name: str, made: Made) -> Array | None:
                position = self._order.get(name)
                if position is None:
                    self.measured[name] = Measurement(made.value.shape, problem=Problem(_UNKNOWN))
                    return None
                while self._position < position:
                    self._step(tensors, None)
                late = name in self.seen or position < self._position
                self.seen.add(name)
                instead = self.meet_late(name, made) if late else self._step(tensors, made)
                if name in self.pairing.outputs and not made.value.unreadable:
                    kept[name] = made.kept(instead)
                return instead

            self.returned = self.pairing.run(visit)
            while self._position < len(self._names):
                self._step(tensors, None)
        self.outputs = self.pairing.candidate.outputs(self.returned)
        self._check_returned(kept)
        return PassTiming(self.name, time.perf_counter() - started)

    def comes_later(self, name: str) -> bool:
        """Whether the candidate will make a node that the reference is at now."""
        return name in self._visited and name not in self.seen

    def _step(self, tensors: Tensors, made: Made | None) -> Array | None:
        """Go one node on; with what takes the place of the candidate's output."""
        name = self._names[self._position]
        reference = tensors.take(name) if self.pairing.reference.has(name) else None
        self._position += 1
        try:
            return self.meet(name, reference, made)
        finally:
            if reference is not None:
                tensors.release()
            if self._progress:
                self._progress(self._position, len(self._names))

    @abstractmethod
    def meet(self, name: str, reference: Array | None, made: Made | None) -> Array | None:
        """Look at a node.

        Args:
            name: The node.
            reference: The reference's tensor; None where it is not recorded.
            made: What the candidate has there; None where it has nothing, or nothing yet.

        Returns:
            What takes the place of the candidate's output, NHWC; None leaves it.
        """

    @abstractmethod
    def meet_late(self, name: str, made: Made) -> Array | None:
        """Look at a node that the reference has passed; as :meth:`meet`."""

    def _check_returned(self, kept: Mapping[str, Value]) -> None:
        # Right tensors in the wrong order would be wrong for whoever uses the model.
        outputs, returned = self.pairing.outputs, self.outputs
        for number, name in enumerate(outputs):
            if len(returned) != len(outputs):
                problem = Problem(
                    f"{_RETURNS} {len(returned)} tensors, not {len(outputs)}", returned=True
                )
            elif self._leaves_images_out(returned[number], kept.get(name)):
                problem = Problem(
                    f"{_RETURNS} {returned[number].dims[0]} of {len(self.pairing.images)} images "
                    f"in its output number {number}",
                    Verdict.FUNCTION_DIFFERS,
                    returned=True,
                )
            elif not returned[number].same(kept.get(name)):
                problem = _returned_instead(name, number, returned[number], kept)
            else:
                continue
            if name in self.seen and name not in kept:
                # What it makes there cannot be looked into, which says more.
                continue
            if name in self.measured:
                self.measured[name] = replace(self.measured[name], problem=problem)

    def _leaves_images_out(self, returned: Value, made: Value | None) -> bool:
        """Whether fewer images are returned than given, and all else as its last layer made it."""
        count = len(self.pairing.images)
        return (
            made is not None
            and bool(returned.dims)
            and returned.dims[0] < count
            and made.dims[0] in (count, returned.dims[0])
            and returned.dims[1:] == made.dims[1:]
        )


def problem_of(value: Value, reference: Array | None, dtype: Any) -> Problem | None:
    """Why a candidate's output cannot be compared; None where it can."""
    if value.unreadable:
        return Problem(f"it makes a tensor that is {value.unreadable}, which is not looked into")
    shape = value.shape
    if shape is None:
        return Problem(f"its shape is {list(value.dims)}, which is not [N, C, H, W]")
    if reference is not None and shape[1:] == reference.shape[1:] and shape[0] < len(reference):
        return Problem(
            f"it is made for {shape[0]} of {len(reference)} images at a time; give single images "
            f"with --image"
        )
    if reference is not None and shape[1:] == reference.shape[1:] and shape[0] > len(reference):
        return Problem(
            f"it computes {shape[0]} images where {len(reference)} are given; give that many with "
            f"--image and --batch {shape[0]}"
        )
    if reference is not None and shape != reference.shape:
        return Problem(
            f"its shape is {list(shape)}, the reference's {list(reference.shape)}",
            Verdict.FUNCTION_DIFFERS,
        )
    if value.dtype != str(dtype):
        # Coarser roundings would be taken for those of the type compared in.
        coarser = value.coarseness is not None and value.coarseness < dtype.itemsize
        verdict = Verdict.CANDIDATE_DIFFERS if coarser else Verdict.NOT_COVERED
        return Problem(f"its type is {value.dtype}, not {dtype}", verdict)
    return None


def _returned_instead(name: str, number: int, value: Value, kept: Mapping[str, Value]) -> Problem:
    """What a candidate returns where it should return what it made at an output node."""
    where = f"as its output number {number} instead of {name}"
    other = next((node for node in kept if value.same(kept[node])), None)
    if other is not None:
        return Problem(f"{_RETURNS} {other} {where}", Verdict.FUNCTION_DIFFERS, returned=True)
    if name in kept and value.dims == kept[name].dims:
        return Problem(
            f"{_RETURNS} other values {where}: they are changed after its last layer made them",
            Verdict.FUNCTION_DIFFERS,
            returned=True,
        )
    return Problem(
        f"{_RETURNS} another tensor, of shape {list(value.dims)}, {where}", returned=True
    )
