"""Progress of long work: silent in programs, or told to a callback."""

from __future__ import annotations

from converter.progress import ProgressEvent
from converter.progress import Reporter as Callback
from converter.progress import reported_to as reporting

__all__ = ["Callback", "ProgressEvent", "reporting"]
