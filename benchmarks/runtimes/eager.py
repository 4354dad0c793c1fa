"""This project's model as ``torch_model.load`` returns it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.material import Case, Material
from benchmarks.workers import Opened

NAME = "eager"
SETTINGS = (
    "torch_model.load(FILE), torch.inference_mode, large buffers in huge pages, as this project's "
    "commands set it (THP_MEM_ALLOC_ENABLE=1)"
)


def missing() -> str | None:
    return None


def files(material: Material, case: Case) -> dict[str, Path]:
    return {"source": material.converted(case.model)}


def open(case: Case, images: Path, source: Path) -> Opened:
    from benchmarks.runtimes.pytorch import opened, prepared

    prepared(case)
    import torch_model

    return opened(torch_model.load(source).eval(), images)
