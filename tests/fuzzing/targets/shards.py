"""Detections in pieces, as an evaluation that goes on finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.damage.raw import splice
from fuzzing.damage.texts import JSON
from fuzzing.target import Target
from parity.detections.annotations import CocoImage
from parity.detections.shards import ImageResult, Shard, claim, read_shard, write_shard

_MANIFEST = {"framework": "torch", "profile": {"nms": "soft"}, "size": [8, 8], "images": "0" * 64}
_IMAGES = [CocoImage(number + 100, f"{number}.png", 6, 4) for number in range(3)]
_NAME = "shards/00000.json"


class Reader(Target):
    """The detections of a shard, in a folder that is this run's."""

    WHAT = "shards of detections and their manifest (`claim`, `read_shard`)"
    CHECKSUMS = False
    EXAMPLES = 20_000

    def __init__(self, material: Path) -> None:
        super().__init__(material)
        folder = material / "shards-sound"
        claim(folder, _MANIFEST)
        shard, other = _shard(0.5), _shard(0.25)
        for name, content in (("00000.json", shard), ("other", other)):
            write_shard(folder / name, content)
        self.files = {
            name: (folder / Path(name).name).read_bytes()
            for name in ("shards/manifest.json", _NAME)
        }
        spliced = {**JSON, "splice": splice((folder / "other").read_bytes())}
        self.damages = {_NAME: spliced, "shards/manifest.json": JSON}
        self._sound = self._plain(read_shard(folder / "00000.json", _IMAGES))

    @staticmethod
    def _plain(shard: Shard) -> Any:
        found = [(item.image_id, item.rows.tobytes(), item.failure) for item in shard.images]
        return found, dict(shard.seconds)

    def read(self, folder: Path, changed: frozenset[str]) -> Shard:
        claim(folder / "shards", _MANIFEST)
        return read_shard(folder / _NAME, _IMAGES)

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
