"""Numbers in sentences, with as many digits as it takes not to read as another number."""

from __future__ import annotations

import math

MOST = 9
"""Significant digits that tell any two float32 numbers apart."""


def told(value: float, faithful: float, digits: int = 5) -> str | None:
    """A number that must not read as the faithful one.

    Args:
        value: The number.
        faithful: What it should be.
        digits: The fewest significant digits.

    Returns:
        The text; None where nine digits do not tell the two apart, or the number is not finite.
    """
    if not math.isfinite(value):
        return None
    text, right = told_apart(value, faithful, digits)
    return text if text != right else None


def told_apart(value: float, faithful: float, digits: int = 4) -> tuple[str, str]:
    """A number and the faithful one; the same text twice where nine digits do not tell them apart.

    Args:
        value: The number.
        faithful: What it should be.
        digits: The fewest significant digits.
    """
    texts = "", ""
    for count in range(digits, MOST + 1):
        texts = f"{value:.{count}g}", f"{faithful:.{count}g}"
        if texts[0] != texts[1] and float(texts[0]) != faithful:
            break
    return texts
