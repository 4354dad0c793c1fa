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
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from efficientdet_spec import InputError, NodeKind
from parity import torch_side
from parity.console import out_of_memory
from parity.judge.limits import SIDE_LIMIT
from parity.judge.means import another_mean, reproducing_order
from parity.judge.measure import ThreeWay, apart, difference, measured, unit_roundoff
from parity.judge.reach import Reach, reach
from parity.judge.verdict import Measurement, NodeResult, Problem, Verdict, judge, with_history
from parity.naming import Naming
from parity.outcome import Outcome
from parity.repetition import compiled_apart, repetition_findings
from parity.replay import Stream, Tensors
from parity.result import Finding
from parity.stream import Array
from parity.torch_side import Referee, Ruling

Progress = Callable[[int, int | None], None]

Ours = tuple[Any, Any, Any]
"""What a candidate has at a node: the module, its inputs (with the values that it read) and its
output."""


class CandidateError(InputError):
    """The candidate cannot be run on an input."""


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
        elements: Number of output elements that the whole comparison judges, both sides and all
            inputs together; None where this input is all.
    """

    stream: Stream
    model: Any
    naming: Naming
    referee: Referee
    images: Array
    outputs: Sequence[str]
    recorded: frozenset[str] | None = None
    elements: int | None = None

    @property
    def kinds(self) -> Mapping[str, NodeKind]:
        """What each node of the reference computes, in the order of computation."""
        return self.referee.kinds

    def has(self, node: str) -> bool:
        """Whether the stream has this node's tensor."""
        return self.recorded is None or node in self.recorded

    def run(self, visit: torch_side.Visit) -> list[Any]:
        """Run the candidate, calling ``visit`` at each node.

        Returns:
            Copies of its output tensors, as it returns them.
        """
        ours: list[BaseException] = []

        def guarded(*arguments: Any) -> Any:
            try:
                return visit(*arguments)
            except BaseException as error:
                ours.append(error)
                raise

        shapes = self.referee.inputs_of
        with torch_side.visiting(self.model, self.naming, guarded, shapes):
            return self._outputs(ours)

    def run_unobserved(self, *, gradients: bool) -> list[Any]:
        """Run the candidate as its user does; returns copies of its output tensors.

        Args:
            gradients: Whether PyTorch is to record what gradients need.
        """
        return self._outputs([], gradients=gradients)

    def _outputs(self, ours: Sequence[BaseException], *, gradients: bool = False) -> list[Any]:
        size = f"{self.images.shape[1]}x{self.images.shape[2]}"
        with torch_side.unchanged(self.model):
            try:
                returned = torch_side.run(self.model, self.images, gradients=gradients)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if ours or out_of_memory(error):
                    raise
                raise CandidateError(
                    f"The candidate fails on [{len(self.images)}, 3, H, W] images of {size} with "
                    f"{torch_side.failure(error)}; run it by itself and correct it."
                ) from error
        tensors = torch_side.flatten(returned)
        if not tensors:
            raise InputError(
                f"The candidate returns {type(returned).__name__} without a tensor for images of "
                f"{size}; let it return {len(self.outputs)} tensors, class outputs before box "
                f"outputs, finest level first."
            )
        return [tensor.detach().clone() for tensor in tensors]


@dataclass(frozen=True)
class PassTiming:
    """Wall time of one pass.

    Attributes:
        name: ``unobserved``, ``free`` or ``isolated``.
        seconds: Its duration, both frameworks and the measuring included.
    """

    name: str
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """What one comparison of all nodes found.

    Attributes:
        nodes: One result for each node that either side has, in the reference's order.
        timings: The time of each pass.
        runs: What is wrong with the candidate's runs as such: it does not repeat itself.
        reach: How far the reference's activations went, by node of a batch norm.
        peaks: The largest value that the reference has at each output node.
        not_shown: Sentences on what could not be compared besides nodes.
        notes: Sentences on what was not looked at, for the reader of the coverage.
        outputs: What the candidate returns on its own, NHWC; only what is of that form.
    """

    nodes: Sequence[NodeResult]
    timings: Sequence[PassTiming]
    runs: Sequence[Finding] = ()
    reach: Mapping[str, Reach] = field(default_factory=dict)
    peaks: Mapping[str, float] = field(default_factory=dict)
    not_shown: Sequence[str] = ()
    notes: Sequence[str] = ()
    outputs: Sequence[Array] = ()

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time by pass."""
        return {f"{timing.name} pass": timing.seconds for timing in self.timings}

    @property
    def outcome(self) -> Outcome:
        """What this input alone says."""
        if self.runs or any(node.verdict.fails for node in self.nodes):
            return Outcome.DIFFERENCE
        shown = all(node.verdict.passes or node.silent for node in self.nodes)
        return Outcome.PARITY if self.nodes and shown and not self.not_shown else Outcome.NOT_SHOWN


def compare(pairing: Pairing, progress: Progress | None = None) -> Comparison:
    """Measure every node of a candidate against a reference, free and isolated.

    Args:
        pairing: What to compare.
        progress: Told how many of all measurements are done.
    """
    compiled = torch_side.is_compiled(pairing.model)
    started = time.perf_counter()
    first = pairing.run_unobserved(gradients=False)
    second, notes = _second_run(pairing, gradients=not compiled)
    unobserved = PassTiming("unobserved", time.perf_counter() - started)
    with torch_side.eager() if compiled else nullcontext():
        found, observed = _compared(pairing, progress)
    return replace(
        found,
        timings=[unobserved, *found.timings],
        runs=repetition_findings(
            first,
            second,
            first if compiled else observed,
            pairing.outputs,
            gradients=not compiled and not notes,
        ),
        not_shown=compiled_apart(first, observed) if compiled else [],
        notes=notes,
        outputs=[torch_side.nhwc(tensor) for tensor in observed if tensor.dim() == 4],
    )


def _second_run(pairing: Pairing, *, gradients: bool) -> tuple[list[Any], list[str]]:
    """The outputs of the candidate's second call, and what was not looked at."""
    if gradients:
        try:
            return pairing.run_unobserved(gradients=True), []
        except CandidateError as error:
            # Many ports are only ever run without, and use what does not work with gradients.
            notes = [f"Not looked at: the candidate with gradients recorded. {error}"]
            return pairing.run_unobserved(gradients=False), notes
    # A compiled module would be compiled once more for gradients.
    return pairing.run_unobserved(gradients=False), []


