"""The sides of a comparison of detections, one file of this package for each kind.

A kind of side is whatever finds boxes in image files: a framework with all stages around its
network, a candidate's network within these stages, or something that brings its detections along.
``coco``, ``detect``, the shards and a cluster know of it only what :class:`Detecting` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from parity.commands.detecting.detection import Detection
from parity.detections.messages import SideName
from parity.detections.shards import Side
from parity.settings.coco import CANDIDATE


class Detecting(Protocol):
    """A side before it is opened."""

    @property
    def name(self) -> str:
        """What results, files and shards call it: ``tensorflow``, ``torch`` or ``candidate``."""

    @property
    def described(self) -> str:
        """What it is, in results: for a candidate as its user names it."""

    def files(self) -> Sequence[Path]:
        """The files that it is read from, which nothing must be written over."""

    def manifest(self, setup: Detection) -> Mapping[str, Any]:
        """Everything but the images that its detections depend on, as plain values.

        Detections that are kept are taken for its own where this is the same.

        Args:
            setup: The model and the stages around it.

        Raises:
            InputError: It cannot be made ready.
        """

    def open(self, setup: Detection) -> AbstractContextManager[Side]:
        """Make it ready to detect.

        Args:
            setup: The model and the stages around it.

        Raises:
            InputError: It cannot be.
        """

    def notes(self) -> Sequence[str]:
        """Sentences that a reader of the result should know, once its manifest has been made."""

    def elsewhere(self) -> SideName | None:
        """Its name for another process; None where it has nothing to compute.

        Raises:
            InputError: It is of this process alone.
        """


def progress_title(side: str) -> str:
    """What is said while a side detects.

    Args:
        side: Its name.
    """
    return f"detecting with {'the candidate' if side == CANDIDATE else side}"


def detecting(framework: str) -> Detecting:
    """A framework with its own stages and the checkpoint's values.

    Args:
        framework: ``torch`` or ``tensorflow``.
    """
    if framework == "torch":
        from parity.commands.detecting.torch_detection import TorchDetecting

        return TorchDetecting()
    from parity.commands.detecting.tensorflow_detection import TensorflowDetecting

    return TensorflowDetecting()
