"""What verifying costs: conversion and loading of D7x by this tree and by an earlier one.

Each is a process of its own, in turns, so that both see the same machine. Beside them stands what
the disk takes for the same bytes: a copy, flushed. Results are ratios within one run.

    python -m benchmarks.verification --before ../earlier-checkout
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]

LOADING = (
    "import sys, time\n"
    "import torch, torch_model.checkpoint as checkpoint\n"
    "began = time.perf_counter()\n"
    "checkpoint.load(sys.argv[1])\n"
    "print(time.perf_counter() - began)\n"
)

CONVERTING = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "import torch\n"
    "from converter.conversion import convert\n"
    "try:\n"
    "    from converter.fetch.sources import resolve\n"
    "except ImportError:\n"
    "    from converter.sources import resolve\n"
    "from torch_model.saving import save_arrays\n"
    "began = time.perf_counter()\n"
    "done = convert(resolve(sys.argv[1], Path(sys.argv[3])), model=sys.argv[4])\n"
    "save_arrays(sys.argv[2], done.config, done.arrays, done.provenance)\n"
    "print(time.perf_counter() - began)\n"
)


def measured(tree: Path, program: str, *arguments: object) -> float:
    """Seconds that a program says it has taken, in a tree."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def copied(source: Path, target: Path) -> float:
    """Seconds of a copy whose bytes are on the disk."""
    began = time.perf_counter()
    shutil.copyfile(source, target)
    descriptor = os.open(target, os.O_WRONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="an earlier checkout of this project")
    parser.add_argument("--model", default="efficientdet-d7x")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    trees = {"now": ROOT, **({"before": options.before.absolute()} if options.before else {})}
    with tempfile.TemporaryDirectory(prefix="efficientdet-parity-") as name:
        folder = Path(name)
        seed = [sys.executable, "compare.py", "seed", options.model, str(folder / "checkpoint")]
        subprocess.run(seed, cwd=ROOT, check=True)
        found: dict[str, list[float]] = {}
        for _ in range(options.runs):
            for tree, path in trees.items():
                target = folder / f"{tree}.pth"
                taken = measured(
                    path, CONVERTING, folder / "checkpoint", target, folder, options.model
                )
                found.setdefault(f"convert and write, {tree}", []).append(taken)
                found.setdefault(f"load, {tree}", []).append(measured(path, LOADING, target))
            data = next((folder / "checkpoint").glob("*.data-*"))
            found.setdefault("copy of the data file, flushed", []).append(
                copied(data, folder / "copy")
            )
            found.setdefault("copy of the .pth, flushed", []).append(
                copied(folder / "now.pth", folder / "copy")
            )
        sizes = f"data file {data.stat().st_size / 1e6:.0f} MB"
        print(f"{options.model}, {sizes}, .pth {(folder / 'now.pth').stat().st_size / 1e6:.0f} MB")
    for what, seconds in found.items():
        spread = f"({min(seconds):.2f} to {max(seconds):.2f})"
        print(f"{what:40}{statistics.median(seconds):8.2f} s  {spread}")


if __name__ == "__main__":
    main()
