"""Detections on disk: a folder of shards, whose manifest says all that they depend on.

Each shard has a digest of its own and bears the manifest's, so that what is read back is what this
very run, or an earlier one of the same, has written there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from efficientdet_spec import Cause, InputError, printable, sweep_folder
from parity.detections.annotations import CocoImage
from parity.detections.rows import Rows
from parity.process.files import refuse_links, write_json, write_text
from parity.process.json_text import read_json

SCHEMA = "efficientdet-parity/shards"
VERSION = 2

MAX_BYTES = 2**27
"""Largest file; a shard of 1024 images with 100 detections each takes 13 MB."""


@dataclass(frozen=True)
class ImageResult:
    """What became of an image.

    Attributes:
        image_id: The image.
        rows: Its detections; none where it failed.
        failure: Why it failed.
    """

    image_id: int
    rows: Rows
    failure: str | None = None

    @classmethod
    def failed(cls, image_id: int, error: InputError) -> ImageResult:
        """That of an image which cannot be used, and why in one printable line."""
        return cls(image_id, np.zeros((0, 6)), printable(error))


@dataclass(frozen=True)
class Shard:
    """The results of consecutive images.

    Attributes:
        images: In order.
        seconds: Spent in each stage, all images together, and as ``wall`` what passed meanwhile;
            the stages overlap, so that they may add up to more.
    """

    images: Sequence[ImageResult]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class ShardFolder:
    """A folder of shards that is this run's.

    Attributes:
        folder: The folder.
        seal: The digest of its manifest, which its shards bear.
    """

    folder: Path
    seal: str

    @classmethod
    def claim(cls, folder: Path, manifest: Mapping[str, Any]) -> ShardFolder:
        """Make a folder this run's, or see that it is already.

        What killed runs have left of files that they were writing is removed.

        Args:
            folder: The folder; made if need be.
            manifest: Everything that the detections depend on, as plain values.

        Raises:
            InputError: It holds another run's shards or cannot be written.
        """
        entries = _entries(folder)
        path = folder / "manifest.json"
        # As another run reads it.
        ours = json.loads(json.dumps({"schema": SCHEMA, "version": VERSION, **manifest}))
        if path in entries:
            theirs = _load(path)
            if theirs != ours:
                raise InputError(
                    f"{folder} holds the detections of another run: "
                    f"{printable(_difference(theirs, ours))}; "
                    f"choose another folder to write to, or delete this one.",
                    Cause.FILE,
                )
        else:
            if any(entry.suffix == ".json" for entry in entries):
                raise InputError(
                    f"{folder} holds files but no manifest.json that says what they are; choose "
                    f"another folder to write to, or delete this one.",
                    Cause.FILE,
                )
            write_json(path, ours)
        sweep_folder(folder)
        return cls(folder, _digest(ours))

    def path(self, number: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{number:05}.json"

    def has(self, number: int) -> bool:
        """Whether there is a shard of this number."""
        return self.path(number).exists()

    def write(self, number: int, shard: Shard) -> None:
        """Write a shard; the file appears complete or not at all.

        Raises:
            InputError: The file cannot be written.
        """
        values = {
            "manifest": self.seal,
            "images": [
                {
                    "image_id": item.image_id,
                    "failure": item.failure,
                    "detections": item.rows.tolist(),
                }
                for item in shard.images
            ],
            "seconds": dict(shard.seconds),
        }
        text = json.dumps({**values, "sha256": _digest(values)}, allow_nan=False)
        write_text(self.path(number), f"{text}\n")

    def read(self, number: int, images: Sequence[CocoImage]) -> Shard:
        """Read a shard, which must be as it was written.

        Args:
            number: Of the shard.
            images: What it is to hold.

        Raises:
            InputError: The file cannot be read, holds something else, or has been changed.
        """
        path = self.path(number)
        values = _load(path)
        try:
            said = values.pop("sha256")
            is_whole = said == _digest(values)
            shard = _shard(values)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(
                f"{path} is no shard of detections ({printable(error)!s:.120}); delete it and run "
                f"again.",
                Cause.FORMAT,
            ) from error
        if not is_whole or values.get("manifest") != self.seal:
            what = "is of another run" if is_whole else "is not as it was written"
            raise InputError(f"{path} {what}; delete it and run again.", Cause.FORMAT)
        if [item.image_id for item in shard.images] != [image.id for image in images] or not all(
            np.isfinite(item.rows).all() for item in shard.images
        ):
            raise InputError(
                f"{path} holds other images' detections; delete it and run again.", Cause.FORMAT
            )
        return shard


def _entries(folder: Path) -> list[Path]:
    # Of OUT/shards/NAME the user has named the first.
    refuse_links(folder, folder.parent.parent)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"{folder} cannot be used ({error.strerror}); choose another folder to write to.",
            Cause.of(error),
        ) from error


def _shard(values: Mapping[str, Any]) -> Shard:
    """A shard from the values of its file."""
    results = [
        ImageResult(
            item["image_id"],
            np.array(item["detections"], np.float64).reshape(-1, 6),
            item["failure"],
        )
        for item in values["images"]
    ]
    if not all(isinstance(item.failure, str | None) for item in results):
        raise ValueError("a failure is no text")
    seconds = {str(name): float(value) for name, value in values["seconds"].items()}
    return Shard(results, seconds)


def _digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of plain values, whatever the order of their names."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _difference(theirs: Any, ours: Mapping[str, Any]) -> str:
    """What two manifests disagree on, the values shortened."""
    if not isinstance(theirs, dict):
        return "its manifest is no JSON object"
    before, now = _flat(theirs), _flat(ours)
    differing = [
        f"{name} was {before.get(name)!s:.40}, now {now.get(name)!s:.40}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    return ", ".join(differing[:5])


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            result |= _flat(value, f"{before}{name} ")
        else:
            result[f"{before}{name}"] = value
    return result


def _load(path: Path) -> Any:
    try:
        return read_json(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({printable(error)!s:.120}); delete it and run again.",
            Cause.of(error),
        ) from error
