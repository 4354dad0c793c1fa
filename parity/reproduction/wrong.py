"""What a candidate may compute at a node, as text of plain PyTorch.

By what a diagnosis is called, by the candidate's settings, by its parameters, by what it reads. All
of it is only proposed here: what does not reproduce the candidate's whole output is not taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np

from efficientdet_spec import NodeKind
from parity.reproduction.computation import Function, Tensor
from parity.reproduction.kinds import Plan, convolved, other_values, summed
from parity.reproduction.sample import Sample
from parity.results.records.nodes import Suspect


@dataclass(frozen=True)
class Wrong:
    """One way in which the candidate may compute the node.

    Attributes:
        function: It.
        tensors: What it takes besides the plan's.
    """

    function: Function
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


Lines = tuple[str, ...]

_PROPOSED = "proposed"
"""Stands for what a function says until it is known to be what is wrong."""

_LIKELY = ("F.relu", "F.silu", "F.relu6", "F.hardswish", "F.mish")
"""Activations that models have."""

_FUNCTIONS: Mapping[str, Lines] = {
    "relu": ("F.relu({})",),
    "left-out-or-relu": ("{}",),
    "swish": ("F.silu({})",),
    "sigmoid": ("torch.sigmoid({})",),
    "relu6": ("F.relu6({})",),
    "leaky-relu": ("F.leaky_relu({}, 0.01)", "F.leaky_relu({}, 0.1)", "F.leaky_relu({}, 0.2)"),
    "gelu": ("F.gelu({})", 'F.gelu({}, approximate="tanh")'),
    "hard-swish": ("F.hardswish({})",),
    "hard-sigmoid": ("F.hardsigmoid({})", "(0.2 * {} + 0.5).clamp(0, 1)"),
    "tanh": ("torch.tanh({})", "(torch.tanh({}) + 1) / 2"),
    "elu": ("F.elu({})", "F.selu({})"),
    "mish": ("F.mish({})",),
    "softplus": ("F.softplus({})",),
    "softsign": ("F.softsign({})",),
    "absolute": ("torch.abs({})",),
    "square": ("torch.square({})",),
    "exponential": ("torch.exp({})",),
}
"""Functions of each value by the names that the catalogue of faults gives them."""

_OF_EACH: Mapping[str, Lines] = {
    **{slug: tuple(text.format("x") for text in texts) for slug, texts in _FUNCTIONS.items()},
    "left-out": ("x",),
    "applied-twice": ("right(right(x))",),
    "input-negated": ("right(-x)",),
    "softmax": ("torch.softmax(x, 1)",),
    "other-slope": ("x * torch.sigmoid({number} * x)", "torch.sigmoid({number} * x)"),
    "clipped": ("x.clamp(0.0, {number})",),
    "input-clamped": ("right(x.clamp(-{number}, {number}))",),
}

_NORM = "F.batch_norm(x, {mean}, {variance}, {gamma}, {beta}, eps={eps})"


def _norm(**other: str) -> str:
    names = {name: name for name in ("mean", "variance", "gamma", "beta")}
    return _NORM.format(**{**names, "eps": "{epsilon}", **other})


_BATCH_NORM: Mapping[str, Lines] = {
    "epsilon": (_norm(eps="{number}"),),
    "eps": (_norm(eps="{number}"),),
    "gamma-missing": (_norm(gamma="None"),),
    "beta-missing": (_norm(beta="None"),),
    "affine-missing": (_norm(gamma="None", beta="None"),),
    "mean-missing": (_norm(mean="0 * mean"),),
    "variance-missing": (
        _norm(variance="torch.ones_like(variance)"),
        _norm(variance="torch.ones_like(variance)", eps="0.0"),
    ),
    "statistics-missing": (_norm(mean="0 * mean", variance="torch.ones_like(variance)"),),
    "deviation-as-variance": (_norm(variance="variance.sqrt()"),),
    "variance-as-deviation": (
        _norm(variance="(variance + {epsilon}).square()", eps="0.0"),
        _norm(variance="variance.square()"),
    ),
    "epsilon-outside": (_norm(variance="(variance.sqrt() + {epsilon}).square()", eps="0.0"),),
    "gamma-plus-one": (_norm(gamma="gamma + 1"),),
    "gamma-absolute": (_norm(gamma="gamma.abs()"),),
    "mean-added": (_norm(mean="-mean"),),
    "beta-subtracted": (_norm(beta="-beta"),),
    "beta-scaled": (_norm(beta="beta * gamma"),),
    "batch-statistics": ("F.batch_norm(x, None, None, gamma, beta, training=True, eps={epsilon})",),
    "training-mode": ("F.batch_norm(x, None, None, gamma, beta, training=True, eps={epsilon})",),
    "left-out": ("x",),
}

_FUSION: Mapping[str, Lines] = {
    "fast-attention": (
        "torch.relu(weights) / (torch.relu(weights).sum(0) + {number})",
        "torch.relu(weights) / (torch.relu(weights).sum(0) + {epsilon})",
    ),
    "fusion-epsilon": ("torch.relu(weights) / (torch.relu(weights).sum(0) + {number})",),
    "no-relu": ("weights / (weights.sum(0) + {epsilon})", "weights / weights.sum(0)"),
    "softmax": ("torch.softmax(weights, 0)",),
    "not-normalised": ("torch.relu(weights)", "weights"),
    "weights-function": tuple(
        text.format(f"{function}(weights)")
        for function in ("F.softplus", "torch.sigmoid", "torch.abs", "F.silu", "F.relu6")
        for text in ("{0} / ({0}.sum(0) + {{epsilon}})", "{0}")
    ),
    "weights-scaled": ("{count} * torch.relu(weights) / (torch.relu(weights).sum(0) + {epsilon})",),
    "epsilon-each": (
        "(torch.relu(weights) + {epsilon}) / (torch.relu(weights) + {epsilon}).sum(0)",
    ),
    "weights-of-one-channel": tuple(
        text.format(one)
        for one in ("weights.mean(1)", "weights[:, 0]", "weights[:, -1]", "weights.amax(1)")
        for text in (
            "torch.relu({0}) / (torch.relu({0}).sum(0) + {{epsilon}})",
            "torch.softmax({0}, 0)",
        )
    ),
    "plain-sum": ("torch.ones({count}, dtype=x0.dtype)",),
    "plain-mean": ("torch.ones({count}, dtype=x0.dtype) / {count}",),
    "fast-attention-of-ones": ("torch.ones({count}, dtype=x0.dtype) / ({count} + {epsilon})",),
}
"""The shares of a fusion's inputs."""

