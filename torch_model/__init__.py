"""EfficientDet in PyTorch with TensorFlow's exact semantics.

PyTorch is imported with the first name that needs it, so that ``torch_model.preprocess``, which
is NumPy only, can be used where PyTorch is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_model.checkpoint import load, load_backbone, load_checkpoint, save_checkpoint
    from torch_model.model import EfficientDet, build

__all__ = ["EfficientDet", "build", "load", "load_backbone", "load_checkpoint", "save_checkpoint"]

_MODULES = {
    "EfficientDet": "torch_model.model",
    "build": "torch_model.model",
    "load": "torch_model.checkpoint",
    "load_backbone": "torch_model.checkpoint",
    "load_checkpoint": "torch_model.checkpoint",
    "save_checkpoint": "torch_model.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
