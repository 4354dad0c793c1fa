"""COCO annotation files, checked entry by entry before anything is computed from them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from efficientdet_spec import HEAD_BYTES, Cause, InputError, lookalike, printable, read_regular

MAX_BYTES = 2**30
"""Largest annotation file; that of COCO's training images has 0.45 GB."""

MAX_OBJECTS = 3_000_000
"""Most objects in a list; that of COCO's training images has 0.9 million."""

MAX_VALUE_BYTES = 1000
"""Longest value of a field that is read."""

MAX_ID = 2**53 - 1
"""Largest id; pycocotools keeps ids in double precision."""


@dataclass(frozen=True)
class CocoImage:
    """An image as an annotation file describes it.

    Attributes:
        id: Its number.
        file_name: Its file in the folder of images.
        width: In pixels.
        height: In pixels.
    """

    id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True)
class TrueBox:
    """A box that a person drew.

    Attributes:
        image_id: The image it is in.
        category_id: What it shows.
        bbox: (x, y, width, height) in pixels.
        area: Of the object's outline in square pixels; decides whether it is small or large.
        crowd: Whether it surrounds many objects, which are not to be found singly.
    """

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    crowd: bool


@dataclass(frozen=True)
class Annotations:
    """A checked annotation file.

    Attributes:
        source: The file.
        images: By rising id.
        categories: Name by category id.
        boxes: What is to be found; None where the file does not say, as those of test images.
    """

    source: Path
    images: Sequence[CocoImage]
    categories: Mapping[int, str]
    boxes: Sequence[TrueBox] | None


class _File(msgspec.Struct):
    """The lists that are read; everything else in a file is passed over without being kept."""

    images: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    categories: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    annotations: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Entry(msgspec.Struct):
    """The values that are read of an entry, as they stand in the file."""

    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    file_name: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    width: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    height: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    name: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    image_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    category_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    bbox: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    area: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    iscrowd: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Entries:
    """One of the file's lists, which names the entry and the field in every complaint."""

    def __init__(self, source: Path, values: _File, name: str) -> None:
        self.source, self.name = source, name
        raw = getattr(values, name)
        listed = b"" if raw is msgspec.UNSET else bytes(raw)
        if (count := listed.count(b"{")) > MAX_OBJECTS:
            raise InputError(
                f"{source} has {count:,} objects in its list {name!r}; at most {MAX_OBJECTS:,} are "
                f"read, so give a part of it.",
                Cause.FORMAT,
            )
        try:
            self.entries = msgspec.json.decode(listed, type=list[_Entry])
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(
                f"{source} has no list {name!r} of objects; give a COCO annotation file such as "
                f"instances_val2017.json.",
                Cause.FORMAT,
            ) from error

    def has(self, place: int, key: str) -> bool:
        """Whether an entry has a field."""
        return getattr(self.entries[place], key) is not msgspec.UNSET

    def value(self, place: int, key: str) -> Any:
        """A field of an entry; None where it is missing."""
        if not self.has(place, key):
            return None
        raw = bytes(getattr(self.entries[place], key))
        if len(raw) > MAX_VALUE_BYTES:
            raise self.wrong(
                place, f"{key} of {len(raw):,} bytes", f"at most {MAX_VALUE_BYTES:,} bytes"
            )
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise self.wrong(place, f"{key} {raw!r:.80}", "a value") from None

    def wrong(self, place: int, found: str, expected: str) -> InputError:
        return InputError(
            f"{self.source}: {self.name}[{place}] has {printable(found):.120}; "
            f"expected {expected}.",
            Cause.FORMAT,
        )

    def whole(self, place: int, key: str, lowest: int = 0, highest: int = MAX_ID) -> int:
        value = self.value(place, key)
        if type(value) is not int or not lowest <= value <= highest:
            raise self.wrong(
                place, f"{key} {value!r}", f"a whole number from {lowest} to {highest}"
            )
        return value

    def text(self, place: int, key: str) -> str:
        value = self.value(place, key)
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self.wrong(place, f"{key} {value!r}", "printable text")
        return value

    def number(self, place: int, key: str) -> float:
        value = self.value(place, key)
        if not _is_length(value):
            raise self.wrong(place, f"{key} {value!r}", "a finite number of at least 0")
        return float(value)

    def numbered(self) -> list[int]:
        """Every entry's id, no two alike."""
        ids = [self.whole(place, "id") for place in range(len(self.entries))]
        seen: set[int] = set()
        for place, number in enumerate(ids):
            if number in seen:
                raise self.wrong(place, f"id {number}", "an id that no other entry has")
            seen.add(number)
        return ids


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        # Above this an integer does not even convert to a float.
        and abs(value) <= MAX_ID
        and math.isfinite(value)
    )


def _is_length(value: Any) -> bool:
    return _is_number(value) and value >= 0


