"""Faults in what the BiFPN's resampling and fusion compute."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from faults.fault import (
    Context,
    Fault,
    at,
    each_counts,
    fusions,
    instead,
    named,
    one_is_negative,
    places,
    with_attention,
    with_plain_sum,
)
from torch import Tensor, nn

from efficientdet_spec import FUSION_EPSILON, Fusion
from torch_model import EfficientDet
from torch_model.layers import pad_same

Size = tuple[int, int]


def pooling(x: Tensor, size: Size) -> tuple[Size, Size]:
    """Kernel and stride of the official pool between two sizes."""
    stride = tuple((s - 1) // t + 1 for s, t in zip(x.shape[-2:], size, strict=True))
    return tuple(s + 1 for s in stride), stride


def zero_padded(pool: nn.Module, x: Tensor, size: Size) -> Tensor:
    """Pads by zero rather than minus infinity."""
    kernel, stride = pooling(x, size)
    return F.max_pool2d(pad_same(x, kernel, stride), kernel, stride)


def kernel_is_stride(pool: nn.Module, x: Tensor, size: Size) -> Tensor:
    """Takes the maximum over windows that do not overlap."""
    _, stride = pooling(x, size)
    return F.max_pool2d(pad_same(x, stride, stride, value=float("-inf")), stride, stride)


def symmetric_pool(pool: nn.Module, x: Tensor, size: Size) -> Tensor:
    """Pads as much before as after."""
    kernel, stride = pooling(x, size)
    return F.max_pool2d(x, kernel, stride, padding=tuple(side // 2 for side in kernel))


def average(pool: nn.Module, x: Tensor, size: Size) -> Tensor:
    """The mean of each window, the padding counted as zero."""
    kernel, stride = pooling(x, size)
    return F.avg_pool2d(pad_same(x, kernel, stride), kernel, stride)


def bilinear(align_corners: bool) -> Callable[..., Tensor]:
    """Interpolates between pixels."""
    return lambda module, x, size: F.interpolate(
        x, size=size, mode="bilinear", align_corners=align_corners
    )


Features = Sequence[Tensor]


def weighted(features: Features, shares: Tensor) -> Tensor:
    """The sum of features, each times its share."""
    return sum(x * share for x, share in zip(features, shares, strict=True))


def without_relu(fuse: nn.Module, features: Features, weights: Tensor) -> Tensor:
    """Fast attention that lets negative weights act."""
    return weighted(features, weights / (weights.sum() + FUSION_EPSILON))


def with_epsilon(epsilon: float) -> Callable[..., Tensor]:
    """Fast attention with another epsilon."""

    def function(fuse: nn.Module, features: Features, weights: Tensor) -> Tensor:
        shares = torch.relu(weights)
        return weighted(features, shares / (shares.sum() + epsilon))

    return function


def softmax(fuse: nn.Module, features: Features, weights: Tensor) -> Tensor:
    """The weights passed through a softmax."""
    return weighted(features, torch.softmax(weights, 0))


def plain_sum(fuse: nn.Module, features: Features, weights: Tensor) -> Tensor:
    """A sum without weights."""
    return sum(features)


def plain_mean(fuse: nn.Module, features: Features, weights: Tensor) -> Tensor:
    """A mean without weights."""
    return sum(features) / len(features)


def faithful(fuse: nn.Module, features: Features, weights: Tensor) -> Tensor:
    """Fast attention as the paper has it."""
    return with_epsilon(FUSION_EPSILON)(fuse, features, weights)


def reversed_inputs(fuse: nn.Module, features: Features, weights: Tensor) -> Tensor:
    """Each input under another one's weight."""
    return faithful(fuse, features[::-1], weights)


def all_but_last(fuse: nn.Module, features: Features, weights: Tensor) -> Tensor:
    """The last input missing from the sum, though not from the weights."""
    shares = torch.relu(weights)
    return weighted(features[:-1], (shares / (shares.sum() + FUSION_EPSILON))[:-1])


POOL_PLACES = {
    "resample-p6": "fpn.resample_p6.pool",
    "first-cell": "fpn.cells.0.nodes.{up4}.resamples.2.pool",
    "last-cell": "fpn.cells.{last}.nodes.{up5}.resamples.2.pool",
}

