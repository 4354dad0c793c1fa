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
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from efficientdet_spec import InputError, NodeKind
from parity import torch_side
from parity.console import out_of_memory
from parity.limits import SIDE_LIMIT
from parity.measure import Difference, difference, three_way
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

Ours = tuple[Any, tuple[Any, ...], Any]
"""What a candidate has at a node: the module, its inputs and its output."""


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
        ours: list[BaseException] = []

        def guarded(*arguments: Any) -> Any:
            try:
                return visit(*arguments)
            except BaseException as error:
                ours.append(error)
                raise

        with (
            torch_side.unchanged(self.model),
            torch_side.visiting(self.model, self.naming, guarded),
        ):
            try:
                return torch_side.flatten(torch_side.run(self.model, self.images))
            except (Exception, SystemExit) as error:
                if ours or out_of_memory(error):
                    raise
                raise InputError(
                    f"The candidate fails on [N, 3, H, W] images of {self.images.shape[1]}x"
                    f"{self.images.shape[2]} with {type(error).__name__}: "
                    f"{(str(error).splitlines() or [''])[0]:.200}; run it by itself and correct it."
                ) from error


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
    free_walk = _FreeWalk(pairing, progress)
    timings = [free_walk.run()]
    isolated_walk = IsolatedWalk(pairing, progress, free_walk.seen)
    timings.append(isolated_walk.run())
    free, isolated = free_walk.measured, isolated_walk.measured
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
    walk = IsolatedWalk(pairing, progress, visited(pairing))
    walk.run()
    kinds, dtype = pairing.kinds, pairing.images.dtype
    names = dict.fromkeys([*kinds, *walk.measured])
    measured = walk.measured
    return [
        judge(name, kinds.get(name), measured.get(name), measured.get(name), dtype)
        for name in names
    ]


def visited(pairing: Pairing) -> set[str]:
    """The nodes that a candidate makes, in whatever order; it is run once."""
    seen: set[str] = set()
    pairing.run(lambda name, module, inputs, output: seen.add(name))
    return seen


class _Walk:
    """One pass through both networks.

    The reference's tensors come in one order. Where the candidate computes in another, those
    that it will ask for later are kept until it does.
    """

    name = ""
    number = 0
    passes = 2

    def __init__(self, pairing: Pairing, progress: Progress | None) -> None:
        self.measured: dict[str, Measurement] = {}
        self.pairing = pairing
        self.seen: set[str] = set()
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
                if position is None:
                    shape = torch_side.nhwc_shape(output)
                    self.measured[name] = Measurement(shape, problem=_UNKNOWN)
                    return None
                while self._position < position:
                    self._step(tensors, None)
                ours = module, inputs, output
                late = name in self.seen or position < self._position
                self.seen.add(name)
                instead = self.meet_late(name, ours) if late else self._step(tensors, ours)
                if name in self.pairing.outputs:
                    kept[name] = output if instead is None else instead
                return instead

            returned = self.pairing.run(visit)
            while self._position < len(self._names):
                self._step(tensors, None)
        self._check_returned(returned, kept)
        return PassTiming(self.name, time.perf_counter() - started)

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
                total = len(self._names)
                self._progress(self.number * total + self._position, self.passes * total)

    def meet(self, name: str, theirs: Array | None, ours: Ours | None) -> Any:
        """Look at a node.

        Args:
            name: The node.
            theirs: The reference's tensor; None where it is not recorded.
            ours: What the candidate has there; None where it has nothing, or nothing yet.

        Returns:
            What takes the place of the candidate's output; None leaves it.
        """
        raise NotImplementedError

    def meet_late(self, name: str, ours: Ours) -> Any:
        """Look at a node that the reference has passed; as :meth:`meet`."""
        raise NotImplementedError

    def _check_returned(self, returned: Sequence[Any], kept: Mapping[str, Any]) -> None:
        # Right tensors in the wrong order would be wrong for whoever uses the model.
        outputs = self.pairing.outputs
        for number, name in enumerate(outputs):
            if len(returned) != len(outputs):
                problem = f"{RETURNS} {len(returned)} tensors, not {len(outputs)}"
            elif not torch_side.same(returned[number], kept.get(name)):
                same = (other for other in kept if torch_side.same(returned[number], kept[other]))
                instead = next(same, f"another tensor, of shape {list(returned[number].shape)},")
                problem = f"{RETURNS} {instead} as its output number {number} instead of {name}"
            else:
                continue
            if name in self.measured:
                self.measured[name] = replace(self.measured[name], problem=problem)


class _FreeWalk(_Walk):
    """Lets both networks compute on their own."""

    name = "free"

    def meet(self, name: str, theirs: Array | None, ours: Ours | None) -> Any:
        """As of any walk; nothing is replaced."""
        if ours is None:
            return
        problem = _problem(ours[2], theirs, self.pairing.images.dtype)
        shape = torch_side.nhwc_shape(ours[2])
        if problem or theirs is None:
            self.measured[name] = Measurement(shape, problem=problem)
            return
        distance = difference(theirs, torch_side.nhwc(ours[2]))
        self.measured[name] = Measurement(shape, distance)

    def meet_late(self, name: str, ours: Ours) -> Any:
        """Without a distance: only the other pass knows what is worth keeping."""
        self.measured.setdefault(name, Measurement(torch_side.nhwc_shape(ours[2])))


