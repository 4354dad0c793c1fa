"""``compare.py seed``: checkpoints with seeded weights."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from converter.seeded import write_seeded
from efficientdet_spec import MODELS, get_config
from parity.commands.reference import prepared
from parity.images import waves

_CALIBRATION_SIZE = (512, 512)
"""Of the image on which batch norms are calibrated: P8 still has 2x2 positions."""


def add_parser(commands: Any) -> None:
    """Make the command known."""
    seed = commands.add_parser(
        "seed", help="write a checkpoint in the official layout with seeded, untrained weights"
    )
    seed.set_defaults(run=run)
    seed.add_argument("model", metavar="MODEL", help=f"one of {', '.join(MODELS)}")
    seed.add_argument("folder", metavar="FOLDER", type=Path, help="folder to write it to")
    seed.add_argument("--salt", default="seed", help="another text gives other weights")


def run(arguments: argparse.Namespace) -> int:
    """``compare.py seed``.

    Raises:
        InputError: There is no such model, or the folder cannot be written.
    """
    config = get_config(arguments.model)
    from torch_model.calibrate import calibrated_statistics

    # Always this image: checkpoints of one salt are the same whatever else changes.
    images, _ = prepared([waves(*_CALIBRATION_SIZE)], "waves", _CALIBRATION_SIZE, "float32")
    statistics = partial(calibrated_statistics, images)
    prefix = write_seeded(config, arguments.folder, arguments.salt, statistics)
    print(f"wrote {prefix} ({config.name}, seeded weights, not trained; salt {arguments.salt!r})")
    return 0
