"""COCO annotation files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuzzing.damage.raw import splice
from fuzzing.damage.texts import JSON
from fuzzing.target import Target
from parity.detections.annotations import Annotations, read_annotations

CLASSES = 7

SOUND = {
    "info": {"year": 2017},
    "images": [
        {"id": 7, "file_name": "a.png", "width": 64, "height": 48, "coco_url": "x"},
        {"id": "139", "file_name": "b\\c.jpg", "width": 640.0, "height": 426},
        {"id": 2**40, "file_name": "\u00e4 c.bmp", "width": 1, "height": 1},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "traffic light"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1.5, 2, 30, 20.25], "area": 99.5},
        {"id": 2, "image_id": 139, "category_id": 7, "bbox": [0, 0, 640, 426], "iscrowd": 1},
        {"id": 3, "image_id": 139, "category_id": 1, "bbox": [5, 6, 7, 8], "iscrowd": 0},
    ],
}


class Reader(Target):
    """Images, categories and boxes."""

    WHAT = "COCO annotations (`read_annotations`)"
    CHECKSUMS = False
    EXAMPLES = 30_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        other = json.dumps({**SOUND, "images": SOUND["images"][1:]}, indent=1).encode()
        self.files = {"a.json": json.dumps(SOUND).encode()}
        self.damages = {"a.json": {**JSON, "splice": splice(other)}}
        path = material / "annotations.json"
        path.write_bytes(self.files["a.json"])
        self._sound = read_annotations(path, CLASSES)

    def read(self, folder: Path, changed: frozenset[str]) -> Annotations:
        return read_annotations(folder / "a.json", CLASSES)

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(replace(value, source=self._sound.source) == self._sound)

    def promise(self, value: Any) -> str | None:
        ids = [image.id for image in value.images]
        if ids != sorted(set(ids)) or not ids:
            return "ids that do not rise"
        for image in value.images:
            if type(image.id) is not int or not min(image.width, image.height) >= 0:
                return "an image without a size or number"
            if not image.file_name.isprintable() or not _is_below(image.file_name):
                return "a file name that leads elsewhere"
        if not all(1 <= n <= CLASSES and t.isprintable() for n, t in value.categories.items()):
            return "a category that the model does not have, or without a name"
        for box in value.boxes or ():
            if box.image_id not in ids or box.category_id not in value.categories:
                return "a box of no image or category"
            if not all(isinstance(x, float) and abs(x) < 1e16 for x in (*box.bbox, box.area)):
                return "a box of no finite numbers"
            if min(*box.bbox[2:], box.area) < 0:
                return "a box of negative size"
        return None


def _is_below(name: str) -> bool:
    """Whether a path stays in its folder, on any system."""
    parts = name.split("/")
    return not set(name) & set("\\:") and all(part not in ("", ".", "..") for part in parts)
