"""What commands do with their settings before their work: find files, read, refuse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from converter.conversion import Conversion, Converting, files_at
from converter.fetch.cached import CheckpointFiles
from converter.fetch.sources import default_cache, resolve
from converter.hparams.given import Hyperparameters
from converter.progress import READING_PATIENCE, Progress
from parity.process.files import check_writable
from parity.results.place import ResultPlace
from parity.results.records.hyperparameters import HyperparametersResult
from parity.results.records.record import made
from parity.results.records.shared import Checkpoint, Weights
from parity.settings.shared import CheckpointSettings


def resolve_checkpoint(settings: CheckpointSettings) -> CheckpointFiles:
    """The checkpoint's files, downloaded if need be.

    Args:
        settings: Of the command.

    Raises:
        InputError: There is no such checkpoint.
    """
    with Progress("downloading") as progress:
        found = resolve(
            settings.checkpoint,
            settings.cache or default_cache(),
            progress,
            sha256=settings.sha256,
            offline=settings.offline,
        )
    return replace(found, strip=settings.strip_prefix)


@contextmanager
def converting_checkpoint(
    settings: CheckpointSettings, files: CheckpointFiles, backbone: str | None = None
) -> Iterator[Converting]:
    """The checkpoint's values as the PyTorch model has them, one after another.

    Args:
        settings: Of the command.
        files: The checkpoint's.
        backbone: The backbone that alone is wanted; None for the whole detector.

    Raises:
        InputError: The checkpoint is of another model; within the context, it is damaged or holds
            NaN.
    """
    with Progress("reading", patience=READING_PATIENCE) as progress:
        yield Converting(
            files,
            model=settings.model,
            num_classes=settings.num_classes,
            weights=settings.weights,
            hyperparameters=hyperparameters_of(settings, files),
            backbone=backbone,
            progress=progress,
        )


def convert_checkpoint(settings: CheckpointSettings, files: CheckpointFiles) -> Conversion:
    """The checkpoint's values as the PyTorch model has them, all together.

    Args:
        settings: Of the command.
        files: The checkpoint's.

    Raises:
        InputError: The checkpoint is damaged, of another model or holds NaN.
    """
    with converting_checkpoint(settings, files) as converting:
        return converting.collect()


def hyperparameters_of(settings: CheckpointSettings, files: CheckpointFiles) -> Hyperparameters:
    """What is known of the model besides the checkpoint's tensors.

    Args:
        settings: Of the command.
        files: The checkpoint's.

    Raises:
        InputError: What was given cannot be read, or is refused.
    """
    return Hyperparameters.of(files.prefix, settings.hparams)


def check_results(
    targets: Sequence[Path | None],
    inputs: Sequence[Path | str | None],
    prefix: Path,
    place: ResultPlace,
) -> None:
    """Raise where a result cannot be written, or would destroy an input or another result.

    Args:
        targets: The files to write; None stands for none.
        inputs: The files that must stay as they are; likewise.
        prefix: The checkpoint, whose files must stay too.
        place: Where the result is to go, which is given up where that is no place for one.

    Raises:
        InputError: Says which.
    """
    keep = [*files_at(prefix), *(Path(path) for path in inputs if path)]
    for target in filter(None, targets):
        with place.checking():
            check_writable(target, keep)
        keep.append(target)


def describe_checkpoint(settings: CheckpointSettings, conversion: Conversion) -> Checkpoint:
    """The checkpoint as results name it.

    Args:
        settings: Of the command.
        conversion: The checkpoint's values.
    """
    provenance = conversion.provenance
    return Checkpoint(
        source=provenance["source"],
        fingerprint=provenance["checkpoint_fingerprint"],
        weights=Weights(settings.weights),
        hyperparameters=made(HyperparametersResult, provenance["hyperparameters"]),
    )
