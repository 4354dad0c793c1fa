"""What a run of the suite has found: ``efficientdet-parity/benchmarks``, written, read, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from benchmarks.turns import ratios, spread
from parity.results import reading
from parity.results.records import record
from parity.results.records.record import Count, Record, ResultFile, Seconds, says

Positive = Annotated[float, says("above zero", gt=0)]


class Ratio(Record, frozen=True):
    """A way's times in units of another's."""

    other: Annotated[str, says("the other way")]
    median: Annotated[Positive, says("of the ratios of each round")]
    low: Annotated[Positive, says("their lower quartile")]
    high: Annotated[Positive, says("their upper quartile")]
    minima: Annotated[Positive, says("least time over least time")]


class Row(Record, kw_only=True, frozen=True):
    """One way."""

    way: Annotated[str, says("its name")]
    seconds: Annotated[Sequence[Seconds], says("by round", min_length=1)]
    minimum: Annotated[Seconds, says("of these")]
    median: Annotated[Seconds, says("of these")]
    spread: Annotated[Seconds, says("upper less lower quartile")]
    ratio: Annotated[Ratio, says("to the way that is the measurement's reference")]
    to_fastest: Annotated[Ratio | None, says("to the fastest of others' ways, of ours")] = None
    apart: Annotated[float | None, says("how far its results are from the expected ones")] = None
    peak_memory_bytes: Annotated[Count | None, says("of its process")] = None
    stages: Annotated[Mapping[str, Seconds], says("median seconds of parts of it")] = {}


class LeftOut(Record, frozen=True):
    """A way that was not measured."""

    way: Annotated[str, says("its name")]
    reason: Annotated[str, says("why")]


class Profile(Record, frozen=True):
    """Where a way's time goes."""

    way: Annotated[str, says("its name")]
    milliseconds: Annotated[Mapping[str, float], says("by operation, of one run under a profiler")]


class Measurement(Record, kw_only=True, frozen=True):
    """Ways of doing the same work, measured in turns."""

    what: Annotated[str, says("the kind of measurement")]
    subject: Annotated[str, says("what was worked on")]
    settings: Annotated[Mapping[str, Any], says("model, size, batch, threads and the like")]
    unit: Annotated[str, says("what the seconds are of")]
    reference: Annotated[str, says("the way whose ratios are 1")]
    checked: Annotated[str, says("what was seen to be alike before, and within which bound")]
    rows: Annotated[Sequence[Row], says("the ways", min_length=1)]
    left_out: Annotated[Sequence[LeftOut], says("ways without figures")] = ()
    profiles: Annotated[Sequence[Profile], says("of some ways")] = ()

    def row(self, way: str) -> Row | None:
        """The row of a way; None where it has none."""
        return next((row for row in self.rows if row.way == way), None)


class SuiteResult(ResultFile, kw_only=True, frozen=True):
    """A run of the suite."""

    step: ClassVar[str] = "python -m benchmarks.run"

    schema: Literal["efficientdet-parity/benchmarks"] = "efficientdet-parity/benchmarks"
    version: Literal[1] = 1
    environment: Annotated[Mapping[str, Any], says("machine, versions and settings")]
    ways: Annotated[Mapping[str, str], says("how each runtime was set")]
    repeats: Annotated[Count, says("rounds at most")]
    seconds_at_most: Annotated[Seconds, says("after which no round began")]
    measurements: Annotated[Sequence[Measurement], says("one after the other")]


def ratio(taken: Mapping[str, Sequence[float]], way: str, other: str) -> Ratio:
    """One way's times over another's.

    Args:
        taken: Seconds of every way by round.
        way: One way.
        other: Another.
    """
    found = spread(ratios(taken[way], taken[other]))
    return Ratio(
        other=other,
        median=_short(found.median),
        low=_short(found.low),
        high=_short(found.high),
        minima=_short(min(taken[way]) / min(taken[other])),
    )


def rows(
    taken: Mapping[str, Sequence[float]],
    reference: str,
    ours: Sequence[str] = (),
    others: Sequence[str] = (),
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Row]:
    """Rows of all ways.

    Args:
        taken: Seconds of every way by round.
        reference: The way whose ratios are 1.
        ours: Ways that are held against the fastest of the others, too.
        others: The ways of which one is the fastest.
        more: Further fields by way.
    """
    rivals = [way for way in others if way in taken]
    fastest = min(rivals, key=lambda way: spread(taken[way]).median, default=None)
    made = []
    for way, seconds in taken.items():
        found = spread(seconds)
        against = fastest is not None and way in ours
        made.append(
            Row(
                way=way,
                seconds=[_short(value) for value in seconds],
                minimum=_short(min(seconds)),
                median=_short(found.median),
                spread=_short(found.high - found.low),
                ratio=ratio(taken, way, reference),
                to_fastest=ratio(taken, way, fastest) if against and fastest else None,
                **(more or {}).get(way, {}),
            )
        )
    return made


def _short(value: float) -> float:
    """Four digits: no clock and no machine is more exact."""
    return float(f"{value:.4g}")


def write(path: Path, result: SuiteResult) -> None:
    """Write a run's result; see :func:`parity.results.records.record.write`."""
    record.write(path, result)


def read(path: Path) -> SuiteResult:
    """Read a run's result.

    Raises:
        InputError: It cannot be read, or is none.
    """
    return reading.read(path, SuiteResult)
