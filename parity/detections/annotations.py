"""COCO annotation files, checked entry by entry before anything is computed from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from efficientdet_spec import Cause, InputError
from parity.detections.annotation_values import Entries, Noted, load
from parity.detections.classes import Classes, assign
from parity.detections.file_names import name_in_address, relative_name
from parity.detections.rows import Rows

MAX_CLASSES = 10**6
"""No model has so many classes."""


@dataclass(frozen=True)
class CocoImage:
    """An image as an annotation file describes it.

    Attributes:
        id: Its number.
        file_name: Its file's path below the folder of images, with ``/`` between its parts.
        width: In pixels; 0 where only the file can say.
        height: In pixels; likewise.
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
        category_id: What it shows; in what has been read, the model's class id.
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
        categories: Name by the model's class id, of those that the file has.
        boxes: What is to be found; None where the file does not say, as those of test images.
        file_ids: Category id in the file by class id, where it is another.
        notes: Sentences on what was read otherwise than it is written.
    """

    source: Path
    images: Sequence[CocoImage]
    categories: Mapping[int, str]
    boxes: Sequence[TrueBox] | None
    file_ids: Mapping[int, int] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def in_file(self, rows: Rows) -> Rows:
        """Detections with the file's category ids.

        Args:
            rows: With the model's class ids.

        Returns:
            Without those of classes that the file does not have, where it numbers them otherwise:
            their ids may be those of other categories there.
        """
        if not self.file_ids:
            return rows
        known = {number: self.file_ids.get(number, number) for number in self.categories}
        kept = rows[[number in known for number in rows[:, 5].tolist()]]
        kept[:, 5] = [known[int(number)] for number in kept[:, 5].tolist()]
        return kept

    def of_model(self, rows: Rows) -> Rows:
        """Detections with the model's class ids.

        Args:
            rows: With the file's category ids. Ids that it does not have become such as no class
                has.
        """
        if not self.file_ids:
            return rows
        known = {self.file_ids.get(number, number): number for number in self.categories}
        found = rows.copy()
        found[:, 5] = [known.get(number, abs(number) + MAX_CLASSES) for number in rows[:, 5]]
        return found


def read_annotations(
    path: Path, num_classes: int | Classes, *, need_boxes: bool = True
) -> Annotations:
    """Read and check a COCO annotation file.

    What exporters write otherwise than COCO does is read as what it can only mean, and noted.
    Whatever follows speaks of categories by the model's class ids.

    Args:
        path: The file.
        num_classes: Of the model, whose class index + 1 is its class id; with what these are called
            where that is known.
        need_boxes: Refuse a file without a list of annotations.

    Raises:
        InputError: The file cannot be read, or an entry is missing, of another type, or does not
            fit the other entries or the model.
    """
    noted = Noted()
    values = load(path, noted)
    images = _images(Entries(path, values, "images", noted))
    categories = _categories(Entries(path, values, "categories", noted))
    boxes = None
    if need_boxes or values.annotations not in (msgspec.UNSET, msgspec.Raw(b"null")):
        known = {image.id for image in images}
        boxes = _boxes(Entries(path, values, "annotations", noted), known, categories)
    classes = num_classes if isinstance(num_classes, Classes) else Classes(num_classes)
    used = Counter(box.category_id for box in boxes or ())
    assigned = assign(path, categories, used, classes)
    found = assigned.classes
    return Annotations(
        path,
        images,
        {found[number]: categories[number] for number in sorted(found, key=found.__getitem__)},
        None
        if boxes is None
        else [replace(box, category_id=found[box.category_id]) for box in boxes],
        {number: category for category, number in found.items() if category != number},
        (*noted.sentences(), *assigned.notes),
    )


def _images(entries: Entries) -> list[CocoImage]:
    images: dict[int, CocoImage] = {}
    names: set[str] = set()
    for place, number in enumerate(entries.numbered()):
        image = CocoImage(number, _file_name(entries, place), *_size(entries, place))
        if number in images:
            _require_equal(entries, place, number, images[number], image)
            continue
        if image.file_name in names:
            raise entries.wrong(
                place, f"file_name {image.file_name!r}", "one that no other image has"
            )
        names.add(image.file_name)
        images[number] = image
    if not images:
        raise InputError(
            f"{entries.source} lists no image; give a COCO annotation file.", Cause.FORMAT
        )
    return sorted(images.values(), key=lambda image: image.id)


def _require_equal(entries: Entries, place: int, number: int, one: object, other: object) -> None:
    """Let an entry stand twice, but not two of one id."""
    if one != other:
        raise entries.wrong(place, f"id {number}", "an id that no other entry has")
    entries.noted.add(f"entries of {entries.name} that repeat another", entries.where(place))


def _file_name(entries: Entries, place: int) -> str:
    """The image's path below the folder of images."""
    if entries.value(place, "file_name") is None and entries.value(place, "coco_url") is not None:
        text = entries.text(place, "coco_url")
        name = name_in_address(text)
        if name is None:
            raise entries.wrong(place, f"coco_url {text!r}", "an address that ends with a file")
        entries.noted.add("images without a file_name, called as in their coco_url", text)
        return name
    text = entries.text(place, "file_name")
    name = name_in_address(text) if "://" in text else relative_name(text)
    if name is None:
        raise entries.wrong(
            place, f"file_name {text!r}", "a path below the folder of images, such as train/a.jpg"
        )
    if name != text:
        entries.noted.add("file_name read as a path below the folder of images", text)
    return name


