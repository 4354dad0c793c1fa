"""What the benchmarks share: seeded checkpoints, statistics and results.

Nothing here imports NumPy, PyTorch or TensorFlow: a child process's peak memory is never less
than its parent's resident memory when it was started, so a benchmark of processes stays small.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parity.process import environment

_ALLOCATOR = ("THP_MEM_ALLOC_ENABLE", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")
ROOT = Path(__file__).resolve().parent.parent


def seed(model: str, folder: Path) -> Path:
    """Write a seeded checkpoint of ``model`` to ``folder``; returns the folder."""
    print(f"making a seeded checkpoint of {model} ...", file=sys.stderr)
    command = [sys.executable, str(ROOT / "compare.py"), "seed", model, str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Least and median time, and all of them in the order measured."""
    return {
        "min_seconds": round(min(seconds), 4),
        "median_seconds": round(statistics.median(seconds), 4),
        "all_seconds": [round(value, 4) for value in seconds],
    }


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines, the first column left-aligned and the others right-aligned."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def write(
    path: Path | None, benchmark: str, values: Mapping[str, Any], threads: int | None
) -> None:
    """Write a result as JSON, together with what it depends on; nothing where no path is given."""
    if path is None:
        return
    result = {
        "schema": f"efficientdet-parity/benchmark-{benchmark}",
        "version": 1,
        "environment": environment.describe(threads),
        "allocator": {name: os.environ[name] for name in _ALLOCATOR if name in os.environ},
        **values,
    }
    path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