class IsolatedWalk(_Walk):
    """Gives each node the reference's tensors, and measures it against the exact value.

    Args:
        pairing: What to compare.
        progress: Told how many of all measurements are done.
        visited: The nodes that the candidate is known to make, in whatever order; None where
            that is not known and the reference's order is expected.
    """

    name = "isolated"
    number = 1

    def __init__(
        self,
        pairing: Pairing,
        progress: Progress | None,
        visited: Collection[str] | None = None,
    ) -> None:
        super().__init__(pairing, progress)
        self.sitting = pairing.referee.sitting(pairing.images, SIDE_LIMIT)
        self._visited = frozenset(visited or ())
        self._waiting: dict[str, tuple[Array, Array | None, Ruling, tuple[Any, ...]]] = {}
        self._came_from = torch_side.Provenance()

    def meet(self, name: str, theirs: Array | None, ours: Ours | None) -> Any:
        """As of any walk; the reference's tensor takes the output's place."""
        ruling = self.sitting.rule(name)
        arguments = self.sitting.arguments(name)
        # Of a tensor that the stream lacks, the exact value takes the place.
        goes_on = ruling.rounded() if theirs is None else theirs
        comes_later = ours is None and name in self._visited and name not in self.seen
        if comes_later:
            self._waiting[name] = goes_on, theirs, ruling, arguments
            instead = None
        else:
            instead = self._replace(name, goes_on, theirs, ruling, arguments, ours)
        self.sitting.follow(
            name,
            goes_on,
            ruling,
            substituted=comes_later or instead is not None,
            recorded=theirs is not None,
        )
        return instead

    def meet_late(self, name: str, ours: Ours) -> Any:
        """As of any walk, with what was kept."""
        waiting = self._waiting.pop(name, None)
        if waiting is None:
            again = f"{name} is computed again"
            self.measured[f"{name} again"] = Measurement(
                torch_side.nhwc_shape(ours[2]), problem=again
            )
            return None
        return self._replace(name, *waiting, ours)

    def _replace(
        self,
        name: str,
        goes_on: Array,
        theirs: Array | None,
        ruling: Ruling,
        arguments: tuple[Any, ...],
        ours: Ours | None,
    ) -> Any:
        problem = None if ours is None else _problem(ours[2], goes_on, goes_on.dtype)
        self.measured[name] = self.measure(name, ruling, arguments, theirs, ours, problem)
        if ours is None or problem:
            return None
        instead = torch_side.replacement(ours[2], ours[1], goes_on)
        self._came_from.add(instead, name)
        return instead

    def measure(
        self,
        name: str,
        ruling: Ruling,
        arguments: tuple[Any, ...],
        theirs: Array | None,
        ours: Ours | None,
        problem: str | None,
    ) -> Measurement:
        """Look at a node before the candidate's output is replaced.

        Args:
            name: The node.
            ruling: What it should make of its inputs.
            arguments: These inputs, as the faithful layer takes them.
            theirs: The reference's tensor; None where it is not recorded.
            ours: What the candidate has there.
            problem: Why the two cannot be compared; None where they can.
        """
        kind = self._kinds[name]
        terms = torch_side.terms(kind, arguments)
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
        own_exact = None
        if exact.candidate and (exact.candidate.roundings or 0.0) > SIDE_LIMIT:
            own_exact = self._own_exact(kind, module, inputs, arguments, tensor, ruling)
        return Measurement(
            torch_side.nhwc_shape(tensor),
            exact=exact,
            own_exact=own_exact,
            terms=terms,
            certain=ruling.certain,
            reference_certain=ruling.reference_certain,
            problem=problem,
            wrong_inputs=self._wrong_inputs(name, inputs),
        )

    def _own_exact(
        self,
        kind: NodeKind,
        module: Any,
        inputs: tuple[Any, ...],
        arguments: tuple[Any, ...],
        output: Any,
        ruling: Ruling,
    ) -> Difference | None:
        if torch_side.overwrites(module) and len(torch_side.flatten(inputs)) == 1:
            # By now the layer has written its output over what it was given.
            inputs = arguments
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
        if self._kinds[name] in (NodeKind.ADD, NodeKind.SCALE):
            # Sums and products of two are the same in either order.
            due, known = sorted(due), sorted(known)
        return tuple(known) if due and len(known) >= len(due) and known != due else ()


RETURNS = "the candidate returns"
"""How the reason begins where the fault lies not in a node but in what the network returns."""

_UNKNOWN = "the reference has no such node"


def _problem(output: Any, theirs: Array | None, dtype: Any) -> str | None:
    """Why a candidate's output cannot be compared; None where it can."""
    if output.dim() != 4:
        return f"its shape is {list(output.shape)}, which is not [N, C, H, W]"
    ours = torch_side.nhwc_shape(output) or ()
    if theirs is not None and ours != theirs.shape:
        return f"its shape is {list(ours)}, the reference's {list(theirs.shape)}"
    if str(output.dtype).removeprefix("torch.") != str(dtype):
        # Coarser roundings would be taken for those of the type compared in.
        return f"its type is {str(output.dtype).removeprefix('torch.')}, not {dtype}"
    return None
