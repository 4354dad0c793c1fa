"""Figures as people read them: few digits, a unit, and the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from parity.judge.verdict import Verdict
from parity.results.records.nodes import NodesResult

NONE = "–"
"""Stands where there is no figure."""


def scientific(value: float | None) -> str:
    """Two digits and an exponent, such as ``2.8e-04``."""
    if value is None:
        return NONE
    return "0" if value == 0 else f"{value:.1e}" if math.isfinite(value) else _unusual(value)


def short(value: float | None) -> str:
    """One digit behind the point up to 1000, then an exponent."""
    if value is None:
        return NONE
    if value == 0 or not math.isfinite(value):
        return scientific(value)
    return f"{value:.1f}" if abs(value) < 1000 else f"{value:.1e}"


def _unusual(value: float) -> str:
    return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"


def metric(value: float | None, *, signed: bool = False) -> str:
    """A metric of 0 to 1 with six digits; no zero has a sign."""
    if value is None:
        return NONE
    text = f"{round(value, 6) + 0.0:{'+' if signed else ''}.6f}"
    return "0.000000" if float(text) == 0 else text.replace("-", "−")


def seconds(value: float | None) -> str:
    """Wall time, in minutes from two on."""
    if value is None:
        return NONE
    return f"{value:.1f} s" if value < 120 else f"{int(value // 60)} min {int(value % 60)} s"


def memory(value: float | None) -> str:
    """Bytes as gigabytes of 10^9."""
    return NONE if value is None else f"{value / 1e9:.2f} GB"


def count(value: float | None) -> str:
    """A whole number with its thousands set apart."""
    return NONE if value is None else f"{int(value):,}"


def by_verdict(counts: Mapping[Verdict, int]) -> str:
    """Such as ``3 exact, 1,020 rounding``, without the verdicts that do not occur."""
    return ", ".join(f"{number:,} {verdict.value}" for verdict, number in counts.items() if number)


def agreeing(nodes: NodesResult) -> str:
    """Such as ``530 of 531 nodes agree``: the one way in which nodes are counted.

    Args:
        nodes: The comparison.
    """
    agree = sum(node.verdict.passes for node in nodes.nodes)
    return f"{agree:,} of {plural(len(nodes.nodes), 'node')} agree"


def plural(number: int, noun: str) -> str:
    """Such as ``1 node`` and ``2 nodes``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def shape(values: Sequence[int] | None) -> str:
    """Such as ``1×64×64×810``."""
    return NONE if not values else "×".join(map(str, values))
