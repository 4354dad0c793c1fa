"""Batch-norm statistics that fit given weights, for models that were never trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from efficientdet_spec import EfficientDetConfig
from torch_model.model import build


def calibrated_statistics(
    images: NDArray[np.float32],
    config: EfficientDetConfig,
    parameters: Mapping[str, NDArray[Any]],
) -> dict[str, NDArray[Any]]:
    """All parameters, with each batch norm's statistics those of its input on some images.

    Args:
        images: [N, H, W, 3], normalised, of the kind that the model will be used on; large
            enough that the coarsest level has several positions to average.
        config: The model.
        parameters: Arrays by name; the statistics may be missing.
    """
    model = build(config)
    tensors = {name: torch.from_numpy(array) for name, array in parameters.items()}
    model.load_state_dict(tensors, strict=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # In training mode a momentum of 1 keeps the statistics of the last batch alone.
            module.train()
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.from_numpy(images).permute(0, 3, 1, 2))
    return {
        name: value.numpy()
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
