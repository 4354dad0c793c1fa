"""The lists of a COCO annotation file, value by value, and what was read otherwise than written.

Exporters write what the format has as a number in other ways too: as text, with a decimal point, as
true or false. Where a value means one thing only, it is taken for that, and counted. A file's
content is hostile: only what is needed is kept, and every number is within bounds.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from efficientdet_spec import HEAD_BYTES, Cause, InputError, lookalike, printable, read_regular

MAX_BYTES = 2**30
"""Largest annotation file; that of COCO's training images has 0.45 GB."""

MAX_OBJECTS = 3_000_000
"""Most objects in a list; that of COCO's training images has 0.9 million."""

MAX_VALUE_BYTES = 1000
"""Longest value of a field that is read."""

MAX_ID = 2**53 - 1
"""Largest id; pycocotools keeps ids in double precision."""

MAX_NUMBERLESS_BYTES = 2**26
"""Largest file in which NaN and Infinity are looked for, which takes four times its size."""

_BOM = b"\xef\xbb\xbf"
_NUMBERLESS = re.compile(rb"-?(?:NaN|Infinity)")
_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{0,30})?([eE][+-]?\d{1,2})?", re.ASCII)


class Noted:
    """What was read otherwise than it is written, with how often and where first."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, what: str, where: str, count: int = 1) -> None:
        """Count one more.

        Args:
            what: A sentence's middle, such as ``ids written as text``.
            where: What it was in.
            count: How many at once.
        """
        self._counts[what] += count
        self._first.setdefault(what, where)

    def sentences(self) -> list[str]:
        """One for each kind, in the order of the file."""
        return [
            f"{what}: {count:,} (the first: {printable(self._first[what]):.100})"
            for what, count in self._counts.items()
        ]


class AnnotationFile(msgspec.Struct):
    """The lists that are read; everything else in a file is passed over without being kept."""

    images: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    categories: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    annotations: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Entry(msgspec.Struct):
    """The values that are read of an entry, as they stand in the file."""

    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    file_name: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    coco_url: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    width: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    height: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    name: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    image_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    category_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    bbox: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    area: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    iscrowd: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Entries:
    """One of the file's lists, which names the entry and the field in every complaint.

    Args:
        source: The file.
        values: What is in it.
        name: Of the list.
        noted: Is told what was read otherwise than written.

    Raises:
        InputError: There is no such list, or it is too long.
    """

    def __init__(self, source: Path, values: AnnotationFile, name: str, noted: Noted) -> None:
        self.source, self.name, self.noted = source, name, noted
        raw = getattr(values, name)
        listed = b"" if raw is msgspec.UNSET else bytes(raw)
        if (count := listed.count(b"{")) > MAX_OBJECTS:
            raise InputError(
                f"{source} has {count:,} objects in its list {name!r}; at most {MAX_OBJECTS:,} are "
                f"read, so give a part of it.",
                Cause.FORMAT,
            )
        try:
            self.entries = msgspec.json.decode(listed, type=list[_Entry])
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(
                f"{source} has no list {name!r} of objects; give a COCO annotation file such as "
                f"instances_val2017.json.",
                Cause.FORMAT,
            ) from error

    def __len__(self) -> int:
        return len(self.entries)

    def where(self, place: int) -> str:
        """What messages call an entry."""
        return f"{self.name}[{place}]"

    def value(self, place: int, key: str) -> Any:
        """A field of an entry; None where it is missing or null."""
        field = getattr(self.entries[place], key)
        if field is msgspec.UNSET:
            return None
        raw = bytes(field)
        if len(raw) > MAX_VALUE_BYTES:
            raise self.wrong(
                place, f"{key} of {len(raw):,} bytes", f"at most {MAX_VALUE_BYTES:,} bytes"
            )
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise self.wrong(place, f"{key} {raw!r:.80}", "a value") from None

    def wrong(self, place: int, found: str, expected: str) -> InputError:
        """The error of a value.

        Args:
            place: Of the entry.
            found: The field and its value.
            expected: What it should have been.
        """
        return InputError(
            f"{self.source}: {self.where(place)} has {printable(found):.120}; expected {expected}.",
            Cause.FORMAT,
        )

    def whole(self, place: int, key: str, lowest: int = 0, highest: int = MAX_ID) -> int:
        """A whole number; also one written as text or with a decimal point."""
        value = self.value(place, key)
        if type(value) is int and lowest <= value <= highest:
            return value
        number = self._number(place, key, value)
        if number is None or not lowest <= number <= highest or number != int(number):
            raise self.wrong(
                place, f"{key} {value!r}", f"a whole number from {lowest} to {highest}"
            )
        return int(number)

    def text(self, place: int, key: str) -> str:
        """A text that can be printed."""
        value = self.value(place, key)
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self.wrong(place, f"{key} {value!r}", "printable text")
        return value

    def number(self, place: int, key: str, value: Any) -> float:
        """A number; also one written as text.

        Args:
            place: Of the entry.
            key: The field, for messages.
            value: The field's value, or a part of it.

        Raises:
            InputError: It is none, or not finite.
        """
        # Of hundreds of thousands of numbers nearly all are plain ones.
        if type(value) in (int, float) and -MAX_ID <= value <= MAX_ID:
            return float(value)
        number = self._number(place, key, value)
        if number is None:
            raise self.wrong(place, f"{key} {value!r}", "a finite number")
        return float(number)

    def length(self, place: int, key: str, value: Any) -> float:
        """A number that is not negative, as of :meth:`number`."""
        if (number := self.number(place, key, value)) < 0:
            raise self.wrong(place, f"{key} {value!r}", "a finite number of at least 0")
        return number

    def flag(self, place: int, key: str) -> bool:
        """A truth value, 0 or 1; false where it is missing or null."""
        value = self.value(place, key)
        if value is None or (type(value) is int and value in (0, 1)):
            return bool(value)
        if isinstance(value, bool):
            self.noted.add(f"{key} written as true or false", self.where(place))
            return value
        return bool(self.whole(place, key, 0, 1))

    def numbered(self) -> list[int]:
        """Every entry's id."""
        return [self.whole(place, "id") for place in range(len(self.entries))]

    def _number(self, place: int, key: str, value: Any) -> int | float | None:
        """A finite number within bounds; None where it is none."""
        found: Any = value
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            text = value.strip()
            found = int(text) if text.lstrip("+-").isdigit() else float(text)
            self.noted.add(f"{key} written as text", self.where(place))
        elif isinstance(value, float) and key in _WHOLE and math.isfinite(value):
            self.noted.add(f"{key} written with a decimal point", self.where(place))
        return found if _is_number(found) else None


