"""The names of the classes that a model tells apart."""

from __future__ import annotations

from collections.abc import Mapping

from converter.hparams.labels import DATA_SETS, check_zero
from efficientdet_spec import DEFAULT_NUM_CLASSES, EfficientDetConfig


def category_names(num_classes: int) -> Mapping[int, str]:
    """Name by category id; empty for a model of other classes than COCO's."""
    return dict(DATA_SETS["coco"]) if num_classes == DEFAULT_NUM_CLASSES else {}


def stated_names(config: EfficientDetConfig) -> Mapping[int, str] | None:
    """Name by class id where the model itself says what its classes are; else None.

    Args:
        config: Of the model.

    Raises:
        InputError: They are numbered from 0, so that each would be that of the class before.
    """
    names = dict(config.label_map)
    check_zero(names)
    return names or None


def class_names(config: EfficientDetConfig) -> Mapping[int, str]:
    """Name by class id: what the model states, else COCO's of a model with as many classes.

    Args:
        config: Of the model.

    Raises:
        InputError: As of :func:`stated_names`.
    """
    return stated_names(config) or category_names(config.num_classes)
