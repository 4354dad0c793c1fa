"""Reads and writes a node's values in the tensor that holds them, in whatever layout."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from parity.process.arrays import Array
from parity.sides.observed.layouts import Layout


def nchw_of(tensor: Tensor, layout: Layout) -> Tensor:
    """A node's values as [N, C, H, W].

    Args:
        tensor: The tensor that holds them.
        layout: How it does.
    """
    values = tensor.reshape(layout.apart).permute(layout.to((0, 3, 1, 2)))
    return values if layout.channels is None else values[:, list(layout.channels)]


def put(tensor: Tensor, array: Array, layout: Layout) -> None:
    """Write a node's values into the tensor that is to hold them.

    Args:
        tensor: The tensor.
        array: [N, H, W, C].
        layout: How the tensor holds them.
    """
    # PyTorch warns of memory that is not writable, even where it only reads.
    source = torch.from_numpy(array if array.flags.writeable else array.copy())
    if layout.channels is not None:
        source = source[..., np.argsort(layout.channels)]
    with torch.no_grad():
        tensor.copy_(source.permute(layout.order).reshape(tensor.shape))
