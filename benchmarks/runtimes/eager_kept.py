"""This project's model in a process that keeps the memory it frees."""

from __future__ import annotations

from pathlib import Path

from benchmarks.material import Case
from benchmarks.runtimes import eager
from benchmarks.workers import Opened

NAME = "eager, memory kept"
SETTINGS = "as eager, after torch_model.memory.keep_memory(), which the optimised form calls too"

missing = eager.missing
files = eager.files


def open(case: Case, images: Path, source: Path) -> Opened:
    from benchmarks.runtimes.pytorch import prepared

    prepared(case)
    from torch_model.memory import keep_memory

    keep_memory()
    return eager.open(case, images, source)
