"""zylo117/Yet-Another-EfficientDet-Pytorch: network and whole pipeline.

``ZYLO117`` names a checkout of it, ``CHECKPOINT_PTH`` a checkpoint of this project's, for
:func:`detect`.
"""

import functools
import os
import sys
from collections.abc import Sequence

import numpy as np
import torch

import efficientdet_parity
from benchmarks.published import Found, one_by_one
from converter.mappings.state_dicts import get_naming, to_naming

sys.path.insert(0, os.environ["ZYLO117"])


def build(faithful):
    """The network with the checkpoint's values; it takes sizes that 128 divides."""
    from backbone import EfficientDetBackbone

    config = faithful.config
    number = int(config.name[-1])
    model = EfficientDetBackbone(num_classes=config.num_classes, compound_coef=number)
    arrays = {name: value.numpy() for name, value in faithful.state_dict().items()}
    values = to_naming(get_naming("zylo117"), config, arrays)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
    return model.eval()


@functools.cache
def _network():
    faithful = efficientdet_parity.load(os.environ["CHECKPOINT_PTH"]).eval()
    return build(faithful), faithful.config.image_size[0]


def detect(paths: Sequence[str]) -> tuple[list[np.ndarray], ...]:
    """Its evaluation, ``coco_eval.py``: OpenCV, scores from 0.05, IoU 0.5."""
    return one_by_one(_found, paths)


def _found(path: str) -> Found:
    from efficientdet.utils import BBoxTransform, ClipBoxes
    from utils.utils import invert_affine, postprocess, preprocess

    model, size = _network()
    _, framed, metas = preprocess(str(path), max_size=size)
    batch = torch.from_numpy(framed[0]).float()[None].permute(0, 3, 1, 2)
    with torch.no_grad():
        _, regression, classification, anchors = model(batch)
        found = postprocess(
            batch, anchors, regression, classification, BBoxTransform(), ClipBoxes(), 0.05, 0.5
        )
    (found,) = invert_affine(metas, found)
    boxes = np.asarray(found["rois"], np.float32).reshape(-1, 4)
    return boxes, np.asarray(found["scores"]), np.asarray(found["class_ids"], int) + 1