_MEAN: Mapping[str, Lines] = {
    "max-pool": ("x.amax((2, 3), keepdim=True)",),
    "min-pool": ("x.amin((2, 3), keepdim=True)",),
    "sum": ("x.sum((2, 3), keepdim=True)",),
    "centre": ("x[:, :, x.shape[2] // 2, x.shape[3] // 2, None, None]",),
    "corner": ("x[:, :, :1, :1]", "x[:, :, -1:, -1:]"),
    "max-and-mean": (
        "(right(x) + x.amax((2, 3), keepdim=True)) / 2",
        "right(x) + x.amax((2, 3), keepdim=True)",
    ),
    "mean-of-magnitudes": ("right(x.abs())",),
    "mean-of-squares": ("right(x.square())",),
    "root-mean-square": ("right(x.square()).sqrt()",),
    "mean-activated": tuple(f"right({function}(x))" for function in _LIKELY),
}

_SCALE: Mapping[str, Lines] = {
    "left-out": ("x",),
    "gate-added": ("x + gate",),
    "gate-squared": ("x * gate * gate",),
    "gate-residual": ("x + x * gate",),
    "gate-inverted": ("x * (1 - gate)",),
    "gate-divided": ("x / gate",),
    "gate-activated": ("x * torch.sigmoid(gate)",),
    "gate-root": ("x * gate.clamp(min=0).sqrt()",),
    "gate-reversed": ("x * gate.flip(1)",),
    "gate-averaged": ("x * gate.mean(1, keepdim=True)",),
}

