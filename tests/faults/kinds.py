"""Kinds of faults in norms, activations, gates, sums, fusions, predictions, in three places each.

``early`` is in the backbone's first blocks, ``neck`` in the BiFPN, ``head`` in a head; what only
the backbone has is put in its first, middle and last part.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from faults.fault import (
    at,
    before,
    each_counts,
    fusions,
    instead,
    then,
    with_attention,
)
from torch import Tensor, nn

from efficientdet_spec import FUSION_EPSILON

Change = Callable[[nn.Module], None]

ACTIVATIONS_AT = {
    "early": "backbone.blocks.{early}.expand_act",
    "neck": "fpn.cells.{last}.nodes.{up4}.act",
    "head": "class_head.acts.0",
}
GATES_AT = {
    "early": "backbone.blocks.{early}.se.gate",
    "mid": "backbone.blocks.{mid}.se.gate",
    "late": "backbone.blocks.{late}.se.gate",
}
NORMS_AT = {
    "early": "backbone.blocks.{early}.depthwise_bn",
    "neck": "fpn.cells.{last}.nodes.{up4}.bn",
    "head": "box_head.bns.0.P4",
}
MEANS_AT = {key: place.replace("gate", "pool") for key, place in GATES_AT.items()}
SCALES_AT = {key: place.replace("gate", "scale") for key, place in GATES_AT.items()}
SUMS_AT = {
    "early": "backbone.blocks.{residual}.residual",
    "late": "backbone.blocks.{residual_late}.residual",
    "all": "backbone.*.residual",
}
FUSIONS_AT = {"first": 0, "second": 1, "last": -1}
PREDICTIONS_AT = {
    "class": "class_head.predict.pointwise",
    "box": "box_head.predict.pointwise",
}
ANYWHERE = {
    "early": "backbone.blocks.{early}.project_conv",
    "neck": "fpn.cells.{last}.nodes.{up4}.bn",
    "head": "box_head.convs.0.depthwise",
}


def everywhere(
    key: str, title: str, change: Change, where: Mapping[str, object], *slugs: str, **more: object
) -> list:
    """One kind of fault in each of its places."""
    return [
        at(
            f"{key}/{name}",
            title,
            change,
            fusions(each_counts, place) if isinstance(place, int) else place,
            *slugs,
            **more,
        )
        for name, place in where.items()
    ]


# Activations


def of(function: Callable[[Tensor], Tensor]) -> Change:
    """A function of the layer's input in its place."""
    return instead(lambda module, x: function(x))


def looked_up(function, low, high, count, how=torch.round):
    """The nearest entry, or the one before, of a table."""
    entries = function(torch.linspace(low, high, count, dtype=torch.float64)).float()

    def look_up(x: Tensor) -> Tensor:
        place = (x.clamp(low, high) - low) * ((count - 1) / (high - low))
        return entries[how(place).long()]

    return look_up


def interpolated(function, low, high, count):
    """Straight lines between the entries of a table."""
    entries = function(torch.linspace(low, high, count, dtype=torch.float64)).float()

    def look_up(x: Tensor) -> Tensor:
        place = (x.clamp(low, high) - low) * ((count - 1) / (high - low))
        first = place.floor().clamp(max=count - 2)
        a, b = entries[first.long()], entries[first.long() + 1]
        return a + (b - a) * (place - first)

    return look_up


def in_some(choose: Callable[[int], Tensor], function: Callable[[Tensor], Tensor]) -> Change:
    """A function of its input in the channels that are chosen, swish in the rest."""

    def compute(x: Tensor) -> Tensor:
        chosen = choose(x.shape[1]).view(1, -1, 1, 1)
        return torch.where(chosen, function(x), F.silu(x))

    return of(compute)


def first_third(count: int) -> Tensor:
    """The first third of the channels."""
    return torch.arange(count) < count // 3


def every_other(count: int) -> Tensor:
    """Every second channel."""
    return torch.arange(count) % 2 == 1


def scattered(count: int) -> Tensor:
    """Some channels without a pattern."""
    return torch.rand(count, generator=torch.Generator().manual_seed(2)) < 0.3


