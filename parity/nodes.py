"""Runs two networks in lockstep and measures every node.

Two passes over the same stream of reference tensors:

* the *free* pass lets each network compute on its own, and measures the accumulated
  difference;
* the *isolated* pass puts the reference's tensor in place of each output after measuring it,
  so that every node is given identical inputs and shows only its own difference. A referee,
  the faithful model in float64, says what each node should make of these inputs.

The verdict rests on the second: if each node, given identical inputs, is no further from the
exact value than the roundings of its own arithmetic, then what accumulates is rounding, however
large.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from efficientdet_spec import NodeKind
from parity import torch_side
from parity.limits import SIDE_LIMIT
from parity.measure import difference, three_way
from parity.naming import Naming
from parity.stream import Array
from parity.torch_side import Referee, Ruling
from parity.verdict import Measurement, NodeResult, judge, with_history


class Tensors(Protocol):
    """The reference's tensors as they come, one at a time in the order of computation."""

    def take(self, name: str) -> Array:
        """The next tensor, which must be this node's."""

    def skip(self) -> None:
        """Let the next tensor pass."""

    def release(self) -> None:
        """The tensor taken is no longer looked at."""


Stream = Callable[[], AbstractContextManager[Tensors]]
"""Makes the reference compute once; the body of the context takes its tensors."""

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Pairing:
    """A reference and a candidate on one input.

    Attributes:
        stream: Makes the reference compute.
        model: The candidate, an ``nn.Module`` in evaluation mode.
        naming: Which of its submodules make which nodes.
        referee: The faithful model with the checkpoint's parameters.
        images: [N, H, W, 3], of the type in which both sides compute.
        outputs: Nodes whose tensors the candidate must return, in this order.
        recorded: The nodes that the stream has; None for all.
    """

    stream: Stream
    model: Any
    naming: Naming
    referee: Referee
    images: Array
    outputs: Sequence[str]
    recorded: frozenset[str] | None = None

    @property
    def kinds(self) -> Mapping[str, NodeKind]:
        """What each node of the reference computes, in the order of computation."""
        return self.referee.kinds

    def has(self, node: str) -> bool:
        """Whether the stream has this node's tensor."""
        return self.recorded is None or node in self.recorded

    def run(self, visit: torch_side.Visit) -> list[Any]:
        """Run the candidate, calling ``visit`` at each node; returns its output tensors."""
        with torch_side.visiting(self.model, self.naming, visit):
            return torch_side.flatten(torch_side.run(self.model, self.images))


@dataclass(frozen=True)
class PassTiming:
    """Wall time of one pass.

    Attributes:
        name: ``free`` or ``isolated``.
        seconds: Its duration, both frameworks and the measuring included.
    """

    name: str
    seconds: float


def compare(
    pairing: Pairing, progress: Progress | None = None
) -> tuple[list[NodeResult], list[PassTiming]]:
    """Measure every node of a candidate against a reference, free and isolated.

    Args:
        pairing: What to compare.
        progress: Told how many of all measurements are done.

    Returns:
        One result for each node that either side has, in the reference's order, and the time
        of each pass.
    """
    kinds = pairing.kinds
    walks = [_FreeWalk(pairing, progress), _IsolatedWalk(pairing, progress)]
    timings = [walk.run() for walk in walks]
    free, isolated = (walk.measured for walk in walks)
    extra = [name for name in [*free, *isolated] if name not in kinds]
    results = [
        judge(name, kinds.get(name), free.get(name), isolated.get(name), pairing.images.dtype)
        for name in [*kinds, *dict.fromkeys(extra)]
    ]
    sources = {name: pairing.referee.sources(name) for name in kinds}
    return with_history(results, sources), timings


def compare_isolated(pairing: Pairing, progress: Progress | None = None) -> list[NodeResult]:
    """The verdicts of :func:`compare`, which rest on the isolated pass, without the free one.

    Args:
        pairing: What to compare.
        progress: Told how many of all measurements are done.
    """
    walk = _IsolatedWalk(pairing, progress)
    walk.run()
    kinds, dtype = pairing.kinds, pairing.images.dtype
    names = dict.fromkeys([*kinds, *walk.measured])
    measured = walk.measured
    return [
        judge(name, kinds.get(name), measured.get(name), measured.get(name), dtype)
        for name in names
    ]


class _Walk:
    """One pass through both networks."""

    name = ""
    number = 0

    def __init__(self, pairing: Pairing, progress: Progress | None) -> None:
        self.measured: dict[str, Measurement] = {}
        self.pairing = pairing
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

            def visit(name: str, module: Any, inputs: tuple[Any, ...], output: Any) -> Any:
                position = self._order.get(name)
                if position is None or position < self._position:
                    shape = tuple(torch_side.nhwc(output).shape) if output.dim() == 4 else None
                    problem = _UNKNOWN if position is None else LATE
                    self.measured[name] = Measurement(shape, problem=problem)
                    return None
                # Nodes that the candidate passes over have no partner; the result says so.
                while self._position < position:
                    self._step(tensors, None)
                instead = self._step(tensors, (module, inputs, output))
                if name in self.pairing.outputs:
                    kept[name] = output if instead is None else instead
                return instead

            returned = self.pairing.run(visit)
            while self._position < len(self._names):
                self._step(tensors, None)
        self._check_returned(returned, kept)
        return PassTiming(self.name, time.perf_counter() - started)

    def _step(self, tensors: Tensors, ours: tuple[Any, tuple[Any, ...], Any] | None) -> Any:
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
                total = len(self._names)
                self._progress(self.number * total + self._position, 2 * total)

    def meet(
        self, name: str, theirs: Array | None, ours: tuple[Any, tuple[Any, ...], Any] | None
    ) -> Any:
        """Measure a node: the reference's tensor, and the candidate's module, inputs, output."""
        raise NotImplementedError

    def _check_returned(self, returned: Sequence[Any], kept: Mapping[str, Any]) -> None:
        # Right tensors in the wrong order would be wrong for whoever uses the model.
        outputs = self.pairing.outputs
        for number, name in enumerate(outputs):
            if len(returned) != len(outputs):
                problem = f"{RETURNS} {len(returned)} tensors, not {len(outputs)}"
            elif returned[number] is not kept.get(name):
                others = (other for other in kept if kept[other] is returned[number])
                instead = next(others, "another tensor")
                problem = f"{RETURNS} {instead} as its output number {number} instead of {name}"
            else:
                continue
            if name in self.measured:
                self.measured[name] = replace(self.measured[name], problem=problem)


