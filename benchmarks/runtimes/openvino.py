"""OpenVINO on PyTorch's export of this project's model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.material import Case, Material
from benchmarks.runtimes.packages import missing_of
from benchmarks.workers import Opened

NAME = "OpenVINO"
SETTINGS = (
    "the same export, CPU, PERFORMANCE_HINT=LATENCY, INFERENCE_PRECISION_HINT=f32, without which "
    "it may compute in bfloat16"
)


def missing() -> str | None:
    return missing_of(["openvino", "onnx", "onnxscript"])


def files(material: Material, case: Case) -> dict[str, Path]:
    return {"source": material.exported(case)}


def open(case: Case, images: Path, source: Path) -> Opened:
    import numpy as np
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": case.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(str(source), "CPU", settings)
    request = compiled.create_infer_request()
    given = np.ascontiguousarray(np.load(images).transpose(0, 3, 1, 2))

    def run(turn: int) -> Any:
        return request.infer([given], share_inputs=True, share_outputs=True)

    def outputs(result: Any) -> list[Any]:
        # What is shared is written over by the next run.
        return [np.array(result[place]) for place in range(len(result))]

    return Opened(run, outputs)
