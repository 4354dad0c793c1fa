"""Detections of many images, kept in files of a few images each, so that no work is done twice.

A folder of shards has a manifest of everything that its detections depend on. A run that was
stopped, by whatever means, continues behind the last complete shard; batches never reach from one
shard into the next, so that it computes exactly what an undisturbed run would.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from efficientdet_spec import InputError, file_sha256
from efficientdet_spec.encoded import MAX_FILE_BYTES
from efficientdet_spec.prefetch import ahead
from parity.detections.annotations import CocoImage
from parity.detections.image_sizes import check_size
from parity.detections.rows import Rows, as_rows
from parity.detections.shard_files import ImageResult, Shard, ShardFolder

MIN_IMAGES = 16
"""Images of a shard, or the next multiple of the batch: what an interruption costs at most."""

BATCHES_AHEAD = 2
"""Images of so many batches are decoded and preprocessed while the network computes."""

_BLOCK = 2**20


@dataclass(frozen=True)
class Prepared:
    """An image ready for the network.

    Attributes:
        height: Of the image file in pixels.
        width: Of the image file in pixels.
        value: What the side made of it.
        seconds: Spent on it in each stage so far.
    """

    height: int
    width: int
    value: Any
    seconds: Mapping[str, float] = field(default_factory=dict)


class Side(Protocol):
    """One framework's way from image files to detections.

    Attributes:
        seconds: Spent so far in each stage of :meth:`detect`.
    """

    seconds: dict[str, float]

    def prepare(self, path: Path) -> Prepared:
        """Decode and preprocess, in a thread of its own while others are being detected.

        An InputError is this image's own failure.
        """

    def detect(self, images: Sequence[Prepared]) -> Sequence[tuple[Any, Any, Any] | Rows]:
        """For each image boxes [K, 4] as [y1, x1, y2, x2] in its pixels, scores and classes.

        A side that has rows already may give these.
        """


@dataclass(frozen=True)
class Work:
    """What is to be detected.

    Attributes:
        folder: Folder of the image files.
        images: In order.
        batch: Images that go through the network together.
    """

    folder: Path
    images: Sequence[CocoImage]
    batch: int

    def parts(self) -> list[Sequence[CocoImage]]:
        """The images of each shard."""
        size = -(-MIN_IMAGES // self.batch) * self.batch
        return [self.images[start : start + size] for start in range(0, len(self.images), size)]


def fingerprint(work: Work) -> str:
    """SHA-256 of the images' ids, names and contents; a file that cannot be read counts as such."""
    total = hashlib.sha256()
    for image in work.images:
        content = _content_hash(work.folder / image.file_name)
        size = f"{image.width}x{image.height}"
        total.update(json.dumps([image.id, image.file_name, size, content]).encode())
    return total.hexdigest()


def _content_hash(path: Path) -> str | None:
    try:
        # What is larger than any image is read no more than a pipe is.
        is_small = path.is_file() and path.stat().st_size <= MAX_FILE_BYTES
        return file_sha256(path) if is_small else None
    except OSError:
        return None


Compute = Callable[
    [Work, Mapping[int, Sequence[CocoImage]], Callable[[int], None]],
    Generator[tuple[int, Shard], None, None],
]
"""Computes the shards of some images, given by the shard's number, in any order.

It is told all the work, the images left of it, and whom to tell the number of images done; it
yields each shard with its number as soon as there is one."""


def in_process(open_side: Callable[[], AbstractContextManager[Side]]) -> Compute:
    """Compute in this process, one shard after the other.

    Args:
        open_side: Called when the first shard is wanted; closed behind the last.
    """

    def compute(
        work: Work, left: Mapping[int, Sequence[CocoImage]], progress: Callable[[int], None]
    ) -> Generator[tuple[int, Shard], None, None]:
        with open_side() as side:
            yield from detect_shards(side, work, left, progress)

    return compute


def _further(progress: Callable[[int], None], before: int, further: int) -> None:
    progress(before + further)


