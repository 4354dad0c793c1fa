"""Detections in pieces, as an evaluation that goes on finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.damage.raw import splice
from fuzzing.damage.texts import JSON
from fuzzing.target import Target
from parity.detections.annotations import CocoImage
from parity.detections.shard_files import ImageResult, Shard, ShardFolder

_MANIFEST = {"framework": "torch", "profile": {"nms": "soft"}, "size": [8, 8], "images": "0" * 64}
_IMAGES = [CocoImage(number + 100, f"{number}.png", 6, 4) for number in range(3)]
_NAME = "shards/00000.json"


class Reader(Target):
    """The detections of a shard, in a folder that is this run's."""

    WHAT = "shards of detections and their manifest (`ShardFolder`)"
    EXAMPLES = 20_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        folder = material / "shards-sound"
        shards = ShardFolder.claim(folder, _MANIFEST)
        for number, score in enumerate((0.5, 0.25)):
            shards.write(number, _shard(score))
        self.files = {
            name: (folder / Path(name).name).read_bytes()
            for name in ("shards/manifest.json", _NAME)
        }
        spliced = {**JSON, "splice": splice((folder / "00001.json").read_bytes())}
        self.damages = {_NAME: spliced, "shards/manifest.json": JSON}
        self._sound = self._plain(shards.read(0, _IMAGES))

    @staticmethod
    def _plain(shard: Shard) -> Any:
        found = [(item.image_id, item.rows.tobytes(), item.failure) for item in shard.images]
        return found, dict(shard.seconds)

    def read(self, folder: Path, changed: frozenset[str]) -> Shard:
        return ShardFolder.claim(folder / "shards", _MANIFEST).read(0, _IMAGES)

    def same(self, value: Any, changed: frozenset[str]) -> bool:
        return bool(self._plain(value) == self._sound)

    def promise(self, value: Any) -> str | None:
        for item, image in zip(value.images, _IMAGES, strict=True):
            if type(item.image_id) is not int or item.image_id != image.id:
                return "another image's detections"
            if item.rows.shape[1:] != (6,) or not np.isfinite(item.rows).all():
                return "rows that are not six finite numbers"
            if item.failure is not None and not isinstance(item.failure, str):
                return "a failure that is no text"
        if not all(np.isfinite(list(value.seconds.values()))):
            return "seconds that are no finite number"
        return None


def _shard(score: float) -> Shard:
    rows = np.array([[1, 2, 3, 4, score, 1], [5, 6, 7, 8.5, score / 2, 2]], np.float64)
    images = [
        ImageResult(100, rows),
        ImageResult(101, np.zeros((0, 6)), "it is damaged."),
        ImageResult(102, rows[:1]),
    ]
    return Shard(images, {"network": 1.5, "wall": 2.0})
