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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from parity.judge.reach import Reach
from parity.judge.verdict import NodeResult, judge, with_history
from parity.lockstep.free import FreeWalk
from parity.lockstep.isolated import IsolatedWalk
from parity.lockstep.measuring import Measuring
from parity.lockstep.own import OwnDifferences
from parity.lockstep.pairing import Pairing, Progress, part_of
from parity.lockstep.repetition import (
    compiled_apart,
    equal_runs,
    outputs_apart,
    repetition_findings,
)
from parity.lockstep.walk import PassTiming, visited
from parity.process.arrays import Array
from parity.process.outcome import Outcome
from parity.results.records.nodes import Finding
from parity.sides.side import CandidateError, Value


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
        own: The largest differences that nodes make themselves, and what the outputs should be.
    """

    nodes: Sequence[NodeResult]
    timings: Sequence[PassTiming]
    runs: Sequence[Finding] = ()
    reach: Mapping[str, Reach] = field(default_factory=dict)
    peaks: Mapping[str, float] = field(default_factory=dict)
    not_shown: Sequence[str] = ()
    notes: Sequence[str] = ()
    outputs: Sequence[Array] = ()
    own: OwnDifferences = field(default_factory=OwnDifferences)

    def without_tensors(self) -> Comparison:
        """The same, with nothing that takes much memory."""
        return replace(self, outputs=(), own=OwnDifferences())

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


def compare(pairing: Pairing, progress: Progress | None = None, keep: int = 0) -> Comparison:
    """Measure every node of a candidate against a reference, free and isolated.

    Args:
        pairing: What to compare.
        progress: Told how many nodes are done, both passes together.
        keep: Of how many nodes to keep the difference that they make themselves.
    """
    compiled = pairing.candidate.compiled
    started = time.perf_counter()
    runs = _unobserved(pairing, gradients=not compiled)
    unobserved = PassTiming("unobserved", time.perf_counter() - started)
    second = runs.outputs
    with pairing.candidate.observable():
        free, timing = _free(pairing, part_of(progress, 0, 2))
        observed = free.returned
        repeats = equal_runs(second, observed)
        if repeats:
            # Outputs are large, and one of two that are equal is enough.
            second = runs.outputs = observed
        found = _isolated(pairing, free, part_of(progress, 1, 2), keep)
    # One more run tells which of two that differ is the odd one.
    first = observed
    if compiled or not repeats:
        first = pairing.run_unobserved(gradients=False)
    not_shown: Sequence[str] = compiled_apart(first, observed) if compiled else []
    if not (compiled or repeats or runs.notes) and equal_runs(first, observed):
        judged = _judged_with_gradients(pairing, observed, second)
        if judged and judged.outcome is not Outcome.DIFFERENCE:
            runs.notes, not_shown, second = judged.notes, judged.not_shown, observed
    return replace(
        found,
        timings=[unobserved, timing, *found.timings],
        runs=repetition_findings(
            first,
            second,
            first if compiled else observed,
            pairing.outputs,
            gradients=not compiled and not runs.notes,
            other_image=runs.other_image,
        ),
        not_shown=not_shown,
        notes=runs.notes,
        outputs=[value.array() for value in observed if value.shape is not None],
    )


@dataclass
class _Unobserved:
    """What a candidate makes where nobody looks.

    Attributes:
        outputs: Of its second call.
        notes: What was not looked at.
        other_image: Its outputs for another image of the same shape, of the very first call and
            of a later one; None where they are equal.
    """

    outputs: Sequence[Value]
    notes: Sequence[str] = ()
    other_image: tuple[Sequence[Value], Sequence[Value]] | None = None


def _unobserved(pairing: Pairing, *, gradients: bool) -> _Unobserved:
    # Another image of the same shape comes first: what a candidate keeps of it, it will use for
    # the images that it is compared on.
    mirrored = pairing.mirrored()
    before = mirrored.run_unobserved(gradients=False)
    outputs, notes = _second_run(pairing, gradients=gradients)
    after = mirrored.run_unobserved(gradients=False)
    return _Unobserved(outputs, notes, None if equal_runs(before, after) else (before, after))


def _second_run(pairing: Pairing, *, gradients: bool) -> tuple[list[Value], list[str]]:
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


_OTHER_ROUNDING = (
    "Where gradients are recorded the candidate rounds otherwise: every node was judged there too."
)


def _judged_with_gradients(
    pairing: Pairing, without: Sequence[Value], recorded: Sequence[Value]
) -> Comparison | None:
    """Judge every node once more, in a run that records what gradients need.

    A candidate whose outputs differ there may still be right: PyTorch itself multiplies some
    matrices in another order.

    Args:
        pairing: What is compared.
        without: The candidate's outputs where no gradients are recorded.
        recorded: Those where they are.

    Returns:
        The nodes, and what follows from them where none is wrong; None where it is not the
        gradients that make the difference, since another run with them gives other outputs again.
    """
    recording = replace(pairing, gradients=True)
    if not equal_runs(recording.run(lambda name, made: None), recorded):
        return None
    found = Comparison(compare_isolated(recording), ())
    if found.outcome is Outcome.PARITY:
        return replace(found, notes=[_OTHER_ROUNDING])
    apart = outputs_apart(without, recorded, pairing.outputs)
    return replace(
        found,
        not_shown=[
            f"where gradients are recorded the candidate's outputs differ ({apart}), and not "
            f"every node can be judged there"
        ],
    )


def _free(pairing: Pairing, progress: Progress | None) -> tuple[FreeWalk, PassTiming]:
    """Both networks on their own."""
    walk = FreeWalk(pairing, progress)
    timing = walk.run()
    if not walk.missed:
        return walk, timing
    # It computes in another order: what it will ask for later must be kept.
    again = FreeWalk(pairing, progress, walk.seen)
    return again, PassTiming(timing.name, timing.seconds + again.run().seconds)


def _isolated(
    pairing: Pairing, free_walk: FreeWalk, progress: Progress | None, keep: int
) -> Comparison:
    """The second pass, and what both have found."""
    kinds = pairing.kinds
    own = OwnDifferences(keep)
    measuring = Measuring(pairing.outputs, own)
    walk = IsolatedWalk(pairing, measuring, free_walk.seen, progress)
    timing = walk.run()
    free, isolated = free_walk.measured, walk.measured
    extra = [name for name in [*free, *isolated] if name not in kinds]
    results = [
        judge(name, kinds.get(name), free.get(name), isolated.get(name), pairing.images.dtype)
        for name in [*kinds, *dict.fromkeys(extra)]
    ]
    sources = {name: pairing.referee.sources(name) for name in kinds}
    return Comparison(
        with_history(results, sources),
        [timing],
        reach=measuring.reach,
        peaks=measuring.peaks,
        own=own,
    )


def compare_isolated(pairing: Pairing, progress: Progress | None = None) -> list[NodeResult]:
    """The verdicts of :func:`compare`, which rest on the isolated pass, without the free one.

    Args:
        pairing: What to compare.
        progress: Told how many nodes are done.
    """
    measuring = Measuring(pairing.outputs)
    walk = IsolatedWalk(pairing, measuring, visited(pairing), progress)
    walk.run()
    kinds, dtype = pairing.kinds, pairing.images.dtype
    names = dict.fromkeys([*kinds, *walk.measured])
    measured = walk.measured
    return [
        judge(name, kinds.get(name), measured.get(name), measured.get(name), dtype)
        for name in names
    ]
