"""EfficientNet, from image to one feature map per level."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from efficientdet_spec import Activation, BackboneSpec, BlockSpec
from torch_model.layers import (
    ACTIVATIONS,
    Add,
    BatchNorm2d,
    Conv2d,
    DepthwiseConv2d,
    SqueezeExcite,
    drop_connect,
)


class MBConvBlock(nn.Module):
    """Mobile inverted bottleneck: expand, depthwise, squeeze-excite, project, add.

    Args:
        spec: Channels, kernel, stride and expansion.
        survival_probability: Probability that the branch is kept in training; None: always.
        activation: The function behind the first batch norms and in the squeeze-excite.
    """

    def __init__(
        self, spec: BlockSpec, survival_probability: float | None, activation: Activation
    ) -> None:
        super().__init__()
        self.survival_probability = survival_probability
        self.has_expansion = spec.expansion != 1
        self.has_residual = spec.has_residual
        channels = spec.expanded_channels
        if self.has_expansion:
            self.expand_conv = Conv2d(spec.input_channels, channels, bias=False)
            self.expand_bn = BatchNorm2d(channels)
            self.expand_act = ACTIVATIONS[activation]()
        self.depthwise_conv = DepthwiseConv2d(channels, spec.kernel, spec.stride)
        self.depthwise_bn = BatchNorm2d(channels)
        self.depthwise_act = ACTIVATIONS[activation]()
        self.se = (
            SqueezeExcite(channels, spec.squeeze_channels, activation)
            if spec.has_squeeze_excite
            else None
        )
        self.project_conv = Conv2d(channels, spec.output_channels, bias=False)
        self.project_bn = BatchNorm2d(spec.output_channels)
        if self.has_residual:
            self.residual = Add()

    def forward(self, x: Tensor) -> Tensor:
        """[N, input_channels, H, W] to [N, output_channels, ceil(H/stride), ceil(W/stride)]."""
        shortcut = x
        if self.has_expansion:
            x = self.expand_act(self.expand_bn(self.expand_conv(x)))
        x = self.depthwise_act(self.depthwise_bn(self.depthwise_conv(x)))
        x = self.projected(x)
        if self.has_residual:
            if self.training and self.survival_probability is not None:
                x = drop_connect(x, self.survival_probability)
            x = self.residual(x, shortcut)
        return x

    def projected(self, x: Tensor) -> Tensor:
        """The expanded features to [N, output_channels, H, W], gated where there are gates."""
        if self.se is not None:
            x = self.se(x)
        return self.project_bn(self.project_conv(x))


class EfficientNet(nn.Module):
    """The backbone: a stem and MBConv blocks."""

    def __init__(self, spec: BackboneSpec, activation: Activation = Activation.SWISH) -> None:
        super().__init__()
        self.level_of_block = {block: level for level, block in spec.feature_blocks().items()}
        self.stem_conv = Conv2d(3, spec.stem_channels, kernel=3, stride=2, bias=False)
        self.stem_bn = BatchNorm2d(spec.stem_channels)
        self.stem_act = ACTIVATIONS[activation]()
        self.blocks = nn.ModuleList(
            MBConvBlock(block, spec.block_survival(index), activation)
            for index, block in enumerate(spec.blocks)
        )

    def forward(self, images: Tensor) -> Mapping[int, Tensor]:
        """[N, 3, H, W] to one feature map for each level from 1 on; level l has stride 2**l."""
        x = self.stem_act(self.stem_bn(self.stem_conv(images)))
        features = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.level_of_block:
                features[self.level_of_block[index]] = x
        return features
