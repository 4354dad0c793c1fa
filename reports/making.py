"""The part of a page on how the results were made: conversion, steps, surroundings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.parts import Table
from reports.results import ModelResults
from reports.texts import count, memory, seconds

_USED = {"ema": "used: EMA value", "raw": "used: raw value"}


@dataclass(frozen=True)
class ConversionSection:
    """What became of the checkpoint's variables.

    Attributes:
        counts: Variables by use or reason of exclusion.
        notes: What a user should know, findings first.
        facts: Source and fingerprints.
    """

    counts: Table
    notes: Sequence[str]
    facts: Table


def conversion_section(conversion: Mapping[str, Any]) -> ConversionSection:
    """The conversion as ready texts.

    Args:
        conversion: ``conversion.json``.
    """
    ledger, provenance = conversion["ledger"], conversion.get("provenance", {})
    kinds: dict[str, int] = {}
    for row in ledger["variables"]:
        kind = _USED.get(row["use"]) or f"excluded: {row['reason']}"
        kinds[kind] = kinds.get(kind, 0) + 1
    notes = [
        *ledger["findings"],
        *ledger["notes"],
        *provenance.get("notes", []),
        *provenance.get("warnings", []),
    ]
    return ConversionSection(
        Table(
            "Variables of the checkpoint by what became of them",
            ["What became of them", "Variables"],
            [[kind, count(number)] for kind, number in sorted(kinds.items(), key=_used_first)],
            [False, True],
        ),
        list(dict.fromkeys(notes)),
        _plain("Where the weights come from", _provenance(provenance)),
    )


def _used_first(item: tuple[str, int]) -> tuple[bool, int]:
    return not item[0].startswith("used"), -item[1]


def _provenance(provenance: Mapping[str, Any]) -> dict[str, Any]:
    titles = {
        "source": "source",
        "weights": "weights",
        "archive_sha256": "SHA-256 of the archive",
        "index_sha256": "SHA-256 of the index",
        "checkpoint_fingerprint": "fingerprint of the checkpoint",
        "values_fingerprint": "fingerprint of the converted values",
    }
    return {title: provenance[name] for name, title in titles.items() if provenance.get(name)}


def steps_table(results: ModelResults) -> Table:
    """Time and memory of each step."""
    words = {0: "done", 1: "done, a difference was found"}
    rows = []
    for step in results.run["steps"]:
        state = step["status"]
        if state == "done":
            state = words.get(step["exit_code"], state)
        elif step["message"]:
            state = f"{state}: {step['message']}"
        rows.append(
            [step["title"], state, seconds(step["seconds"]), memory(step["peak_memory_bytes"])]
        )
    return Table(
        "Steps, each a process of its own: wall time, largest resident memory (GB of 10⁹ bytes)",
        ["Step", "How it ended", "Time", "Memory"],
        rows,
        [False, False, True, True],
    )


def phases_table(nodes: Mapping[str, Any]) -> Table:
    """Time of the phases of the comparison of nodes."""
    return Table(
        "Phases of the comparison of nodes",
        ["Phase", "Time"],
        [[name, seconds(value)] for name, value in nodes["seconds"].items()],
        [False, True],
    )


def environment_table(results: ModelResults) -> Table:
    """Versions and settings under which the results came about."""
    nodes = results.nodes or {}
    values: dict[str, Any] = {
        "started": results.run["started"],
        "checkpoint": nodes.get("checkpoint", {}).get("source") or results.run["source"],
        "fingerprint": nodes.get("checkpoint", {}).get("fingerprint"),
        "reference": " ".join(
            nodes.get("reference", {}).get(key, "") for key in ("kind", "source")
        ),
        "candidate": nodes.get("candidate"),
        "input of the nodes": _input(nodes),
        **_flat(nodes.get("environment") or results.run["environment"]),
    }
    return _plain("What the results depend on", values)


def _input(nodes: Mapping[str, Any]) -> str | None:
    if not nodes:
        return None
    image = nodes["images"]
    return (
        f"{image['source']}, {image['height']}×{image['width']} pixels, SHA-256 {image['sha256']}"
    )


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in one level; packages under their own names."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            result |= {f"{name} {key}": item for key, item in value.items()}
        else:
            result[name] = value
    return {name.removeprefix("packages "): value for name, value in result.items()}


def _plain(caption: str, values: Mapping[str, Any]) -> Table:
    words = {True: "yes", False: "no"}
    rows = [
        [name, words[value] if isinstance(value, bool) else str(value)]
        for name, value in values.items()
        if value not in (None, "", " ")
    ]
    return Table(caption, ["What", "Value"], rows, [False, False])
