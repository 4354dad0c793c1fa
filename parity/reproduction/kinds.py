"""What each kind of node should compute, as text of plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from efficientdet_spec import FUSION_EPSILON, Activation, Fusion, NodeKind, same_padding
from parity.reproduction.computation import (
    CHANNELS,
    COLUMNS,
    FEATURES,
    IMAGES,
    INPUTS,
    OUTPUTS,
    ROWS,
    Along,
    Function,
    Tensor,
)
from parity.reproduction.sample import Sample


@dataclass(frozen=True)
class Plan:
    """A node as it should be.

    Attributes:
        tensors: Its inputs, and the model's parameters, by the names that functions take.
        maps: Names of its inputs among them, in order.
        right: The operation.
        magnitude: What the roundings of each output element act on.
        along: See :class:`~parity.reproduction.computation.Computation`.
        words: Numbers as text, which the text of what may be wrong names in braces.
    """

    tensors: Mapping[str, Tensor]
    maps: tuple[str, ...]
    right: Function
    magnitude: Function
    along: tuple[Along | None, Along | None] = (Along(), Along())
    words: Mapping[str, str] = field(default_factory=dict)


def plan_of(sample: Sample) -> Plan:
    """A node as it should be.

    Args:
        sample: The node.
    """
    return _PLANS[sample.kind](sample)


def convolved(
    plan_words: Mapping[str, str],
    takes: tuple[str, ...],
    *,
    pads: tuple[int, ...],
    weight: str = "weight",
    bias: str | None = "bias",
    stride: str | None = None,
    dilation: str | None = None,
    mode: str = "",
) -> tuple[str, ...]:
    """The lines of a convolution.

    Args:
        plan_words: Of the plan.
        takes: The tensors that there are.
        pads: Left, right, above, below.
        weight: Its kernel.
        bias: Its bias; None for none.
        stride: Another than the model's.
        dilation: As a pair in text; None for 1.
        mode: What it is padded with, as ``F.pad`` calls it; empty for zeros.
    """
    how = f', mode="{mode}"' if mode else ""
    padded = (f"x = F.pad(x, {tuple(pads)}{how})",) if any(pads) else ()
    given = bias if bias is not None and "bias" in takes else "None"
    more = f", dilation={dilation}" if dilation else ""
    more += ", groups=len(weight)" if plan_words["groups"] != "1" else ""
    return (
        *padded,
        f"F.conv2d(x, {weight}, {given}, stride={stride or plan_words['stride']}{more})",
    )


def _convolution(sample: Sample) -> Plan:
    layer = sample.layer
    depthwise = sample.kind is NodeKind.DEPTHWISE
    kernel = tuple(int(side) for side in sample.parameters["weight"].shape[2:])
    stride = tuple(int(step) for step in layer.stride)
    sizes = sample.inputs[0].shape[2:]
    (top, bottom), (left, right) = (
        same_padding(size, k, s) for size, k, s in zip(sizes, kernel, stride, strict=True)
    )
    pads = (left, right, top, bottom)
    axes = (CHANNELS, None) if depthwise else (OUTPUTS, INPUTS)
    x_axes = FEATURES if depthwise else (IMAGES, INPUTS, ROWS, COLUMNS)
    tensors = {
        "x": Tensor(sample.inputs[0], x_axes),
        "weight": Tensor(sample.parameters["weight"], (*axes, None, None)),
    }
    if "bias" in sample.parameters:
        tensors["bias"] = Tensor(sample.parameters["bias"], axes[:1])
    words = {
        "stride": str(stride),
        "groups": "len(weight)" if depthwise else "1",
    }
    takes = tuple(tensors)
    lines = convolved(words, takes, pads=pads)
    says = "Padded as TensorFlow's SAME." if any(pads) else "The convolution."
    sizes_only = tuple(f"{name} = {name}.abs()" for name in takes)
    return Plan(
        tensors,
        ("x",),
        Function(takes, lines, says),
        Function(takes, (*sizes_only, *lines), "The magnitudes of all terms of the sum."),
        (Along(stride[0], 1, top, kernel[0]), Along(stride[1], 1, left, kernel[1])),
        words,
    )


_STATISTICS = ("mean", "variance", "gamma", "beta")


def _batch_norm(sample: Sample) -> Plan:
    own = sample.parameters
    values = (own["running_mean"], own["running_var"], own["weight"], own["bias"])
    tensors = {"x": Tensor(sample.inputs[0], FEATURES)}
    tensors |= {
        name: Tensor(value, (CHANNELS,)) for name, value in zip(_STATISTICS, values, strict=True)
    }
    takes, eps = tuple(tensors), repr(float(sample.layer.eps))
    return Plan(
        tensors,
        ("x",),
        Function(
            takes,
            (f"F.batch_norm(x, mean, variance, gamma, beta, eps={eps})",),
            "(x - mean) * gamma / sqrt(variance + eps) + beta.",
        ),
        Function(
            takes,
            (
                "x, mean, gamma, beta = x.abs(), -mean.abs(), gamma.abs(), beta.abs()",
                f"F.batch_norm(x, mean, variance, gamma, beta, eps={eps})",
            ),
            "The magnitudes of all terms.",
        ),
        words={"epsilon": eps},
    )


_ACTIVATIONS: Mapping[Activation, tuple[str, str, str]] = {
    Activation.SWISH: (
        "x * torch.sigmoid(x)",
        "torch.maximum(y.abs(), (y * (1 + x * (1 - torch.sigmoid(x)))).abs())",
        "Swish.",
    ),
    Activation.RELU: ("F.relu(x)", "y.abs()", "ReLU."),
    Activation.RELU6: ("F.relu6(x)", "y.abs()", "ReLU6, which is flat above 6."),
    Activation.HARD_SWISH: (
        "x * F.relu6(x + 3) / 6",
        "torch.maximum(y.abs(), (x * (2 * x + 3) / 6).abs() * (x.abs() < 3))",
        "Hard swish.",
    ),
    Activation.MISH: (
        "x * torch.tanh(F.softplus(x))",
        "torch.maximum(y.abs(), (y + x * x * torch.sigmoid(x) * "
        "(1 - torch.tanh(F.softplus(x)) ** 2)).abs())",
        "Mish.",
    ),
}
"""By activation the function of x, its magnitude by x and its value y, and its name."""

_SIGMOID = ("torch.sigmoid(x)", "torch.maximum(y, (y * x * (1 - y)).abs())", "The gate's sigmoid.")


def _of_each(sample: Sample) -> Plan:
    gate = sample.kind is NodeKind.GATE
    value, magnitude, says = _SIGMOID if gate else _ACTIVATIONS[sample.layer.activation]
    return Plan(
        {"x": Tensor(sample.inputs[0], FEATURES)},
        ("x",),
        Function(("x",), (value,), says),
        Function(
            ("x",),
            (f"y = {value}", magnitude),
            "A rounding of x moves the value y by x times the slope.",
        ),
    )


def _mean(sample: Sample) -> Plan:
    return Plan(
        {"x": Tensor(sample.inputs[0], FEATURES)},
        ("x",),
        Function(("x",), ("x.mean((2, 3), keepdim=True)",), "Mean over height and width."),
        Function(("x",), ("x.abs().mean((2, 3), keepdim=True)",), "The mean of the magnitudes."),
        (None, None),
    )


def _scale(sample: Sample) -> Plan:
    features, gate = sample.inputs
    return Plan(
        {"x": Tensor(features, FEATURES), "gate": Tensor(gate, (IMAGES, CHANNELS, None, None))},
        ("x", "gate"),
        Function(("x", "gate"), ("x * gate",), "Features times one gate for each channel."),
        Function(("x", "gate"), ("(x * gate).abs()",), "The magnitude of the product."),
    )


def _add(sample: Sample) -> Plan:
    names = ("x", "shortcut")
    return Plan(
        {n: Tensor(value, FEATURES) for n, value in zip(names, sample.inputs, strict=True)},
        names,
        Function(names, ("x + shortcut",), "The residual's sum."),
        Function(names, ("x.abs() + shortcut.abs()",), "The magnitudes of both terms."),
    )


def summed(maps: tuple[str, ...], *, by_channel: bool = False) -> str:
    """``x0 * shares[0] + x1 * shares[1]`` of so many maps.

    Args:
        maps: Their names.
        by_channel: Whether each channel has shares of its own.
    """
    each = ".view(1, -1, 1, 1)" if by_channel else ""
    return " + ".join(f"{name} * shares[{i}]{each}" for i, name in enumerate(maps))


def _fuse(sample: Sample) -> Plan:
    maps = tuple(f"x{number}" for number in range(len(sample.inputs)))
    tensors = {
        name: Tensor(value, FEATURES) for name, value in zip(maps, sample.inputs, strict=True)
    }
    weighted = "weights" in sample.parameters
    kind = Fusion(sample.layer.fusion)
    if weighted:
        axes = (None, CHANNELS) if kind.is_per_channel else (None,)
        tensors["weights"] = Tensor(sample.parameters["weights"], axes)
    shares: tuple[str, ...]
    if kind is Fusion.SUM or not weighted:
        shares, says = (f"shares = torch.ones({len(maps)}, dtype=x0.dtype)",), "A plain sum."
    elif kind.is_softmax:
        shares, says = ("shares = torch.softmax(weights, 0)",), "Softmax attention."
    else:
        shares = (
            "shares = torch.relu(weights)",
            f"shares = shares / (shares.sum(0) + {FUSION_EPSILON!r})",
        )
        says = "Fast attention: relu of the weights, divided by their sum."
    takes = tuple(tensors)
    magnitudes = tuple(f"{name} = {name}.abs()" for name in maps)
    total = summed(maps, by_channel=weighted and kind.is_per_channel)
    return Plan(
        tensors,
        maps,
        Function(takes, (*shares, total), says),
        Function(takes, (*shares, *magnitudes, total), "The magnitudes of all terms."),
        words={"epsilon": repr(FUSION_EPSILON), "count": str(len(maps))},
    )


def _pool(sample: Sample) -> Plan:
    sizes, target = sample.inputs[0].shape[2:], sample.size
    stride = tuple((s - 1) // t + 1 for s, t in zip(sizes, target, strict=True))
    kernel = tuple(step + 1 for step in stride)
    (top, bottom), (left, right) = (
        same_padding(size, k, s) for size, k, s in zip(sizes, kernel, stride, strict=True)
    )
    half = tuple(side // 2 for side in kernel)
    words = {
        "pads": str((left, right, top, bottom)),
        "kernel": str(kernel),
        "stride": str(stride),
        "half": str(half),
        "around": str((half[1], half[1], half[0], half[0])),
    }
    lines = (
        f'x = F.pad(x, {words["pads"]}, value=float("-inf"))',
        f"F.max_pool2d(x, {kernel}, {stride})",
    )
    return Plan(
        {"x": Tensor(sample.inputs[0], FEATURES)},
        ("x",),
        Function(("x",), lines, "Max-pool, padded as TensorFlow's SAME: with -inf."),
        Function(("x",), ("right(x).abs()",), "A value is taken as it is, without rounding."),
        (Along(stride[0], 1, top, kernel[0]), Along(stride[1], 1, left, kernel[1])),
        words,
    )


def _upsample(sample: Sample) -> Plan:
    sizes, target = sample.inputs[0].shape[2:], sample.size
    times = [goal // size for goal, size in zip(target, sizes, strict=True)]
    whole = all(n * size == goal for n, size, goal in zip(times, sizes, target, strict=True))
    size = f"(x.shape[2] * {times[0]}, x.shape[3] * {times[1]})" if whole else str(tuple(target))
    along = (Along(up=times[0]), Along(up=times[1])) if whole else (None, None)
    return Plan(
        {"x": Tensor(sample.inputs[0], FEATURES)},
        ("x",),
        Function(("x",), (f'F.interpolate(x, size={size}, mode="nearest")',), "Nearest pixels."),
        Function(("x",), ("right(x).abs()",), "A value is taken as it is, without rounding."),
        along,
        {"size": size},
    )


_PLANS: Mapping[NodeKind, Callable[[Sample], Plan]] = {
    NodeKind.CONV: _convolution,
    NodeKind.DEPTHWISE: _convolution,
    NodeKind.BATCH_NORM: _batch_norm,
    NodeKind.ACTIVATION: _of_each,
    NodeKind.GATE: _of_each,
    NodeKind.MEAN: _mean,
    NodeKind.SCALE: _scale,
    NodeKind.ADD: _add,
    NodeKind.FUSE: _fuse,
    NodeKind.POOL: _pool,
    NodeKind.UPSAMPLE: _upsample,
}
"""What makes the plan of each kind."""


def other_values(kind: NodeKind, plan: Plan, values: Mapping[str, Any]) -> dict[str, Tensor]:
    """The candidate's parameters that are others than the model's, by the plan's names.

    Args:
        kind: Of the node.
        plan: The node as it should be.
        values: The candidate's parameters by the names of the layers' attributes.
    """
    names = {"weight": "weight", "bias": "bias"}
    if kind is NodeKind.BATCH_NORM:
        attributes = ("running_mean", "running_var", "weight", "bias")
        names = dict(zip(attributes, _STATISTICS, strict=True))
    found = {}
    for attribute, name in names.items():
        ours, theirs = plan.tensors.get(name), values.get(attribute)
        if ours is None or theirs is None or ours.values.shape != theirs.shape:
            continue
        if not (ours.values == theirs).all():
            found[name] = Tensor(theirs, ours.axes)
    return found
