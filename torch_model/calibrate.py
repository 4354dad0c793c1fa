"""Batch-norm statistics that fit given weights, for models that were never trained.

What the order of a sum changes in double precision is far below the few digits that are kept, so
that they do not depend on the number of threads, nor should they on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from efficientdet_spec import EfficientDetConfig
from torch_model.model import build

_BITS = 12
"""Significant bits of a statistic, which is enough for a batch norm. Two orders of a sum differ by
some 1e-13 of it in double precision; that the one is rounded up and the other down takes a value
as close to the middle of two neighbours, which lie 2^-12 apart: one in a billion."""


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
    model.double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # In training mode a momentum of 1 keeps the statistics of the last batch alone.
            module.train()
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.from_numpy(images).double().permute(0, 3, 1, 2))
    buffers = {name for name, _ in model.named_buffers()}
    return {
        name: _rounded(value.numpy()) if name in buffers else value.float().numpy()
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values with a few significant bits."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(np.ldexp(mantissa, _BITS)), exponent - _BITS).astype(np.float32)
