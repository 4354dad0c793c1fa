"""Batch norms taken into the convolutions before them, and what follows from fixed weights.

In evaluation a batch norm multiplies each channel and adds to it, as does a convolution with other
weights. These are computed in float64 and rounded once. The result is the model's own code with
other layers in some places, so that its wiring is written once.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from efficientdet_spec import FUSION_EPSILON, Cause, InputError, same_padding
from torch_model.backbone import EfficientNet, MBConvBlock
from torch_model.bifpn import BiFPNNode, Resample
from torch_model.heads import Head
from torch_model.layers import BatchNorm2d, Conv2d, Fuse, SeparableConv2d

_FOLLOWED: Mapping[type[nn.Module], Sequence[tuple[str, str]]] = MappingProxyType(
    {
        EfficientNet: (("stem_conv", "stem_bn"),),
        MBConvBlock: (
            ("expand_conv", "expand_bn"),
            ("depthwise_conv", "depthwise_bn"),
            ("project_conv", "project_bn"),
        ),
        Resample: (("conv", "bn"),),
        BiFPNNode: (("conv", "bn"),),
    }
)
"""By kind of module its convolutions, each with the batch norm that alone reads it."""


class FoldedConv2d(Conv2d):
    """Convolution with SAME padding and a bias, which pads nothing beforehand.

    Where SAME asks for one row or column more behind the image than before it, a kernel with a row
    or column of zeros before its first needs as many on either side, which the convolution itself
    adds. The padded copy of a large image costs more than the zeros.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As of :class:`torch_model.layers.Conv2d`."""
        (top, bottom), (left, right) = (
            same_padding(int(size), kernel, stride)
            for size, kernel, stride in zip(
                x.shape[-2:], self.kernel_size, self.stride, strict=True
            )
        )
        weight = self.weight
        if bottom > top or right > left:
            weight = F.pad(weight, (right - left, 0, bottom - top, 0))
            weight = weight.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, self.bias, self.stride, (bottom, right), groups=self.groups)


class FoldedFuse(nn.Module):
    """Weighted sum of feature maps whose weights are known.

    Args:
        shares: [number of inputs], or [number of inputs, C], what each input is multiplied by.
    """

    shares: Tensor

    def __init__(self, shares: Tensor) -> None:
        super().__init__()
        self.register_buffer("shares", shares if shares.dim() == 1 else shares[:, :, None, None])

    def forward(self, features: Sequence[Tensor], weights: Tensor | None) -> Tensor:
        """As of :class:`torch_model.layers.Fuse`; the weights given are those of the shares."""
        result = features[0] * self.shares[0]
        for number, feature in enumerate(features[1:], 1):
            result = result + feature * self.shares[number]
        return result


class FoldedHead(nn.Module):
    """A head whose convolutions are those of each level, since its batch norms are.

    Args:
        head: The head.
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        _require(head, Head)
        self.convs = nn.ModuleDict(
            {
                level: nn.ModuleList(
                    folded(conv, norms[level])
                    for conv, norms in zip(head.convs, head.bns, strict=True)
                )
                for level in head.bns[0]
            }
        )
        self.acts = head.acts
        self.residuals = head.residuals if head.survival_probability is not None else None
        self.predict = folded(head.predict, None)

    def forward(self, features: Mapping[int, Tensor]) -> list[Tensor]:
        """As of :class:`torch_model.heads.Head`."""
        return [self._level(f"P{level}", feature) for level, feature in features.items()]

    def _level(self, level: str, x: Tensor) -> Tensor:
        for repeat, (conv, act) in enumerate(zip(self.convs[level], self.acts, strict=True)):
            shortcut = x
            x = act(conv(x))
            if repeat and self.residuals is not None:
                x = self.residuals[repeat - 1](x, shortcut)
        return self.predict(x)


