"""rwightman/efficientdet-pytorch, the package ``effdet``: network and whole pipeline.

``CHECKPOINT_PTH`` names a checkpoint of this project's, for :func:`detect`; effdet, timm and what
they need have to be importable.
"""

import functools
import os
from collections.abc import Sequence

import numpy as np
import torch

import efficientdet_parity
from benchmarks.published import Found, one_by_one
from parity.commands.packages.effdet import build as make


def build(faithful, size):
    """The network with the checkpoint's values."""
    name = f"tf_{faithful.config.name.replace('-', '_')}"
    return make(name, faithful.config, faithful, size)


@functools.cache
def _pipeline():
    """Its bench with the checkpoint's values, its transform, and the size of images."""
    from effdet.bench import DetBenchPredict
    from effdet.data.transforms import transforms_coco_eval

    faithful = efficientdet_parity.load(os.environ["CHECKPOINT_PTH"]).eval()
    size = faithful.config.image_size
    bench = DetBenchPredict(build(faithful, size)).eval()
    return bench, transforms_coco_eval(size, use_prefetcher=True)


def detect(paths: Sequence[str]) -> tuple[list[np.ndarray], ...]:
    """Its evaluation: Pillow, its transforms and its bench with hard NMS."""
    return one_by_one(_found, paths)


def _found(path: str) -> Found:
    from effdet.data.transforms import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from PIL import Image

    bench, transform = _pipeline()
    # What its loader does to a batch.
    mean, std = (
        torch.tensor([255 * value for value in values]).view(1, 3, 1, 1)
        for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    )
    image = Image.open(path).convert("RGB")
    pixels, told = transform(image, {"img_size": image.size})
    batch = torch.from_numpy(pixels)[None].float().sub_(mean).div_(std)
    scale = torch.tensor([told["img_scale"]], dtype=torch.float32)
    sizes = torch.tensor([told["img_size"]], dtype=torch.float32)
    with torch.no_grad():
        found = bench(batch, {"img_scale": scale, "img_size": sizes})[0].numpy()
    # Its evaluator stops at the first score that is as low.
    found = found[: int(np.cumprod(found[:, 4] >= 0.001).sum())]
    return found[:, :4], found[:, 4], found[:, 5].astype(int)
