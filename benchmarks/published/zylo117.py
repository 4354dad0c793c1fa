"""zylo117/Yet-Another-EfficientDet-Pytorch: network and whole pipeline.

``ZYLO117`` names a checkout of it, ``CHECKPOINT_PTH`` a checkpoint of this project's, for
:func:`detect`.
"""

import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import torch

import efficientdet_parity
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


def detect(paths: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Its evaluation, ``coco_eval.py``: OpenCV, scores from 0.05, IoU 0.5.

    Args:
        paths: Image files.

    Yields:
        For each image boxes [K, 4] as x1, y1, x2, y2 in its pixels, scores and classes.
    """
    from efficientdet.utils import BBoxTransform, ClipBoxes
    from utils.utils import invert_affine, postprocess, preprocess

    faithful = efficientdet_parity.load(os.environ["CHECKPOINT_PTH"]).eval()
    model = build(faithful)
    for path in paths:
        _, framed, metas = preprocess(str(path), max_size=faithful.config.image_size[0])
        batch = torch.from_numpy(framed[0]).float()[None].permute(0, 3, 1, 2)
        with torch.no_grad():
            _, regression, classification, anchors = model(batch)
            found = postprocess(
                batch, anchors, regression, classification, BBoxTransform(), ClipBoxes(), 0.05, 0.5
            )
        (found,) = invert_affine(metas, found)
        boxes = np.asarray(found["rois"], np.float32).reshape(-1, 4)
        yield boxes, np.asarray(found["scores"]), np.asarray(found["class_ids"], int) + 1
