"""In what two models differ is said as users write it: it can be given as it is said."""

from dataclasses import fields, replace

import pytest

from converter.hparams.applying import apply
from converter.hparams.keys import HONOURED
from converter.hparams.override import parse_text
from efficientdet_spec import (
    OFFICIAL_KEYS,
    TINY,
    Activation,
    Contradiction,
    EfficientDetConfig,
    Fusion,
    bifpn,
    field_of,
    first_difference,
    get_config,
)
from efficientdet_spec.suppression import Suppression
from efficientdet_spec.wiring import WIRINGS

OTHERS = {
    "image_size": ((128, 256), (96, 96)),
    "fpn_channels": (96,),
    "fpn_cells": (5,),
    "head_repeats": (5,),
    "fusion": (Fusion.CHANNEL_SOFTMAX_ATTENTION,),
    "min_level": (2,),
    "max_level": (8,),
    "anchor_scale": (0.30000000000000004, (1.0, 2.0, 3.0, 4.0, 5.0)),
    "num_scales": (2,),
    "aspect_ratios": ((1.0,), (1.0, 0.5), ((1.4, 0.7), (1.0, 1.0))),
    "num_classes": (3,),
    "head_survival_probability": (0.8,),
    "activation": (Activation.MISH,),
    "fpn_nodes": (WIRINGS["qufpn"](TINY.levels),),
    "separable_conv": (False,),
    "conv_after_downsample": (True,),
    "conv_bn_act": (True,),
    "resample_bn": (False,),
    "mean_rgb": ((1.0, 2.0, 3.0),),
    "stddev_rgb": ((127.0, 127.0, 127.0),),
    "scale_range": (True,),
    "suppression": (Suppression(sigma=0.3), Suppression(method="hard", iou_thresh=0.4)),
    "backbone_name": ("efficientnet-b0",),
}
"""Of each field some other values than the tiny model's."""


def test_every_field_is_looked_at():
    told_otherwise = {"name", "label_map", "backbone_stages"}
    assert {item.name for item in fields(EfficientDetConfig)} == OTHERS.keys() | told_otherwise


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in OTHERS.items() for value in values]
)
def test_what_is_said_can_be_given(field, value):
    other = replace(TINY, **{field: value})
    for base, wanted in ((TINY, other), (other, TINY)):
        model = base
        # A model may differ in several parts of one value.
        for _ in fields(Suppression):
            found = first_difference(model, wanted)
            if found is None:
                break
            said = found.theirs.removesuffix(" (WxH)")
            assert found.ours != found.theirs
            model = apply(model, parse_text(f"{found.key}={said}"))
        assert replace(model, fpn_nodes=None) == replace(wanted, fpn_nodes=None)
        assert model.cell_nodes(0) == wanted.cell_nodes(0)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"image_size": (128, 256)}, ("image_size", "256x128 (WxH)", "128x128")),
        ({"activation": Activation.MISH}, ("act_type", "mish", "swish")),
        (
            {"fusion": Fusion.CHANNEL_SOFTMAX_ATTENTION},
            ("fpn_weight_method", "channel_attn", "fastattn"),
        ),
        ({"head_survival_probability": 0.8}, ("survival_prob", "0.8", "None")),
        ({"suppression": Suppression(sigma=0.3)}, ("nms_configs.sigma", "0.3", "None")),
        ({"separable_conv": False}, ("separable_conv", "false", "true")),
    ],
)
def test_the_words(changed, expected):
    base = replace(TINY, image_size=(128, 128))
    assert first_difference(replace(base, **changed), base) == Contradiction(*expected)


def test_the_same_models():
    assert first_difference(TINY, replace(TINY, label_map=((1, "cat"),))) is None
    assert first_difference(TINY, replace(TINY, fpn_nodes=bifpn(TINY.levels))) is None
    found = first_difference(TINY, get_config("d0"))
    assert found == Contradiction("name", "efficientdet-tiny", "efficientdet-d0")


def test_own_nodes_and_stages_are_told_apart():
    usual = bifpn(TINY.levels)
    swapped = replace(TINY, fpn_nodes=((usual[0][0], usual[0][1][::-1]), *usual[1:]))
    found = first_difference(swapped, TINY)
    assert found == Contradiction("fpn_config", f"of {len(usual)} nodes", "bifpn")
    level, sources = usual[1]
    both = replace(TINY, fpn_nodes=(swapped.fpn_nodes[0], (level, sources[::-1]), *usual[2:]))
    words = f"with node 1 {{feat_level: {level}, inputs_offsets: {list(sources)}}}"
    assert first_difference(swapped, both).ours == words != first_difference(swapped, both).theirs

    texts = [f"r1_k3_s{stride}{stride}_e{1}_i{8}_o{8}_se0.25" for stride in (1, 2, 2, 2, 2)]
    first = apply(TINY, {"backbone_config": {"blocks": texts}})
    texts[2] = "r1_k5_s22_e6_i8_o8_noskip"
    second = apply(TINY, {"backbone_config": {"blocks": texts}})
    found = first_difference(first, second)
    assert found.ours == "with block 2 r1_k3_s22_e1_i8_o8_se0.25"
    assert found.theirs == f"with block 2 {texts[2]}"
    assert first_difference(first, TINY) == Contradiction("backbone_config", "of 5 blocks", "None")


def test_the_names_are_those_that_are_honoured():
    for field in (item.name for item in fields(EfficientDetConfig)):
        key = OFFICIAL_KEYS.get(field, field)
        assert key in HONOURED and field_of(key) == field
