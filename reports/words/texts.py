"""Figures as people read them: few digits, a unit, and the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

NONE = "–"
"""Stands where there is no figure."""


def as_float(value: Any) -> float | None:
    """A figure of a result file, which holds ``nan``, ``inf`` and ``-inf`` as texts."""
    return None if value is None else float(value)


def scientific(value: Any) -> str:
    """Two digits and an exponent, such as ``2.8e-04``."""
    found = as_float(value)
    if found is None:
        return NONE
    return "0" if found == 0 else f"{found:.1e}" if math.isfinite(found) else _unusual(found)


def short(value: Any) -> str:
    """One digit behind the point up to 1000, then an exponent."""
    found = as_float(value)
    if found is None:
        return NONE
    if found == 0 or not math.isfinite(found):
        return scientific(found)
    return f"{found:.1f}" if abs(found) < 1000 else f"{found:.1e}"


def _unusual(value: float) -> str:
    return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"


def metric(value: Any, *, signed: bool = False) -> str:
    """A metric of 0 to 1 with six digits; no zero has a sign."""
    found = as_float(value)
    if found is None:
        return NONE
    text = f"{round(found, 6) + 0.0:{'+' if signed else ''}.6f}"
    return "0.000000" if float(text) == 0 else text.replace("-", "−")


def seconds(value: Any) -> str:
    """Wall time, in minutes from two on."""
    found = as_float(value)
    if found is None:
        return NONE
    return f"{found:.1f} s" if found < 120 else f"{int(found // 60)} min {int(found % 60)} s"


def memory(value: Any) -> str:
    """Bytes as gigabytes of 10^9."""
    found = as_float(value)
    return NONE if found is None else f"{found / 1e9:.2f} GB"


def count(value: Any) -> str:
    """A whole number with its thousands set apart."""
    return NONE if value is None else f"{int(value):,}"


def plural(number: int, noun: str) -> str:
    """Such as ``1 node`` and ``2 nodes``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def shape(values: Sequence[int] | None) -> str:
    """Such as ``1×64×64×810``."""
    return NONE if not values else "×".join(map(str, values))
