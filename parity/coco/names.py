"""What COCO calls its categories, for models whose 90 classes are its ids."""

from __future__ import annotations

from converter.hparams.labels import DATA_SETS

_NUM_CLASSES = 90


def category_names(num_classes: int) -> dict[int, str]:
    """Name by category id; empty for a model of other classes than COCO's."""
    if num_classes != _NUM_CLASSES:
        return {}
    return dict(DATA_SETS["coco"])
