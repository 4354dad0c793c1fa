"""The one mapping between TensorFlow variables and PyTorch parameters, used in both directions.

It is enumerated from the configuration, not matched by patterns: the official names are not
regular (``conv2d`` is the expansion of one block and the projection of another).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from converter.mappings.layouts import (
    CONVOLUTION,
    DEPTHWISE,
    SCALARS,
    VECTOR,
    VECTORS,
    Layout,
    Shape,
)
from efficientdet_spec import BlockSpec, EfficientDetConfig, NodeSpec, iterate_cells


@dataclass(frozen=True)
class Pair:
    """One PyTorch parameter and the TensorFlow variables that it is made of.

    Attributes:
        parameter: Name in the state dict.
        variables: Names in the checkpoint, without EMA suffix; several only for scalars that
            form a vector.
        layout: How their axes correspond.
        shape: Shape of the parameter.
    """

    parameter: str
    variables: tuple[str, ...]
    layout: Layout
    shape: Shape

    @property
    def variable_shapes(self) -> dict[str, Shape]:
        """Shape of each variable."""
        shapes = self.layout.tensorflow_shapes(self.shape)
        return dict(zip(self.variables, shapes, strict=True))


def iterate_pairs(config: EfficientDetConfig) -> Iterator[Pair]:
    """Every pair of the model, in the order in which the network uses them."""
    return iter(_pairs(config))


# To find out whose names a file has, every model is enumerated, and again to find out which it is.
@lru_cache(maxsize=32)
def _pairs(config: EfficientDetConfig) -> tuple[Pair, ...]:
    return (
        *_backbone(config),
        *_fpn(config),
        *_head(config, "class_head", "class_net", "class", config.num_classes),
        *_head(config, "box_head", "box_net", "box", 4),
    )


def _conv(parameter: str, variable: str, inputs: int, outputs: int, kernel: int) -> Pair:
    shape = (outputs, inputs, kernel, kernel)
    return Pair(f"{parameter}.weight", (f"{variable}/kernel",), CONVOLUTION, shape)


def _bias(parameter: str, variable: str, channels: int) -> Pair:
    return Pair(f"{parameter}.bias", (f"{variable}/bias",), VECTOR, (channels,))


def _depthwise(parameter: str, variable: str, channels: int, kernel: int) -> Pair:
    shape = (channels, 1, kernel, kernel)
    return Pair(f"{parameter}.weight", (f"{variable}/depthwise_kernel",), DEPTHWISE, shape)


def _batch_norm(parameter: str, variable: str, channels: int) -> Iterator[Pair]:
    for ours, theirs in (
        ("weight", "gamma"),
        ("bias", "beta"),
        ("running_mean", "moving_mean"),
        ("running_var", "moving_variance"),
    ):
        yield Pair(f"{parameter}.{ours}", (f"{variable}/{theirs}",), VECTOR, (channels,))


def _conv3(
    config: EfficientDetConfig, parameter: str, variable: str, outputs: int, has_bias: bool = True
) -> Iterator[Pair]:
    """A 3x3 convolution of BiFPN or heads, which may be separable."""
    inputs = config.fpn_channels
    if config.separable_conv:
        yield _depthwise(f"{parameter}.depthwise", variable, inputs, 3)
        parameter = f"{parameter}.pointwise"
        kernel, size = "pointwise_kernel", 1
    else:
        kernel, size = "kernel", 3
    shape = (outputs, inputs, size, size)
    yield Pair(f"{parameter}.weight", (f"{variable}/{kernel}",), CONVOLUTION, shape)
    if has_bias:
        yield _bias(parameter, variable, outputs)


def _backbone(config: EfficientDetConfig) -> Iterator[Pair]:
    spec = config.backbone
    stem = f"{spec.name}/stem"
    yield _conv("backbone.stem_conv", f"{stem}/conv2d", 3, spec.stem_channels, 3)
    yield from _batch_norm(
        "backbone.stem_bn", f"{stem}/tpu_batch_normalization", spec.stem_channels
    )
    for index, block in enumerate(spec.blocks):
        yield from _block(f"backbone.blocks.{index}", f"{spec.name}/blocks_{index}", block)


def _numbered(name: str, index: int) -> str:
    """Keras's name of the layer that is the ``index``-th of its kind in a block."""
    return name if index == 0 else f"{name}_{index}"


