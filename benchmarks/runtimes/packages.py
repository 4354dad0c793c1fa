"""Which packages are there."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence


def missing_of(names: Sequence[str]) -> str | None:
    """The sentence about packages that are not installed; None where all are.

    Args:
        names: As they are imported.
    """
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    return f"{' and '.join(absent)} cannot be imported" if absent else None
