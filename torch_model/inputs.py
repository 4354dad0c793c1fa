"""What a network takes."""

from __future__ import annotations

from torch import Tensor

from efficientdet_spec import EfficientDetConfig, InputError


def check_images(config: EfficientDetConfig, images: Tensor) -> None:
    """Refuse images that a model cannot process.

    Args:
        config: The model.
        images: What is to be [N, 3, H, W].

    Raises:
        InputError: They have another rank or channel count, or an impossible size.
    """
    if images.dim() != 4 or images.shape[1] != 3:
        raise InputError(
            f"The model got images of shape {list(images.shape)}, but takes [N, 3, H, W]."
        )
    config.feature_sizes(images.shape[2], images.shape[3])
