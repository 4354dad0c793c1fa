"""The sound inputs that take seconds to make: the tiny model in every form, made once for a run."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from made_images import waves

SMALL = {
    "a/gamma": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "a/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "a/kernel/ExponentialMovingAverage": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 9,
    "b/bias": np.array([0.5, -0.0, 3e38, 1e-45], np.float32),
    "b/half": np.arange(5, dtype=np.float16),
    "c/empty": np.zeros((0, 4), np.float32),
    "global_step": np.array(123456789, np.int64),
}
"""A few tensors of several types, as the whole of a small checkpoint."""

_IMAGES = 20


def ready(folder: Path) -> Path:
    """The folder with all of it, made unless it is complete.

    It holds ``tiny``, a checkpoint of the tiny model, ``tiny.pth``, its conversion, ``other`` and
    ``other.pth``, the same of other values, ``small``, a checkpoint of a few tensors, ``small-2``,
    one of the same names and other values, and ``coco``, some images with annotations.
    """
    if (folder / "complete").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    import compare
    import convert
    from converter.tensorflow_files.bundle_writer import write_bundle

    for name, salt in (("tiny", "seed"), ("other", "other")):
        assert compare.main(["seed", "tiny", str(folder / name), "--salt", salt]) == 0
        assert convert.main([str(folder / name), str(folder / f"{name}.pth")]) == 0
    (folder / "small").mkdir()
    write_bundle(folder / "small" / "model", SMALL)
    (folder / "small-2").mkdir()
    write_bundle(
        folder / "small-2" / "model", {k: v[::-1] if v.ndim else v for k, v in SMALL.items()}
    )
    _images(folder / "coco")
    (folder / "complete").write_text("")
    return folder


def _images(folder: Path) -> None:
    """Images with annotations, some more than a shard holds."""
    (folder / "images").mkdir(parents=True)
    images, boxes = [], []
    for number in range(1, _IMAGES + 1):
        levels = waves(64, 80, number)[..., ::-1]
        assert cv2.imwrite(str(folder / "images" / f"{number}.png"), levels)
        size = {"width": 80, "height": 64}
        images.append({"id": number, "file_name": f"{number}.png", **size})
        box = {"bbox": [4, 4, 30, 20], "area": 600, "iscrowd": 0}
        boxes.append({"id": number, "image_id": number, "category_id": 1 + number % 7, **box})
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, 8)]
    values = {"images": images, "categories": categories, "annotations": boxes}
    (folder / "annotations.json").write_text(json.dumps(values), "utf-8")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    ready(Path(sys.argv[1]))