_WHOLE = frozenset(("id", "image_id", "category_id", "width", "height", "iscrowd"))
"""Fields that are whole numbers in COCO's format."""


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        # Above this an integer does not even convert to a float.
        and abs(value) <= MAX_ID
        and math.isfinite(value)
    )


def load(path: Path, noted: Noted) -> AnnotationFile:
    """The lists of an annotation file as they stand there.

    Args:
        path: The file.
        noted: Is told what was read otherwise than written.

    Raises:
        InputError: It cannot be read, or is no JSON object.
    """
    if not path.is_file():
        raise InputError(f"{path} is no file; give a COCO annotation file.", Cause.FILE)
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give a COCO annotation file.",
            Cause.of(error),
        ) from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(
            f"{path} is a text in UTF-16, but JSON is UTF-8; save it as UTF-8.", Cause.FORMAT
        )
    data = data.removeprefix(_BOM)
    try:
        return _decoded(path, data)
    except (msgspec.DecodeError, RecursionError) as error:
        finite, replaced = _with_nulls(data)
        if not replaced:
            raise _no_json(path, data, error) from error
    noted.add("NaN or Infinity, which JSON does not have, taken for null", path.name, replaced)
    try:
        return _decoded(path, finite)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _no_json(path, finite, error) from error


def _decoded(path: Path, data: bytes) -> AnnotationFile:
    try:
        return msgspec.json.decode(data, type=AnnotationFile)
    except msgspec.ValidationError:
        raise InputError(
            f"{path} holds no JSON object; give a COCO annotation file.", Cause.FORMAT
        ) from None


def _with_nulls(data: bytes) -> tuple[bytes, int]:
    """A text with null for every number that is none, and how many these were."""
    if len(data) > MAX_NUMBERLESS_BYTES:
        return data, 0
    # Of the quotation marks left, every second one ends a text.
    marks = data.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    in_text = np.bitwise_xor.accumulate(np.frombuffer(marks, np.uint8) == ord('"'))
    parts: list[bytes] = []
    start = 0
    for found in _NUMBERLESS.finditer(data):
        if not in_text[found.start()]:
            parts += [data[start : found.start()], b"null"]
            start = found.end()
    return b"".join([*parts, data[start:]]), len(parts) // 2


def _no_json(path: Path, data: bytes, error: Exception) -> InputError:
    if (found := lookalike(data[:HEAD_BYTES])) is not None:
        return InputError(
            f"{path} is no JSON but looks like {found.kind}; "
            f"{found.advice or 'give a COCO annotation file'}.",
            Cause.FORMAT,
        )
    return InputError(
        f"{path} is no JSON ({_malformed(str(error), data)}); give a COCO annotation file.",
        Cause.FORMAT,
    )


def _malformed(message: str, data: bytes) -> str:
    """What is wrong with a text that is no JSON, and what stands there."""
    place = re.search(r"byte (\d+)", message)
    if place is None:
        return printable(f"{message:.120}")
    start = max(0, int(place[1]) - 40)
    near = data[start : start + 60].decode("utf-8", "replace")
    return printable(f"{message:.80}, near {near!r}")


def listed(names: Sequence[object], most: int = 3) -> str:
    """Some names in a sentence, and how many more there are."""
    shown = ", ".join(printable(f"{name}"[:60]) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
