"""EfficientDet: backbone, BiFPN and the two heads."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from efficientdet_spec import Cause, EfficientDetConfig, InputError
from torch_model.backbone import EfficientNet
from torch_model.bifpn import BiFPN
from torch_model.heads import Head
from torch_model.inputs import check_images
from torch_model.optimized import OptimizedEfficientDet

PRIOR_PROBABILITY = 0.01
"""Initial foreground probability of the class head (RetinaNet, arXiv 1708.02002, section 3.3)."""


class EfficientDet(nn.Module):
    """The network from normalised image to raw predictions.

    Attributes:
        config: What this model is.
        provenance: Where its values came from; empty where that is not known.
    """

    def __init__(self, config: EfficientDetConfig) -> None:
        super().__init__()
        self.config = config
        self.provenance: dict[str, Any] = {}
        self.backbone = EfficientNet(config.backbone, config.activation)
        self.fpn = BiFPN(config)
        self.class_head = Head(config, config.num_classes)
        self.box_head = Head(config, 4)
        predict = self.class_head.predict
        nn.init.constant_(
            (predict.pointwise if config.separable_conv else predict).bias,
            -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY),
        )

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Raw predictions for a batch of images.

        Args:
            images: [N, 3, H, W], RGB, normalised. Any size that the levels allow.

        Returns:
            Class logits and box codes, each one NCHW tensor per level, P3 first. Channels are
            anchor-major: ``[N, num_anchors * num_classes, H_l, W_l]`` and
            ``[N, num_anchors * 4, H_l, W_l]`` with codes ``[ty, tx, th, tw]``.

        Raises:
            InputError: The images have another rank or channel count, or an impossible size.
        """
        check_images(self.config, images)
        # Channels last is the faster layout on CPUs and tensor cores; results keep NCHW shape.
        images = images.contiguous(memory_format=torch.channels_last)
        features = self.fpn(self.backbone(images))
        return self.class_head(features), self.box_head(features)

    def optimized(
        self, *, dtype: torch.dtype | None = None, keeps_memory: bool = True
    ) -> OptimizedEfficientDet:
        """The same model in the form that computes fastest, for inference alone.

        Args:
            dtype: In which type to compute on a GPU; None: the model's own.
            keeps_memory: Whether this process is to keep memory that it frees.

        Raises:
            InputError: The type cannot be computed in where the model is, or some part of the model
                is not this project's own.
        """
        if type(self).forward is not EfficientDet.forward or "forward" in vars(self):
            raise InputError(
                f"{type(self).__name__} has a forward of its own, of which the optimised form "
                f"would not know what it computes; use it eagerly.",
                Cause.MODEL,
            )
        return OptimizedEfficientDet(self, dtype=dtype, keeps_memory=keeps_memory)


def build(config: EfficientDetConfig) -> EfficientDet:
    """A freshly initialised model in evaluation mode, weights laid out channels last."""
    return EfficientDet(config).to(memory_format=torch.channels_last).eval()
