"""Which program carries settings out, as a command line of its own."""

from __future__ import annotations

from pathlib import Path

from parity.settings.convert import ConvertSettings
from parity.settings.option import Settings, words

ROOT = Path(__file__).resolve().parents[2]
"""Where ``compare.py`` and ``convert.py`` are: a checkout, or the folder of installed packages."""


def program_words(settings: Settings) -> tuple[str, ...]:
    """``compare.py`` or ``convert.py`` and its arguments.

    Args:
        settings: What it is told.
    """
    found = words(settings)
    if isinstance(settings, ConvertSettings):
        return ("convert.py", *found[1:])
    return ("compare.py", *found)
