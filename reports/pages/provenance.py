"""The part of a page on how the results were made: conversion, steps, surroundings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parity.results.records.conversion import ConversionResult, Provenance
from parity.results.records.nodes import NodesResult
from parity.results.records.run import Status, StepResult
from reports.pages.coverage import input_text
from reports.pages.elements import Table
from reports.reading.results import ModelResults
from reports.words.texts import NONE, count, memory, seconds

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


def conversion_section(conversion: ConversionResult) -> ConversionSection:
    """The conversion as ready texts.

    Args:
        conversion: ``conversion.json``.
    """
    ledger, provenance = conversion.ledger, conversion.provenance or Provenance()
    kinds: dict[str, int] = {}
    for row in ledger.variables:
        kind = _USED.get(row.use) or f"excluded: {row.reason}"
        kinds[kind] = kinds.get(kind, 0) + 1
    notes = [
        *ledger.findings,
        *ledger.notes,
        *provenance.notes,
        *(provenance.warnings or ()),
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


def _provenance(provenance: Provenance) -> dict[str, Any]:
    titles = {
        "source": "source",
        "weights": "weights",
        "archive_sha256": "SHA-256 of the archive",
        "index_sha256": "SHA-256 of the index",
        "checkpoint_fingerprint": "fingerprint of the checkpoint",
        "values_fingerprint": "fingerprint of the converted values",
    }
    found = {title: getattr(provenance, name) for name, title in titles.items()}
    return {title: value for title, value in found.items() if value}


def steps_table(results: ModelResults) -> Table:
    """Time and memory of each step."""
    rows = []
    for step in results.run.steps:
        if not step.earlier:
            figures = seconds(step.seconds), memory(step.peak_memory_bytes)
            rows.append([step.title, _ending(step), *figures])
    made = {step.name for step in results.run.steps if not step.earlier}
    for lack in results.account.lacks:
        if lack.name not in made:
            rows.append([lack.title, f"not made: {lack.reason}", NONE, NONE])
    return Table(
        "Steps, each a process of its own: wall time, largest resident memory (GB of 10⁹ bytes)",
        ["Step", "How it ended", "Time", "Memory"],
        rows,
        [False, False, True, True],
    )


def _ending(step: StepResult) -> str:
    """How a step ended, in words."""
    if step.status is not Status.DONE:
        word = "not made" if step.status is Status.SKIPPED else step.status.value
        return f"{word}: {step.message}" if step.message else word
    words = {0: "done", 1: "done, a difference was found", 3: "done, parity is not shown"}
    state = words.get(step.exit_code or 0, "done")
    if step.reused:
        return f"{state}; reused from an earlier run"
    return f"{state}; run again, for {step.again}" if step.again else state


def phases_table(nodes: NodesResult) -> Table:
    """Time of the phases of the comparison of nodes."""
    return Table(
        "Phases of the comparison of nodes",
        ["Phase", "Time"],
        [[name, seconds(value)] for name, value in nodes.seconds.items()],
        [False, True],
    )


def environment_table(results: ModelResults) -> Table:
    """Versions and settings under which the results came about."""
    nodes = results.nodes
    values: dict[str, Any] = {
        "started": results.run.started,
        "checkpoint": nodes.checkpoint.source if nodes else results.run.source,
        "fingerprint": nodes.checkpoint.fingerprint if nodes else None,
        "reference": f"{nodes.reference.kind.value} {nodes.reference.source}" if nodes else None,
        "candidate": nodes.candidate if nodes else None,
        **(_inputs(nodes) if nodes else {}),
        **_flat((nodes.environment if nodes else None) or results.run.environment),
    }
    return _plain("What the results depend on", values)


def _inputs(nodes: NodesResult) -> dict[str, str]:
    found = [input_text(item) for item in nodes.inputs]
    if len(found) == 1:
        return {"input of the nodes": found[0]}
    return {f"input {number} of the nodes": item for number, item in enumerate(found, 1)}


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
