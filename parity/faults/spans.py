"""A convolution that a batch norm was folded into: which of the two is wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from parity.faults.basics.case import ALL, Case, Site
from parity.faults.basics.operations import faithful


@torch.no_grad()
def before_norm(site: Site, x: Tensor, norm: Any, output: Tensor, limit: float) -> Case | None:
    """The case of the convolution alone: what it must have made if the batch norm is right.

    Args:
        site: The convolution, in float64.
        x: What it is given, [N, C, H, W].
        norm: The faithful batch norm behind it.
        output: What the candidate makes of both.
        limit: Roundings that both together may carry.

    Returns:
        The case; None where the batch norm cannot be undone.
    """
    variance, epsilon = norm.running_var.double(), float(norm.eps)
    scale = norm.weight.double() / torch.sqrt(variance + epsilon)
    if not bool(torch.isfinite(scale).all() and (scale.abs() > 0).all()):
        return None
    if output.dim() != 4 or output.shape[1] != len(scale):
        return None
    along = (1, -1, 1, 1)
    start = norm.running_mean.double().view(along)
    made = (output.double() - norm.bias.double().view(along)) / scale.view(along) + start
    return Case(
        **site.around(),
        arguments=(x.double().cpu(),),
        candidate=made.to(output.dtype),
        limit=limit,
    )


@torch.no_grad()
def behind_convolution(site: Site, alone: Case, output: Tensor) -> Case:
    """The case of the batch norm alone: what it must have made if the convolution is right.

    Args:
        site: The batch norm, in float64.
        alone: The case of the convolution, as :func:`before_norm` gives it.
        output: What the candidate makes of both.
    """
    made, _ = faithful(alone)(ALL)
    return Case(**site.around(), arguments=(made,), candidate=output, limit=alone.limit)
