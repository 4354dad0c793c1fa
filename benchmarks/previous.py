"""What has become faster or slower since an earlier run, by the ratios within each run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.records import Measurement, Ratio, Row, SuiteResult


@dataclass(frozen=True)
class Change:
    """A row whose ratio is another than before.

    Attributes:
        subject: What was worked on.
        way: The row.
        before: Its ratio then.
        now: Its ratio now.
    """

    subject: str
    way: str
    before: Ratio
    now: Ratio

    @property
    def text(self) -> str:
        """It in a line."""
        word = "faster" if self.now.median < self.before.median else "slower"
        return (
            f"{self.subject}: {self.way} is {word}: {self.now.median:.3g} times {self.now.other}, "
            f"{self.before.median:.3g} before"
        )


@dataclass(frozen=True)
class Changes:
    """How two runs differ.

    Attributes:
        rows: Rows with another ratio.
        compared: Rows that both have.
        only_before: Rows that are not there any more, in words.
        elsewhere: What of machine and versions is another, in words; ratios hold between machines
            as little as times do.
    """

    rows: list[Change]
    compared: int
    only_before: list[str]
    elsewhere: list[str]


def changes(before: SuiteResult, now: SuiteResult) -> Changes:
    """Compare two runs row by row.

    A ratio has changed where its median has moved by more than the larger of the two spreads: the
    distance between the quartiles of the rounds' ratios.

    Args:
        before: The earlier run.
        now: The later one.
    """
    known = dict(_rows(before))
    later = dict(_rows(now))
    found = [
        Change(subject, way, known[subject, way].ratio, row.ratio)
        for (subject, way), row in later.items()
        if (subject, way) in known and _moved(known[subject, way].ratio, row.ratio)
    ]
    return Changes(
        rows=found,
        compared=len(known.keys() & later.keys()),
        only_before=[f"{subject}: {way}" for subject, way in known.keys() - later.keys()],
        elsewhere=sorted(_elsewhere(before, now)),
    )


def _rows(result: SuiteResult) -> Iterator[tuple[tuple[str, str], Row]]:
    for measurement in result.measurements:
        for row in measurement.rows:
            yield (_name(measurement), row.way), row


def _name(measurement: Measurement) -> str:
    return f"{measurement.what}: {measurement.subject}"


def _moved(before: Ratio, now: Ratio) -> bool:
    # A ratio to another way says something else.
    if before.other != now.other:
        return True
    apart = abs(now.median - before.median)
    return apart > max(before.high - before.low, now.high - now.low)


def _elsewhere(before: SuiteResult, now: SuiteResult) -> Iterator[str]:
    for name in ("processor", "cpus", "python", "threads"):
        one, other = before.environment.get(name), now.environment.get(name)
        if one != other:
            yield f"{name}: {one} before, {other} now"
    packages = [result.environment.get("packages") for result in (before, now)]
    one, other = (item if isinstance(item, dict) else {} for item in packages)
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            yield f"{name}: {one.get(name)} before, {other.get(name)} now"
