"""Moves EfficientDet models between TensorFlow and PyTorch with proof.

Everything that the command line does, for programs: live modules instead of files, results instead
of text, exceptions with a cause instead of exit codes, and progress through a callback.

Example:
    import efficientdet_parity as ep

    model = ep.convert("efficientdet-d0/")
    ep.save(model, "d0.pth")
    result = ep.compare(candidate=my_module, checkpoint="efficientdet-d0/", images=["photo.jpg"])
    result.assert_parity()

Importing this imports neither framework; each function imports what it needs when it is called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efficientdet_parity.comparing import Reference, compare, open_reference
    from efficientdet_parity.converting import convert, load, save
    from efficientdet_parity.evaluating import detect, evaluate
    from efficientdet_parity.progress import ProgressEvent
    from efficientdet_parity.reporting import report
    from efficientdet_parity.results import Comparison, Drawn, Evaluation
    from efficientdet_spec import Cause, InputError

_PLACES = {
    "Cause": "efficientdet_spec",
    "Comparison": "efficientdet_parity.results",
    "Evaluation": "efficientdet_parity.results",
    "Drawn": "efficientdet_parity.results",
    "InputError": "efficientdet_spec",
    "ProgressEvent": "efficientdet_parity.progress",
    "Reference": "efficientdet_parity.comparing",
    "build": "efficientdet_parity.converting",
    "compare": "efficientdet_parity.comparing",
    "convert": "efficientdet_parity.converting",
    "detect": "efficientdet_parity.evaluating",
    "evaluate": "efficientdet_parity.evaluating",
    "load": "efficientdet_parity.converting",
    "load_backbone": "efficientdet_parity.converting",
    "open_reference": "efficientdet_parity.comparing",
    "report": "efficientdet_parity.reporting",
    "save": "efficientdet_parity.converting",
}
"""Where each public name is; it is imported when it is first used."""

__all__ = [
    "Cause",
    "Comparison",
    "Drawn",
    "Evaluation",
    "InputError",
    "ProgressEvent",
    "Reference",
    "__version__",
    "build",
    "compare",
    "convert",
    "detect",
    "evaluate",
    "load",
    "load_backbone",
    "open_reference",
    "report",
    "save",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from efficientdet_spec import installed_version

        return installed_version("efficientdet-parity") or "0+unknown"
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