def _compared(pairing: Pairing, progress: Progress | None) -> tuple[Comparison, list[Any]]:
    """Both passes; what they found, and what the candidate returned when it ran on its own."""
    kinds = pairing.kinds
    free_walk = _FreeWalk(pairing, progress)
    timings = [free_walk.run()]
    returned = free_walk.returned
    if free_walk.missed:
        # It computes in another order: what it will ask for later must be kept.
        free_walk = _FreeWalk(pairing, progress, free_walk.seen)
        timings[-1] = PassTiming("free", timings[-1].seconds + free_walk.run().seconds)
    isolated_walk = IsolatedWalk(pairing, progress, free_walk.seen)
    timings.append(isolated_walk.run())
    free, isolated = free_walk.measured, isolated_walk.measured
    extra = [name for name in [*free, *isolated] if name not in kinds]
    results = [
        judge(name, kinds.get(name), free.get(name), isolated.get(name), pairing.images.dtype)
        for name in [*kinds, *dict.fromkeys(extra)]
    ]
    sources = {name: pairing.referee.sources(name) for name in kinds}
    found = Comparison(
        with_history(results, sources),
        timings,
        reach=isolated_walk.reach,
        peaks=isolated_walk.peaks,
    )
    return found, returned


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


class Walk:
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
    number = 0
    passes = 2

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
                    shape = torch_side.nhwc_shape(output)
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

    def _check_returned(self, kept: Mapping[str, Any]) -> None:
        # Right tensors in the wrong order would be wrong for whoever uses the model.
        outputs, returned = self.pairing.outputs, self.returned
        for number, name in enumerate(outputs):
            if len(returned) != len(outputs):
                problem = Problem(f"{RETURNS} {len(returned)} tensors, not {len(outputs)}")
            elif not torch_side.same(returned[number], kept.get(name)):
                problem = _returned_instead(name, number, returned[number], kept)
            else:
                continue
            if name in self.measured:
                self.measured[name] = replace(self.measured[name], problem=problem)


def _returned_instead(name: str, number: int, tensor: Any, kept: Mapping[str, Any]) -> Problem:
    """What a candidate returns where it should return what it made at an output node."""
    where = f"as its output number {number} instead of {name}"
    other = next((node for node in kept if torch_side.same(tensor, kept[node])), None)
    if other is not None:
        return Problem(f"{RETURNS} {other} {where}", Verdict.FUNCTION_DIFFERS)
    if name in kept and tensor.shape == kept[name].shape:
        return Problem(
            f"{RETURNS} other values {where}: they are changed after its last layer made them",
            Verdict.FUNCTION_DIFFERS,
        )
    return Problem(f"{RETURNS} another tensor, of shape {list(tensor.shape)}, {where}")


class _FreeWalk(Walk):
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
            self.measured[name] = Measurement(torch_side.nhwc_shape(ours[2]))

    def _measure(self, name: str, theirs: Array | None, ours: Ours) -> None:
        problem = _problem(ours[2], theirs, self.pairing.images.dtype)
        shape = torch_side.nhwc_shape(ours[2])
        if problem or theirs is None:
            self.measured[name] = Measurement(shape, problem=problem)
            return
        distance = difference(theirs, torch_side.nhwc(ours[2]))
        self.measured[name] = Measurement(shape, distance)