def folded(conv: Any, norm: Any) -> nn.Module:
    """A convolution together with the batch norm behind it, which stay as they are.

    Args:
        conv: A :class:`torch_model.layers.Conv2d` or ``SeparableConv2d``.
        norm: The batch norm; None where there is none.
    """
    if isinstance(conv, SeparableConv2d):
        _require(conv, SeparableConv2d)
        # What is added and multiplied behind both is so behind the second.
        result = copy.copy(conv)
        result._modules = {
            "depthwise": folded(conv.depthwise, None),
            "pointwise": folded(conv.pointwise, norm),
        }
        return result
    _require(conv, Conv2d)
    weight = conv.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().double()
    if norm is not None:
        _require(norm, BatchNorm2d)
        mean, variance = norm.running_mean, norm.running_var
        if mean is None or variance is None or not norm.affine:
            raise _unknown("a batch norm without statistics or parameters")
        factor = norm.weight.detach().double() / torch.sqrt(variance.double() + norm.eps)
        weight = weight * factor[:, None, None, None]
        bias = (bias - mean.double()) * factor + norm.bias.detach().double()
    result = FoldedConv2d(
        conv.in_channels,
        conv.out_channels,
        stride=conv.stride[0],
        groups=conv.groups,
        bias=norm is not None or conv.bias is not None,
    )
    result.kernel_size = conv.kernel_size
    result.weight = _fixed(weight.to(conv.weight.dtype))
    if result.bias is not None:
        result.bias = _fixed(bias.to(conv.weight.dtype))
    return result


def _require(module: nn.Module, kind: type[nn.Module]) -> None:
    """Refuse a module whose values do not say what it computes.

    Args:
        module: What is to be replaced.
        kind: What it is to compute, be it of a class derived from this one.
    """
    if type(module).forward is not kind.forward or "forward" in vars(module):
        raise _unknown(f"a {type(module).__name__} with a forward of its own")


def _unknown(what: str) -> InputError:
    return InputError(
        f"The model has {what}, of which the optimised form would not know what it computes; "
        f"optimise a model as load or convert gives it, or use this one eagerly.",
        Cause.MODEL,
    )


def _fixed(value: Tensor) -> nn.Parameter:
    if value.dim() == 4:
        value = value.contiguous(memory_format=torch.channels_last)
    return nn.Parameter(value, requires_grad=False)


def fold(model: Any) -> Any:
    """A copy of a model in which every convolution has taken in the batch norm behind it.

    It computes the same but for roundings, in evaluation mode alone.

    Args:
        model: A :class:`torch_model.model.EfficientDet`, which stays as it is.

    Raises:
        InputError: Some part of it is not this project's own, or has hooks, so that what it
            computes is not known from its values.
    """
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise _unknown(f"hooks at {name or 'its output'}")
    result = copy.deepcopy(model).eval().requires_grad_(False)
    result.class_head = FoldedHead(result.class_head)
    result.box_head = FoldedHead(result.box_head)
    for module in list(result.modules()):
        for conv, norm in _FOLLOWED.get(type(module), ()):
            if getattr(module, norm, None) is not None:
                setattr(module, conv, folded(getattr(module, conv), getattr(module, norm)))
                setattr(module, norm, nn.Identity())
        if isinstance(module, BiFPNNode) and module.weights is not None:
            _require(module.fuse, Fuse)
            module.fuse = FoldedFuse(_shares(module.fuse, module.weights))
    for module in list(result.modules()):
        for name, child in list(module.named_children()):
            if type(child) is not FoldedConv2d and isinstance(child, Conv2d):
                setattr(module, name, folded(child, None))
    return result


def _shares(fuse: Fuse, weights: Tensor) -> Tensor:
    """What a fusion's inputs are multiplied by in the end."""
    values = weights.detach().double()
    if fuse.fusion.is_softmax:
        shares = torch.softmax(values, dim=0)
    else:
        shares = torch.relu(values)
        shares = shares / (shares.sum(dim=0) + FUSION_EPSILON)
    return shares.to(weights.dtype)
