"""What ``inspect`` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from parity.settings.option import CHECKPOINT, json_option, option
from parity.settings.shared import SOURCES, CheckpointSettings


@dataclass(frozen=True, kw_only=True)
class InspectSettings(CheckpointSettings):
    """A look at one file."""

    COMMAND = "inspect"
    RESULT = "json"
    HELP = "say what a file is: container, model, hyperparameters, values, fingerprint, release"
    ABOUT = (
        "Reads every tensor of a file, verifies what checksums it has, and says what it is: of "
        "which model, with which hyperparameters, which values of each variable it holds, and "
        "whether they are Google's. Of a damaged file it says what can be said, and what is "
        "wrong. Nothing in the file is run; TensorFlow is not needed."
    )
    EXAMPLES = (
        ("inspect d0.pth", "what this file holds"),
        ("inspect export/ --json", "a SavedModel, with every figure"),
    )

    checkpoint: str = option(
        SOURCES,
        group=CHECKPOINT,
        positional=True,
        metavar="FILE",
        path=True,
    )
    json: str | None = json_option("the result")
