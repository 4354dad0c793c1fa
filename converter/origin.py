"""Which of Google's releases a checkpoint is, and how that is known.

Models that differ in what variables do not show, as those trained with Det-AdvProp do, can be told
by their origin alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converter.fetch.cached import CheckpointFiles
from efficientdet_spec import MODELS, EfficientDetConfig, base_model, get_config
from efficientdet_spec.releases import (
    RELEASES,
    Release,
    release_at,
    release_in,
    release_of_archive,
    release_of_content,
    release_of_values,
)

BY_CONTENT = "by its content"
BY_VALUES = "by its values"
"""By the averages, wherever they are."""

BY_RAW_VALUES = "by its raw values"
CERTAIN = (BY_CONTENT, BY_VALUES, BY_RAW_VALUES)
"""What the checkpoint itself shows."""

BY_NAME = "by its official name"
BY_ADDRESS = "by its address"
BY_FOLDER = "by its folder"


@dataclass(frozen=True)
class Recognised:
    """A release that a checkpoint is, or is said to be.

    Attributes:
        release: The release.
        how: One of :data:`CERTAIN`, or :data:`BY_NAME` where the source was one,
            :data:`BY_ADDRESS` or :data:`BY_FOLDER`, which are what somebody wrote.
    """

    release: Release
    how: str

    @property
    def certain(self) -> bool:
        """Whether it is the checkpoint itself that shows it."""
        return self.how in CERTAIN

    @property
    def config(self) -> EfficientDetConfig:
        """The release's model, for COCO's classes."""
        return get_config(self.release.model)


def recognise_release(files: CheckpointFiles, fingerprint: str | None) -> Recognised | None:
    """Which release a checkpoint is: by its content, else by what it was asked for or lies in.

    Args:
        files: The checkpoint.
        fingerprint: SHA-256 of the sorted (name, CRC32C) pairs of all tensors; None where the
            container records no checksums.

    Returns:
        None where nothing says so. Whoever trained on from a release's values in a folder called
        after it has the release's preprocessing, and so its model.
    """
    shown = release_of_archive(files.archive_sha256)
    if fingerprint is not None:
        shown = release_of_content(fingerprint) or shown
    if shown is not None:
        return Recognised(shown, BY_CONTENT)
    if files.official_model is not None:
        return Recognised(RELEASES[files.official_model], BY_NAME)
    # What an archive was unpacked to is a folder of the cache, which is called after its digest.
    address = files.origin if files.archive_sha256 is not None else None
    if address is not None:
        at = release_at(address)
        return _by_folder(address) if at is None else Recognised(at, BY_ADDRESS)
    return _by_folder(str(files.prefix.absolute())) or _by_folder(_folder_of(files))


def recognise_values(fingerprint: str | None) -> Recognised | None:
    """Which release a model's values are of, whatever kind of file and whosever names hold them.

    Args:
        fingerprint: Of the values, as of :func:`~converter.fingerprints.of_arrays`; None where
            there is none, as of a part of a model.

    Returns:
        None where they are no known release's, as after one step of training.
    """
    found = None if fingerprint is None else release_of_values(fingerprint)
    if found is None:
        return None
    release, kind = found
    return Recognised(release, BY_VALUES if kind == "ema" else BY_RAW_VALUES)


def _by_folder(folder: str) -> Recognised | None:
    found = release_in(folder)
    return None if found is None else Recognised(found, BY_FOLDER)


def _folder_of(files: CheckpointFiles) -> str:
    return str(files.prefix.absolute().parent)


def model_of_name(files: CheckpointFiles) -> str | None:
    """The model that a checkpoint's folder or archive is called after; None where it is none.

    Args:
        files: The checkpoint.
    """
    if files.archive_sha256 is not None:
        places = [files.origin.replace("\\", "/").rpartition("/")[2].partition(".")[0]]
    else:
        places = [files.prefix.name, Path(_folder_of(files)).name]
    return next((name for name in places if name in MODELS), None)


def fitting(found: Recognised | None, models: tuple[str, ...]) -> Recognised | None:
    """A release, but None where its variables are those of other models.

    Args:
        found: The release; None for none.
        models: Names of the models that a checkpoint's variables are those of.
    """
    return found if found and base_model(found.release.model) in models else None
