"""EfficientNet under its official operation names."""

from __future__ import annotations

import tensorflow as tf

from efficientdet_spec import Activation, BackboneSpec, BlockSpec, NodeKind
from reference_tf.ops import GraphBuilder, raw


def build_backbone(
    builder: GraphBuilder, spec: BackboneSpec, images: tf.Tensor
) -> dict[int, tf.Tensor]:
    """[N, H, W, 3] images to the feature of each level; level l has stride 2**l."""
    stem = f"{spec.name}/stem"
    x = _conv(builder, images, f"{stem}/conv2d", spec.stem_channels, kernel=3, stride=2)
    builder.node("backbone.stem_conv", NodeKind.CONV, x)
    x = builder.batch_norm(x, f"{stem}/tpu_batch_normalization", "backbone.stem_bn")
    x = builder.activate(x, stem, "backbone.stem_act")
    levels = {block: level for level, block in spec.feature_blocks().items()}
    features = {}
    for index, block in enumerate(spec.blocks):
        x = _block(builder, x, block, f"{spec.name}/blocks_{index}", f"backbone.blocks.{index}")
        if index in levels:
            features[levels[index]] = x
    return features


def _conv(
    builder: GraphBuilder, x: tf.Tensor, scope: str, channels: int, kernel: int = 1, stride: int = 1
) -> tf.Tensor:
    name = f"{scope}/Conv2D"
    shape = [kernel, kernel, x.shape[-1], channels]
    weight = builder.read(f"{scope}/kernel", shape, f"{name}/ReadVariableOp")
    return builder.conv(x, weight, name, stride)


def _block(
    builder: GraphBuilder, x: tf.Tensor, block: BlockSpec, scope: str, node: str
) -> tf.Tensor:
    shortcut = x
    # Keras numbers the layers of one kind within a block.
    convs = iter(("conv2d", "conv2d_1"))
    norms = iter(
        ("tpu_batch_normalization", "tpu_batch_normalization_1", "tpu_batch_normalization_2")
    )
    if block.expansion != 1:
        x = _conv(builder, x, f"{scope}/{next(convs)}", block.expanded_channels)
        builder.node(f"{node}.expand_conv", NodeKind.CONV, x)
        x = builder.batch_norm(x, f"{scope}/{next(norms)}", f"{node}.expand_bn")
        x = builder.activate(x, scope, f"{node}.expand_act")
    name = f"{scope}/depthwise_conv2d/depthwise"
    shape = [block.kernel, block.kernel, block.expanded_channels, 1]
    kernel = builder.read(
        f"{scope}/depthwise_conv2d/depthwise_kernel", shape, f"{name}/ReadVariableOp"
    )
    x = builder.node(
        f"{node}.depthwise_conv",
        NodeKind.DEPTHWISE,
        builder.depthwise(x, kernel, name, block.stride),
    )
    x = builder.batch_norm(x, f"{scope}/{next(norms)}", f"{node}.depthwise_bn")
    x = builder.activate(x, scope, f"{node}.depthwise_act")
    if block.has_squeeze_excite:
        x = _squeeze_excite(builder, x, block.squeeze_channels, f"{scope}/se", f"{node}.se")
    x = _conv(builder, x, f"{scope}/{next(convs)}", block.output_channels)
    builder.node(f"{node}.project_conv", NodeKind.CONV, x)
    x = builder.batch_norm(x, f"{scope}/{next(norms)}", f"{node}.project_bn")
    # Each swish of the block has taken a number.
    swishes = (1 + (block.expansion != 1)) * (builder.activation is Activation.SWISH)
    identity = f"Identity_{swishes}" if swishes else "Identity"
    x = raw.Identity(input=x, name=f"{scope}/{identity}/")
    if block.has_residual:
        x = raw.AddV2(x=x, y=shortcut, name=builder.numbered(f"{scope}/Add") + "/")
        builder.node(f"{node}.residual", NodeKind.ADD, x)
    return x


def _squeeze_excite(
    builder: GraphBuilder, x: tf.Tensor, squeeze_channels: int, scope: str, node: str
) -> tf.Tensor:
    axes = builder.constant([1, 2], f"{scope}/Mean/reduction_indices", tf.int32)
    gate = raw.Mean(input=x, axis=axes, keep_dims=True, name=f"{scope}/Mean/")
    builder.node(f"{node}.pool", NodeKind.MEAN, gate)
    gate = _biased_conv(builder, gate, f"{scope}/conv2d", squeeze_channels)
    builder.node(f"{node}.reduce_conv", NodeKind.CONV, gate)
    gate = builder.activate(gate, scope, f"{node}.act")
    gate = _biased_conv(builder, gate, f"{scope}/conv2d_1", x.shape[-1])
    builder.node(f"{node}.expand_conv", NodeKind.CONV, gate)
    gate = builder.node(
        f"{node}.gate",
        NodeKind.GATE,
        raw.Sigmoid(x=gate, name=builder.numbered(f"{scope}/Sigmoid") + "/"),
    )
    return builder.node(
        f"{node}.scale",
        NodeKind.SCALE,
        raw.Mul(x=gate, y=x, name=builder.numbered(f"{scope}/mul") + "/"),
    )


def _biased_conv(builder: GraphBuilder, x: tf.Tensor, scope: str, channels: int) -> tf.Tensor:
    x = _conv(builder, x, scope, channels)
    bias = builder.read(f"{scope}/bias", [channels], f"{scope}/BiasAdd/ReadVariableOp")
    return builder.bias_add(x, bias, f"{scope}/BiasAdd")