_ADD: Mapping[str, Lines] = {
    "left-out": ("x", "shortcut"),
    "shortcut-left-out": ("x",),
    "branch-left-out": ("shortcut",),
    "averaged": ("(x + shortcut) / 2",),
    "subtracted": ("x - shortcut", "shortcut - x"),
    "multiplied": ("x * shortcut",),
    "shortcut-twice": ("x + shortcut + shortcut",),
    "branch-twice": ("x + x + shortcut",),
    "maximum": ("torch.maximum(x, shortcut)",),
    "root-half": ("(x + shortcut) / 2**0.5",),
    "branch-activated": tuple(f"{function}(x) + shortcut" for function in _LIKELY),
    "weighted": ("{number} * x + shortcut", "x + {number} * shortcut"),
}

_POOL: Mapping[str, Lines] = {
    "pool-zero-padding": ("F.max_pool2d(F.pad(x, {pads}, value=0.0), {kernel}, {stride})",),
    "pool-kernel-is-stride": (
        "F.max_pool2d(x, {stride}, {stride})",
        "F.max_pool2d(x, {stride}, {stride}, ceil_mode=True)",
    ),
    "pool-padding-symmetric": (
        "F.max_pool2d(x, {kernel}, {stride}, padding={half})",
        "F.max_pool2d(F.pad(x, {around}), {kernel}, {stride})",
    ),
    "pool-padding-none": (
        "F.max_pool2d(x, {kernel}, {stride})",
        "F.max_pool2d(x, {kernel}, {stride}, ceil_mode=True)",
    ),
    "min-pool": ("-right(-x)",),
    "average-pool": (
        "F.avg_pool2d(F.pad(x, {pads}), {kernel}, {stride}) "
        "/ F.avg_pool2d(F.pad(torch.ones_like(x), {pads}), {kernel}, {stride})",
        "F.avg_pool2d(F.pad(x, {pads}), {kernel}, {stride})",
        "F.avg_pool2d(x, {stride}, {stride})",
        "F.avg_pool2d(x, {kernel}, {stride}, padding={half})",
        "F.avg_pool2d(x, {kernel}, {stride}, padding={half}, count_include_pad=False)",
    ),
    "subsampled": ("x[:, :, ::2, ::2]", "x[:, :, 1::2, 1::2]"),
}

_UPSAMPLE: Mapping[str, Lines] = {
    "nearest-exact": ('F.interpolate(x, size={size}, mode="nearest-exact")',),
    "bilinear": (
        'F.interpolate(x, size={size}, mode="bilinear")',
        'F.interpolate(x, size={size}, mode="bilinear", align_corners=True)',
    ),
    "bicubic": (
        'F.interpolate(x, size={size}, mode="bicubic")',
        'F.interpolate(x, size={size}, mode="bicubic", align_corners=True)',
    ),
    "area": ('F.interpolate(x, size={size}, mode="area")',),
}

_TABLES: Mapping[NodeKind, Mapping[str, Lines]] = {
    NodeKind.BATCH_NORM: _BATCH_NORM,
    NodeKind.ACTIVATION: _OF_EACH,
    NodeKind.GATE: _OF_EACH,
    NodeKind.MEAN: _MEAN,
    NodeKind.SCALE: _SCALE,
    NodeKind.ADD: _ADD,
    NodeKind.POOL: _POOL,
    NodeKind.UPSAMPLE: _UPSAMPLE,
}

_KERNELS: Mapping[str, Lines] = {
    "kernel-transposed": ("weight.mT",),
    "parameters-transposed": ("weight.mT",),
    "kernel-flipped": ("weight.flip(2, 3)", "weight.flip(2)", "weight.flip(3)"),
    "kernel-rotated": ("torch.rot90(weight, 1, (2, 3))", "torch.rot90(weight, 3, (2, 3))"),
    "kernel-negated": ("-weight",),
    "kernel-zero": ("0 * weight",),
}
_BIASES: Mapping[str, str | None] = {
    "bias-missing": None,
    "bias-twice": "2 * bias",
    "bias-negated": "-bias",
    "bias-reversed": "bias.flip(0)",
}
_MODES = {"padding-reflect": "reflect", "padding-replicate": "replicate",
          "padding-circular": "circular"}  # fmt: skip


