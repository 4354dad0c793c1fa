"""ONNX Runtime on PyTorch's export of this project's model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.material import Case, Material
from benchmarks.runtimes.packages import missing_of
from benchmarks.workers import Opened

NAME = "ONNX Runtime"
SETTINGS = "torch.onnx.export(dynamo=True), CPUExecutionProvider, all other settings as they are"


def missing() -> str | None:
    return missing_of(["onnxruntime", "onnx", "onnxscript"])


def files(material: Material, case: Case) -> dict[str, Path]:
    return {"source": material.exported(case)}


def open(case: Case, images: Path, source: Path) -> Opened:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = case.threads
    session = onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    given = np.ascontiguousarray(np.load(images).transpose(0, 3, 1, 2))
    feeds = {session.get_inputs()[0].name: given}

    def outputs(result: Any) -> list[Any]:
        return list(result)

    return Opened(lambda turn: session.run(None, feeds), outputs)
