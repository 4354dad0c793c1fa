"""What ``detect`` can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parity.settings.option import INPUT, RESULTS, option
from parity.settings.shared import DetectionSettings


@dataclass(frozen=True, kw_only=True)
class DetectSettings(DetectionSettings):
    """Detections in single images."""

    COMMAND = "detect"
    RESULT = "out"
    RESULT_NAME = "detect.json"
    HELP = "draw both sides' detections in images"
    ABOUT = (
        "Detects with TensorFlow's network and with the converted model, or with a port of yours, "
        "draws what each finds side by side, and compares it."
    )
    EXAMPLES = (
        ("detect efficientdet-d0/ photo.jpg --out out/detect", "one photograph"),
        ("detect d0/ photo.jpg --candidate port.py:build --out out", "with a port of your own"),
    )

    images: tuple[Path, ...] = option(
        "image files, or folders of JPEG, PNG and BMP files",
        group=INPUT,
        positional=True,
        metavar="IMAGE",
    )
    min_score: float = option(
        "draw and judge detections from this score on",
        default=0.3,
        lowest=0,
        highest=1,
        group=RESULTS,
        metavar="SCORE",
    )

    def needs(self) -> Sequence[str]:
        """What computes, and what draws."""
        return ("tensorflow", "images")
