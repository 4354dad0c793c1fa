"""What people call the sides of an evaluation: the frameworks, or a candidate by its own name."""

from __future__ import annotations

from parity.settings.coco import CANDIDATE, FRAMEWORKS
from parity.sides.naming import split_candidate

REFERENCE = FRAMEWORKS[0]
"""The side that the other is judged by."""

TITLES = dict(zip(FRAMEWORKS, ("TensorFlow", "PyTorch"), strict=True))
"""What people call each framework."""


def titles(candidate: str | None) -> dict[str, str]:
    """What people call each side that there can be, the reference first.

    Args:
        candidate: As results name it; None where the converted model is judged.
    """
    if candidate is None:
        return TITLES
    return {REFERENCE: TITLES[REFERENCE], CANDIDATE: short_name(candidate)}


def short_name(candidate: str) -> str:
    """A candidate's name without the folders that it lies in, such as ``port.py:build``.

    Args:
        candidate: As results name it.
    """
    name = split_candidate(candidate)
    if name.file is None:
        return candidate
    short = name.file.name or candidate
    return f"{short}:{name.maker}" if name.maker else short
