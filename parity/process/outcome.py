"""How a comparison ends, and the exit codes of the command lines."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

MISTAKE = 2
"""Exit code where the user gave something that cannot be used."""

DEFECT = 70
"""Exit code of a defect of this program (``EX_SOFTWARE`` of BSD's ``sysexits.h``)."""

INTERRUPTED = 130
"""Exit code after an interrupt from the keyboard, as shells report it: 128 + SIGINT."""

BROKEN_PIPE = 141
"""Exit code where whoever read the output has gone: 128 + SIGPIPE."""

TERMINATED = 143
"""Exit code where another process asked to stop: 128 + SIGTERM."""


class Ending(str, Enum):
    """How a command ends without a result, where the user made no mistake."""

    DEFECT = "defect"
    """A defect of this program."""
    INTERRUPTED = "interrupted"
    """An interrupt from the keyboard."""
    TERMINATED = "terminated"
    """Another process asked it to stop."""


class Outcome(str, Enum):
    """What a comparison says about a candidate as a whole."""

    PARITY = "parity"
    """Everything was compared, and nothing differs by more than its roundings."""
    DIFFERENCE = "difference"
    """Something differs by more than roundings explain."""
    NOT_SHOWN = "not shown"
    """Nothing was found to differ, but something, or everything, could not be compared."""

    @property
    def exit_code(self) -> int:
        """0, 1 and 3: a script must not take "not shown" for parity, nor for a difference."""
        return {Outcome.PARITY: 0, Outcome.DIFFERENCE: 1, Outcome.NOT_SHOWN: 3}[self]

    @classmethod
    def worst(cls, outcomes: Iterable[Outcome]) -> Outcome:
        """The outcome of several comparisons together.

        A difference outweighs what is not shown, which outweighs parity; none at all shows nothing.
        """
        found = set(outcomes)
        for outcome in (cls.DIFFERENCE, cls.NOT_SHOWN):
            if outcome in found:
                return outcome
        return cls.PARITY if found else cls.NOT_SHOWN
