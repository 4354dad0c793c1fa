"""Sound result files of every kind, made from their JSON schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parity.judge.verdict import Verdict

_SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schema"

_TEXT = "one.png"
"""Stands wherever any text may: some of them have to be the name of a picture."""

_COUNTS = {verdict.value: 1 for verdict in Verdict}

_EMPTY: dict[str, Any] = {"counts": {}, "closeups": []}
"""Of which a schema does not say all: names of an enumeration, rows that fit a number."""


def samples() -> dict[str, dict[str, Any]]:
    """By the file name of its schema, such as ``nodes-3``, a result with every field filled."""
    found = {}
    for path in sorted(_SCHEMAS.glob("*.json")):
        schema = json.loads(path.read_text("utf-8"))
        found[path.stem] = _Sampler(schema).value(schema)
    nodes = found["nodes-3"]
    for place in (nodes, *nodes["inputs"]):
        place["counts"] = _COUNTS
    # Differences are of metrics that are there on both sides.
    found["coco-2"]["metrics"] = {side: {"AP": 0.5} for side in ("tensorflow", "candidate")}
    return found


class _Sampler:
    """Makes values of a schema; what refers to itself ends after a few levels."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._all = schema
        self._depth = 0

    def value(self, schema: dict[str, Any]) -> Any:
        """A value that the schema allows."""
        if "$ref" in schema:
            place: Any = self._all
            for part in schema["$ref"].lstrip("#/").split("/"):
                place = place[part]
            self._depth += 1
            found = self.value(place)
            self._depth -= 1
            return found
        for word in ("const", "default"):
            if word in schema and word == "const":
                return schema[word]
        if "enum" in schema:
            return schema["enum"][0]
        if "anyOf" in schema:
            options = [item for item in schema["anyOf"] if item.get("type") != "null"]
            return None if self._depth > 8 else self.value(options[0])
        return self._of_type(schema)

    def _of_type(self, schema: dict[str, Any]) -> Any:
        kind = schema.get("type", "string" if "pattern" in schema else "object")
        if isinstance(kind, list):
            kind = next(item for item in kind if item != "null")
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            return self._array(schema)
        if kind == "string":
            return self._text(schema)
        if kind in ("integer", "number"):
            low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
            return max(low, 1) if kind == "integer" else max(low, 0.5)
        return {"boolean": True, "null": None}[kind]

    def _text(self, schema: dict[str, Any]) -> str:
        pattern = schema.get("pattern", "")
        if "|" in pattern:
            return str(pattern.strip("^$()").split("|")[0])
        return "0" * 64 if pattern else _TEXT

    def _array(self, schema: dict[str, Any]) -> list[Any]:
        if "prefixItems" in schema:
            return [self.value(item) for item in schema["prefixItems"]]
        count = max(schema.get("minItems", 0), 0 if self._depth > 8 else 2)
        items = schema.get("items", {"type": "string"})
        count = min(count, schema.get("maxItems", count))
        return [self.value(items) for _ in range(count)] if isinstance(items, dict) else []

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        found = {name: self.value(item) for name, item in schema.get("properties", {}).items()}
        more = schema.get("additionalProperties")
        if isinstance(more, dict) and more:
            names = schema.get("propertyNames")
            keys = [self.value(names)] if names else [Verdict.EXACT.value]
            found |= {key: self.value(more) for key in keys}
        return {name: _EMPTY.get(name, value) for name, value in found.items()}
