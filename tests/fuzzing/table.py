"""The table of a run: to be read, as JSON, and in the documentation."""

from __future__ import annotations

import json
import platform
from collections import Counter
from pathlib import Path
from typing import Any

from fuzzing import targets
from fuzzing.watch import Tally

SCHEMA = "efficientdet-parity/fuzz"
VERSION = 1

BEGINS, ENDS = "<!-- fuzz table begins -->", "<!-- fuzz table ends -->"
"""Stand around the table in the documentation."""

_COLUMNS = ("what", "tried", "held", "refused", "harmless", "other", "peak memory")


def rows(tallies: dict[str, Tally], kills: Tally | None) -> list[tuple[str, ...]]:
    """The table's rows: what was tried of each target, and of all together."""
    found = [_row(targets.kind_of(name).WHAT, tally) for name, tally in tallies.items()]
    whole = Tally()
    for tally in tallies.values():
        whole.tried += tally.tried
        whole.refused += tally.refused
        whole.harmless += tally.harmless
        whole.other += tally.other
        whole.failed += tally.failed
        whole.peak = max(whole.peak, tally.peak)
    found.append(_row("all damaged inputs", whole))
    if kills is not None:
        held = f"{kills.held:,}"
        what = "kills of `convert`, `record`, `coco`, `report`, `seed`, then the same again"
        found.append((what, f"{kills.tried:,}", held, "", "", "", ""))
    return found


def _row(what: str, tally: Tally) -> tuple[str, ...]:
    counts = (tally.tried, tally.held, tally.refused, tally.harmless, tally.other)
    return (what, *(f"{count:,}" for count in counts), f"{tally.peak / 2**20:,.0f} MiB")


def text(found: list[tuple[str, ...]]) -> str:
    """The table for a terminal."""
    table = [_COLUMNS, *found]
    widths = [max(len(row[place]) for row in table) for place in range(len(_COLUMNS))]
    lines = []
    for row in table:
        first, *others = row
        cells = [value.rjust(width) for value, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def markdown(found: list[tuple[str, ...]], seed: int) -> str:
    """The table for the documentation."""
    lines = [
        "| " + " | ".join(_COLUMNS) + " |",
        "|---|" + "---:|" * (len(_COLUMNS) - 1),
        *("| " + " | ".join(row) + " |" for row in found),
        "",
        f"Made by `make fuzz-all` with seed {seed}, Python {platform.python_version()} on "
        f"{platform.system()} {platform.machine()}. *Held*: refused in one printable line, "
        "harmless (exactly the sound value was read), or other (another sound value, from a "
        "container without checksums, or one whose checksums the damage made again). *Peak "
        "memory*: beyond what the process had before.",
    ]
    return "\n".join(lines)


def put_into(document: Path, table: str) -> None:
    """Put the table between the two marks of a document; one that is missing is made."""
    if not document.exists():
        document.write_text(f"# Security\n\n{BEGINS}\n{ENDS}\n", "utf-8")
    before, begins, rest = document.read_text("utf-8").partition(BEGINS)
    _, ends, after = rest.partition(ENDS)
    if not begins or not ends:
        raise ValueError(f"{document} lacks the lines {BEGINS} and {ENDS}")
    document.write_text(f"{before}{BEGINS}\n{table}\n{ENDS}{after}", "utf-8")


def as_values(tallies: dict[str, Tally], kills: Tally | None, seed: int) -> dict[str, Any]:
    """Everything as plain values."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "seed": seed,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "targets": {
            name: {"what": targets.kind_of(name).WHAT, **_values(tally)}
            for name, tally in tallies.items()
        },
        "kills": None if kills is None else _values(kills),
    }


def _values(tally: Tally) -> dict[str, Any]:
    return {
        "tried": tally.tried,
        "held": tally.held,
        "refused": tally.refused,
        "harmless": tally.harmless,
        "other": tally.other,
        "failed": tally.failed,
        "peak_memory_bytes": tally.peak,
        "seconds": round(tally.seconds, 1),
        "broken": tally.broken,
        "failures": alike(tally.failures),
    }


def alike(failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for failures that are the same defect, with their number."""
    counts = Counter(failure["signature"] for failure in failures)
    first: dict[str, dict[str, Any]] = {}
    for failure in failures:
        first.setdefault(failure["signature"], failure)
    return [{"count": counts[name], **failure} for name, failure in first.items()]


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write the values; the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    beside.replace(path)
