"""That a checkpoint still is the one that was converted, where it is read once more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.conversion import Conversion
from converter.tensorflow_files.bundle import index_file
from efficientdet_spec import Cause, InputError, file_sha256


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
    check_unchanged(conversion, prefix)
    yield
    # It may have been exchanged while it was read.
    check_unchanged(conversion, prefix)


def check_unchanged(conversion: Conversion, prefix: Path) -> None:
    """Refuse a checkpoint that is no longer the one that was converted.

    Args:
        conversion: What was made of the checkpoint.
        prefix: The checkpoint.

    Raises:
        InputError: It is another one; says so.
    """
    known = conversion.provenance["index_sha256"]
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
