"""Reads result files: whatever a file holds, the result is a record or one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from efficientdet_spec import Cause, InputError, printable
from parity.process.json_text import read_json
from parity.results.records.failure import Failure
from parity.results.records.record import Record, ResultFile, identity, made

MAX_BYTES = 512 * 1024 * 1024
"""The largest file that is read. The nodes of the largest model take 5 MB, and the detections in
10,000 images 100 MB."""

MAX_DEPTH = 32
"""Lists and objects within each other; a gradient's shape within a comparison has five."""

_File = TypeVar("_File", bound=ResultFile)

_WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "number": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
"""What JSON's types are called in messages."""

_PLACE = re.compile(r" - at `(key` in `)?(\$[^`]*)`$")
_PART = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[(\.\.\.)\]")


class StepFailed(InputError):
    """A file that holds no result, but why there is none.

    Attributes:
        failure: What the command wrote of its failure.
    """

    def __init__(self, message: str, failure: Failure) -> None:
        super().__init__(message, Cause.FORMAT)
        self.failure = failure


def read(path: Path, kind: type[_File]) -> _File:
    """Read a result file.

    Fields that the record does not know are passed over: a later version of this program may have
    added them.

    Args:
        path: The file.
        kind: What it should hold.

    Raises:
        StepFailed: The command failed that should have written it.
        InputError: It cannot be read, is of another schema or version, or has an entry that is not
            what its place is for.
    """
    values = _values(path)
    schema, version = identity(kind)
    told = (values.get("schema"), values.get("version")) if isinstance(values, dict) else None
    if told == identity(Failure) and kind is not Failure:
        failure = _checked(path, values, Failure)
        raise StepFailed(
            f"{path} holds no result, for {failure.command} failed with exit code "
            f"{failure.exit_code} ({failure.message:.300}); run it again, expected is {schema} "
            f"version {version}.",
            failure,
        )
    if told is None or told[0] != schema or type(told[1]) is not int or told[1] != version:
        what = (
            "no result"
            if told is None or told[0] is None
            else (f"{told[0]!r:.40} version {told[1]!r:.10}")
        )
        raise InputError(
            f"{path} is {what}, expected {schema} version {version}; make it again with this "
            f"version.",
            Cause.FORMAT,
        )
    return _checked(path, values, kind)


def is_result(path: Path) -> bool:
    """Whether a file says of itself that it is a result of this project."""
    try:
        values = _values(path)
    except InputError:
        return False
    schema = values.get("schema") if isinstance(values, dict) else None
    return isinstance(schema, str) and schema.startswith("efficientdet-parity/")


def _values(path: Path) -> Any:
    """What a file holds as JSON."""
    try:
        values = read_json(path, MAX_BYTES)
        if _is_deep(values):
            raise ValueError(f"lists and objects lie within each other more than {MAX_DEPTH} deep")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({_why(error):.120}); make it again.", Cause.of(error)
        ) from error
    return values


def _why(error: Exception) -> str:
    return printable((isinstance(error, OSError) and error.strerror) or error)


def _is_deep(values: Any) -> bool:
    level = [values]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for container in level
            for item in _items(container)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


def _items(container: Any) -> Iterable[Any]:
    if isinstance(container, dict):
        return container.values()
    return container if isinstance(container, list) else ()


def _checked(path: Path, values: Any, kind: type[_File]) -> _File:
    try:
        return made(kind, values)
    except msgspec.ValidationError as error:
        reason = _reason(str(error), values, kind)
    except (OverflowError, UnicodeError) as error:
        reason = f"a text or number of it cannot be used ({str(error):.80})"
    raise InputError(
        f"{path} is no {identity(kind)[0]} that can be shown: {reason}; make it again.",
        Cause.FORMAT,
    )


def _reason(message: str, values: Any, kind: Any) -> str:
    """What is wrong where, from what the library says."""
    match = _PLACE.search(message)
    what = message[: match.start()] if match else message
    of_key = bool(match and match[1])
    place, value, expected = _resolved(match[2] if match else "$", values, kind)
    missing = re.match(r"Object missing required field `(.+)`", what)
    if missing:
        return f"{place} has no {missing[1]}"
    if of_key:
        return f"a name within {place} is not one of those that may stand there ({what:.120})"
    if what.startswith("Invalid enum value"):
        options = ", ".join(str(option) for option in expected) if expected else "those known"
        return f"{place} is {_shown(value)}, expected one of {options}"
    wanted = re.match(r"Expected (.+?)(, got .*)?$", what)
    if not wanted:
        return f"{place} {what:.200}"
    if what == "Expected `array` of length >= 1":
        return f"{place} is empty, expected at least one entry"
    return f"{place} is {_shown(value)}, expected {_in_words(wanted[1])}"


def _in_words(wanted: str) -> str:
    """Such as ``a text or null`` for ``str | null``."""

    def word(match: re.Match[str]) -> str:
        return " or ".join(_WORDS.get(name.strip(), name.strip()) for name in match[1].split("|"))

    return re.sub(r"`([^`]*)`", word, wanted)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return f"{value!r:.40}"


def _resolved(path: str, value: Any, kind: Any) -> tuple[str, Any, list[str]]:
    """The place in words, what is found there, and the values that an enumeration there allows."""
    place = "$"
    for name, index, any_key in _PART.findall(path):
        kind = _bare(kind)
        if any_key and isinstance(value, dict):
            item = get_args(kind)[-1]
            key = next((key for key, found in value.items() if not _fits(found, item)), None)
            if key is None:
                return place, value, []
            place, value, kind = f"{place}.{key:.40}", value[key], item
        elif index:
            place, value = f"{place}[{index}]", value[int(index)]
            kind = get_args(kind)[0]
        else:
            place, value = f"{place}.{name}", value[name]
            kind = _field_type(kind, name)
    options = getattr(_bare(kind), "__members__", {})
    return place, value, [member.value for member in options.values()]


def _bare(kind: Any) -> Any:
    """A type without its limits, and without None beside it."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return _bare(next(item for item in get_args(kind) if item is not NoneType))
    return kind


@lru_cache
def _field_type(kind: type[Record], name: str) -> Any:
    by_name = {field.encode_name: field.name for field in msgspec.structs.fields(kind)}
    return get_type_hints(kind, include_extras=True)[by_name[name]]


def _fits(value: Any, kind: Any) -> bool:
    try:
        made(kind, value)
    except (msgspec.ValidationError, OverflowError, UnicodeError):
        return False
    return True
