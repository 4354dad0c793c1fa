"""TensorFlow with its graph optimiser off, as this project's comparisons of nodes run it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.material import Case
from benchmarks.runtimes import tensorflow
from benchmarks.workers import Opened

NAME = "TensorFlow, optimiser off"
SETTINGS = "as TensorFlow, with disable_meta_optimizer"

missing = tensorflow.missing
files = tensorflow.files


def open(case: Case, images: Path, prefix: Path) -> Opened:
    return tensorflow.open(case, images, prefix, optimiser=False)
