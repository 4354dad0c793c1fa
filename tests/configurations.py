"""Configurations between which every hyperparameter of the network takes other values.

All are variants of the tiny model, so that tests can go through all of them.
"""

from dataclasses import replace

from efficientdet_spec import TINY, WIRINGS, Activation, Fusion, StageSpec

OWN_STAGES = (
    StageSpec(1, 3, 1, 1, 8, 8, None),
    StageSpec(2, 3, 2, 2, 8, 8, 0.25, has_skip=False),
    StageSpec(1, 5, 2, 2, 8, 16, 0.5),
    StageSpec(2, 3, 2, 2, 16, 24),
    StageSpec(1, 5, 2, 2, 24, 32),
)
"""A block without squeeze-excite, two without a residual, one with a wider bottleneck."""

PLAIN_STAGES = tuple(replace(stage, squeeze_ratio=None, has_skip=True) for stage in OWN_STAGES)
"""The tiny backbone's, without squeeze-excites as in the lite models."""

OWN_NODES = (
    (6, (3, 4)),
    (5, (2, 5)),
    (4, (1, 6)),
    (3, (0, 1, 7)),
    (4, (1, 7, 8)),
    (5, (0, 2, 6, 9)),
    (6, (10, 3)),
    (7, (4, 9, 11)),
)
"""Nodes with four inputs, with inputs of levels further away, and with others in another order."""

CONFIGURATIONS = {
    **{
        f"{kind.value} activation": replace(TINY, activation=kind)
        for kind in Activation
        if kind is not TINY.activation
    },
    **{
        f"{kind.value} fusion": replace(TINY, fusion=kind)
        for kind in Fusion
        if kind is not TINY.fusion
    },
    "levels 3 to 8": replace(TINY, max_level=8),
    "levels 3 to 5": replace(TINY, max_level=5),
    "levels 2 to 5": replace(TINY, min_level=2, max_level=5),
    "levels 2 to 7": replace(TINY, min_level=2),
    "levels 4 to 6": replace(TINY, min_level=4, max_level=6),
    "head residuals": replace(TINY, head_repeats=3, head_survival_probability=0.8),
    "one class, one anchor": replace(TINY, num_classes=1, num_scales=1, aspect_ratios=(1.0,)),
    "four scales of one aspect": replace(TINY, num_scales=4, aspect_ratios=(1.0,)),
    "own nodes": replace(TINY, fpn_nodes=OWN_NODES),
    "BiFPN as wide as the highest level": replace(TINY, fpn_channels=32),
    "one repeat, one cell": replace(TINY, fpn_cells=1, head_repeats=1),
    "quad FPN": replace(TINY, fpn_nodes=WIRINGS["qufpn"](TINY.levels)),
    "whole convolutions": replace(TINY, separable_conv=False),
    "convolution behind the pool": replace(TINY, conv_after_downsample=True),
    "activation behind the norm": replace(TINY, conv_bn_act=True),
    "resampling without norm": replace(TINY, resample_bn=False),
    "own backbone": replace(TINY, backbone_stages=OWN_STAGES),
    "lite": replace(
        TINY,
        activation=Activation.RELU6,
        fusion=Fusion.SUM,
        backbone_stages=PLAIN_STAGES,
    ),
    "several at once": replace(
        TINY,
        activation=Activation.HARD_SWISH,
        fusion=Fusion.CHANNEL_SOFTMAX_ATTENTION,
        separable_conv=False,
        conv_bn_act=True,
        conv_after_downsample=True,
        resample_bn=False,
        head_survival_probability=0.5,
        min_level=2,
    ),
}
"""By what is otherwise in them."""
