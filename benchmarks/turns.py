"""Ways of doing the same work take turns; what one turn says of two ways is compared within it.

A machine is not as fast in one minute as in the next. So each way has its turn in every round, the
ways in another order each time, and a ratio is that of two times of the same round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

LEAST_TURNS = 3
"""Rounds that are taken even where they last longer than they should: with fewer there is no
middle."""


@dataclass(frozen=True)
class Effort:
    """How often is measured.

    Attributes:
        repeats: Rounds at most.
        seconds: After so many seconds no further round begins.
        least: Rounds at least.
    """

    repeats: int = 10
    seconds: float = 60.0
    least: int = LEAST_TURNS


def take_turns(
    ways: Mapping[str, Callable[[int], float]],
    effort: Effort,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, list[float]]:
    """Seconds of each way by round.

    Args:
        ways: By name what does the work once, given the number of the round, and returns the
            seconds that it took. All are warm.
        effort: How many rounds.
        told: Is told of the rounds done and of all, after each.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    began = time.monotonic()
    for turn in range(effort.repeats):
        if turn >= effort.least and time.monotonic() - began > effort.seconds:
            break
        shift = turn % len(names)
        for name in [*names[shift:], *names[:shift]]:
            seconds[name].append(ways[name](turn))
        told(turn + 1, effort.repeats)
    return seconds


def interleaved(
    calls: Mapping[str, Callable[[], object]], repeats: int, warm_ups: int = 2
) -> dict[str, list[float]]:
    """Seconds of each of a few short calls in this process, taking turns.

    Args:
        calls: By name.
        repeats: Rounds that count.
        warm_ups: Rounds before these.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-warm_ups, repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            taken = time.perf_counter() - started
            if turn >= 0:
                seconds[name].append(taken)
    return seconds


@dataclass(frozen=True)
class Spread:
    """Some numbers in three: the median, and the quartiles between which half of them lie."""

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles.

    Args:
        values: One at least.
    """
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, median, high)


def ratios(taken: Sequence[float], other: Sequence[float]) -> list[float]:
    """One way's times in units of the other's, round by round.

    Args:
        taken: Of a way by round.
        other: Of another in the same rounds.
    """
    return [mine / theirs for mine, theirs in zip(taken, other, strict=True)]
