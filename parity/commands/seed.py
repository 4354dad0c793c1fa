"""``seed``: checkpoints with seeded weights."""

from __future__ import annotations

from functools import partial

from converter.hparams.given import Hyperparameters
from converter.seeded import write_seeded
from efficientdet_spec import CONFIG_FILE, Cause, EfficientDetConfig, InputError, get_config
from parity.commands.asking.inputs import Images, prepared
from parity.detections.images import high_amplitude, photograph_like
from parity.process.console import say
from parity.process.files import write_text
from parity.results.place import ResultPlace
from parity.settings.seed import SeedSettings

_CALIBRATION_SIZE = (512, 512)
"""Of the images on which batch norms are calibrated: P8 still has 2x2 positions."""

_PHOTOGRAPHS = ((512, 512), (341, 512), (256, 256), (128, 128))
"""Height and width of images like photographs: one that fills the input, one with a border, and
two that are enlarged and so have less detail, as photographs have in the large models."""


def run(settings: SeedSettings, place: ResultPlace) -> int:
    """Make a checkpoint, and say where.

    Args:
        settings: What is asked for.
        place: Where a result would go.

    Raises:
        InputError: There is no such model, or the folder cannot be written.
    """
    given = Hyperparameters.of(None, settings.hparams)
    config = given.applied(given.base(settings.model) or get_config(settings.model))
    given.require_labels(config)
    beside = settings.folder / CONFIG_FILE
    if settings.hparams is None and beside.exists():
        raise InputError(
            f"{beside} is there, and would be read as this checkpoint's hyperparameters; move it "
            f"away, name another folder, or give --hparams.",
            Cause.FILE,
        )
    from torch_model.calibrate import calibrated_statistics

    statistics = partial(calibrated_statistics, _calibration_images(config))
    prefix = write_seeded(config, settings.folder, settings.salt, statistics)
    if settings.hparams is not None:
        write_text(beside, given.file_text(config))
    say(f"wrote {prefix} ({config.name}, seeded weights, not trained; salt {settings.salt!r})")
    return 0


def _calibration_images(config: EfficientDetConfig) -> Images:
    """Always these: checkpoints of one salt are the same whatever else changes.

    Weights that nobody trained pass on whatever contrast an image has more than the statistics
    expect, and multiply it from layer to layer: calibrated on one kind of image, the 32 blocks of
    D4 made 180,000 times the expected spread of a photograph, and gates saturated.
    """
    photographs = [photograph_like(*size, seed) for seed, size in enumerate(_PHOTOGRAPHS)]
    levels = [*photographs, high_amplitude(*_CALIBRATION_SIZE)]
    return prepared(levels, "for calibration", config, _CALIBRATION_SIZE, "float32")[0]
