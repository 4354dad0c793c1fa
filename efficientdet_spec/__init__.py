"""What the models are, and what all packages share. Standard library only.

Nothing here computes on tensors. Every other package builds from these values, so a number of
the architecture stands in exactly one place.
"""

from efficientdet_spec.errors import Cause, InputError
from efficientdet_spec.models import (
    DEFAULT_NUM_CLASSES,
    MAX_SIDE,
    MODELS,
    OFFICIAL_MODELS,
    TINY,
    BackboneSpec,
    BlockSpec,
    EfficientDetConfig,
    NodeSpec,
    ResampleSpec,
    get_config,
    iterate_cells,
    parse_size,
    round_channels,
)
from efficientdet_spec.operations import (
    BATCH_NORM_DECAY,
    BATCH_NORM_EPSILON,
    FUSION_EPSILON,
    Fusion,
    NodeKind,
)

__all__ = [
    "BATCH_NORM_DECAY",
    "BATCH_NORM_EPSILON",
    "DEFAULT_NUM_CLASSES",
    "FUSION_EPSILON",
    "MAX_SIDE",
    "MODELS",
    "OFFICIAL_MODELS",
    "TINY",
    "BackboneSpec",
    "BlockSpec",
    "Cause",
    "EfficientDetConfig",
    "Fusion",
    "InputError",
    "NodeKind",
    "NodeSpec",
    "ResampleSpec",
    "get_config",
    "iterate_cells",
    "parse_size",
    "round_channels",
]
