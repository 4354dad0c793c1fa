"""The class and box heads under their official operation names."""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from efficientdet_spec import EfficientDetConfig, NodeKind
from reference_tf.ops import GraphBuilder, raw


def build_head(
    builder: GraphBuilder,
    config: EfficientDetConfig,
    features: dict[int, tf.Tensor],
    scope: str,
    prefix: str,
    node: str,
    outputs_per_anchor: int,
) -> list[tf.Tensor]:
    """One [N, H, W, num_anchors * outputs_per_anchor] for each level, finest first.

    Args:
        builder: Where operations are added.
        config: The model.
        features: [N, H, W, fpn_channels] for each level.
        scope: ``class_net`` or ``box_net``.
        prefix: ``class`` or ``box``, first part of the layers' names.
        node: Path of the PyTorch module.
        outputs_per_anchor: Number of classes, or 4.
    """
    conv3 = partial(builder.conv3, separable=config.separable_conv)
    outputs = []
    for position, (level, x) in enumerate(features.items()):
        # A layer that is called again gets a numbered scope for its operations.
        suffix = f"_{position}" if position else ""
        at_level = f"{{}}@P{level}"
        for repeat in range(config.head_repeats):
            shortcut = x
            layer = f"{scope}/{prefix}-{repeat}"
            path = at_level.format(f"{node}.convs.{repeat}{{}}")
            x = conv3(x, layer, f"{layer}{suffix}", path, config.fpn_channels)
            x = builder.batch_norm(x, f"{layer}-bn-{level}", f"{node}.bns.{repeat}.P{level}")
            x = builder.activate(x, scope, at_level.format(f"{node}.acts.{repeat}"))
            if repeat and config.head_survival_probability is not None:
                name = builder.numbered(f"{scope}/add") + "/"
                x = raw.AddV2(x=x, y=shortcut, name=name)
                path = at_level.format(f"{node}.residuals.{repeat - 1}")
                builder.node(path, NodeKind.ADD, x)
        layer = f"{scope}/{prefix}-predict"
        channels = config.num_anchors * outputs_per_anchor
        path = at_level.format(f"{node}.predict{{}}")
        outputs.append(conv3(x, layer, f"{layer}{suffix}", path, channels))
    return outputs
