"""What commands do with their settings before their work: find files, read, refuse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from converter.bundle import checkpoint_files, index_file
from converter.conversion import Conversion, convert
from converter.fetch.cached import CheckpointFiles
from converter.fetch.sources import default_cache, resolve
from converter.progress import READING_PATIENCE, Progress
from efficientdet_spec import Cause, InputError, file_sha256
from parity.process.files import check_writable
from parity.results.place import ResultPlace
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
        return resolve(
            settings.checkpoint,
            settings.cache or default_cache(),
            progress,
            sha256=settings.sha256,
            offline=settings.offline,
        )


def convert_checkpoint(settings: CheckpointSettings, files: CheckpointFiles) -> Conversion:
    """The checkpoint's values as the PyTorch model has them.

    Args:
        settings: Of the command.
        files: The checkpoint's.

    Raises:
        InputError: The checkpoint is damaged, of another model or holds NaN.
    """
    with Progress("reading", patience=READING_PATIENCE) as progress:
        return convert(
            files,
            model=settings.model,
            num_classes=settings.num_classes,
            weights=settings.weights,
            progress=progress,
        )


@contextmanager
def unchanged(conversion: Conversion, prefix: Path) -> Iterator[None]:
    """Within it TensorFlow reads once more the checkpoint that has been converted.

    That may be hours later, and both sides must compute with the same values. TensorFlow verifies
    each tensor's CRC32C against the index, so that it is enough that this is the same file.

    Args:
        conversion: What was made of the checkpoint.
        prefix: The checkpoint.

    Raises:
        InputError: It is another one, before or after; says so.
    """
    known = conversion.provenance["index_sha256"]
    _check_index(prefix, known)
    yield
    # It may have been exchanged while it was read.
    _check_index(prefix, known)


def _check_index(prefix: Path, known: str) -> None:
    path = index_file(prefix)
    try:
        found = file_sha256(path)
    except OSError as error:
        raise InputError(
            f"{path} was converted by this run and cannot be read any more "
            f"({error.strerror or error}); leave the checkpoint where it is and run again.",
            Cause.of(error),
        ) from error
    if found != known:
        raise InputError(
            f"{path} changed after it was converted by this run: its SHA-256 is {found}, expected "
            f"{known}, so that both sides would not have the same values; run again, and let "
            f"nothing write to it meanwhile.",
            Cause.FILE,
        )


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
    keep = [*checkpoint_files(prefix), *(Path(path) for path in inputs if path)]
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
    )