def _block(parameter: str, variable: str, block: BlockSpec) -> Iterator[Pair]:
    channels = block.expanded_channels
    norms = 0
    convs = 0
    if block.expansion != 1:
        yield _conv(
            f"{parameter}.expand_conv", f"{variable}/conv2d", block.input_channels, channels, 1
        )
        yield from _batch_norm(
            f"{parameter}.expand_bn", f"{variable}/tpu_batch_normalization", channels
        )
        norms = convs = 1
    yield _depthwise(
        f"{parameter}.depthwise_conv", f"{variable}/depthwise_conv2d", channels, block.kernel
    )
    yield from _batch_norm(
        f"{parameter}.depthwise_bn",
        f"{variable}/{_numbered('tpu_batch_normalization', norms)}",
        channels,
    )
    if block.has_squeeze_excite:
        squeeze = block.squeeze_channels
        yield _conv(f"{parameter}.se.reduce_conv", f"{variable}/se/conv2d", channels, squeeze, 1)
        yield _bias(f"{parameter}.se.reduce_conv", f"{variable}/se/conv2d", squeeze)
        yield _conv(f"{parameter}.se.expand_conv", f"{variable}/se/conv2d_1", squeeze, channels, 1)
        yield _bias(f"{parameter}.se.expand_conv", f"{variable}/se/conv2d_1", channels)
    yield _conv(
        f"{parameter}.project_conv",
        f"{variable}/{_numbered('conv2d', convs)}",
        channels,
        block.output_channels,
        1,
    )
    yield from _batch_norm(
        f"{parameter}.project_bn",
        f"{variable}/{_numbered('tpu_batch_normalization', norms + 1)}",
        block.output_channels,
    )


def _fpn(config: EfficientDetConfig) -> Iterator[Pair]:
    provided = config.feature_channels()
    for level in config.extra_levels():
        below = provided.get(level - 1, config.fpn_channels)
        yield from _resample(config, f"fpn.resample_p{level}", f"resample_p{level}", below)
    for cell, nodes in iterate_cells(config):
        for node in nodes:
            yield from _fpn_node(config, cell, node)


def _resample(
    config: EfficientDetConfig, parameter: str, variable: str, inputs: int
) -> Iterator[Pair]:
    channels = config.fpn_channels
    if inputs != channels:
        yield _conv(f"{parameter}.conv", f"{variable}/conv2d", inputs, channels, 1)
        yield _bias(f"{parameter}.conv", f"{variable}/conv2d", channels)
        if config.resample_bn:
            yield from _batch_norm(f"{parameter}.bn", f"{variable}/bn", channels)


def _fpn_node(config: EfficientDetConfig, cell: int, node: NodeSpec) -> Iterator[Pair]:
    parameter = f"fpn.cells.{cell}.nodes.{node.index}"
    variable = f"fpn_cells/cell_{cell}/fnode{node.index}"
    # Official names count the cell's inputs among its features.
    feature = len(config.levels) + node.index
    channels = config.fpn_channels
    for position, item in enumerate(node.inputs):
        yield from _resample(
            config,
            f"{parameter}.resamples.{position}",
            f"{variable}/resample_{position}_{item.source}_{feature}",
            item.input_channels,
        )
    if config.fusion.is_weighted:
        count = len(node.inputs)
        names = tuple(f"{variable}/{_numbered('WSM', i)}" for i in range(count))
        each = config.fusion.is_per_channel
        layout, shape = (VECTORS, (count, channels)) if each else (SCALARS, (count,))
        yield Pair(f"{parameter}.weights", names, layout, shape)
    after = f"{variable}/op_after_combine{feature}"
    has_bias = not config.conv_bn_act
    yield from _conv3(config, f"{parameter}.conv", f"{after}/conv", channels, has_bias)
    yield from _batch_norm(f"{parameter}.bn", f"{after}/bn", channels)


def _head(
    config: EfficientDetConfig, parameter: str, scope: str, prefix: str, outputs_per_anchor: int
) -> Iterator[Pair]:
    channels = config.fpn_channels
    for repeat in range(config.head_repeats):
        name = f"{scope}/{prefix}-{repeat}"
        yield from _conv3(config, f"{parameter}.convs.{repeat}", name, channels)
        for level in config.levels:
            yield from _batch_norm(
                f"{parameter}.bns.{repeat}.P{level}", f"{name}-bn-{level}", channels
            )
    outputs = config.num_anchors * outputs_per_anchor
    yield from _conv3(config, f"{parameter}.predict", f"{scope}/{prefix}-predict", outputs)