_SWISHES = (
    ("table", "Swish from a table", looked_up(F.silu, -8, 8, 256), "table"),
    (
        "table-floor",
        "Swish from the next lower entry of a table",
        looked_up(F.silu, -6, 6, 1000, torch.floor),
        "table",
    ),
    (
        "sigmoid-table",
        "Swish by a table of sigmoid",
        lambda x: x * looked_up(torch.sigmoid, -10, 10, 2048)(x),
        "table",
    ),
    ("table-linear", "Swish interpolated", interpolated(F.silu, -8, 8, 128), "table"),
    (
        "sigmoid-table-linear",
        "Sigmoid interpolated",
        lambda x: x * interpolated(torch.sigmoid, -8, 8, 64)(x),
        "table",
    ),
    (
        "sigmoid-half",
        "Swish with a sigmoid in float16",
        lambda x: x * torch.sigmoid(x.half()).to(x.dtype),
        "reduced-precision",
    ),
    (
        "sigmoid-bfloat16",
        "Swish with a sigmoid in bfloat16",
        lambda x: x * torch.sigmoid(x.bfloat16()).to(x.dtype),
        "reduced-precision",
    ),
    (
        "swish-half",
        "Swish in float16",
        lambda x: (x.half() * torch.sigmoid(x.half())).to(x.dtype),
        "reduced-precision",
    ),
    ("hard-swish", "Hard swish", lambda x: x * F.relu6(x + 3) / 6, "hard-swish"),
    (
        "hard-sigmoid-keras",
        "Swish with Keras' hard sigmoid",
        lambda x: x * (0.2 * x + 0.5).clamp(0, 1),
        "hard-swish",
    ),
    ("gelu", "GELU", F.gelu, "gelu"),
    ("gelu-tanh", "GELU by tanh", lambda x: F.gelu(x, approximate="tanh"), "gelu"),
    ("gelu-quick", "Quick GELU", lambda x: x * torch.sigmoid(1.702 * x), "gelu"),
    ("leaky-relu", "Leaky ReLU", lambda x: F.leaky_relu(x, 0.17), "leaky-relu"),
    ("elu", "ELU", lambda x: F.elu(x, 0.8), "elu"),
    ("selu", "SELU", F.selu, "elu"),
    ("celu", "CELU", lambda x: F.celu(x, 0.6), "celu"),
    ("mish", "Mish", F.mish, "mish"),
    ("softplus", "Softplus", lambda x: F.softplus(x, 3.0), "softplus"),
    ("softsign", "Softsign", F.softsign, "softsign"),
    ("tanh", "Tanh", torch.tanh, "tanh"),
    ("sigmoid", "Sigmoid alone", torch.sigmoid, "sigmoid"),
    ("swish-beta", "Swish with beta 1.15", lambda x: x * torch.sigmoid(1.15 * x), "other-slope"),
    ("swish-shifted", "Swish shifted", lambda x: x * torch.sigmoid(x + 0.4), "other-slope"),
    ("relu-squared", "Squared ReLU", lambda x: F.relu(x) ** 2, "relu-squared"),
    ("relu-capped", "ReLU capped", lambda x: x.clamp(0, 0.25), "clipped"),
    ("hard-tanh", "Hard tanh", lambda x: x.clamp(-0.2, 0.2), "clipped"),
    ("swish-clipped", "Swish clipped above", lambda x: F.silu(x).clamp(max=0.125), "clamped"),
    ("swish-floored", "Swish clipped below", lambda x: F.silu(x).clamp(min=-0.1), "clamped"),
    ("swish-of-clamped", "Swish of a clamped input", lambda x: F.silu(x.clamp(-0.3, 9)),
     "input-clamped", "clamped"),
    ("swish-by-tanh", "Swish by tanh", lambda x: x / 2 * (1 + torch.tanh(x / 2)),
     "poor-formula"),
    ("softmax-channels", "Softmax over channels", lambda x: x.softmax(1), "softmax"),
    ("softmax-pixels", "Softmax over pixels", lambda x: x.flatten(2).softmax(2).view_as(x),
     "softmax"),
    ("gated-by-neighbour", "Swish gated by the next channel",
     lambda x: x * torch.sigmoid(x.roll(-1, 1)), "gate-elsewhere"),
    ("gated-by-half", "A gated linear unit of the two halves",
     lambda x: x * torch.sigmoid(x.roll(x.shape[1] // 2, 1)), "gate-elsewhere"),
    ("prelu", "PReLU", lambda x: F.prelu(x, torch.linspace(0.1, 0.3, x.shape[1]).to(x)),
     "prelu"),
    ("swish-doubled", "Swish twice", lambda x: F.silu(F.silu(x)), "applied-twice"),
)  # fmt: skip

_SIGMOIDS = (
    ("table", "Sigmoid from a table", looked_up(torch.sigmoid, -8, 8, 512), "table"),
    ("linear", "Sigmoid interpolated", interpolated(torch.sigmoid, -8, 8, 64), "table"),
    (
        "half",
        "Sigmoid in float16",
        lambda x: torch.sigmoid(x.half()).to(x.dtype),
        "reduced-precision",
    ),
    ("hard", "Hard sigmoid", lambda x: F.relu6(x + 3) / 6, "hard-sigmoid"),
    ("hard-keras", "Keras' hard sigmoid", lambda x: (0.2 * x + 0.5).clamp(0, 1), "hard-sigmoid"),
    ("hard-other", "Another hard sigmoid", lambda x: (0.25 * x + 0.5).clamp(0, 1), "hard-sigmoid"),
    ("tanh", "(tanh + 1)/2", lambda x: (torch.tanh(x) + 1) / 2, "tanh"),
    ("steeper", "A steeper sigmoid", lambda x: torch.sigmoid(1.2 * x), "other-slope"),
    ("shifted", "A shifted sigmoid", lambda x: torch.sigmoid(x - 0.5), "other-slope"),
    ("inverse", "1 - sigmoid", lambda x: 1 - torch.sigmoid(x), "input-negated"),
    ("twice", "Sigmoid twice", lambda x: torch.sigmoid(torch.sigmoid(x)), "applied-twice"),
    ("doubled", "Sigmoid times two", lambda x: 2 * torch.sigmoid(x), "scaled"),
)

ACTIVATIONS = (
    *(
        fault
        for key, title, function, *slugs in _SWISHES
        for fault in everywhere(f"act-{key}", title, of(function), ACTIVATIONS_AT, *slugs)
    ),
    *(
        fault
        for key, title, function, *slugs in _SIGMOIDS
        for fault in everywhere(f"sigmoid-{key}", title, of(function), GATES_AT, *slugs)
    ),
    *(
        fault
        for key, choose, function in (
            ("first-third", first_third, torch.clone),
            ("every-other", every_other, F.relu),
            ("scattered", scattered, F.hardswish),
        )
        for fault in everywhere(
            f"act-part-{key}",
            "Another function in some channels",
            in_some(choose, function),
            ACTIVATIONS_AT,
            "part-of-channels",
        )
    ),
)

# Norms


def over(*axes: int, root_mean_square: bool = False, unbiased: bool = False, bare: bool = False):
    """Statistics of the input over some axes."""

    def norm(module: nn.Module, x: Tensor) -> Tensor:
        mean = x.mean(axes, keepdim=True)
        if root_mean_square:
            mean = torch.zeros_like(mean)
        power = (x - mean).pow(2)
        variance = power.mean(axes, keepdim=True)
        if unbiased:
            count = x.numel() // variance.numel()
            variance = variance * count / (count - 1)
        result = (x - mean) / torch.sqrt(variance + module.eps)
        if bare:
            return result
        return result * module.weight.view(1, -1, 1, 1) + module.bias.view(1, -1, 1, 1)

    return instead(norm)


def groups(choose: Callable[[int], int]) -> Change:
    """Group norm with a number of groups that follows from the channels."""
    return instead(
        lambda module, x: F.group_norm(
            x, choose(x.shape[1]), module.weight, module.bias, module.eps
        )
    )


def smallest_odd(channels: int) -> int:
    """The smallest divisor that is no power of two; else a half of the channels."""
    return next((n for n in range(3, channels) if channels % n == 0 and n & (n - 1)), channels // 2)


def folded(formula: Callable[..., Tensor]) -> Change:
    """A formula of the input, the deviation and the four vectors."""

    def norm(module: nn.Module, x: Tensor) -> Tensor:
        gamma, beta, mean, variance = (
            value.view(1, -1, 1, 1)
            for value in (module.weight, module.bias, module.running_mean, module.running_var)
        )
        return formula(x, gamma, beta, mean, variance, torch.sqrt(variance + module.eps))

    return instead(norm)


def stored(name: str, change: Callable[[Tensor], Tensor]) -> Change:
    """One of the stored values changed."""

    def apply(module: nn.Module) -> None:
        value = getattr(module, name)
        value.data = change(value.data.clone())

    return apply


def all_stored(change: Callable[[Tensor], Tensor]) -> Change:
    """All four stored values changed alike."""

    def apply(module: nn.Module) -> None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            stored(name, change)(module)

    return apply


def updated(share: float) -> Change:
    """Statistics that have moved towards those of what the layer is given."""

    def norm(module: nn.Module, x: Tensor) -> Tensor:
        mean = (1 - share) * module.running_mean + share * x.mean((0, 2, 3))
        variance = (1 - share) * module.running_var + share * x.var((0, 2, 3))
        return F.batch_norm(x, mean, variance, module.weight, module.bias, False, 0.0, module.eps)

    return instead(norm)


def read_as_nhwc(module: nn.Module, x: Tensor) -> Tensor:
    """The values along the last axis of the memory."""
    flat = x.contiguous().view(x.shape[0], -1, x.shape[1], 1)
    made = type(module).__mro__[1].forward(module, flat.transpose(1, 2))
    return made.transpose(1, 2).reshape(x.shape)


def half(x: Tensor) -> Tensor:
    """Rounded to float16."""
    return x.half().to(x.dtype)


_NORMS = (
    ("layer-pixel", "Layer norm over channels", over(1), "layer-norm"),
    ("layer-all", "Layer norm over channels and pixels", over(1, 2, 3), "group-statistics"),
    ("instance", "Instance norm", over(2, 3), "instance-statistics", "batch-statistics"),
    ("instance-bare", "Instance norm without gamma", over(2, 3, bare=True), "batch-statistics",
     "instance-statistics"),
    ("batch-unbiased", "Batch statistics, unbiased", over(0, 2, 3, unbiased=True),
     "batch-statistics"),
    ("rms-channels", "RMS norm over channels", over(1, root_mean_square=True), "rms-norm"),
    ("rms-all", "RMS norm over all", over(1, 2, 3, root_mean_square=True), "rms-norm"),
    ("group-2", "Group norm, 2 groups", groups(lambda n: 2), "group-statistics"),
    ("group-odd", "Group norm, an odd number of groups", groups(smallest_odd),
     "group-statistics"),
    ("epsilon", "Another epsilon", lambda module: setattr(module, "eps", 0.0042), "epsilon"),
    ("epsilon-none", "No epsilon", lambda module: setattr(module, "eps", 0.0), "epsilon"),
    ("epsilon-outside", "Epsilon outside the root",
     folded(lambda x, g, b, m, v, d: (x - m) * g / (v.sqrt() + 1e-3) + b), "epsilon-outside"),
    ("bias-scaled", "Folded with a scaled bias",
     folded(lambda x, g, b, m, v, d: x * g / d + (b - m) * g / d), "fold-error"),
    ("mean-not-scaled", "Folded with an unscaled mean",
     folded(lambda x, g, b, m, v, d: x * g / d + b - m), "fold-error"),
    ("mean-not-divided", "Folded with a mean that is not divided",
     folded(lambda x, g, b, m, v, d: x * g / d + b - m * g), "fold-error"),
    ("epsilon-in-scale-only", "Folded with epsilon in the scale alone",
     folded(lambda x, g, b, m, v, d: x * g / d + b - m * g / v.sqrt()), "fold-error"),
    ("gamma-in-scale-only", "Folded with gamma in the scale alone",
     folded(lambda x, g, b, m, v, d: x * g / d + b - m / d), "fold-error"),
    ("mean-missing", "Mean not subtracted", folded(lambda x, g, b, m, v, d: x * g / d + b),
     "mean-missing"),
    ("gamma-missing", "Gamma missing", folded(lambda x, g, b, m, v, d: (x - m) / d + b),
     "gamma-missing"),
    ("variance-as-deviation", "Variance for deviation",
     folded(lambda x, g, b, m, v, d: (x - m) * g / (v + 1e-3) + b),
     # Where each scale is its channel's deviation the two are one.
     "variance-as-deviation", "gamma-missing"),
    ("variance-unbiased", "Variance times 26/25", stored("running_var", lambda v: v * 26 / 25),
     "variance-scaled", "parameters-different", "parameters-scaled"),
    ("updated", "Statistics moved by a tenth", updated(0.1), "statistics-updated"),
    ("updated-thrice", "Statistics moved by three calls", updated(1 - 0.9**3),
     "statistics-updated"),
    ("statistics-half", "Variance in float16", stored("running_var", half),
     "parameters-rounded", "parameters-different"),
    ("all-half", "All values in float16", all_stored(half), "parameters-rounded",
     "parameters-different"),
    ("rolled", "Values moved by three channels", all_stored(lambda v: v.roll(3)),
     "parameters-permuted", "parameters-different"),
    ("shuffled", "Values in another order",
     all_stored(lambda v: v[torch.randperm(len(v), generator=torch.Generator().manual_seed(1))]),
     "parameters-permuted", "parameters-different"),
    ("twice", "Norm twice", then(lambda x: x), "applied-twice"),
    ("as-nhwc", "Memory read as NHWC", instead(read_as_nhwc), "parameters-along-other-axis"),
    ("half-lost", "Initial values in a third",
     lambda module: [
         getattr(module, name).data[: len(module.weight) // 3].fill_(value)
         for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1))
     ], "values-lost", "part-of-channels", "parameters-different", "parameters-ones"),
    ("mean-of-batch", "The batch's mean, the stored variance",
     instead(lambda module, x: F.batch_norm(
         x, x.mean((0, 2, 3)), module.running_var, module.weight, module.bias, False, 0.0,
         module.eps)), "half-statistics"),
)  # fmt: skip


def twice(module: nn.Module, x: Tensor) -> Tensor:
    """A layer applied to its own output."""
    forward = type(module).__mro__[1].forward
    return forward(module, forward(module, x))


NORMS = tuple(
    fault
    for key, title, change, *slugs in _NORMS
    for fault in everywhere(
        f"norm-{key}", title, instead(twice) if key == "twice" else change, NORMS_AT, *slugs
    )
)

# Squeeze-excite and residual sums


def part(choose: Callable[[Tensor], Tensor]) -> Change:
    """The mean over a part of the map."""
    return instead(lambda module, x: choose(x).mean((2, 3), keepdim=True))


_MEANS = (
    ("max", "Maximum for mean", lambda x: x.amax((2, 3), keepdim=True), "max-pool"),
    ("sum", "Sum for mean", lambda x: x.sum((2, 3), keepdim=True), "sum"),
    ("rows", "Mean over the middle rows",
     lambda x: x[:, :, x.shape[2] // 4 : -(x.shape[2] // 4) or None].mean((2, 3), keepdim=True),
     "mean-of-part"),
    ("without-first", "Mean without the first row",
     lambda x: x[:, :, 1:].mean((2, 3), keepdim=True), "mean-of-part"),
    ("corner", "Mean over a quarter",
     lambda x: x[:, :, : x.shape[2] // 2, : x.shape[3] // 2].mean((2, 3), keepdim=True),
     "mean-of-part"),
    ("both", "Mean plus maximum",
     lambda x: x.mean((2, 3), keepdim=True) + x.amax((2, 3), keepdim=True), "max-and-mean"),
)  # fmt: skip
_GATED = (
    ("added", "Gate added", lambda x, gate: x + gate, "gate-added"),
    ("residual", "1 + gate", lambda x, gate: x * (1 + gate), "gate-residual"),
    ("twice", "Gate twice", lambda x, gate: x * gate * gate, "gate-squared"),
    ("missing", "No gate", lambda x, gate: x, "left-out"),
    ("shifted", "Half the gate plus a half", lambda x, gate: x * (0.5 * gate + 0.5),
     "gate-affine"),
    ("more", "The gate plus 0.1", lambda x, gate: x * (gate + 0.1), "gate-affine"),
    ("permuted", "Gates two channels on", lambda x, gate: x * gate.roll(2, 1), "gate-permuted"),
    ("hard", "Gates of 0 and 1", lambda x, gate: x * gate.round(), "gate-rounded"),
    ("tanh", "Tanh of the gate", lambda x, gate: x * torch.tanh(gate), "gate-activated"),
    ("inverse", "1 - gate", lambda x, gate: x * (1 - gate), "gate-inverted"),
)  # fmt: skip
_SUMS = (
    ("missing", "No shortcut", lambda x, y: x, "shortcut-left-out"),
    ("alone", "No branch", lambda x, y: y.clone(), "branch-left-out"),
    ("doubled", "Shortcut twice", lambda x, y: x + 2 * y, "shortcut-twice"),
    ("drop-connect", "Drop-connect's factor", lambda x, y: x / 0.875 + y, "weighted"),
    ("both-scaled", "Branch and shortcut scaled", lambda x, y: 0.7 * x + 1.1 * y, "weighted"),
    ("relu", "ReLU after the sum", lambda x, y: F.relu(x + y), "activation-extra"),
    ("of-activated", "Swish of the shortcut", lambda x, y: x + F.silu(y), "shortcut-activated"),
    ("layer-scale", "A factor for each channel",
     lambda x, y: x * torch.linspace(0.1, 1, x.shape[1]).view(1, -1, 1, 1) + y, "branch-scaled"),
    ("reversed", "The shortcut's channels reversed", lambda x, y: x + y.flip(1),
     "shortcut-moved"),
    ("half", "The shortcut in half of the channels",
     lambda x, y: x + y * (torch.arange(x.shape[1]) < x.shape[1] // 2).view(1, -1, 1, 1),
     "part-of-channels", "shortcut-scaled"),
)  # fmt: skip

BRANCHES = (
    *(
        fault
        for key, title, function, *slugs in _MEANS
        for fault in everywhere(f"squeeze-{key}", title, of(function), MEANS_AT, *slugs)
    ),
    *(
        fault
        for key, title, function, *slugs in _GATED
        for fault in everywhere(
            f"gated-{key}", title, instead(lambda m, x, g, f=function: f(x, g)), SCALES_AT, *slugs
        )
    ),
    *(
        fault
        for key, title, function, *slugs in _SUMS
        for fault in everywhere(
            f"shortcut-{key}", title, instead(lambda m, x, y, f=function: f(x, y)), SUMS_AT, *slugs
        )
    ),
)

# Dropout


def dropped(rate: float, channels: bool = False, scaled: bool = True) -> Change:
    """Dropout that draws the same at every call."""

    def drop(x: Tensor) -> Tensor:
        shape = x.shape[:2] + ((1, 1) if channels else x.shape[2:])
        keep = torch.rand(shape, generator=torch.Generator().manual_seed(3)) >= rate
        return x * keep / (1 - rate if scaled else 1)

    return then(drop)


DROPOUT = (
    *everywhere("dropout", "Dropout left on", dropped(0.2), ACTIVATIONS_AT, "dropout"),
    *everywhere("dropout-rare", "Dropout of 0.01", dropped(0.01), ACTIVATIONS_AT, "dropout"),
    *everywhere(
        "dropout-channels", "Dropout of channels", dropped(0.25, True), ACTIVATIONS_AT, "dropout"
    ),
    *everywhere("zeroed", "Values zeroed", dropped(0.1, scaled=False), ACTIVATIONS_AT, "zeroed"),
)

# Fusion


def shares(function: Callable[[Tensor], Tensor]) -> Change:
    """The sum of the inputs times shares that a function makes of the weights."""

    def fuse(module: nn.Module, features: list[Tensor], weights: Tensor) -> Tensor:
        return sum(x * share for x, share in zip(features, function(weights), strict=True))

    return instead(fuse)


def normalised(positive: Tensor, epsilon: float = FUSION_EPSILON) -> Tensor:
    """Divided by their sum."""
    return positive / (positive.sum() + epsilon)


def of_inputs(function: Callable[[list[Tensor], Tensor], Tensor]) -> Change:
    """A function of the inputs and their shares."""
    return instead(
        lambda module, features, weights: function(features, normalised(torch.relu(weights)))
    )


def joined(features, each):
    """The inputs times their shares, added."""
    return sum(x * share for x, share in zip(features, each, strict=True))


_FUSIONS = (
    ("epsilon", "Epsilon 0.007", shares(lambda w: normalised(torch.relu(w), 0.007)),
     "fusion-epsilon"),
    ("epsilon-each", "Epsilon added to each", shares(lambda w: normalised(torch.relu(w) + 1e-4, 0)),
     "epsilon-each", "fusion-epsilon"),
    ("softmax", "Softmax", shares(lambda w: torch.softmax(w, 0)), "softmax"),
    ("twice", "Normalised twice", shares(lambda w: normalised(normalised(torch.relu(w)))),
     "normalised-twice"),
    ("not-normalised", "Not normalised", shares(torch.relu), "not-normalised"),
    ("sigmoid", "Sigmoid of the weights", shares(lambda w: normalised(torch.sigmoid(w))),
     "weights-function"),
    ("square", "Squares of the weights", shares(lambda w: normalised(w**2)), "weights-function"),
    ("exp", "Exponentials", shares(torch.exp), "weights-function"),
    ("largest", "Divided by the largest", shares(lambda w: torch.relu(w) / w.max()),
     "weights-normalised-otherwise"),
    ("sum", "A sum", shares(torch.ones_like), "plain-sum"),
    ("mean", "A mean", shares(lambda w: torch.ones_like(w) / len(w)), "plain-mean",
     "fast-attention-of-ones"),
    ("max", "The largest input", of_inputs(lambda f, s: torch.stack(f).amax(0)), "maximum"),
    ("min", "The smallest input", of_inputs(lambda f, s: torch.stack(f).amin(0)), "minimum"),
    ("reversed", "Shares reversed", of_inputs(lambda f, s: joined(f, s.flip(0))),
     "weights-permuted"),
    ("dropped", "First input dropped", of_inputs(lambda f, s: joined(f[1:], s[1:])),
     "input-missing"),
    ("doubled", "Last input doubled", of_inputs(lambda f, s: joined(f, s) + f[-1] * s[-1]),
     "input-multiplied"),
    ("swish-of-one", "Swish of one input",
     of_inputs(lambda f, s: joined([F.silu(f[0]), *f[1:]], s)), "inputs-activated"),
    ("given", "Shares of nobody", of_inputs(lambda f, s: joined(f, (0.9, 0.4, 0.2)[: len(f)])),
     "weights-other"),
    ("scaled", "Weights times ten", shares(lambda w: normalised(10 * torch.relu(w))),
     "fusion-epsilon", "scaled"),
)  # fmt: skip

FUSIONS = tuple(
    fault
    for key, title, change, *slugs in _FUSIONS
    for fault in everywhere(
        f"fuse-{key}", title, change, FUSIONS_AT, *slugs, applies=with_attention
    )
)

# Predictions


def anchors(reorder: Callable[[Tensor], Tensor]) -> Change:
    """Predictions as [anchors, values] in another order, nine anchors."""

    def apply(x: Tensor) -> Tensor:
        index = torch.arange(x.shape[1]).view(9, -1)
        return x[:, reorder(index).reshape(-1)]

    return then(apply)


_PREDICTIONS = (
    ("class-major", "Values before anchors", anchors(lambda i: i.T), "prediction-order"),
    ("anchors-shuffled", "Anchors in some order",
     anchors(lambda i: i[[3, 1, 8, 0, 4, 7, 2, 6, 5]]), "anchor-order"),
    ("anchors-reversed", "Anchors reversed", anchors(lambda i: i.flip(0)), "anchor-order"),
    ("values-moved", "Values moved by one", anchors(lambda i: i.roll(1, 1)), "class-order"),
    ("values-shuffled", "Values in another order",
     anchors(lambda i: i[:, torch.tensor([2, 0, 3, 1, *range(4, i.shape[1])])]), "class-order",
     "box-order"),
    ("sigmoid", "Sigmoid", then(torch.sigmoid), "activation-extra"),
    ("softmax", "Softmax of each anchor",
     then(lambda x: x.view(x.shape[0], 9, -1, *x.shape[2:]).softmax(2).view_as(x)), "softmax"),
    ("no-bias", "No bias", lambda module: module.bias.data.zero_(), "bias-missing",
     "parameters-zeros", "parameters-different"),
    ("prior-bias", "The initial bias", lambda module: module.bias.data.fill_(-4.595),
     "bias-constant", "parameters-different", "parameters-constant"),
    ("offset", "A prior added", then(lambda x: x - 4.595), "offset"),
    ("negated", "Sign", then(torch.neg), "negated"),
    ("by-level", "A factor for each level", then(lambda x: x * (1 + 0.01 * x.shape[2])),
     "scaled-by-level"),
)  # fmt: skip

PREDICTIONS = tuple(
    fault
    for key, title, change, *slugs in _PREDICTIONS
    for fault in everywhere(f"predict-{key}", title, change, PREDICTIONS_AT, *slugs)
)

# Batches


def some_images(function: Callable[[Tensor], Tensor]) -> Change:
    """A function of the second image's output."""
    return then(lambda x: torch.cat([x[:1], function(x[1:])]))


_BATCHES = (
    ("reversed", "Images reversed", then(lambda x: x.flip(0)), "images-reordered"),
    ("repeated", "First image for all", then(lambda x: x[:1].expand_as(x).clone()),
     "images-repeated"),
    ("last", "Last image for all", then(lambda x: x[-1:].expand_as(x).clone()),
     "images-repeated"),
    ("leak", "Mixed with the mean of the batch",
     then(lambda x: 0.9 * x + 0.1 * x.mean(0, keepdim=True)), "images-mixed"),
    ("leak-small", "Mixed a little with the mean of the batch",
     then(lambda x: 0.998 * x + 0.002 * x.mean(0, keepdim=True)), "images-mixed"),
    ("centred", "The batch's mean subtracted", then(lambda x: x - x.mean(0, keepdim=True)),
     "images-mixed"),
    ("one-into-other", "The first image added to the second",
     then(lambda x: torch.cat([x[:1], x[1:] + 0.25 * x[:1]])), "images-mixed"),
    ("relu-of-second", "ReLU of the second image", some_images(F.relu), "part-of-images"),
    ("scaled-second", "The second image scaled", some_images(lambda x: 1.2 * x),
     "part-of-images"),
    ("mean", "The batch's mean for all",
     then(lambda x: x.mean(0, keepdim=True).expand_as(x).clone()),
     "batch-reduced"),
)  # fmt: skip

BATCHES = (
    *(
        fault
        for key, title, change, *slugs in _BATCHES
        for fault in everywhere(f"batch-{key}", title, change, ANYWHERE, *slugs, images=2)
    ),
    *everywhere(
        "residual-drop-connect-on",
        "Drop-connect left on: one image's branch left out",
        before(lambda x: x * (torch.arange(len(x)) > 0).view(-1, 1, 1, 1) / 0.8),
        SUMS_AT,
        "drop-connect",
        images=2,
    ),
    *everywhere(
        "norm-batch-of-two", "Statistics of the batch", over(0, 2, 3), NORMS_AT,
        "batch-statistics", images=2,
    ),
    *everywhere(
        "squeeze-over-images", "Squeeze over the images too",
        of(lambda x: x.mean((0, 2, 3), keepdim=True).expand(len(x), -1, -1, -1)), MEANS_AT,
        "mean-over-other-axes", "batch-reduced", images=2,
    ),
    *everywhere(
        "gate-of-other-image", "The other image's gate",
        instead(lambda module, x, gate: x * gate.flip(0)), SCALES_AT, "gate-of-other-image",
        images=2,
    ),
)  # fmt: skip
