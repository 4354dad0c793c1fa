"""What pages are put together from: ready texts, nothing left to compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from parity.process.outcome import Outcome
from parity.results.signs import OUTCOMES


@dataclass(frozen=True)
class Link:
    """A text that leads somewhere.

    Attributes:
        text: What is shown.
        href: Where it leads.
    """

    text: str
    href: str


@dataclass(frozen=True)
class Code:
    """A name or a command, as code has it.

    Attributes:
        code: What is shown.
    """

    code: str


@dataclass(frozen=True)
class Fact:
    """One key figure.

    Attributes:
        label: What it is.
        value: The figure.
        unit: Its unit; may be empty.
        explanation: What it says, in a sentence.
        tone: ``good``, ``bad`` or ``plain``.
        link: Where it was found; may be None.
    """

    label: str
    value: str
    unit: str
    explanation: str
    tone: str = "plain"
    link: Link | None = None


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        caption: What it shows, with units.
        head: Titles of the columns.
        rows: Cells of each row; a :class:`Link` is shown as one.
        numeric: For each column whether it holds figures.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Link]]
    numeric: Sequence[bool]

    @property
    def prose(self) -> bool:
        """Whether it holds texts only, which may be broken anywhere."""
        return not any(self.numeric)


@dataclass(frozen=True)
class Check:
    """One of the comparisons that the verdict rests on.

    Attributes:
        title: What was compared.
        state: ``pass``, ``fail`` or ``open`` (asked for, but not shown).
        symbol: The same as a sign.
        text: What came of it, in a sentence.
    """

    title: str
    state: str
    symbol: str
    text: str


def node_link(name: str) -> Link:
    """A link that opens the panel of a node."""
    return Link(name, f"#node={quote(name, safe='')}")


_STATES = {
    Outcome.PARITY: "pass",
    Outcome.DIFFERENCE: "fail",
    Outcome.NOT_SHOWN: "open",
}


def check(title: str, outcome: Outcome, text: str) -> Check:
    """A comparison and what came of it."""
    return Check(title, _STATES[outcome], OUTCOMES[outcome].symbol, text)