def proposals(sample: Sample, plan: Plan, suspect: Suspect | None) -> Iterator[Wrong]:
    """What the candidate may compute, the most telling first.

    Args:
        sample: The node.
        plan: What it should compute.
        suspect: What is known of it.
    """
    if sample.read:
        yield from _of_other_nodes(sample, plan)
    if suspect is not None and suspect.slug:
        yield from _by_name(sample, plan, suspect.slug, suspect.diagnosis or "")
    yield from _by_settings(sample, plan)
    yield from _by_parameters(sample, plan)


def _made(plan: Plan, *lines: str, more: Mapping[str, Tensor] | None = None) -> Wrong:
    """A function of what the lines name."""
    more = more or {}
    words = set(re.findall(r"\w+", " ".join(lines)))
    known = (*plan.tensors, *more)
    return Wrong(Function(tuple(n for n in known if n in words), lines, _PROPOSED), more)


def _right(plan: Plan, instead: Mapping[str, str] | None = None) -> str:
    """A call of the right function, with some of its arguments replaced."""
    instead = instead or {}
    return f"right({', '.join(instead.get(name, name) for name in plan.right.takes)})"


def _by_name(sample: Sample, plan: Plan, slug: str, title: str) -> Iterator[Wrong]:
    """By what a diagnosis is called; numbers are those that it tells."""
    if slug == "activation-extra":
        for texts in _FUNCTIONS.values():
            for text in texts:
                yield _made(plan, text.format(_right(plan)))
        return
    if slug == "zero":
        yield _made(plan, f"0 * {_right(plan)}")
    if sample.kind in (NodeKind.CONV, NodeKind.DEPTHWISE):
        yield from _convolutions(sample, plan, slug)
        return
    if sample.kind is NodeKind.FUSE:
        yield from _fusions(plan, slug, title)
        return
    for text in _in_numbers(_TABLES[sample.kind].get(slug, ()), plan, title):
        yield _made(plan, text)


def _fusions(plan: Plan, slug: str, title: str) -> Iterator[Wrong]:
    for text in _in_numbers(_FUSION.get(slug, ()), plan, title):
        if "weights" in plan.tensors or "weights" not in text:
            by_channel = (
                len(plan.tensors["weights"].axes) > 1 if "weights" in plan.tensors else False
            )
            yield _made(plan, f"shares = {text}", summed(plan.maps, by_channel=by_channel))
    if slug == "inputs-activated":
        for function in _LIKELY:
            names = ", ".join(plan.maps)
            changed = ", ".join(f"{function}({name})" for name in plan.maps)
            yield _made(plan, f"{names} = {changed}", _right(plan))
    if slug == "weights-permuted":
        for order in permutations(range(len(plan.maps))):
            yield _made(plan, f"weights = weights[{list(order)}]", _right(plan))
    for name in plan.maps:
        if slug == "input-missing":
            yield _made(plan, f"{name} = 0 * {name}", _right(plan))
        if slug == "input-multiplied":
            for text in _in_numbers(("{number}",), plan, title):
                yield _made(plan, f"{name} = {text} * {name}", _right(plan))


def _in_numbers(texts: Sequence[str], plan: Plan, title: str) -> Iterator[str]:
    """Texts with the plan's words, and with each number of a title where they have a place."""
    numbers = re.findall(r"(?<![\w.])-?\d+\.?\d*(?:e[-+]?\d+)?(?!\w)", title)
    for text in texts:
        for number in numbers if "{number}" in text else [""]:
            yield text.format(number=repr(float(number)) if number else "", **plan.words)


