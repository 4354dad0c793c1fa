"""One pass through both networks, whatever is looked at there."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from parity.judge.verdict import Measurement, Problem, Verdict
from parity.lockstep.pairing import Ours, Pairing, Progress
from parity.sides import pytorch
from parity.sides.stream import Array, Tensors

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
    pairing.run(lambda name, module, inputs, output: seen.add(name))
    return seen


class Walk(ABC):
    """One pass through both networks.

    The reference's tensors come in one order. Where the candidate computes in another, those
    that it will ask for later are kept until it does.

    Args:
        pairing: What to compare.
        progress: Told how many of all measurements are done.
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
        self.returned: list[Any] = []
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
        kept: dict[str, Any] = {}
        with self.pairing.stream() as tensors:

            def visit(name: str, module: Any, inputs: Any, output: Any) -> Any:
                position = self._order.get(name)
                if position is None:
                    shape = pytorch.nhwc_shape(output)
                    self.measured[name] = Measurement(shape, problem=Problem(_UNKNOWN))
                    return None
                while self._position < position:
                    self._step(tensors, None)
                ours = module, inputs, output
                late = name in self.seen or position < self._position
                self.seen.add(name)
                instead = self.meet_late(name, ours) if late else self._step(tensors, ours)
                if name in self.pairing.outputs:
                    # A copy: what is returned may be changed afterwards.
                    kept[name] = (output if instead is None else instead).detach().clone()
                return instead

            self.returned = self.pairing.run(visit)
            while self._position < len(self._names):
                self._step(tensors, None)
        self._check_returned(kept)
        return PassTiming(self.name, time.perf_counter() - started)

    def comes_later(self, name: str) -> bool:
        """Whether the candidate will make a node that the reference is at now."""
        return name in self._visited and name not in self.seen

    def _step(self, tensors: Tensors, ours: Ours | None) -> Any:
        """Go one node on; with what takes the place of the candidate's output."""
        name = self._names[self._position]
        theirs = tensors.take(name) if self.pairing.has(name) else None
        self._position += 1
        try:
            return self.meet(name, theirs, ours)
        finally:
            if theirs is not None:
                tensors.release()
            if self._progress:
                self._progress(self._position, len(self._names))

    @abstractmethod
    def meet(self, name: str, theirs: Array | None, ours: Ours | None) -> Any:
        """Look at a node.

        Args:
            name: The node.
            theirs: The reference's tensor; None where it is not recorded.
            ours: What the candidate has there; None where it has nothing, or nothing yet.

        Returns:
            What takes the place of the candidate's output; None leaves it.
        """

    @abstractmethod
    def meet_late(self, name: str, ours: Ours) -> Any:
        """Look at a node that the reference has passed; as :meth:`meet`."""

    def _check_returned(self, kept: Mapping[str, Any]) -> None:
        # Right tensors in the wrong order would be wrong for whoever uses the model.
        outputs, returned = self.pairing.outputs, self.returned
        for number, name in enumerate(outputs):
            if len(returned) != len(outputs):
                problem = Problem(
                    f"{_RETURNS} {len(returned)} tensors, not {len(outputs)}", returned=True
                )
            elif not pytorch.same(returned[number], kept.get(name)):
                problem = _returned_instead(name, number, returned[number], kept)
            else:
                continue
            if name in self.measured:
                self.measured[name] = replace(self.measured[name], problem=problem)


def problem_of(output: Any, theirs: Array | None, dtype: Any) -> Problem | None:
    """Why a candidate's output cannot be compared; None where it can."""
    if output.dim() != 4:
        return Problem(f"its shape is {list(output.shape)}, which is not [N, C, H, W]")
    ours = pytorch.nhwc_shape(output) or ()
    if theirs is not None and ours != theirs.shape:
        return Problem(
            f"its shape is {list(ours)}, the reference's {list(theirs.shape)}",
            Verdict.FUNCTION_DIFFERS,
        )
    made = str(output.dtype).removeprefix("torch.")
    if made != str(dtype):
        # Coarser roundings would be taken for those of the type compared in.
        coarser = output.dtype.is_floating_point and output.dtype.itemsize < dtype.itemsize
        verdict = Verdict.CANDIDATE_DIFFERS if coarser else Verdict.NOT_COVERED
        return Problem(f"its type is {made}, not {dtype}", verdict)
    return None


def _returned_instead(name: str, number: int, tensor: Any, kept: Mapping[str, Any]) -> Problem:
    """What a candidate returns where it should return what it made at an output node."""
    where = f"as its output number {number} instead of {name}"
    other = next((node for node in kept if pytorch.same(tensor, kept[node])), None)
    if other is not None:
        return Problem(f"{_RETURNS} {other} {where}", Verdict.FUNCTION_DIFFERS, returned=True)
    if name in kept and tensor.shape == kept[name].shape:
        return Problem(
            f"{_RETURNS} other values {where}: they are changed after its last layer made them",
            Verdict.FUNCTION_DIFFERS,
            returned=True,
        )
    return Problem(
        f"{_RETURNS} another tensor, of shape {list(tensor.shape)}, {where}", returned=True
    )
