"""The JSON schemas and the tables of ``docs/results.md``, made from the records themselves.

``python -m parity.results.documentation`` (``make docs``) writes both; a test fails while what is
committed is not what the records give.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, UnsetType

from parity.process.files import write_text
from parity.results.records.coco import CocoResult
from parity.results.records.conversion import ConversionResult
from parity.results.records.detect import DetectResult
from parity.results.records.doctor import DoctorResult
from parity.results.records.failure import Failure
from parity.results.records.faults import FaultsResult
from parity.results.records.gradients import GradientsResult
from parity.results.records.inspection import InspectionResult
from parity.results.records.models import ModelsResult
from parity.results.records.names import NamesResult
from parity.results.records.nodes import NodesResult
from parity.results.records.nodes_diff import NodesDiff
from parity.results.records.record import NOT_FINITE, Figure, Record, ResultFile, identity
from parity.results.records.report import ReportResult
from parity.results.records.run import RunResult
from parity.results.records.self_check import SelfCheckResult

FILES: tuple[type[ResultFile], ...] = (
    NodesResult,
    NamesResult,
    NodesDiff,
    GradientsResult,
    CocoResult,
    DetectResult,
    SelfCheckResult,
    FaultsResult,
    ConversionResult,
    InspectionResult,
    RunResult,
    ReportResult,
    ModelsResult,
    DoctorResult,
    Failure,
)
"""Every kind of result file, in the order of the page."""

PAGE = Path("docs") / "results.md"
SCHEMAS = Path("docs") / "schema"

_BEGIN = "<!-- The tables of {} are made by make docs. -->"
_END = "<!-- End of the tables. -->"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}


def schema(kind: type[ResultFile]) -> dict[str, Any]:
    """The JSON schema of a kind of result file."""
    values = msgspec.json.schema(kind, schema_hook=_figure_schema)
    for definition in values["$defs"].values():
        if "enum" in definition:
            # What an enumeration says of itself is for readers of the code.
            definition.pop("description", None)
    return {"$schema": _DIALECT, **values}


def _figure_schema(kind: type) -> dict[str, Any]:
    if kind is Figure:
        return {"anyOf": [{"type": "number"}, {"enum": list(NOT_FINITE)}]}
    # So msgspec is told that this is no type of ours.
    raise NotImplementedError(kind)


def schema_name(kind: type[ResultFile]) -> str:
    """The name of the schema's file."""
    name, version = identity(kind)
    return f"{name.rpartition('/')[2]}-{version}.json"


def tables(kind: type[ResultFile], shown: set[type] | None = None) -> str:
    """A table of the fields of a kind of result file, then one for each record within it.

    Args:
        kind: The kind of file.
        shown: Records that have their table already; those that get one here are added.
    """
    seen = set() if shown is None else shown
    parts = [_table(kind)]
    for record in _within(kind, seen):
        parts += [f"#### {title(record)}", _summary(record), _table(record)]
    return "\n\n".join(parts)


def title(kind: type) -> str:
    """What people call a record: ``InputResult`` is an input."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*", kind.__name__.removesuffix("Result"))
    return " ".join(words).capitalize()


def _summary(kind: type) -> str:
    lines = (kind.__doc__ or "").strip().split("\n")
    return " ".join(" ".join(line.split()) for line in lines if line.strip())


def _within(kind: type, seen: set[type]) -> Iterator[type[Record]]:
    """The records that a record holds, each before what it holds itself."""
    for _, hint, _ in _fields(kind):
        for found in _records(hint):
            if found not in seen and not issubclass(found, ResultFile):
                seen.add(found)
                yield found
                yield from _within(found, seen)


def _records(hint: Any) -> list[type[Record]]:
    if isinstance(hint, type) and issubclass(hint, Record):
        return [hint]
    if get_origin(hint) is Literal:
        return []
    return [found for part in get_args(hint) for found in _records(part)]


def _fields(kind: type) -> Iterator[tuple[str, Any, str]]:
    """Name in JSON, type and meaning of each field."""
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        notes = [note for note in getattr(hint, "__metadata__", ()) if isinstance(note, Meta)]
        meaning = next((note.description for note in notes if note.description), "")
        yield field.encode_name, hint, meaning


def _table(kind: type) -> str:
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for name, hint, meaning in _fields(kind):
        rows.append(f"| `{name}` | {in_words(hint)} | {meaning} |".replace("\n", " "))
    return "\n".join(rows)


def in_words(hint: Any) -> str:
    """A type as people read it.

    Args:
        hint: As a field declares it.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Figure:
        return "number"
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin is Annotated:
        return in_words(parts[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in (Union, UnionType):
        return _alternatives(parts)
    if isinstance(hint, type) and issubclass(hint, Enum):
        values = [f"`{member.value}`" for member in hint]
        return f"{', '.join(values[:-1])} or {values[-1]}"
    if isinstance(hint, type) and issubclass(hint, ResultFile):
        return f"`{identity(hint)[0]}`"
    if isinstance(hint, type) and issubclass(hint, Record):
        return f"[{title(hint).lower()}](#{title(hint).lower().replace(' ', '-')})"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"object of {in_words(parts[1])}"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"list of {in_words(parts[0])}"
    raise TypeError(f"{hint} has no name that people read")


def _alternatives(parts: Sequence[Any]) -> str:
    kept = [in_words(part) for part in parts if part not in (NoneType, UnsetType)]
    if NoneType in parts:
        kept.append("null")
    text = " or ".join(kept)
    return f"{text}; may be absent" if UnsetType in parts else text


def page(text: str, kinds: Sequence[type[ResultFile]] = FILES) -> str:
    """The page with its tables made anew.

    Args:
        text: The page as it is.
        kinds: The files whose tables it has.

    Raises:
        ValueError: It has no place for one of them.
    """
    shown: set[type] = set()
    for kind in kinds:
        name = identity(kind)[0]
        begin = _BEGIN.format(name)
        before, found, after = text.partition(begin)
        _, end, after = after.partition(_END)
        if not found or not end:
            raise ValueError(f"the page has no {begin} with {_END} behind it")
        text = f"{before}{begin}\n\n{tables(kind, shown)}\n\n{_END}{after}"
    return text


def files(root: Path) -> dict[Path, str]:
    """Every file that is made of the records, and what it must hold.

    Args:
        root: Folder of the project.
    """
    made = {
        root / SCHEMAS / schema_name(kind): json.dumps(schema(kind), indent=1) + "\n"
        for kind in FILES
    }
    made[root / PAGE] = page((root / PAGE).read_text("utf-8"))
    return made


def main() -> None:
    """Write them all."""
    root = Path(__file__).resolve().parents[2]
    (root / SCHEMAS).mkdir(exist_ok=True)
    for path, text in files(root).items():
        write_text(path, text)


if __name__ == "__main__":
    main()