def _convolutions(sample: Sample, plan: Plan, slug: str) -> Iterator[Wrong]:
    takes = plan.right.takes
    pads = _pads_of(plan)
    rows, columns = (int(side) for side in sample.parameters["weight"].shape[2:])
    around = (columns // 2, columns // 2, rows // 2, rows // 2)

    def other(**changes: Any) -> Wrong:
        return _made(plan, *convolved(plan.words, takes, **{"pads": pads, **changes}))

    if slug == "padding-symmetric":
        yield other(pads=around)
    if slug == "padding-none":
        yield other(pads=(0, 0, 0, 0))
    if slug in _MODES:
        yield other(mode=_MODES[slug])
        yield other(mode=_MODES[slug], pads=around)
    if slug in _BIASES:
        yield other(bias=_BIASES[slug])
    for text in _KERNELS.get(slug, ()):
        yield other(weight=text)
    if slug == "dilation":
        for dilation in (2, 3):
            wide = tuple(dilation * side for side in around)
            for padding in dict.fromkeys((wide, pads)):
                yield other(dilation=str((dilation, dilation)), pads=padding)


def _pads_of(plan: Plan) -> tuple[int, ...]:
    """The padding that the right function has: left, right, above, below."""
    found = re.search(r"F\.pad\(x, \(([^)]*)\)", " ".join(plan.right.lines))
    return tuple(int(side) for side in found[1].split(",")) if found else (0, 0, 0, 0)


def _by_settings(sample: Sample, plan: Plan) -> Iterator[Wrong]:
    told = sample.settings
    if sample.kind is NodeKind.BATCH_NORM and isinstance(told.get("eps"), float):
        yield _made(plan, _norm(eps=repr(told["eps"])))
    if not {"stride", "padding", "kernel", "dilation", "padded with"} <= told.keys():
        return
    pads = tuple(int(side) for side in told["padding"])
    fill, stride, dilation = told["padded with"], tuple(told["stride"]), tuple(told["dilation"])
    if sample.kind is NodeKind.POOL:
        if isinstance(fill, float | int):
            value = 'float("-inf")' if fill == -np.inf else repr(float(fill))
            padded = f"F.pad(x, {pads}, value={value})" if any(pads) else "x"
            yield _made(
                plan,
                f"F.max_pool2d({padded}, {tuple(told['kernel'])}, {stride}, "
                f"dilation={dilation}, ceil_mode={bool(told['ceil_mode'])})",
            )
        return
    own = tuple(int(side) for side in sample.parameters["weight"].shape[2:])
    if tuple(told["kernel"]) != own or told["transposed"]:
        return
    mode = {"reflection": "reflect", "replication": "replicate"}.get(str(fill), "")
    lines = convolved(
        plan.words,
        plan.right.takes,
        pads=pads,
        stride=str(stride),
        dilation=str(dilation) if set(dilation) != {1} else None,
        mode=mode,
    )
    yield _made(plan, *lines)


def _by_parameters(sample: Sample, plan: Plan) -> Iterator[Wrong]:
    """The right function with the candidate's own parameters, or epsilon."""
    eps = sample.theirs.get("eps")
    norm = sample.kind is NodeKind.BATCH_NORM
    if norm and eps is not None and repr(eps) != plan.words["epsilon"]:
        yield _made(plan, _norm(eps=repr(float(eps))))
    others = other_values(sample.kind, plan, sample.theirs)
    if others and sample.kind is not NodeKind.FUSE:
        names = {name: f"candidate_{name}" for name in others}
        more = {names[name]: tensor for name, tensor in others.items()}
        yield _made(plan, _right(plan, names), more=more)
    bias = sample.theirs.get("bias")
    convolution = sample.kind in (NodeKind.CONV, NodeKind.DEPTHWISE)
    if convolution and "bias" not in plan.tensors and bias is not None:
        axes = plan.tensors["weight"].axes[:1]
        if bias.shape == sample.parameters["weight"].shape[:1]:
            more = {"candidate_bias": Tensor(bias, axes)}
            added = f"{_right(plan)} + candidate_bias.view(1, -1, 1, 1)"
            yield _made(plan, added, more=more)


def _of_other_nodes(sample: Sample, plan: Plan) -> Iterator[Wrong]:
    """The right function of what other nodes make."""
    read = list(sample.read.items())
    if len(read) != len(plan.maps):
        return
    for order in permutations(read):
        names: dict[str, str] = {}
        more: dict[str, Tensor] = {}
        for name, source, (node, values) in zip(plan.maps, sample.sources, order, strict=True):
            own = plan.tensors[name]
            if node == source:
                continue
            if values.shape != own.values.shape:
                break
            names[name] = f"{name}_read"
            more[names[name]] = Tensor(values, own.axes)
        else:
            if names:
                yield _made(plan, _right(plan, names), more=more)
