"""Lines of a given width: sentences that wrap, lists that say how many more, tables that fit."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from efficientdet_spec import printable

LEAST = 60
"""Narrower lines would cut figures."""

_NAMED = 3
"""Places that are named of those at which the same is wrong."""

_GAP = "  "
_LABEL = 13
"""Columns that the labels of a block take up."""

_SHORTEST_NAME = 12

_BLANKS = str.maketrans("\t\n\v\f\r", "     ")
"""What a text may be broken at already."""


def wrapped(text: str, width: int, *, indent: str = "", first: str | None = None) -> list[str]:
    """A text in lines of at most ``width`` columns.

    Args:
        text: One or several sentences.
        width: Columns of a line.
        indent: What every line begins with.
        first: What the first line begins with instead.
    """
    # A name within it must neither begin a line nor do what a terminal obeys.
    return textwrap.wrap(
        printable(text.translate(_BLANKS)),
        width,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def labelled(label: str, text: str, width: int) -> list[str]:
    """A text that wraps beside its label.

    Args:
        label: One word.
        text: What it is.
        width: Columns of a line.
    """
    return wrapped(text, width, indent=" " * _LABEL, first=f"  {label}".ljust(_LABEL))


def shortened(name: str, width: int) -> str:
    """A name of at most ``width`` columns, its middle left out where it is longer.

    Args:
        name: Such as a node's.
        width: Columns.
    """
    if len(name) <= width:
        return name
    end = (width - 3) // 2
    return f"{name[: width - 3 - end]}...{name[len(name) - end :]}"


def listed(names: Sequence[str], shown: int | None) -> str:
    """Names with commas between them, and how many more there are.

    Args:
        names: All of them.
        shown: How many to name; None for all.
    """
    if shown is None or len(names) <= shown + 1:
        return ", ".join(names)
    return f"{', '.join(names[:shown])} and {len(names) - shown} more"


def same_at(places: Sequence[str], *, verbose: bool) -> str:
    """That the same is wrong at further places.

    Args:
        places: The further ones.
        verbose: Whether all of them are named.
    """
    named = listed(places, None if verbose else _NAMED)
    return f"the same at {plural(len(places), 'more place')}: {named}"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its first line.
        cells: One text for each row.
        rank: Where the width is too small, columns of the highest rank go first; those of rank 0
            stay.
        right: Whether its texts end, not begin, below each other, as figures do.
    """

    title: str
    cells: Sequence[str]
    rank: int = 0
    right: bool = False

    @property
    def width(self) -> int:
        """Columns that it takes up."""
        return max(map(len, (self.title, *self.cells)))


def table(columns: Sequence[Column], width: int, *, indent: str = "  ") -> list[str]:
    """One line for each row, below one of titles.

    Where the columns do not fit, some are left out, and if that is not enough, the names in the
    first one are shortened; figures never are.

    Args:
        columns: The first one holds names.
        width: Columns of a line.
        indent: What every line begins with.
    """
    kept = [
        Column(column.title, [printable(cell) for cell in column.cells], column.rank, column.right)
        for column in columns
    ]
    while _width(kept, indent) > width and any(column.rank for column in kept):
        highest = max(column.rank for column in kept)
        kept.remove(next(column for column in kept if column.rank == highest))
    names = kept[0]
    room = max(_SHORTEST_NAME, names.width - max(0, _width(kept, indent) - width))
    kept[0] = Column(names.title, [shortened(name, room) for name in names.cells])
    lines = zip(*((column.title, *column.cells) for column in kept), strict=True)
    return [
        indent
        + _GAP.join(
            cell.rjust(column.width) if column.right else cell.ljust(column.width)
            for cell, column in zip(line, kept, strict=True)
        ).rstrip()
        for line in lines
    ]


def _width(columns: Sequence[Column], indent: str) -> int:
    widths = sum(column.width for column in columns)
    return len(indent) + widths + len(_GAP) * (len(columns) - 1)


def plural(count: int, one: str) -> str:
    """Such as ``1 node`` and ``1,062 nodes``.

    Args:
        count: How many.
        one: The noun in the singular, which takes an s in the plural.
    """
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def figure(value: float | None) -> str:
    """A relative difference; a hyphen where there is none."""
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.1e}"


def roundings(value: float | None) -> str:
    """A number of roundings; a hyphen where none was counted."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    return f"{value:.1f}" if value < 1000 else f"{value:.1e}"
