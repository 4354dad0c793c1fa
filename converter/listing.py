"""What becomes of every variable of a checkpoint, as text that fits a terminal."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from converter.formats.source import Entry
from converter.formats.target import Written
from converter.ledger import USES, Ledger, LedgerRow

_WILDCARDS = "*?["
_ARROW = "-> "


def listing(ledger: Ledger, width: int, pattern: str | None = None) -> str:
    """Every variable with what becomes of it, those alike below one heading, then the account.

    A variable that is used stands before the parameter that it fills, in one line where all of
    them fit and else in two.

    Args:
        ledger: The account of a conversion.
        width: Columns that a line may have. A name that is longer is not cut: whoever looks for it
            must find it.
        pattern: Only variables whose name, or whose parameter's name, it fits: a pattern such as
            ``*/stem/*`` or ``fpn.cells.0.*``; without ``*``, ``?`` or ``[`` any part of a name.
            None for all.
    """
    rows = [row for row in ledger.rows if pattern is None or _fits(row, pattern)]
    sections = [_section(title, found, width) for title, found in _by_use(rows).items()]
    if pattern is not None:
        told = f"{len(rows):,} of {len(ledger.rows):,} variables fit {pattern!r}."
        sections.append(_wrapped(told, width))
    sections.append(account_lines(ledger, width))
    return "\n\n".join("\n".join(section) for section in sections)


def plain_listing(entries: Mapping[str, Entry], width: int, pattern: str | None = None) -> str:
    """Every variable of a checkpoint in which no model is recognised.

    Args:
        entries: The checkpoint's entries by name.
        width: As of :func:`listing`.
        pattern: As of :func:`listing`.
    """
    rows = [
        LedgerRow(entry.name, entry.shape, "excluded", "", "", "not accounted for")
        for entry in entries.values()
    ]
    found = [row for row in rows if pattern is None or _fits(row, pattern)]
    sections = [_section(title, part, width) for title, part in _by_use(found).items()]
    if pattern is not None:
        told = f"{len(found):,} of {len(rows):,} variables fit {pattern!r}."
        sections.append(_wrapped(told, width))
    return "\n\n".join("\n".join(section) for section in sections)


def account_lines(ledger: Ledger, width: int) -> list[str]:
    """The account in numbers, with its notes and findings.

    Args:
        ledger: The account of a conversion.
        width: Columns that a line may have.
    """
    counts = ledger.counts()
    used = [f"{counts.pop(use)} {use.upper()}" for use in USES if use in counts]
    left_out = [f"{count} {reason}" for reason, count in counts.items()]
    said = ledger.hyperparameters.get("sentence")
    told = [
        f"{len(ledger.rows)} variables: {' and '.join(used) or 'none'} used for "
        f"{len(ledger.sources)} parameters",
        *([f"excluded: {', '.join(left_out)}"] if left_out else []),
        *([f"hyperparameters {said}"] if said else []),
        *(f"note: {note}" for note in ledger.hyperparameters.get("notes", ())),
        *(f"note: {note}" for note in ledger.notes),
        *(f"FINDING: {sentence}" for sentence in ledger.unsettled),
        *(f"FINDING: {finding}" for finding in ledger.findings),
    ]
    what = f"{ledger.config.num_classes} classes" if ledger.part is None else "a backbone alone"
    lines = [f"{ledger.config.name}, {what}"]
    for text in told:
        lines += _wrapped(text, width, indent="  ")
    return lines


def written_lines(written: Written, width: int) -> list[str]:
    """What was written, in numbers, with its notes.

    Args:
        written: The account of it.
        width: Columns that a line may have.
    """
    counts = Counter(row.reason for row in written.rows if not row.parameter)
    filled = len(written.rows) - counts.total()
    told = [f"{len(written.rows)} tensors written, {filled} of them of parameters"]
    if counts:
        told.append(", ".join(f"{count} {reason}" for reason, count in counts.items()))
    lines = _wrapped("; ".join(told), width, indent="  ")
    for note in written.notes:
        lines += _wrapped(f"note: {note}", width, indent="  ")
    return lines


def _fits(row: LedgerRow, pattern: str) -> bool:
    whole = pattern if any(sign in pattern for sign in _WILDCARDS) else f"*{pattern}*"
    return fnmatchcase(row.variable, whole) or fnmatchcase(row.parameter, whole)


def _by_use(rows: Sequence[LedgerRow]) -> Mapping[str, Sequence[LedgerRow]]:
    """The rows by what becomes of them, what is used first."""
    found: dict[str, list[LedgerRow]] = {}
    for row in sorted(rows, key=lambda row: row.use not in USES):
        what = f"{row.use.upper()} values used" if row.use in USES else "excluded"
        found.setdefault(f"{what} ({row.reason})", []).append(row)
    return found


def _section(title: str, rows: Sequence[LedgerRow], width: int) -> list[str]:
    lines = _wrapped(f"{len(rows):,} {title}", width)
    firsts = [(row.variable, _shape(row)) for row in rows]
    names = max(len(name) for name, _ in firsts)
    shapes = max(len(shape) for _, shape in firsts)
    seconds = [_target(row) for row in rows]
    whole = [
        f"  {name.ljust(names)}  {shape.ljust(shapes)}  {second}".rstrip()
        for (name, shape), second in zip(firsts, seconds, strict=True)
    ]
    if max(map(len, whole)) <= width:
        return [*lines, *whole]
    for (name, shape), second in zip(firsts, seconds, strict=True):
        lines += [f"  {name}", f"    {shape}  {second}".rstrip()]
    return lines


def _shape(row: LedgerRow) -> str:
    return "x".join(map(str, row.shape)) or "scalar"


def _target(row: LedgerRow) -> str:
    """The parameter, and how the axes move on the way."""
    if not row.parameter:
        return ""
    return f"{_ARROW}{row.parameter}" + (f"  {row.layout}" if row.layout else "")


def _wrapped(text: str, width: int, *, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
