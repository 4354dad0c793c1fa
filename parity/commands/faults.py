"""Faults of published ports, to be put into a faithful model one at a time: each must be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.commands.mistakes import zero_padded_pool
from torch_model.layers import ACTIVATIONS, BatchNorm2d, Conv2d, DepthwiseConv2d, MaxPool2d


@dataclass(frozen=True)
class Fault:
    """Something wrong with one module.

    Attributes:
        title: What is wrong, in words.
        slugs: Right names for it in a diagnosis.
        fits: Whether a module can have it.
        break_: Gives it to a module.
    """

    title: str
    slugs: frozenset[str]
    fits: Callable[[nn.Module], bool]
    break_: Callable[[Any], None]

    def place(self, model: nn.Module) -> str | None:
        """Path of the first module that can have it; None where there is none."""
        return next((path for path, module in model.named_modules() if self.fits(module)), None)


def _instead(function: Callable[..., Tensor]) -> Callable[[Any], None]:
    """Another function in the place of a module's own."""

    def change(module: Any) -> None:
        module.forward = partial(function, module)

    return change


def _zero_padded(pool: nn.Module, x: Tensor, size: tuple[int, int]) -> Tensor:
    return cast(Tensor, zero_padded_pool(x, size))


def _symmetric(conv: Conv2d, x: Tensor) -> Tensor:
    padding = tuple(size // 2 for size in conv.kernel_size)
    return F.conv2d(x, conv.weight, conv.bias, conv.stride, padding, groups=conv.groups)


def _unchanged(activation: nn.Module, x: Tensor) -> Tensor:
    return x.clone()


def _set_epsilon(norm: Any) -> None:
    norm.eps = 1e-5


def _transpose(conv: Any) -> None:
    with torch.no_grad():
        conv.weight.copy_(conv.weight.transpose(2, 3).clone())


def _no_momentum(norm: Any) -> None:
    # TensorFlow's 0.99 taken over as it is, where PyTorch means the opposite by it.
    norm.momentum = 0.99


def _nudge(conv: Any) -> None:
    with torch.no_grad():
        first = conv.weight[0, 0, 0, 0]
        first.copy_(torch.nextafter(first, torch.full_like(first, torch.inf)))


def _strided(module: nn.Module) -> bool:
    return isinstance(module, DepthwiseConv2d) and module.stride[0] == 2


FAULTS = (
    Fault(
        "max-pool padded with zeros instead of -inf",
        frozenset({"pool-zero-padding"}),
        lambda module: isinstance(module, MaxPool2d),
        _instead(_zero_padded),
    ),
    Fault(
        "symmetric padding at stride 2",
        frozenset({"padding-symmetric"}),
        _strided,
        _instead(_symmetric),
    ),
    Fault(
        "batch norm with PyTorch's epsilon",
        frozenset({"eps", "epsilon"}),
        lambda module: isinstance(module, BatchNorm2d),
        _set_epsilon,
    ),
    Fault(
        "an activation left out",
        frozenset({"left-out"}),
        lambda module: isinstance(module, tuple(ACTIVATIONS.values())),
        _instead(_unchanged),
    ),
    Fault(
        "depthwise kernel transposed",
        frozenset({"kernel-transposed", "parameter-transposed"}),
        lambda module: isinstance(module, DepthwiseConv2d),
        _transpose,
    ),
    Fault(
        "TensorFlow's momentum taken over as it is",
        frozenset({"momentum"}),
        lambda module: isinstance(module, BatchNorm2d),
        _no_momentum,
    ),
    Fault(
        "one weight off by its last bit",
        frozenset({"parameter-changed"}),
        lambda module: isinstance(module, Conv2d),
        _nudge,
    ),
)
"""All of them; the last two no inference shows, they are found in the candidate itself."""
