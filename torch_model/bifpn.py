"""The BiFPN: extra levels, then cells that join features across levels in both directions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from efficientdet_spec import Activation, EfficientDetConfig, Fusion, NodeSpec, iterate_cells
from torch_model.layers import (
    ACTIVATIONS,
    BatchNorm2d,
    Conv2d,
    Fuse,
    MaxPool2d,
    SeparableConv2d,
    Upsample,
)


class Resample(nn.Module):
    """Brings a feature map to the BiFPN's channels (1x1 convolution, batch norm) and to a size.

    The order is the official one: convolution and batch norm first, then the pool.

    Args:
        input_channels: Channels of the feature map.
        channels: Channels wanted; a convolution is made only where they differ.
        level_step: Level wanted minus the feature's level; above zero down-samples.
    """

    def __init__(self, input_channels: int, channels: int, level_step: int) -> None:
        super().__init__()
        self.has_conv = input_channels != channels
        if self.has_conv:
            self.conv = Conv2d(input_channels, channels)
            self.bn = BatchNorm2d(channels)
        if level_step > 0:
            self.pool = MaxPool2d()
        elif level_step < 0:
            self.upsample = Upsample()

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """[N, input_channels, H, W] to [N, channels, *size]."""
        if self.has_conv:
            x = self.bn(self.conv(x))
        if x.shape[-2:] == size:
            # One-pixel features stay as they are, whatever the level.
            return x
        return self.pool(x, size) if hasattr(self, "pool") else self.upsample(x, size)


class BiFPNNode(nn.Module):
    """Resamples its inputs, fuses them and convolves the result.

    Attributes:
        weights: One fusion weight for each input, [len(inputs)]; absent where fusion is a sum.
    """

    def __init__(
        self, spec: NodeSpec, channels: int, fusion: Fusion, activation: Activation
    ) -> None:
        super().__init__()
        self.sources = tuple(item.source for item in spec.inputs)
        self.level = spec.level
        self.resamples = nn.ModuleList(
            Resample(item.input_channels, channels, spec.level - item.source_level)
            for item in spec.inputs
        )
        self.weights = None if fusion is Fusion.SUM else nn.Parameter(torch.ones(len(spec.inputs)))
        self.fuse = Fuse(fusion)
        self.act = ACTIVATIONS[activation]()
        self.conv = SeparableConv2d(channels, channels)
        self.bn = BatchNorm2d(channels)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The cell's features so far to [N, channels, *size]."""
        inputs = [
            resample(features[source], size)
            for resample, source in zip(self.resamples, self.sources, strict=True)
        ]
        return self.bn(self.conv(self.act(self.fuse(inputs, self.weights))))


class BiFPNCell(nn.Module):
    """One top-down and one bottom-up pass over all levels."""

    def __init__(
        self,
        nodes: tuple[NodeSpec, ...],
        channels: int,
        fusion: Fusion,
        activation: Activation = Activation.SWISH,
    ) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(BiFPNNode(node, channels, fusion, activation) for node in nodes)

    def forward(self, features: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """One feature map for each level to as many of the same sizes."""
        sizes = {level: tuple(feature.shape[-2:]) for level, feature in features.items()}
        made = list(features.values())
        outputs = {}
        for node in self.nodes:
            outputs[node.level] = node(made, sizes[node.level])
            made.append(outputs[node.level])
        # A level's output is that of its last node.
        return {level: outputs[level] for level in features}


class BiFPN(nn.Module):
    """Extra levels above the backbone's, then the cells."""

    def __init__(self, config: EfficientDetConfig) -> None:
        super().__init__()
        self.levels = config.levels
        self.extra_levels = config.extra_levels()
        channels = config.feature_channels()
        for level in self.extra_levels:
            below = channels.get(level - 1, config.fpn_channels)
            self.add_module(f"resample_p{level}", Resample(below, config.fpn_channels, 1))
        self.cells = nn.ModuleList(
            BiFPNCell(nodes, config.fpn_channels, config.fusion, config.activation)
            for _, nodes in iterate_cells(config)
        )

    def forward(self, backbone_features: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """The backbone's features to one [N, fpn_channels, H, W] for each level, finest first."""
        features = {
            level: backbone_features[level]
            for level in self.levels
            if level not in self.extra_levels
        }
        for level in self.extra_levels:
            below = features[level - 1]
            size = tuple((side - 1) // 2 + 1 for side in below.shape[-2:])
            features[level] = self.get_submodule(f"resample_p{level}")(below, size)
        for cell in self.cells:
            features = cell(features)
        return features
