"""The BiFPN under its official operation names."""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from efficientdet_spec import EfficientDetConfig, NodeKind, NodeSpec, iterate_cells
from reference_tf.ops import GraphBuilder


def build_bifpn(
    builder: GraphBuilder, config: EfficientDetConfig, backbone_features: dict[int, tf.Tensor]
) -> dict[int, tf.Tensor]:
    """The backbone's features to one [N, H, W, fpn_channels] for each level, finest first."""
    extra = config.extra_levels()
    features = {level: backbone_features[level] for level in config.levels if level not in extra}
    for level in extra:
        below = features[level - 1]
        size = tuple((side - 1) // 2 + 1 for side in below.shape[1:3])
        name = f"resample_p{level}"
        features[level] = _resample(builder, config, below, size, name, f"fpn.{name}")
    for cell, nodes in iterate_cells(config):
        features = _cell(builder, config, features, cell, nodes)
    return features


def _resample(
    builder: GraphBuilder,
    config: EfficientDetConfig,
    x: tf.Tensor,
    size: tuple[int, int],
    scope: str,
    node: str,
) -> tf.Tensor:
    current = tuple(x.shape[1:3])
    pooled = current[0] > size[0] and current[1] > size[1]
    pool = partial(builder.max_pool, size=size, name=f"{scope}/max_pooling2d/MaxPool")
    if pooled and config.conv_after_downsample:
        return _convolve(builder, config, pool(x, node=f"{node}.pool"), scope, node)
    x = _convolve(builder, config, x, scope, node)
    if pooled:
        return pool(x, node=f"{node}.pool")
    if current != size:
        return builder.upsample(x, size, f"{scope}/ResizeNearestNeighbor", f"{node}.upsample")
    return x


def _convolve(
    builder: GraphBuilder, config: EfficientDetConfig, x: tf.Tensor, scope: str, node: str
) -> tf.Tensor:
    """The 1x1 convolution to the BiFPN's channels, where they are others."""
    channels = config.fpn_channels
    if x.shape[-1] == channels:
        return x
    kernel = builder.read(f"{scope}/conv2d/kernel", [1, 1, x.shape[-1], channels])
    x = builder.conv(x, kernel, f"{scope}/conv2d/Conv2D")
    bias = builder.read(f"{scope}/conv2d/bias", [channels])
    x = builder.node(
        f"{node}.conv", NodeKind.CONV, builder.bias_add(x, bias, f"{scope}/conv2d/BiasAdd")
    )
    return builder.batch_norm(x, f"{scope}/bn", f"{node}.bn") if config.resample_bn else x


def _cell(
    builder: GraphBuilder,
    config: EfficientDetConfig,
    features: dict[int, tf.Tensor],
    cell: int,
    nodes: tuple[NodeSpec, ...],
) -> dict[int, tf.Tensor]:
    sizes = {level: tuple(feature.shape[1:3]) for level, feature in features.items()}
    made = list(features.values())
    outputs = {}
    for spec in nodes:
        scope = f"fpn_cells/cell_{cell}/fnode{spec.index}"
        node = f"fpn.cells.{cell}.nodes.{spec.index}"
        inputs = [
            _resample(
                builder,
                config,
                made[item.source],
                sizes[spec.level],
                f"{scope}/resample_{position}_{item.source}_{len(made)}",
                f"{node}.resamples.{position}",
            )
            for position, item in enumerate(spec.inputs)
        ]
        x = builder.fuse(inputs, config.fusion, scope, f"{node}.fuse")
        after = f"{scope}/op_after_combine{len(made)}"
        if not config.conv_bn_act:
            x = builder.activate(x, after, f"{node}.act")
        x = builder.conv3(
            x,
            f"{after}/conv",
            f"{after}/conv",
            f"{node}.conv{{}}",
            config.fpn_channels,
            separable=config.separable_conv,
            biased=not config.conv_bn_act,
        )
        x = builder.batch_norm(x, f"{after}/bn", f"{node}.bn")
        if config.conv_bn_act:
            x = builder.activate(x, after, f"{node}.act")
        made.append(x)
        outputs[spec.level] = x
    return {level: outputs[level] for level in features}