def read_annotations(path: Path, num_classes: int, *, need_boxes: bool = True) -> Annotations:
    """Read and check a COCO annotation file.

    Args:
        path: The file.
        num_classes: Of the model, whose class index + 1 is the category id.
        need_boxes: Refuse a file without a list of annotations.

    Raises:
        InputError: The file cannot be read, or an entry is missing, of another type, or does not
            fit the other entries or the model.
    """
    values = _load(path)
    images = _images(_Entries(path, values, "images"))
    categories = _categories(_Entries(path, values, "categories"), num_classes)
    boxes = None
    if need_boxes or values.annotations is not msgspec.UNSET:
        known = {image.id for image in images}
        boxes = _boxes(_Entries(path, values, "annotations"), known, categories)
    return Annotations(path, images, categories, boxes)


def _load(path: Path) -> _File:
    if not path.is_file():
        raise InputError(f"{path} is no file; give a COCO annotation file.", Cause.FILE)
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give a COCO annotation file.",
            Cause.of(error),
        ) from error
    try:
        return msgspec.json.decode(data, type=_File)
    except msgspec.ValidationError:
        raise InputError(
            f"{path} holds no JSON object; give a COCO annotation file.", Cause.FORMAT
        ) from None
    except (msgspec.DecodeError, RecursionError) as error:
        if (found := lookalike(data[:HEAD_BYTES])) is not None:
            raise InputError(
                f"{path} is no JSON but looks like {found.kind}; "
                f"{found.advice or 'give a COCO annotation file'}.",
                Cause.FORMAT,
            ) from error
        raise InputError(
            f"{path} is no JSON ({_malformed(str(error), data)}); give a COCO annotation file.",
            Cause.FORMAT,
        ) from error


def _malformed(message: str, data: bytes) -> str:
    """What is wrong with a text that is no JSON, and what stands there."""
    place = re.search(r"byte (\d+)", message)
    if place is None:
        return printable(f"{message:.120}")
    start = max(0, int(place[1]) - 40)
    near = data[start : start + 60].decode("utf-8", "replace")
    return printable(f"{message:.80}, near {near!r}")


def _images(entries: _Entries) -> list[CocoImage]:
    images = []
    names: set[str] = set()
    for place, number in enumerate(entries.numbered()):
        name = entries.text(place, "file_name")
        # Otherwise the file could lead out of the folder of images.
        if "/" in name or "\\" in name or name in (".", "..") or ":" in name or len(name) > 255:
            raise entries.wrong(
                place, f"file_name {name!r}", "a file's plain name, without any folder"
            )
        if name in names:
            raise entries.wrong(place, f"file_name {name!r}", "one that no other image has")
        names.add(name)
        width, height = (entries.whole(place, side, 1, 10**6) for side in ("width", "height"))
        images.append(CocoImage(number, name, width, height))
    if not images:
        raise InputError(
            f"{entries.source} lists no image; give a COCO annotation file.", Cause.FORMAT
        )
    return sorted(images, key=lambda image: image.id)


def _categories(entries: _Entries, num_classes: int) -> dict[int, str]:
    result = {}
    for place, number in enumerate(entries.numbered()):
        if not 1 <= number <= num_classes:
            raise entries.wrong(
                place, f"id {number}", f"one of the model's classes, 1 to {num_classes}"
            )
        result[number] = entries.text(place, "name")
    if not result:
        raise InputError(
            f"{entries.source} lists no category; give a COCO annotation file.", Cause.FORMAT
        )
    return result


def _boxes(
    entries: _Entries, images: Collection[int], categories: Mapping[int, str]
) -> list[TrueBox]:
    boxes = []
    for place in range(len(entries.entries)):
        image, category = (entries.whole(place, key) for key in ("image_id", "category_id"))
        if image not in images:
            raise entries.wrong(place, f"image_id {image}", "the id of an image of this file")
        if category not in categories:
            raise entries.wrong(
                place, f"category_id {category}", "the id of a category of this file"
            )
        bbox = entries.value(place, "bbox")
        if (
            not isinstance(bbox, list)
            or len(bbox) != 4
            or not all(map(_is_number, bbox))
            or not all(map(_is_length, bbox[2:]))
        ):
            raise entries.wrong(place, f"bbox {bbox!r}", "[x, y, width, height] in pixels")
        x, y, width, height = map(float, bbox)
        crowd = entries.whole(place, "iscrowd", 0, 1) if entries.has(place, "iscrowd") else 0
        area = entries.number(place, "area") if entries.has(place, "area") else width * height
        boxes.append(TrueBox(image, category, (x, y, width, height), area, bool(crowd)))
    return boxes


def choose(
    annotations: Annotations, ids: Sequence[int] | None = None, limit: int | None = None
) -> Annotations:
    """The same with some of the images only.

    Args:
        annotations: Of all images.
        ids: Of the images wanted; None for all.
        limit: Only the first so many of these, by rising id.

    Raises:
        InputError: There is no image with such an id.
    """
    images = list(annotations.images)
    if ids is not None:
        missing = sorted(set(ids) - {image.id for image in images})
        if missing:
            raise InputError(
                f"{annotations.source} has no image {missing[0]}; give ids of its images.",
                Cause.OPTION,
            )
        images = [image for image in images if image.id in set(ids)]
    images = images[:limit]
    kept = {image.id for image in images}
    boxes = annotations.boxes
    if boxes is not None:
        boxes = [box for box in boxes if box.image_id in kept]
    return replace(annotations, images=images, boxes=boxes)
