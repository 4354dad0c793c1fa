"""What the models are, and what all packages share. Standard library only.

Nothing here computes on tensors. Every other package builds from these values, so a number of
the architecture stands in exactly one place.
"""

from efficientdet_spec.backbones import (
    BACKBONES,
    BackboneSpec,
    BlockSpec,
    StageSpec,
    get_backbone,
    round_channels,
)
from efficientdet_spec.errors import Cause, InputError, did_you_mean, in_one_line
from efficientdet_spec.extents import is_possible
from efficientdet_spec.extras import (
    EXTRAS,
    install_command,
    missing_modules,
    packages_of,
    require_extra,
)
from efficientdet_spec.family import (
    FIRST_RELEASES,
    LITE_MODELS,
    MODELS,
    OFFICIAL_MODELS,
    TINY,
    VARIANTS,
    base_model,
    full_name,
    get_config,
    same_variables,
)
from efficientdet_spec.files import (
    discard,
    file_sha256,
    locked,
    open_regular,
    put_in_place,
    read_regular,
    replacing,
    sweep,
    sweep_folder,
    sync,
    sync_folder,
    temporary_beside,
)
from efficientdet_spec.findings import Finding, listed, summary, told
from efficientdet_spec.lookalikes import HEAD_BYTES, Lookalike, lookalike, lookalike_of
from efficientdet_spec.models import (
    ASPECT_RATIOS,
    CONFIG_FILE,
    DEFAULT_NUM_CLASSES,
    MAX_SIDE,
    MEAN_RGB,
    STDDEV_RGB,
    EfficientDetConfig,
    iterate_cells,
    parse_size,
)
from efficientdet_spec.nodes import IMAGES, Node, Part, iterate_nodes
from efficientdet_spec.official import OFFICIAL_KEYS, Contradiction, field_of, first_difference
from efficientdet_spec.open_files import OpenFile, writing
from efficientdet_spec.operations import (
    BATCH_NORM_DECAY,
    BATCH_NORM_EPSILON,
    EMA_SUFFIX,
    FUSION_EPSILON,
    Activation,
    Fusion,
    NodeKind,
)
from efficientdet_spec.padding import same_outputs, same_padding
from efficientdet_spec.suppression import Suppression
from efficientdet_spec.texts import printable, printable_lines, shortened
from efficientdet_spec.versions import installed_version
from efficientdet_spec.wiring import WIRINGS, NodeSpec, ResampleSpec, Wiring, bifpn

__all__ = [
    "OFFICIAL_KEYS",
    "field_of",
    "Contradiction",
    "first_difference",
    "CONFIG_FILE",
    "ASPECT_RATIOS",
    "BACKBONES",
    "FIRST_RELEASES",
    "VARIANTS",
    "base_model",
    "LITE_MODELS",
    "MEAN_RGB",
    "STDDEV_RGB",
    "StageSpec",
    "Suppression",
    "WIRINGS",
    "Wiring",
    "bifpn",
    "get_backbone",
    "BATCH_NORM_DECAY",
    "BATCH_NORM_EPSILON",
    "DEFAULT_NUM_CLASSES",
    "EMA_SUFFIX",
    "EXTRAS",
    "install_command",
    "missing_modules",
    "packages_of",
    "require_extra",
    "FUSION_EPSILON",
    "HEAD_BYTES",
    "IMAGES",
    "MAX_SIDE",
    "MODELS",
    "OFFICIAL_MODELS",
    "TINY",
    "Activation",
    "BackboneSpec",
    "BlockSpec",
    "Cause",
    "EfficientDetConfig",
    "Finding",
    "Fusion",
    "InputError",
    "Lookalike",
    "Node",
    "NodeKind",
    "NodeSpec",
    "Part",
    "ResampleSpec",
    "did_you_mean",
    "discard",
    "file_sha256",
    "full_name",
    "get_config",
    "in_one_line",
    "installed_version",
    "iterate_cells",
    "iterate_nodes",
    "is_possible",
    "listed",
    "locked",
    "lookalike",
    "lookalike_of",
    "OpenFile",
    "open_regular",
    "parse_size",
    "printable",
    "printable_lines",
    "put_in_place",
    "read_regular",
    "replacing",
    "round_channels",
    "same_outputs",
    "same_padding",
    "same_variables",
    "shortened",
    "summary",
    "sweep",
    "sweep_folder",
    "sync",
    "sync_folder",
    "temporary_beside",
    "told",
    "writing",
]