def run(
    folder: Path,
    manifest: Mapping[str, Any],
    work: Work,
    compute: Compute,
    progress: Callable[[int, int], None],
) -> list[Shard]:
    """Detect what is not in the folder yet and return everything.

    Args:
        folder: For the shards; made if need be.
        manifest: Everything the detections depend on, as plain values.
        work: What is to be detected.
        compute: Called only if something is left to do.
        progress: Told the number of images done and of all.

    Raises:
        InputError: The folder holds another run's shards or cannot be written.
    """
    files = ShardFolder.claim(folder, manifest)
    parts = work.parts()
    shards = {
        number: files.read(number, part) for number, part in enumerate(parts) if files.has(number)
    }
    left = {number: part for number, part in enumerate(parts) if number not in shards}
    done, total = sum(len(shard.images) for shard in shards.values()), len(work.images)
    if left:
        progress(done, total)
        # What computes must end with the run, also where a shard cannot be written.
        with closing(compute(work, left, lambda further: progress(done + further, total))) as found:
            for number, shard in found:
                files.write(number, shard)
                shards[number] = shard
    return [shards[number] for number in range(len(parts))]


def detect_shards(
    side: Side,
    work: Work,
    left: Mapping[int, Sequence[CocoImage]],
    progress: Callable[[int], None],
) -> Generator[tuple[int, Shard], None, None]:
    """Detect one shard after the other; images are prepared ahead, also those of the next shard.

    Args:
        side: Detects.
        work: What is to be detected.
        left: The images of each shard, by the shard's number.
        progress: Told the number of images done.
    """
    images = [image for part in left.values() for image in part]
    prepare = partial(_prepare, side, work.folder)
    done = 0
    with closing(ahead(prepare, images, BATCHES_AHEAD * work.batch)) as prepared:
        for number, part in left.items():
            further = partial(_further, progress, done)
            yield number, _shard(side, part, prepared, work.batch, further)
            done += len(part)


def _shard(
    side: Side,
    images: Sequence[CocoImage],
    prepared: Iterator[Prepared | InputError],
    batch: int,
    progress: Callable[[int], None],
) -> Shard:
    began, before = time.perf_counter(), dict(side.seconds)
    results: list[ImageResult] = []
    totals: defaultdict[str, float] = defaultdict(float)
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        group = list(zip(part, islice(prepared, len(part)), strict=True))
        results += _detect_batch(side, group)
        progress(len(results))
        for _, item in group:
            if isinstance(item, Prepared):
                for stage, seconds in item.seconds.items():
                    totals[stage] += seconds
    for stage, seconds in side.seconds.items():
        totals[stage] += seconds - before.get(stage, 0.0)
    return Shard(results, {**totals, "wall": time.perf_counter() - began})


def _detect_batch(
    side: Side, images: Sequence[tuple[CocoImage, Prepared | InputError]]
) -> list[ImageResult]:
    """Results in order; an image that cannot be used is left out of the batch."""
    results: dict[int, ImageResult] = {}
    ready: list[tuple[CocoImage, Prepared]] = []
    for image, prepared in images:
        if isinstance(prepared, Prepared):
            ready.append((image, prepared))
        else:
            results[image.id] = ImageResult.failed(image.id, prepared)
    for result in _detect(side, ready):
        results[result.image_id] = result
    return [results[image.id] for image, _ in images]


def _prepare(side: Side, folder: Path, image: CocoImage) -> Prepared | InputError:
    """The image, or why it cannot be used."""
    path = folder / image.file_name
    try:
        prepared = side.prepare(path)
        check_size(path, (prepared.height, prepared.width), image)
    except InputError as error:
        return error
    return prepared


def _detect(side: Side, ready: Sequence[tuple[CocoImage, Prepared]]) -> list[ImageResult]:
    if not ready:
        return []
    try:
        found = side.detect([prepared for _, prepared in ready])
    except InputError as error:
        if len(ready) == 1:
            return [ImageResult.failed(ready[0][0].id, error)]
        # Others of the batch must not suffer from the one that cannot be used.
        return [result for item in ready for result in _detect(side, [item])]
    return [_result(image, item) for (image, _), item in zip(ready, found, strict=True)]


def _result(image: CocoImage, found: tuple[Any, Any, Any] | Rows) -> ImageResult:
    try:
        rows = found if isinstance(found, np.ndarray) else as_rows(*found)
        return ImageResult(image.id, rows)
    except InputError as error:
        return ImageResult.failed(image.id, error)
