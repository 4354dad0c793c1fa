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
from dataclasses import dataclass, field, replace

from parity.judge.reach import Reach
from parity.judge.verdict import Measurement, NodeResult, judge, with_history
from parity.lockstep.forms import Forms, compared_forms
from parity.lockstep.free import FreeWalk
from parity.lockstep.isolated import IsolatedWalk
from parity.lockstep.measuring import Measuring
from parity.lockstep.modes import (
    CHANNELS_LAST,
    GRADIENTS,
    Departures,
    departures,
    where,
    with_gradients,
)
from parity.lockstep.own import OwnDifferences
from parity.lockstep.pairing import Pairing, Progress, part_of
from parity.lockstep.regrouping import regrouped
from parity.lockstep.reordering import reordered
from parity.lockstep.repetition import (
    equal_runs,
    outputs_apart,
    repetition_findings,
)
from parity.lockstep.spans import judged_together
from parity.lockstep.walk import PassTiming, visited
from parity.process.arrays import Array
from parity.process.outcome import Outcome
from parity.results.records.nodes import NOT_REPEATABLE, Finding
from parity.sides.side import CandidateError, Mode, Value


@dataclass(frozen=True)
class Comparison:
    """What one comparison of all nodes found.

    Attributes:
        nodes: One result for each node that either side has, in the reference's order.
        timings: The time of each pass.
        runs: What is wrong with the candidate's runs as such: it does not repeat itself.
        reach: How far the reference's activations went, by node of a batch norm.
        peaks: The largest value that the reference has at each output node.
        saturated: Of each activation that has a highest value, whether the reference's tensors
            go above it.
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
    saturated: Mapping[str, bool] = field(default_factory=dict)
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
    with pairing.candidate.restored():
        if pairing.candidate.form is None:
            found = _plainly(pairing, progress, keep)
            if not (found.runs and _runs_in_another_form(pairing)):
                return found
        return _in_two_forms(pairing, progress, keep)


def _runs_in_another_form(pairing: Pairing) -> bool:
    """Whether a candidate repeats itself, but not where it runs as it is written.

    A function that is compiled is no module, and is not known of before.
    """
    one, other = pairing.run_unobserved(), pairing.run_unobserved()
    with pairing.candidate.observable():
        written, again = pairing.run_unobserved(), pairing.run_unobserved()
    return equal_runs(one, other) and equal_runs(written, again) and not equal_runs(one, written)


def _plainly(pairing: Pairing, progress: Progress | None, keep: int) -> Comparison:
    """:func:`compare` where what is observed is what its user runs."""
    started = time.perf_counter()
    # Another image of the same shape comes first: what a candidate keeps of it, it will use for
    # the images that it is compared on.
    others = pairing.on_others()
    before = others.run_unobserved()
    recorded, notes = with_gradients(pairing)
    second = pairing.run_unobserved() if recorded is None else recorded
    elsewhere = departures(others, before)
    unobserved = PassTiming("unobserved", time.perf_counter() - started)
    free, timing = _free(pairing, part_of(progress, 0, 2))
    observed = first = free.returned
    repeats = equal_runs(second, observed)
    if repeats:
        # Outputs are large, and one of two that are equal is enough.
        second = observed
    found = _isolated(pairing, free, part_of(progress, 1, 2), keep)
    seen, unseen = pairing.candidate.remarks()
    judged = _Judged()
    if not repeats:
        # One more run tells which of two that differ is the odd one.
        first = pairing.run_unobserved()
        if recorded is not None and equal_runs(first, observed):
            judged = _judged(pairing, GRADIENTS, observed, second)
            second = second if judged.findings else observed
    if not elsewhere.unsteady and found.outcome is not Outcome.DIFFERENCE:
        judged = _together([judged, _judged_elsewhere(pairing, before, elsewhere)])
    successive = [] if repeats else _successive(pairing, others)
    runs = repetition_findings(
        first,
        second,
        observed,
        pairing.outputs,
        gradients=recorded is not None,
        other_image=elsewhere.unsteady,
        successive=successive,
        of_first_call=before,
    )
    return replace(
        found,
        timings=[unobserved, timing, *found.timings],
        runs=runs or judged.findings,
        not_shown=[*unseen, *judged.not_shown],
        notes=[*found.notes, *seen, *notes, *elsewhere.notes, *judged.notes],
        outputs=_arrays(free.outputs),
    )


def _successive(pairing: Pairing, others: Pairing) -> list[Sequence[Value]]:
    """Outputs of three calls, one right after another, the first of them after another image."""
    others.run_unobserved()
    return [pairing.run_unobserved() for _ in range(3)]


def _in_two_forms(pairing: Pairing, progress: Progress | None, keep: int) -> Comparison:
    """:func:`compare` where its user runs a form that cannot be looked into, as a compiled one.

    Nodes and modes are those of the form that is written, and the other one is held against it at
    the outputs. A compiled one would be compiled once more for each mode.
    """
    started = time.perf_counter()
    others = pairing.on_others()
    before = others.run_unobserved()
    second = pairing.run_unobserved()
    after = others.run_unobserved()
    unobserved = PassTiming("unobserved", time.perf_counter() - started)
    free, timing = _free(pairing, part_of(progress, 0, 2))
    observed = free.returned
    found = _isolated(pairing, free, part_of(progress, 1, 2), keep)
    seen, unseen = pairing.candidate.remarks()
    with pairing.candidate.observable():
        written = pairing.run_unobserved()
        recorded, notes = with_gradients(pairing)
        elsewhere = departures(pairing, observed)
        judged = _Judged()
        if recorded is not None and not equal_runs(recorded, observed):
            judged = _judged(pairing, GRADIENTS, observed, recorded)
        if not elsewhere.unsteady and found.outcome is not Outcome.DIFFERENCE:
            judged = _together([judged, _judged_elsewhere(pairing, observed, elsewhere)])
    first = pairing.run_unobserved()
    steady = equal_runs(before, after)
    runs = repetition_findings(
        first,
        second,
        first,
        pairing.outputs,
        gradients=False,
        other_image=elsewhere.unsteady if steady else (before, after),
    ) or repetition_findings(written, written, observed, pairing.outputs, gradients=False)
    forms = Forms()
    if not runs:
        right = found.outcome is not Outcome.DIFFERENCE
        forms = compared_forms(pairing, first, observed, free.seen, judged=right)
    return replace(
        found,
        timings=[unobserved, timing, *found.timings],
        runs=runs or [*judged.findings, *forms.findings],
        not_shown=[*unseen, *forms.not_shown, *judged.not_shown],
        notes=[*forms.notes, *found.notes, *seen, *notes, *elsewhere.notes, *judged.notes],
        outputs=_arrays(free.outputs),
    )


def _arrays(outputs: Sequence[Value]) -> list[Array]:
    return [value.array() for value in outputs if value.shape is not None]


@dataclass
class _Judged:
    """What follows from the nodes as they are in other modes.

    Attributes:
        notes: Sentences where every node has parity there too.
        not_shown: Sentences on what that leaves open.
        findings: What is wrong with the candidate.
    """

    notes: list[str] = field(default_factory=list)
    not_shown: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def _together(every: Sequence[_Judged]) -> _Judged:
    """What follows from several modes."""
    return _Judged(
        [text for item in every for text in item.notes],
        [text for item in every for text in item.not_shown],
        [finding for item in every for finding in item.findings],
    )


def _judged_elsewhere(pairing: Pairing, plain: Sequence[Value], elsewhere: Departures) -> _Judged:
    """:func:`_judged` in each mode in which the candidate's outputs differ."""
    departed = elsewhere.outputs.items()
    return _together([_judged(pairing, mode, plain, outputs) for mode, outputs in departed])