class _FreeWalk(_Walk):
    name = "free"

    def meet(
        self, name: str, theirs: Array | None, ours: tuple[Any, tuple[Any, ...], Any] | None
    ) -> Any:
        if ours is None:
            return
        problem = _shape_problem(ours[2], theirs)
        shape = tuple(ours[2].permute(0, 2, 3, 1).shape) if ours[2].dim() == 4 else None
        if problem or theirs is None:
            self.measured[name] = Measurement(shape, problem=problem)
            return
        distance = difference(theirs, torch_side.nhwc(ours[2]))
        self.measured[name] = Measurement(shape, distance)


class _IsolatedWalk(_Walk):
    name = "isolated"
    number = 1

    def __init__(self, pairing: Pairing, progress: Progress | None) -> None:
        super().__init__(pairing, progress)
        self._sitting = pairing.referee.sitting(pairing.images, SIDE_LIMIT)
        self._came_from = torch_side.Provenance()

    def meet(
        self, name: str, theirs: Array | None, ours: tuple[Any, tuple[Any, ...], Any] | None
    ) -> Any:
        ruling = self._sitting.rule(name)
        # Of a tensor that the stream lacks, the exact value takes the place.
        goes_on = ruling.rounded() if theirs is None else theirs
        problem = None if ours is None else _shape_problem(ours[2], goes_on)
        self.measured[name] = self._measure(name, ruling, theirs, ours, problem)
        instead = None
        if ours is not None and problem is None:
            instead = torch_side.replacement(ours[2], goes_on)
            self._came_from.add(instead, name)
        self._sitting.follow(
            name,
            goes_on,
            ruling,
            substituted=instead is not None,
            recorded=theirs is not None,
        )
        return instead

    def _measure(
        self,
        name: str,
        ruling: Ruling,
        theirs: Array | None,
        ours: tuple[Any, tuple[Any, ...], Any] | None,
        problem: str | None,
    ) -> Measurement:
        kind = self._kinds[name]
        terms = torch_side.terms(kind, self._sitting.arguments(name))
        output = None if ours is None or problem else torch_side.nhwc(ours[2])
        exact = three_way(
            torch_side.nhwc(ruling.truth),
            torch_side.nhwc(ruling.gauge),
            output,
            theirs,
            torch_side.nhwc(ruling.reference_gauge),
        )
        if ours is None:
            return Measurement(None, exact=exact, terms=terms)
        module, inputs, tensor = ours
        shape = tuple(tensor.permute(0, 2, 3, 1).shape) if tensor.dim() == 4 else None
        own_exact = None
        if exact.candidate and (exact.candidate.roundings or 0.0) > SIDE_LIMIT:
            own_exact = self._own_exact(kind, module, inputs, tensor, ruling)
        return Measurement(
            shape,
            exact=exact,
            own_exact=own_exact,
            terms=terms,
            certain=ruling.certain,
            problem=problem,
            wrong_inputs=self._wrong_inputs(name, inputs),
        )

    def _own_exact(
        self, kind: NodeKind, module: Any, inputs: tuple[Any, ...], output: Any, ruling: Ruling
    ) -> Any:
        found = torch_side.own_exact(kind, module, inputs, output, ruling.gauge)
        if found is None:
            return None
        truth, magnitude = found
        return difference(
            torch_side.nhwc(truth), torch_side.nhwc(output), torch_side.nhwc(magnitude)
        )

    def _wrong_inputs(self, name: str, inputs: tuple[Any, ...]) -> tuple[str, ...]:
        """What the candidate reads here, where all of it is known and is not what it should be."""
        due = [source for source in self.pairing.referee.sources(name) if source in self._order]
        read = self._came_from.of(inputs)
        known = [node for node in read if node is not None]
        return tuple(known) if due and len(known) >= len(due) and known != due else ()


RETURNS = "the candidate returns"
"""How the reason begins where the fault lies not in a node but in what the network returns."""

_UNKNOWN = "the reference has no such node"
LATE = "the candidate computes it later than the reference does"
"""The reason where layers are in another order."""


def _shape_problem(output: Any, theirs: Array | None) -> str | None:
    if output.dim() != 4:
        return f"its shape is {list(output.shape)}, which is not [N, C, H, W]"
    ours = tuple(output.permute(0, 2, 3, 1).shape)
    if theirs is not None and ours != theirs.shape:
        return f"its shape is {list(ours)}, the reference's {list(theirs.shape)}"
    return None
