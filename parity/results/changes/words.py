"""Figures of two results as people read them, in text and on the page."""

from __future__ import annotations

import math

from parity.results.records.nodes_diff import KeyFigure

NONE = "-"
"""Stands where there is no figure."""


def number(value: float | None) -> str:
    """A figure with few digits, such as ``16``, ``2.5`` or ``1.2e-06``."""
    if value is None:
        return NONE
    if math.isfinite(value) and (value == 0 or 0.01 <= abs(value) < 10_000):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{value:.1e}"


def figure(value: float | None, unit: str) -> str:
    """A figure with its unit.

    Args:
        value: The figure; None where there is none.
        unit: ``s``, ``bytes``, ``rms`` (of a tensor's) or ``nodes``.
    """
    if value is None:
        return NONE
    if unit == "bytes":
        return f"{value / 1e9:.2f} GB"
    if unit == "nodes":
        return f"{value:.0f}"
    return f"{value:.1f} s" if unit == "s" else f"{number(value)} of rms"


def ratio(item: KeyFigure) -> str:
    """Such as ``1.25 times``; empty where that has no meaning."""
    return "" if item.ratio is None else f"{item.ratio:.3g} times"