def _size(entries: Entries, place: int) -> tuple[int, int]:
    """Width and height; 0 where the file does not say, and the image has to."""
    if any(entries.value(place, side) is None for side in ("width", "height")):
        entries.noted.add("images whose size the file does not say", entries.where(place))
        return 0, 0
    width, height = (entries.whole(place, side, 1, 10**6) for side in ("width", "height"))
    return width, height


def _categories(entries: Entries) -> dict[int, str]:
    result: dict[int, str] = {}
    for place, number in enumerate(entries.numbered()):
        name = entries.text(place, "name")
        if number in result:
            _require_equal(entries, place, number, result[number], name)
        result[number] = name
    if not result:
        raise InputError(
            f"{entries.source} lists no category; give a COCO annotation file.", Cause.FORMAT
        )
    return result


def _boxes(
    entries: Entries, images: Collection[int], categories: Mapping[int, str]
) -> list[TrueBox]:
    boxes = []
    for place in range(len(entries)):
        image, category = (entries.whole(place, key) for key in ("image_id", "category_id"))
        if category not in categories:
            raise entries.wrong(
                place, f"category_id {category}", "the id of a category of this file"
            )
        box = _box(entries, place, image, category)
        if image in images:
            boxes.append(box)
        else:
            entries.noted.add("annotations of images that are not listed, left out", f"{image}")
    if len(entries) and not boxes:
        raise InputError(
            f"{entries.source} has {len(entries):,} annotations, but none of an image that it "
            f"lists; give the list of images that they belong to.",
            Cause.FORMAT,
        )
    repeated = len(boxes) - len(set(boxes))
    if repeated:
        entries.noted.add(
            "annotations that repeat another's image, category and box, counted as COCO does",
            f"image {next(box for box, n in Counter(boxes).items() if n > 1).image_id}",
            repeated,
        )
    return boxes


def _box(entries: Entries, place: int, image: int, category: int) -> TrueBox:
    bbox = entries.value(place, "bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise entries.wrong(place, f"bbox {bbox!r}", "[x, y, width, height] in pixels")
    x, y = (entries.number(place, "bbox", value) for value in bbox[:2])
    width, height = (entries.length(place, "bbox", value) for value in bbox[2:])
    area = entries.value(place, "area")
    if area is None:
        entries.noted.add("annotations without an area, for which that of the box is taken",
                          entries.where(place))  # fmt: skip
        area = width * height
    else:
        area = entries.length(place, "area", area)
    crowd = entries.flag(place, "iscrowd")
    return TrueBox(image, category, (x, y, width, height), area, crowd)


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
