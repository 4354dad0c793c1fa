"""Long lists of what is wrong, told in a sentence that a person reads to its end.

The same thing is often wrong with hundreds of names. They are counted by what is wrong and by the
scope that their names begin with; a few stand for all of them.
"""

from __future__ import annotations

import os.path
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from efficientdet_spec.texts import printable, shortened

EXAMPLES = 3
"""Names that stand for those with which the same is wrong."""

ROOM = 560
"""Bytes that a summary takes at most: what is left of a message says what it is about, what was
expected and what to do."""

_KINDS = 4
_SCOPES = 3
_NAME_LETTERS = 100
_SEPARATORS = re.compile(r"[/.]")


@dataclass(frozen=True)
class Finding:
    """What is wrong with one name.

    Attributes:
        name: A variable, parameter or file.
        kind: What is wrong, in words that fit behind a number: ``missing``, ``unknown``.
        sentence: The whole, with the name in it, for lists that have room.
        detail: What stands behind the name in a summary, such as ``[48], not [36]``.
    """

    name: str
    kind: str
    sentence: str
    detail: str = ""

    def __str__(self) -> str:
        return self.sentence

    @property
    def brief(self) -> str:
        """The name, cut in the middle where it is long, with the detail."""
        name = shortened(printable(self.name), _NAME_LETTERS)
        return f"{name} {shortened(printable(self.detail), 60)}".rstrip()


def summary(findings: Sequence[Finding], room: int = ROOM) -> str:
    """What is wrong, in part of a sentence: by kind, how many, where, and a few examples.

    A single finding is told by its own sentence.

    Args:
        findings: At least one.
        room: The most bytes to take.
    """
    if len(findings) == 1 and len(findings[0].sentence.encode()) <= room:
        return findings[0].sentence
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    groups = sorted(by_kind.items(), key=lambda group: -len(group[1]))
    for count in range(EXAMPLES, 0, -1):
        text = _told(groups, count)
        if len(text.encode()) <= room:
            return text
    return shortened(_told(groups[:1], 1, others=len(findings) - len(groups[0][1])), room // 4)


def _told(groups: Sequence[tuple[str, Sequence[Finding]]], count: int, others: int = 0) -> str:
    parts = [_group(kind, found, count) for kind, found in groups[:_KINDS]]
    others += sum(len(found) for _, found in groups[_KINDS:])
    return "; ".join([*parts, *([f"{others:,} otherwise"] if others else [])])


def _group(kind: str, found: Sequence[Finding], count: int) -> str:
    """One kind: ``352 missing, all under class_net/: A, B, C, ...``."""
    if len(found) == 1:
        return f"1 {kind}: {found[0].brief}"
    shown = ", ".join(finding.brief for finding in found[:count])
    more = ", ..." if len(found) > count else ""
    where = scopes([finding.name for finding in found]) if more else ""
    return f"{len(found):,} {kind}{where}: {shown}{more}"


def scopes(names: Sequence[str]) -> str:
    """Where names lie, to follow what they are: the scope of all, or the commonest first parts.

    Args:
        names: With parts that ``/`` or ``.`` separates.
    """
    common = os.path.commonprefix(list(names))
    ends = [match.end() for match in _SEPARATORS.finditer(common)]
    if ends:
        return f", all under {shortened(printable(common[: ends[-1]]), _NAME_LETTERS)}"
    counted = Counter(_first_part(name) for name in names)
    parts = [
        f"{number:,} under {shortened(printable(part), 40)}"
        for part, number in counted.most_common(_SCOPES)
        if number > 1
    ]
    return f", {', '.join(parts)}" if parts else ""


def _first_part(name: str) -> str:
    match = _SEPARATORS.search(name)
    return name[: match.end()] if match else name


def listed(names: Iterable[object], most: int = 8, letters: int = 60) -> str:
    """Names in a sentence: the first few, each without its middle where it is long.

    Args:
        names: Anything with a text.
        most: How many are shown.
        letters: Of each name.
    """
    every = [str(name) for name in names]
    shown = ", ".join(shortened(printable(name), letters) for name in every[:most])
    return shown if len(every) <= most else f"{shown} and {len(every) - most:,} more"


def told(sentences: Sequence[str], room: int = ROOM) -> str:
    """As many sentences as there is room for, and how many more there are.

    Args:
        sentences: At least one; the first is cut where it has no room alone.
        room: The most bytes to take, but for the number of the others.
    """
    shown = shortened(printable(sentences[0]), room)
    for count, sentence in enumerate(sentences[1:], 1):
        longer = f"{shown}; {printable(sentence)}"
        if len(longer.encode()) > room:
            return f"{shown}; and {len(sentences) - count:,} more"
        shown = longer
    return shown
