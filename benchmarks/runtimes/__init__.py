"""What a user would run the network with: one file each, all alike from outside.

A runtime's module has

* ``NAME``, as results call it, and ``SETTINGS``, how it is set, in a sentence;
* ``missing()``: why it cannot be measured here, or None;
* ``files(material, case)``: what it reads, by argument of ``open``; made before it is opened;
* ``open(case, images, **files)``: a ready network for one shape of images, in this process, which
  is the runtime's own.
"""

from __future__ import annotations

import importlib
from types import ModuleType

RUNTIMES = (
    "eager",
    "eager_kept",
    "optimised",
    "tensorflow",
    "tensorflow_as_written",
    "onnxruntime",
    "openvino",
    "effdet",
)
"""The modules, this project's own first."""

OURS = ("eager", "eager, memory kept", "optimised")
"""Names of this project's own ways."""

RIVALS = ("TensorFlow", "ONNX Runtime", "OpenVINO")
"""Names of what others' fastest way is chosen from."""


def runtime(module: str) -> ModuleType:
    """A runtime's module, which imports the runtime only when asked."""
    return importlib.import_module(f"benchmarks.runtimes.{module}")
