"""The BiFPN: extra levels, then cells that join features across levels in both directions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from efficientdet_spec import EfficientDetConfig, NodeSpec, iterate_cells
from torch_model.layers import (
    ACTIVATIONS,
    BatchNorm2d,
    Conv2d,
    Fuse,
    MaxPool2d,
    Upsample,
    make_conv,
)


class Resample(nn.Module):
    """Brings a feature map to the BiFPN's channels (1x1 convolution, batch norm) and to a size.

    Args:
        config: The model, which says whether there is a batch norm, and whether a max-pool comes
            behind or before.
        input_channels: Channels of the feature map; a convolution is made only where they differ
            from the BiFPN's.
        level_step: Level wanted minus the feature's level; above zero down-samples.
    """

    def __init__(self, config: EfficientDetConfig, input_channels: int, level_step: int) -> None:
        super().__init__()
        channels = config.fpn_channels
        self.has_conv = input_channels != channels
        if self.has_conv:
            self.conv = Conv2d(input_channels, channels)
            self.bn = BatchNorm2d(channels) if config.resample_bn else None
        self.pools_first = config.conv_after_downsample
        if level_step > 0:
            self.pool = MaxPool2d()
        elif level_step < 0:
            self.upsample = Upsample()

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """[N, input_channels, H, W] to [N, channels, *size]."""
        # One-pixel features stay as they are, whatever the level.
        pooled = hasattr(self, "pool") and x.shape[-2:] != size
        if pooled and self.pools_first:
            return self._convolved(self.pool(x, size))
        x = self._convolved(x)
        if pooled:
            return self.pool(x, size)
        return x if x.shape[-2:] == size else self.upsample(x, size)

    def _convolved(self, x: Tensor) -> Tensor:
        if not self.has_conv:
            return x
        x = self.conv(x)
        return x if self.bn is None else self.bn(x)


class BiFPNNode(nn.Module):
    """Resamples its inputs, fuses them and convolves the result.

    Attributes:
        weights: One fusion weight for each input, [len(inputs)], or one for each of its channels,
            [len(inputs), channels]; None where fusion is a sum.
    """

    def __init__(self, config: EfficientDetConfig, spec: NodeSpec) -> None:
        super().__init__()
        channels, fusion = config.fpn_channels, config.fusion
        self.sources = tuple(item.source for item in spec.inputs)
        self.level = spec.level
        self.acts_last = config.conv_bn_act
        self.resamples = nn.ModuleList(
            Resample(config, item.input_channels, spec.level - item.source_level)
            for item in spec.inputs
        )
        shape = (len(spec.inputs), channels) if fusion.is_per_channel else (len(spec.inputs),)
        self.weights = nn.Parameter(torch.ones(shape)) if fusion.is_weighted else None
        self.fuse = Fuse(fusion)
        self.act = ACTIVATIONS[config.activation]()
        self.conv = make_conv(config, channels, channels, bias=not config.conv_bn_act)
        self.bn = BatchNorm2d(channels)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The cell's features so far to [N, channels, *size]."""
        inputs = [
            resample(features[source], size)
            for resample, source in zip(self.resamples, self.sources, strict=True)
        ]
        x = self.fuse(inputs, self.weights)
        if self.acts_last:
            return self.act(self.bn(self.conv(x)))
        return self.bn(self.conv(self.act(x)))


class BiFPNCell(nn.Module):
    """The nodes that join all levels once; in a BiFPN one top-down and one bottom-up pass."""

    def __init__(self, config: EfficientDetConfig, nodes: tuple[NodeSpec, ...]) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(BiFPNNode(config, node) for node in nodes)

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
            self.add_module(f"resample_p{level}", Resample(config, below, 1))
        self.cells = nn.ModuleList(BiFPNCell(config, nodes) for _, nodes in iterate_cells(config))

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
