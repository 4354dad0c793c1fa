"""What all measurements of a run have in common, and how ways in processes are measured."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.agreement import refused
from benchmarks.material import Material
from benchmarks.records import LeftOut, Measurement, Profile, rows
from benchmarks.turns import Effort, take_turns
from benchmarks.workers import WayFailed, Worker
from converter.progress import Progress

PROFILED = 12
"""Operations of a profile that are kept; the others are added up."""


@dataclass
class Plan:
    """What was asked for.

    Attributes:
        material: Checkpoints, exports and images.
        effort: How often each way has its turn.
        threads: Of every runtime.
        models: Whose networks are measured.
        ways: Modules of the runtimes.
        images: A folder of photographs; None: built-in ones.
        annotations: COCO's, of them; None: there is no COCO run.
        before: A checkout of an earlier version, which is measured too.
        lock: A file that is locked while something is measured, shared while files are made.
        made: What has been measured, in this run or in the one that it goes on with.
    """

    material: Material
    effort: Effort
    threads: int
    models: tuple[str, ...]
    ways: tuple[str, ...]
    images: Path | None = None
    annotations: Path | None = None
    before: Path | None = None
    lock: Path | None = None
    made: list[Measurement] = field(default_factory=list)
    _depth: int = 0

    def known(self, what: str, subject: str, ways: Collection[str] = ()) -> Measurement | None:
        """What has been measured already; None where it has not been, or by fewer ways.

        Args:
            what: The kind of measurement.
            subject: On what.
            ways: Names that it has to have as rows, or with the reason why not.
        """
        for item in self.made:
            if (item.what, item.subject) == (what, subject):
                there = {row.way for row in item.rows} | {left.way for left in item.left_out}
                if there >= set(ways):
                    return item
        return None

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """While nobody else measures."""
        with self._held(fcntl.LOCK_SH):
            yield

    @contextmanager
    def timing(self) -> Iterator[None]:
        """While nobody else computes."""
        with self._held(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _held(self, how: int) -> Iterator[None]:
        if self.lock is None or self._depth:
            # What holds it already may measure several things, one after another.
            yield
            return
        with open(self.lock, "a") as file:
            fcntl.flock(file, how)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1


@dataclass(frozen=True)
class Way:
    """How a way is opened in its process.

    Attributes:
        function: ``module:function``.
        arguments: Gives its arguments; what they name is made then.
    """

    function: str
    arguments: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Work:
    """What is measured.

    Attributes:
        what: The kind of measurement.
        subject: On what, in words.
        settings: The same as values.
        unit: What the seconds are of.
        per: Units in a turn's work.
        expected: The way whose results are the expected ones.
        apart: How far results are from the expected ones.
        bound: How far they may be.
        checked: What is compared, in words.
        reference: The way whose ratios are 1.
        ours: Ways that are held against the fastest of the others.
        others: These.
        profiled: Ways that are run under a profiler afterwards.
    """

    what: str
    subject: str
    settings: Mapping[str, Any]
    unit: str
    per: float
    expected: str
    apart: Callable[[Any, Any], float]
    bound: float
    checked: str
    reference: str
    ours: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    profiled: tuple[str, ...] = ()


def measured(
    plan: Plan, work: Work, ways: Mapping[str, Way], left_out: Mapping[str, str]
) -> Measurement:
    """Open every way, see that all do the same, and let them take turns.

    Args:
        plan: What was asked for.
        work: What is measured.
        ways: By name.
        left_out: Ways that cannot be measured, and why.

    Raises:
        WayFailed: The expected results cannot be had, or the reference cannot be measured.
    """
    reasons = dict(left_out)
    for name in (work.expected, work.reference):
        if name not in ways:
            raise WayFailed(f"{work.subject}: {name}: {reasons.get(name, 'it was not asked for')}")
    workers: dict[str, Worker] = {}
    # Files are made first, of which some take longer than all turns.
    with plan.preparing():
        arguments = _arguments(ways, reasons)
    try:
        with plan.timing():
            apart = _opened(work, ways, arguments, workers, reasons)
            taken, profiles = _timed(plan.effort, work, workers)
        more = _accounts(work, workers, len(taken[work.reference]))
        for name, account in more.items():
            account["apart"] = float(f"{apart[name]:.3g}")
    finally:
        for worker in workers.values():
            worker.close()
    each = {name: [value / work.per for value in values] for name, values in taken.items()}
    return Measurement(
        what=work.what,
        subject=work.subject,
        settings=dict(work.settings),
        unit=work.unit,
        reference=work.reference,
        checked=work.checked,
        rows=rows(each, work.reference, work.ours, work.others, more),
        left_out=[LeftOut(name, reason) for name, reason in reasons.items()],
        profiles=profiles,
    )


def _arguments(ways: Mapping[str, Way], reasons: dict[str, str]) -> dict[str, Mapping[str, Any]]:
    """Arguments of the ways, by name; those that cannot be made are left out."""
    arguments = {}
    for name, way in ways.items():
        try:
            arguments[name] = way.arguments()
        except WayFailed as error:
            reasons[name] = str(error)
    return arguments


def _opened(
    work: Work,
    ways: Mapping[str, Way],
    arguments: Mapping[str, Mapping[str, Any]],
    workers: dict[str, Worker],
    reasons: dict[str, str],
) -> dict[str, float]:
    """Open the ways one after another; how far each one's results are from the expected ones.

    Those that fail or compute something else are closed again.
    """
    apart: dict[str, float] = {}
    expected: Any = None
    # The expected results first.
    order = sorted(arguments, key=lambda name: name != work.expected)
    with Progress(f"opening {work.subject}", unit="ways") as progress:
        for done, name in enumerate(order):
            progress(done, len(order))
            try:
                workers[name] = Worker(ways[name].function, arguments[name])
                workers[name].opened()
                found = workers[name].outputs(0)
                expected = found if name == work.expected else expected
                apart[name] = work.apart(found, expected)
            except WayFailed as error:
                reasons[name] = str(error)
            if expected is None:
                break
        progress(len(order), len(order))
    reasons |= refused(apart, work.bound)
    for name in set(workers) & set(reasons):
        workers.pop(name).close()
    for name in (work.expected, work.reference):
        if name not in workers:
            raise WayFailed(f"{work.subject}: {name}: {reasons[name]}")
    # In the order in which they were given, whichever was opened first.
    for name in ways:
        if name in workers:
            workers[name] = workers.pop(name)
    return apart


def _timed(
    effort: Effort, work: Work, workers: Mapping[str, Worker]
) -> tuple[dict[str, list[float]], list[Profile]]:
    """Let the ways take turns, and run some of them under a profiler; none runs beside another."""
    progress = Progress(f"{work.what}: {work.subject}", unit="rounds")
    with progress:
        progress(0, effort.repeats)
        calls = {name: worker.seconds for name, worker in workers.items()}
        taken = take_turns(calls, effort, progress)
        found = {name: workers[name].profile() for name in work.profiled if name in workers}
    profiles = [Profile(name, _longest(item)) for name, item in found.items() if item is not None]
    return taken, profiles


def _accounts(work: Work, workers: Mapping[str, Worker], rounds: int) -> dict[str, dict[str, Any]]:
    """Memory of each way, and seconds of its stages for a unit of the work."""
    accounts = {name: worker.account() for name, worker in workers.items()}
    for account in accounts.values():
        account["stages"] = {
            stage: round(value / (rounds * work.per), 6)
            for stage, value in account["stages"].items()
        }
    return accounts


def _longest(milliseconds: Mapping[str, float]) -> dict[str, float]:
    """The operations that take most, and the rest as one."""
    order = sorted(milliseconds, key=lambda name: -milliseconds[name])
    kept = {name: round(milliseconds[name], 2) for name in order[:PROFILED]}
    rest = sum(milliseconds[name] for name in order[PROFILED:])
    return kept | ({"others": round(rest, 2)} if rest else {})
