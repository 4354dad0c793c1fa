"""This project's model in its optimised form."""

from __future__ import annotations

from pathlib import Path

from benchmarks.material import Case
from benchmarks.runtimes import eager
from benchmarks.workers import Opened

NAME = "optimised"
SETTINGS = "torch_model.load(FILE).optimized(), compiled for the shape before it is timed"

missing = eager.missing
files = eager.files


def open(case: Case, images: Path, source: Path) -> Opened:
    from benchmarks.runtimes.pytorch import opened, prepared

    prepared(case)
    import torch_model

    return opened(torch_model.load(source).eval().optimized(), images)
