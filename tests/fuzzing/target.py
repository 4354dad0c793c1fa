"""What a target of the harness is: a reader, sound inputs for it, and ways to damage these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, ClassVar

Damage = Callable[[Random, bytes], bytes]
"""Changes a file's content in some way, drawn from a seeded generator."""

MIB = 2**20


class Target:
    """A reader under test.

    A subclass fills :attr:`files` with sound inputs and :attr:`damages` with what may be done to
    each of them, and says how the product reads them.

    Attributes:
        files: The sound inputs by name, relative to the folder that is read.
        damages: By file, the kinds of damage by name.
    """

    WHAT: ClassVar[str] = ""
    """What is damaged and read, for the table."""
    CHECKSUMS: ClassVar[bool] = True
    """Whether the container tells damage from soundness, so that another value is a failure."""
    FORGED: ClassVar[frozenset[str]] = frozenset()
    """Kinds of damage that make sound checksums for what they change: another value is allowed."""
    STEPS: ClassVar[int] = 3
    """At most so many kinds of damage are done to one input."""
    BATCH: ClassVar[int] = 50
    """Inputs that are made of one of hypothesis's examples."""
    EVERY: ClassVar[bool] = False
    """Whether every kind of damage is done once, rather than some at random."""
    SECONDS: ClassVar[float] = 10.0
    """A reader that takes longer hangs."""
    MEMORY: ClassVar[int] = 64 * MIB
    """The constant: more memory than this, above what the process has, is a failure."""
    EXAMPLES: ClassVar[int] = 10_000
    """Damaged inputs of ``make fuzz-all``."""

    def __init__(self, material: Path) -> None:
        self.material = material
        self.files: dict[str, bytes] = {}
        self.damages: dict[str, Mapping[str, Damage]] = {}

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        """Read as the product does.

        Args:
            folder: Holds all files.
            changed: Which of them are damaged; empty where all are sound.
        """
        raise NotImplementedError

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        """Whether what was read is what the sound files hold, bit for bit."""
        raise NotImplementedError

    def other(self, value: Any) -> bool:
        """Whether what was read is the whole of another sound input, which damage can leave."""
        return False

    def promise(self, value: Any) -> str | None:
        """What is wrong with another value than the sound one; None if it is as promised."""
        return None

    def left(self, folder: Path) -> str | None:
        """What a refusal has left behind that should not be there; None if nothing."""
        return None

    def clean(self, folder: Path) -> None:
        """Remove what reading has written."""
