"""Another program's detections, in COCO's format of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.damage.raw import splice
from fuzzing.damage.texts import JSON
from fuzzing.target import Target
from fuzzing.targets.annotations import CLASSES, SOUND
from parity.detections.annotations import read_annotations
from parity.detections.brought import read_results

_FOUND = [
    {"image_id": 7, "category_id": 1, "bbox": [1.5, 2, 30, 20.25], "score": 0.75},
    {"image_id": 7, "category_id": 7, "bbox": [0, 0, 1, 1], "score": 0.5},
    {"image_id": 139, "category_id": 1, "bbox": [-3, 4, 500, 6.125], "score": 1},
    {"image_id": 139, "category_id": 2, "bbox": [3, 4, 5, 6], "score": 0.0},
]


class Reader(Target):
    """The rows of each image."""

    WHAT = "COCO results of another program (`read_results`)"
    CHECKSUMS = False
    EXAMPLES = 30_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        path = material / "annotations-of-results.json"
        path.write_text(json.dumps(SOUND), "utf-8")
        self._annotations = read_annotations(path, CLASSES)
        self._known = [image.id for image in self._annotations.images]
        self.files = {"found.json": json.dumps(_FOUND).encode()}
        other = json.dumps(_FOUND[::-1]).encode()
        self.damages = {"found.json": {**JSON, "splice": splice(other)}}
        sound = material / "found.json"
        sound.write_bytes(self.files["found.json"])
        self._sound = self._bytes(read_results(sound, self._annotations, self._known))

    @staticmethod
    def _bytes(found: dict[int, Any]) -> dict[int, bytes]:
        return {number: rows.tobytes() for number, rows in found.items()}

    def read(self, folder: Path, changed: frozenset[str]) -> Any:
        return read_results(folder / "found.json", self._annotations, self._known)

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return self._bytes(value) == self._sound

    def promise(self, value: Any) -> str | None:
        if sorted(value) != sorted(self._known):
            return "other images than asked for"
        for rows in value.values():
            if rows.ndim != 2 or rows.shape[1] != 6 or not np.isfinite(rows).all():
                return "rows that are not six finite numbers"
            if (np.diff(rows[:, 4]) > 0).any() or ((rows[:, 4] < 0) | (rows[:, 4] > 1)).any():
                return "scores that rise, or are none"
        return None
