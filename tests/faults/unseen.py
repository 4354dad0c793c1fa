"""Faults held out: other numbers, forms and places than those that hypotheses were tried on."""

import torch
import torch.nn.functional as F
from faults.fault import at, before, each_counts, fusions, instead, then, with_attention
from faults.kinds import (
    folded,
    in_some,
    interpolated,
    looked_up,
    normalised,
    of,
    over,
    shares,
    stored,
    updated,
)
from torch import Tensor, nn


def cached(share: float):
    """A running mean of the outputs, which the first call starts."""

    def mean(module: nn.Module, x: Tensor) -> Tensor:
        made = type(module).__mro__[1].forward(module, x)
        before = getattr(module, "kept", None)
        module.kept = made if before is None or before.shape != made.shape else (
            share * before + (1 - share) * made
        )  # fmt: skip
        return module.kept

    return instead(mean)


def alternating(count: int) -> Tensor:
    """Every third channel."""
    return torch.arange(count) % 3 == 0


UNSEEN = (
    at("unseen/table-tanh-swish", "Swish from a coarse table", of(looked_up(F.silu, -4, 4, 64)),
       "backbone.blocks.{late}.expand_act", "table"),
    at("unseen/table-cells", "Sigmoid from a table of cells",
       of(interpolated(torch.sigmoid, -6, 6, 201)), "backbone.blocks.{strided}.se.gate", "table"),
    at("unseen/hard-swish-wide", "A wider hard swish",
       of(lambda x: x * F.relu6(2 * x + 3) / 6), "fpn.cells.0.nodes.{up5}.act", "hard-swish"),
    at("unseen/elu", "ELU of alpha 1.5", of(lambda x: F.elu(x, 1.5)), "box_head.acts.{repeat}",
       "elu"),
    at("unseen/leaky", "Leaky ReLU of slope 0.0625", of(lambda x: F.leaky_relu(x, 0.0625)),
       "backbone.stem_act", "leaky-relu"),
    at("unseen/threshold", "Swish that is zero below -0.5",
       of(lambda x: torch.where(x < -0.05, 0.0, F.silu(x))), "class_head.acts.{repeat}",
       "zeroed", "threshold"),
    at("unseen/polynomial", "A polynomial", of(lambda x: 0.5 * x + 0.25 * x**2 - x**4 / 48),
       "box_head.acts.0", "polynomial"),
    at("unseen/part", "GELU in every third channel", in_some(alternating, F.gelu),
       "fpn.cells.0.nodes.{down4}.act", "part-of-channels"),
    at("unseen/group-8", "Group norm of 8 groups without gamma",
       instead(lambda m, x: F.group_norm(x, 8, None, None, m.eps)), "fpn.cells.{last}.nodes.0.bn",
       "group-statistics"),
    at("unseen/layer-unbiased", "Layer norm over all, unbiased", over(1, 2, 3, unbiased=True),
       "class_head.bns.{repeat}.P5", "batch-statistics", "group-statistics"),
    at("unseen/rms-pixels", "RMS norm over the pixels", over(2, 3, root_mean_square=True),
       "backbone.blocks.{mid}.expand_bn", "rms-norm"),
    at("unseen/fold", "Folded with the deviation squared in the mean",
       folded(lambda x, g, b, m, v, d: x * g / d + b - m * g / d**2), "fpn.resample_p6.bn",
       "fold-error"),
    at("unseen/fold-bias-twice", "Folded with beta twice",
       folded(lambda x, g, b, m, v, d: (x - m) * g / d + 2 * b), "backbone.stem_bn",
       "fold-error", "beta-doubled"),
    at("unseen/momentum", "Statistics moved by a hundredth", updated(0.01),
       "box_head.bns.{repeat}.P4", "statistics-updated"),
    at("unseen/variance", "Variance times 63/64", stored("running_var", lambda v: v * 63 / 64),
       "class_head.bns.0.P5", "variance-scaled", "parameters-different"),
    at("unseen/mean-halves", "Halves of the mean exchanged",
       stored("running_mean", lambda v: v.roll(len(v) // 2)), "backbone.blocks.{mid}.project_bn",
       "value-permuted", "parameters-different", "channels-offset"),
    at("unseen/squeeze-stride", "Mean of every third column",
       of(lambda x: x[..., ::3].mean((2, 3), keepdim=True)),
       "backbone.blocks.{strided}.se.pool", "mean-of-part"),
    at("unseen/gate-power", "The gate to the power of 3/2", instead(lambda m, x, g: x * g**1.5),
       "backbone.blocks.{late}.se.scale", "gate-power"),
    at("unseen/residual-channels", "The shortcut for the last quarter missing",
       instead(lambda m, x, y: x + y * (torch.arange(x.shape[1]) * 4 < 3 * x.shape[1])
               .view(1, -1, 1, 1)),
       "backbone.blocks.{residual}.residual", "part-of-channels", "shortcut-scaled"),
    at("unseen/drop-path", "Drop-connect of 0.35", before(lambda x: x / 0.65),
       "backbone.blocks.{residual_late}.residual", "weighted"),
    at("unseen/dropout", "Dropout of 0.35 before the predictions",
       then(lambda x: F.dropout(x, 0.35, True, False) if False else x * (
           torch.rand(x.shape, generator=torch.Generator().manual_seed(9)) > 0.35) / 0.65),
       "class_head.acts.{repeat}", "dropout"),
    at("unseen/fuse-epsilon", "Epsilon 0.5", shares(lambda w: normalised(torch.relu(w), 0.5)),
       fusions(each_counts, -2), "fusion-epsilon", "scaled", applies=with_attention),
    at("unseen/fuse-temperature", "Softmax of half the weights",
       shares(lambda w: torch.softmax(w / 2, 0)), fusions(each_counts, 2), "softmax-temperature",
       "weights-other", applies=with_attention),
    at("unseen/fuse-softplus", "Softplus, no epsilon",
       shares(lambda w: F.softplus(w) / F.softplus(w).sum()), fusions(each_counts, 3),
       "weights-function", applies=with_attention),
    at("unseen/anchor-pairs", "Neighbouring anchors exchanged",
       then(lambda x: x[:, torch.arange(x.shape[1]).view(9, -1)[[1, 0, 3, 2, 5, 4, 7, 6, 8]]
                        .reshape(-1)]), "class_head.predict.pointwise", "anchor-order"),
    at("unseen/boxes-scaled", "Sizes of boxes times 0.2",
       then(lambda x: x * torch.tensor([1, 1, 0.2, 0.2]).repeat(9).view(1, -1, 1, 1)),
       "box_head.predict.pointwise", "channels-scaled", "values-scaled"),
    at("unseen/leak-roll", "A fifth of the next image",
       then(lambda x: 0.8 * x + 0.2 * x.roll(1, 0)), "fpn.cells.0.nodes.{up4}.fuse",
       "images-mixed", images=2),
    at("unseen/image-shift", "An offset in the second image",
       then(lambda x: x + torch.tensor([0, 0.3]).view(-1, 1, 1, 1)),
       "class_head.convs.{repeat}.pointwise", "part-of-images", images=2),
)  # fmt: skip
"""One place each."""

FAULTS = UNSEEN
