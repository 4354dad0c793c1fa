"""Every official hyperparameter: those honoured, those of training alone, those refused.

Source: google/automl ``efficientdet/hparams_config.py`` (``default_detection_configs``), and for
what the training scripts add to their ``config.yaml`` ``main.py`` and ``tf2/train.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Honoured:
    """A hyperparameter that is honoured.

    Attributes:
        meaning: In half a sentence.
        place: Where it takes effect.
    """

    meaning: str
    place: str


NETWORK, ANCHORS, INPUT, BOXES, NAMES = (
    "the network",
    "anchors, and so boxes",
    "what the network is given",
    "which boxes are kept",
    "names in results",
)

HONOURED: Mapping[str, Honoured] = MappingProxyType(
    {
        "name": Honoured("the model whose values count where nothing else is said", NETWORK),
        "image_size": Honoured(
            "native size of the input: one number, a text WxH, or a list or tuple (H, W)",
            INPUT,
        ),
        "num_classes": Honoured("number of classes", NETWORK),
        "label_map": Honoured(
            "names of the classes: a mapping of ids, coco, voc, waymo, or a YAML file of one",
            NAMES,
        ),
        "anchor_scale": Honoured("size of anchors in strides, one number or one a level", ANCHORS),
        "aspect_ratios": Honoured(
            "of each anchor aspect the width to height, or a pair of both factors",
            f"{NETWORK}, {ANCHORS}",
        ),
        "num_scales": Honoured("octave scales of anchors at each place", f"{NETWORK}, {ANCHORS}"),
        "min_level": Honoured("lowest feature level", f"{NETWORK}, {ANCHORS}"),
        "max_level": Honoured("highest feature level", f"{NETWORK}, {ANCHORS}"),
        "act_type": Honoured(
            "activation: swish (also silu, swish_native), relu, relu6, hswish, mish",
            NETWORK,
        ),
        "fpn_name": Honoured("wiring of the FPN's cells: bifpn, bifpn_dyn, qufpn", NETWORK),
        "fpn_config": Honoured(
            "own nodes of a cell (feat_level, inputs_offsets) and their weight_method, which count "
            "in place of fpn_name and fpn_weight_method",
            NETWORK,
        ),
        "fpn_weight_method": Honoured(
            "how nodes join features: fastattn, attn, channel_fastattn, channel_attn, sum",
            NETWORK,
        ),
        "fpn_cell_repeats": Honoured("number of the FPN's cells", NETWORK),
        "fpn_num_filters": Honoured("channels of the FPN and the heads", NETWORK),
        "box_class_repeats": Honoured("convolutions of each head before its last", NETWORK),
        "separable_conv": Honoured("depthwise separable convolutions in FPN and heads", NETWORK),
        "conv_after_downsample": Honoured("1x1 convolutions behind the pooling", NETWORK),
        "conv_bn_act_pattern": Honoured("activation of FPN nodes behind the batch norm", NETWORK),
        "apply_bn_for_resampling": Honoured(
            "batch norms behind the 1x1 convolutions of the FPN", NETWORK
        ),
        "survival_prob": Honoured(
            "residuals in the heads, which stay at inference; null or 0 for none",
            NETWORK,
        ),
        "mean_rgb": Honoured("what is subtracted, one number or three", INPUT),
        "stddev_rgb": Honoured("what is divided by, one number or three", INPUT),
        "scale_range": Honoured("grey levels become -1 to 1, as of AdvProp", INPUT),
        "nms_configs": Honoured(
            "method, iou_thresh, score_thresh, sigma, pyfunc, max_nms_inputs, max_output_size",
            BOXES,
        ),
        "backbone_name": Honoured("the backbone", NETWORK),
        "backbone_config": Honoured(
            "own stages of the backbone before scaling, as BlockArgs", NETWORK
        ),
    }
)
"""By official key."""

TRAINING = frozenset(
    (
        "target_size",
        "input_rand_hflip",
        "jitter_min",
        "jitter_max",
        "autoaugment_policy",
        "grid_mask",
        "sample_image",
        "map_freq",
        "seg_num_classes",
        "skip_crowd_during_training",
        "max_instances_per_image",
        "regenerate_source_id",
        "is_training_bn",
        "momentum",
        "optimizer",
        "learning_rate",
        "lr_warmup_init",
        "lr_warmup_epoch",
        "first_lr_drop_epoch",
        "second_lr_drop_epoch",
        "poly_lr_power",
        "clip_gradients_norm",
        "num_epochs",
        "label_smoothing",
        "alpha",
        "gamma",
        "delta",
        "box_loss_weight",
        "iou_loss_type",
        "iou_loss_weight",
        "weight_decay",
        "strategy",
        "loss_scale",
        "drop_remainder",
        "tflite_max_detections",
        "img_summary_steps",
        "lr_decay_method",
        "moving_average_decay",
        "ckpt_var_scope",
        "skip_mismatch",
        "var_freeze_expr",
        "use_keras_model",
        "dataset_type",
        "positives_momentum",
        "grad_checkpoint",
        "verbose",
        "save_freq",
    )
)
"""Official hyperparameters that change no inference in float32. ``is_training_bn`` is among them:
all of the official inference sets it to false."""

OF_A_RUN = frozenset(
    (
        "model_name",
        "model_dir",
        "mode",
        "iterations_per_loop",
        "num_shards",
        "num_examples_per_epoch",
        "backbone_ckpt",
        "ckpt",
        "val_json_file",
        "testdev_dir",
        "profile",
        "steps_per_execution",
        "steps_per_epoch",
        "batch_size",
        "tf_random_seed",
        "debug",
        "eval_samples",
    )
)
"""What the training scripts add to their ``config.yaml``, which no official override knows."""


@dataclass(frozen=True)
class Refused:
    """A hyperparameter of which only some values are taken.

    Attributes:
        taken: Whether a value changes nothing.
        reason: Why another is not, and what to do.
    """

    taken: Callable[[Any], bool]
    reason: str


def _only_detection(value: Any) -> bool:
    heads = [value] if isinstance(value, str) else value
    return isinstance(heads, list | tuple) and list(heads) == ["object_detection"]


REFUSED: Mapping[str, Refused] = MappingProxyType(
    {
        "heads": Refused(
            _only_detection,
            "only the head object_detection is supported, and segmentation is not; leave it out",
        ),
        "data_format": Refused(
            lambda value: value in (None, "channels_last"),
            "only channels_last is supported; leave it out if the checkpoint was trained so",
        ),
        "mixed_precision": Refused(
            lambda value: value is None or value is False or value == 0,
            "inference in mixed precision is not supported; for the same weights in float32 give "
            "--hparams mixed_precision=false",
        ),
    }
)
"""By official key."""

KNOWN = frozenset(HONOURED) | TRAINING | frozenset(REFUSED)
"""Every official hyperparameter."""
