"""Converting D7x, beside copying its values: :mod:`benchmarks.conversion` as rows of this suite."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import conversion
from benchmarks.measurements.plan import Plan
from benchmarks.records import Measurement, rows

MODEL = "efficientdet-d7x"


def measure(plan: Plan) -> list[Measurement]:
    """Every process that the benchmark has."""
    with plan.preparing():
        checkpoint = plan.material.checkpoint(MODEL)
    with tempfile.TemporaryDirectory(dir=plan.material.folder) as name, plan.timing():
        found = conversion.measure(checkpoint, MODEL, Path(name), min(plan.effort.repeats, 7))
    taken = {way: row["all_seconds"] for way, row in found["rows"].items()}
    more = {way: {"peak_memory_bytes": row["peak_bytes"]} for way, row in found["rows"].items()}
    return [
        Measurement(
            what="conversion",
            subject=f"{MODEL}, {found['bytes_written'] / 1e6:.0f} MB of values",
            settings={"model": MODEL, "bytes_written": found["bytes_written"]},
            unit="a process",
            reference=conversion.COPY,
            checked="convert.py verifies every checksum and accounts for every variable; what the "
            "others write is not looked at",
            rows=rows(taken, conversion.COPY, more=more),
        )
    ]
