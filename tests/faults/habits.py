"""The release's habits in models that have others: its activation, its fusion, no residuals."""

import torch
import torch.nn.functional as F
from faults.fault import at, each_counts, fusions, instead

from efficientdet_spec import FUSION_EPSILON, Activation, EfficientDetConfig, Fusion

PLACES = {
    "early": "backbone.blocks.{early}.expand_act",
    "neck": "fpn.cells.{last}.nodes.{up4}.act",
    "head": "class_head.acts.0",
}


def with_relu6(config: EfficientDetConfig) -> bool:
    """Whether activations are cut off at 6."""
    return config.activation is Activation.RELU6


def with_another_activation(config: EfficientDetConfig) -> bool:
    """Whether activations are others than swish."""
    return config.activation is not Activation.SWISH


def with_softmax(config: EfficientDetConfig) -> bool:
    """Whether fusion takes the softmax of one weight for each input."""
    return config.fusion is Fusion.SOFTMAX_ATTENTION


def with_channel_weights(config: EfficientDetConfig) -> bool:
    """Whether fusion has weights of its own for each channel."""
    return config.fusion is Fusion.CHANNEL_FAST_ATTENTION


def with_residuals(config: EfficientDetConfig) -> bool:
    """Whether the heads add what a repeat is given to what it makes."""
    return config.head_survival_probability is not None


def fast(weights):
    kept = torch.relu(weights)
    return kept / (kept.sum(0) + FUSION_EPSILON)


def joined(shares):
    """A fusion with one share of each input."""
    return instead(
        lambda fuse, features, weights: sum(
            x * share for x, share in zip(features, shares(weights), strict=True)
        )
    )


HABITS = (
    *(
        at(
            f"habit-{name}/{where}",
            title,
            instead(lambda module, x, function=function: function(x)),
            place,
            *slugs,
            applies=applies,
        )
        for name, title, function, slugs, applies in (
            ("swish", "Swish left in", F.silu, ("swish",), with_another_activation),
            ("uncapped", "ReLU without the cap of ReLU6", F.relu, ("relu",), with_relu6),
            ("capped", "ReLU cut off at 5", lambda x: x.clamp(0, 5), ("clipped",), with_relu6),
        )
        for where, place in PLACES.items()
    ),
    at(
        "habit-fast-attention/first",
        "Fast attention for softmax",
        joined(fast),
        fusions(each_counts, 0),
        "fast-attention",
        applies=with_softmax,
    ),
    at(
        "habit-unweighted/last",
        "A plain sum for softmax",
        instead(lambda fuse, features, weights: sum(features)),
        fusions(each_counts, -1),
        "plain-sum",
        applies=with_softmax,
    ),
    at(
        "habit-one-weight/first",
        "One weight of an input for all of its channels",
        joined(lambda weights: fast(weights.mean(1))),
        "fpn.cells.0.nodes.{up4}.fuse",
        "weights-of-one-channel",
        applies=with_channel_weights,
    ),
    at(
        "habit-no-residual/class-head",
        "A head without its residual",
        instead(lambda module, x, shortcut: x.clone()),
        "class_head.residuals.0",
        "shortcut-left-out",
        applies=with_residuals,
    ),
)
"""What a port makes of a model that is not the release's, where it takes that for granted."""