class IsolatedWalk(Walk):
    """Gives each node the reference's tensors, and measures it against the exact value.

    Attributes:
        reach: How far the reference's activations went, by node of a batch norm.
        peaks: The largest value that the reference has at each output node.
    """

    name = "isolated"
    number = 1

    def __init__(
        self,
        pairing: Pairing,
        progress: Progress | None,
        visited: Collection[str] | None = None,
    ) -> None:
        super().__init__(pairing, progress, visited)
        self.reach: dict[str, Reach] = {}
        self.peaks: dict[str, float] = {}
        self.sitting = pairing.referee.sitting(pairing.images, pairing.elements)
        self._came_from = torch_side.Provenance()

    def meet(self, name: str, theirs: Array | None, ours: Ours | None) -> Any:
        """As of any walk; the reference's tensor takes the output's place."""
        ruling = self.sitting.rule(name)
        arguments = self.sitting.arguments(name)
        # Of a tensor that the stream lacks, the exact value takes the place.
        goes_on = ruling.rounded() if theirs is None else theirs
        comes_later = ours is None and self.comes_later(name)
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
            again = Problem(f"{name} is computed again")
            self.measured[f"{name} again"] = Measurement(
                torch_side.nhwc_shape(ours[2]), problem=again
            )
            return None
        goes_on, theirs, ruling, arguments = waiting
        return self._replace(name, goes_on, theirs, ruling, arguments, ours)

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
        problem: Problem | None,
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
        if kind is NodeKind.BATCH_NORM:
            layer = self.pairing.referee.calls[name].module
            mean, deviation = torch_side.statistics(layer)
            self.reach[name] = reach(torch_side.nhwc(arguments[0]), mean, deviation)
        if theirs is not None and name in self.pairing.outputs:
            self.peaks[name] = float(theirs.max())
        output = None if ours is None or problem else torch_side.nhwc(ours[2])
        exact = measured(ruling, output, theirs)
        if ours is None:
            return Measurement(None, exact=exact, limit=ruling.limit)
        orders: tuple[str | None, str | None] = (None, None)
        another = None
        if kind is NodeKind.MEAN and ruling.certain:
            orders, another = _mean_order(arguments[0], ruling, exact, (output, theirs))
        return Measurement(
            torch_side.nhwc_shape(ours[2]),
            exact=exact,
            functions_apart=self._functions_apart(ours, ruling, exact),
            limit=ruling.limit,
            certain=ruling.certain,
            problem=problem,
            wrong_inputs=self._wrong_inputs(name, ours[1]),
            orders=orders,
            another_mean=another,
        )

    def _functions_apart(self, ours: Ours, ruling: Ruling, exact: ThreeWay) -> float | None:
        """How far the candidate's own function is from the faithful one, where it is a question."""
        close = min(float(SIDE_LIMIT), ruling.limit.candidate)
        if exact.candidate is None or (exact.candidate.roundings or 0.0) <= close:
            return None
        module, inputs, output = ours
        its_own = torch_side.own_exact(module, inputs, output)
        if its_own is None or its_own.shape != ruling.truth.shape:
            return None
        return apart(
            torch_side.nhwc(ruling.truth),
            torch_side.nhwc(its_own),
            torch_side.nhwc(ruling.gauge),
            unit_roundoff(self.pairing.images.dtype),
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


def _mean_order(
    features: Any, ruling: Ruling, exact: ThreeWay, sides: Sequence[Array | None]
) -> tuple[tuple[str | None, str | None], str | None]:
    """In which order each side has added up a mean; what the candidate computes instead of it."""
    values = torch_side.nhwc(features)
    unit = unit_roundoff(values.dtype)
    found: list[str | None] = []
    another = None
    for side, (array, distance, gauge) in enumerate(
        zip(
            sides,
            (exact.candidate, exact.reference),
            (ruling.gauge, ruling.reference_gauge),
            strict=True,
        )
    ):
        order = None
        if array is not None and distance and (distance.roundings or 0.0) > SIDE_LIMIT:
            scale = torch_side.nhwc(gauge)
            limit = ruling.limit.candidate
            order = reproducing_order(values, array, scale, unit, limit)
            # An order that reproduces it to a few roundings leaves nothing else to explain.
            if side == 0 and (order is None or order.roundings > SIDE_LIMIT):
                another = another_mean(values, array, scale, unit)
            beyond = (distance.roundings or 0.0) > limit
            found.append(order.title if order and beyond else None)
        else:
            found.append(None)
    return (found[0], found[1]), another


def _problem(output: Any, theirs: Array | None, dtype: Any) -> Problem | None:
    """Why a candidate's output cannot be compared; None where it can."""
    if output.dim() != 4:
        return Problem(f"its shape is {list(output.shape)}, which is not [N, C, H, W]")
    ours = torch_side.nhwc_shape(output) or ()
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
