"""The class and box heads: convolutions shared by all levels, batch norms of each level's own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from efficientdet_spec import EfficientDetConfig
from torch_model.layers import ACTIVATIONS, Add, BatchNorm2d, drop_connect, make_conv


class Head(nn.Module):
    """Predicts ``outputs_per_anchor`` values for each anchor of each level.

    Args:
        config: The model.
        outputs_per_anchor: Number of classes, or 4 for boxes.
    """

    def __init__(self, config: EfficientDetConfig, outputs_per_anchor: int) -> None:
        super().__init__()
        channels = config.fpn_channels
        self.survival_probability = config.head_survival_probability
        self.convs = nn.ModuleList(
            make_conv(config, channels, channels) for _ in range(config.head_repeats)
        )
        self.bns = nn.ModuleList(
            nn.ModuleDict({f"P{level}": BatchNorm2d(channels) for level in config.levels})
            for _ in range(config.head_repeats)
        )
        self.acts = nn.ModuleList(
            ACTIVATIONS[config.activation]() for _ in range(config.head_repeats)
        )
        if self.survival_probability is not None:
            self.residuals = nn.ModuleList(Add() for _ in range(config.head_repeats - 1))
        self.predict = make_conv(config, channels, config.num_anchors * outputs_per_anchor)

    def forward(self, features: Mapping[int, Tensor]) -> list[Tensor]:
        """Features of each level to [N, num_anchors * outputs_per_anchor, H, W], anchor-major."""
        return [self._level(f"P{level}", feature) for level, feature in features.items()]

    def _level(self, level: str, x: Tensor) -> Tensor:
        for repeat, (conv, bns, act) in enumerate(
            zip(self.convs, self.bns, self.acts, strict=True)
        ):
            shortcut = x
            x = act(bns[level](conv(x)))
            if repeat and self.survival_probability is not None:
                if self.training:
                    x = drop_connect(x, self.survival_probability)
                x = self.residuals[repeat - 1](x, shortcut)
        return self.predict(x)