RESAMPLING = (
    *(
        at(f"pool-{name}/{where}", title, instead(function), POOL_PLACES[where], slug)
        for name, title, function, slug, wheres in (
            (
                "zero-padding",
                "Max-pool padded by zero",
                zero_padded,
                "pool-zero-padding",
                ("resample-p6", "first-cell", "last-cell"),
            ),
            (
                "kernel-is-stride",
                "Max-pool whose kernel is its stride",
                kernel_is_stride,
                "pool-kernel-is-stride",
                ("resample-p6", "last-cell"),
            ),
            (
                "symmetric",
                "Max-pool with symmetric padding",
                symmetric_pool,
                "pool-padding-symmetric",
                ("resample-p6", "first-cell"),
            ),
            ("average", "Average for max-pool", average, "average-pool", ("last-cell",)),
        )
        for where in wheres
    ),
    replace(
        at(
            "pool-zero-padding/all",
            "Every max-pool padded by zero",
            instead(zero_padded),
            "fpn.*.pool",
            "pool-zero-padding",
        ),
        # A maximum of maxima is seldom negative, so that zero may change nothing in P7 and P8.
        nodes=named("fpn.resample_p6.pool", "fpn.cells.*.pool"),
        knock_on=named("fpn.resample_p?.pool"),
    ),
    *(
        at(
            f"upsample-bilinear/{where}",
            "Bilinear for nearest up-sampling",
            instead(bilinear(align_corners)),
            place,
            "bilinear",
        )
        for where, align_corners, place in (
            ("first-cell", False, "fpn.cells.0.nodes.{finest}.resamples.1.upsample"),
            ("last-cell", True, "fpn.cells.{last}.nodes.{down4}.resamples.1.upsample"),
        )
    ),
)
"""Pools and up-sampling."""


def attention_for_sum(fusion: Fusion, where: str, *slugs: str) -> Fault:
    """A fault that gives a model that sums its inputs the attention of the smaller ones."""
    template = f"fpn.cells.{where}.nodes.*.fuse"

    def nodes(model: EfficientDet, context: Context) -> frozenset[str]:
        return frozenset(places(model, [template]))

    def inject(model: EfficientDet, context: Context) -> None:
        for name in nodes(model, context):
            node = model.get_submodule(name.removesuffix(".fuse"))
            # Such a model has no weights to load, so they stay as a port initialises them.
            node.weights = nn.Parameter(torch.ones(len(node.sources)))
            node.fuse.fusion = fusion

    return Fault(
        f"fusion-attention-for-sum/{fusion.name.lower().replace('_', '-')}",
        "Attention with weights of one where the model sums",
        inject,
        nodes,
        frozenset(slugs),
        applies=with_plain_sum,
    )


FUSION = (
    *(
        at(
            f"fusion-no-relu/{where}",
            "Fusion lets a negative weight act",
            instead(without_relu),
            fusions(one_is_negative, index),
            "no-relu",
            applies=with_attention,
        )
        for where, index in {"first": 0, "last": -1}.items()
    ),
    *(
        at(
            f"{key}/{where}",
            title,
            instead(function),
            fusions(each_counts, index),
            *slugs,
            applies=with_attention,
        )
        for key, where, title, function, slugs in (
            (
                "fusion-epsilon-0",
                "first",
                "Fusion without epsilon",
                with_epsilon(0.0),
                ("fusion-epsilon",),
            ),
            (
                "fusion-epsilon-1e-3",
                "last",
                "Fusion's epsilon is 0.001",
                with_epsilon(1e-3),
                ("fusion-epsilon",),
            ),
            ("fusion-softmax", "first", "Softmax for fast attention", softmax, ("softmax",)),
            ("fusion-sum", "last", "A plain sum for fast attention", plain_sum, ("plain-sum",)),
            ("fusion-mean", "first", "A mean for fast attention", plain_mean, ("plain-mean",)),
            (
                "fusion-inputs-permuted",
                "last",
                "A fusion's inputs in reverse",
                reversed_inputs,
                ("inputs-permuted", "weights-permuted"),
            ),
            (
                "fusion-input-missing",
                "first",
                "A fusion without its last input",
                all_but_last,
                ("input-missing",),
            ),
        )
        for index in [0 if where == "first" else -1]
    ),
    attention_for_sum(Fusion.FAST_ATTENTION, "0", "fast-attention-of-ones", "plain-mean"),
    attention_for_sum(Fusion.SOFTMAX_ATTENTION, "{last}", "softmax", "plain-mean"),
    at(
        "fusion-mean-for-sum/all",
        "A mean where the model sums",
        instead(plain_mean),
        "fpn.*.fuse",
        "plain-mean",
        "scaled",
        applies=with_plain_sum,
    ),
    at(
        "fusion-input-missing-in-sum/last",
        "A sum without its last input",
        instead(lambda fuse, features, weights: sum(features[:-1])),
        "fpn.cells.{last}.nodes.{up4}.fuse",
        "input-missing",
        applies=with_plain_sum,
    ),
)
"""How a node's inputs are joined."""