def _judged(
    pairing: Pairing, mode: Mode, plain: Sequence[Value], outputs: Sequence[Value]
) -> _Judged:
    """Judge every node once more, in another mode.

    A candidate whose outputs differ there may still be right: PyTorch itself multiplies some
    matrices in another order.

    Args:
        pairing: What is compared.
        mode: How the candidate is run.
        plain: Its outputs in the plain mode.
        outputs: Those in this one, on the same images.
    """
    there = replace(pairing, mode=mode)
    apart = outputs_apart(plain, outputs, pairing.outputs)
    differs = Finding(
        NOT_REPEATABLE,
        "the candidate",
        f"a run {where(mode)} gives other outputs than a run without ({apart}): it computes "
        f"otherwise there",
    )
    try:
        if mode is GRADIENTS and not equal_runs(there.run(lambda name, made: None), outputs):
            # It is not the gradients that make the difference.
            return _Judged(findings=[differs])
        outcome = Comparison(compare_isolated(there), ()).outcome
    except CandidateError:
        outcome = Outcome.NOT_SHOWN
    if outcome is Outcome.PARITY:
        return _Judged(
            [f"Run {where(mode)} the candidate rounds otherwise: every node was judged there too."]
        )
    if outcome is Outcome.DIFFERENCE and mode is not CHANNELS_LAST:
        return _Judged(findings=[differs])
    # Who hands over contiguous images need not care for any other layout.
    what = (
        "by more than roundings; give it contiguous images wherever it is used"
        if outcome is Outcome.DIFFERENCE
        else "and not every node can be judged there"
    )
    return _Judged(
        not_shown=[f"run {where(mode)} the candidate's outputs differ ({apart}), {what}"]
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
    found = _once(pairing, free_walk.seen, free_walk.measured, progress, keep)
    measured = free_walk.measured
    notes = _reordered(pairing, found, free_walk.seen)
    if notes:
        walk = FreeWalk(pairing, None, free_walk.seen)
        walk.run()
        measured = walk.measured
        once_more = _once(pairing, free_walk.seen, measured, None, keep)
        found = replace(once_more, timings=found.timings, notes=notes)
    return _regrouped(
        pairing, found, lambda: _once(pairing, visited(pairing), measured, None, keep)
    )


def _reordered(pairing: Pairing, found: Comparison, seen: Collection[str]) -> list[str]:
    """Take channels in the orders in which they lie, where all that reads them counts on these.

    Returns:
        A sentence on that, after which nodes are to be judged anew; empty where nothing changes.
    """
    if not pairing.candidate.seen_through:
        return []
    orders = reordered(pairing, found.nodes, seen, lambda: _once(pairing, seen, None).nodes)
    if not orders:
        return []
    first, *others = orders
    where = f"{first} and {len(others)} more nodes" if others else first
    return [
        f"The channels of {where} lie in another order than the model's; what reads them counts on "
        f"that, so that it makes no difference."
    ]


def _regrouped(
    pairing: Pairing, found: Comparison, once_more: Callable[[], Comparison]
) -> Comparison:
    """What was found, nodes that are right only together being taken together."""
    if not pairing.candidate.seen_through:
        return found
    tried: list[Comparison] = []

    def again() -> Sequence[NodeResult]:
        tried.append(once_more())
        return tried[-1].nodes

    if regrouped(pairing, found.nodes, again):
        return replace(tried[-1], timings=found.timings, notes=found.notes)
    return found


def _once(
    pairing: Pairing,
    seen: Collection[str],
    free: Mapping[str, Measurement] | None,
    progress: Progress | None = None,
    keep: int = 0,
) -> Comparison:
    """One isolated pass.

    Args:
        pairing: What to compare.
        seen: The nodes that the candidate is known to make.
        free: What the free pass has measured; None where there was none.
        progress: Told how many nodes are done.
        keep: Of how many nodes to keep the difference that they make themselves.
    """
    kinds, dtype = pairing.kinds, pairing.images.dtype
    own = OwnDifferences(keep)
    measuring = Measuring(pairing.outputs, own)
    walk = IsolatedWalk(pairing, measuring, seen, progress)
    timing = walk.run()
    isolated = walk.measured
    # Nodes that are taken together with others were nodes of their own in the free pass.
    free = (
        isolated
        if free is None
        else {
            name: item
            for name, item in free.items()
            if name in seen or not item.shape or name not in kinds
        }
    )
    results = [
        judge(name, kinds.get(name), free.get(name), isolated.get(name), dtype)
        for name in dict.fromkeys([*kinds, *free, *isolated])
    ]
    if pairing.candidate.seen_through:
        results = judged_together(results, pairing.referee, pairing.candidate)
    sources = {name: pairing.referee.sources(name) for name in kinds}
    return Comparison(
        with_history(results, sources),
        [timing],
        reach=measuring.reach,
        peaks=measuring.peaks,
        saturated=measuring.saturated,
        own=own,
    )


def compare_isolated(pairing: Pairing, progress: Progress | None = None) -> Sequence[NodeResult]:
    """The verdicts of :func:`compare`, which rest on the isolated pass, without the free one.

    Args:
        pairing: What to compare.
        progress: Told how many nodes are done.
    """
    seen = visited(pairing)
    found = _once(pairing, seen, None, progress)
    if _reordered(pairing, found, seen):
        found = _once(pairing, seen, None)
    return _regrouped(pairing, found, lambda: _once(pairing, visited(pairing), None)).nodes
