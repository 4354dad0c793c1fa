"""The two sides of a detection, by the framework that computes them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from parity.commands.detecting.detection import Detection


def open_detector(setup: Detection, framework: str) -> AbstractContextManager[Any]:
    """A :class:`parity.detections.shards.Side`.

    Args:
        setup: The model and its profile.
        framework: ``torch`` or ``tensorflow``.
    """
    if framework == "torch":
        from parity.commands.detecting.torch_detection import torch_side

        return torch_side(setup)
    from parity.commands.detecting.tensorflow_detection import tensorflow_side

    return tensorflow_side(setup)
