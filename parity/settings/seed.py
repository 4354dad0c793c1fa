"""What ``seed`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from efficientdet_spec import MODELS
from parity.settings.option import CHECKPOINT, RESULTS, Settings, option
from parity.settings.shared import hparams_option


@dataclass(frozen=True, kw_only=True)
class SeedSettings(Settings):
    """A checkpoint with seeded weights."""

    COMMAND = "seed"
    HELP = "write a checkpoint in the official layout with seeded, untrained weights"
    ABOUT = (
        "Makes a checkpoint that every other command takes, where no trained one is at hand: its "
        "weights are random but always the same, and its batch norms are calibrated."
    )
    EXAMPLES = (
        ("seed efficientdet-d0 out/d0", "a checkpoint of D0 in the folder out/d0"),
        ("seed efficientdet-d0 out/relu6 --hparams act_type=relu6", "one of another network"),
    )

    model: str = option(
        f"one of {', '.join(MODELS)}, or a variant that models lists",
        group=CHECKPOINT,
        positional=True,
        metavar="MODEL",
    )
    folder: Path = option("folder to write it to", group=RESULTS, positional=True, metavar="FOLDER")
    salt: str = option(
        "another text gives other weights", group=CHECKPOINT, default="seed", metavar="TEXT"
    )
    hparams: str | None = hparams_option()
