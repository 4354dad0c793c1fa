"""Batch-norm statistics that fit given weights, for models that were never trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from efficientdet_spec import EfficientDetConfig
from torch_model.model import build

_SIZE = 256
"""Side of the calibration image in pixels; every level still has several positions to average."""


def calibrated_statistics(
    config: EfficientDetConfig, parameters: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """All parameters, with each batch norm's statistics those of its input on one seeded batch.

    Args:
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
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, 3, _SIZE // 8, _SIZE // 8, generator=generator)
    images = nn.functional.interpolate(coarse, size=(_SIZE, _SIZE), mode="bilinear")
    with torch.no_grad():
        model(images)
    return {
        name: value.numpy()
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
