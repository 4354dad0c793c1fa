"""What is written of a model is read as just that model."""

from dataclasses import fields, replace

import hparams_goldens
import pytest
from configurations import CONFIGURATIONS, OWN_NODES, OWN_STAGES

from converter.hparams.applying import apply
from converter.hparams.keys import HONOURED
from converter.hparams.labels import DATA_SETS
from converter.hparams.override import parse_text
from converter.hparams.plain_yaml import parse_yaml, yaml_text
from converter.hparams.writing import LONGEST_LINE, line_of, official_values, reads_as
from efficientdet_spec import (
    MODELS,
    OFFICIAL_KEYS,
    TINY,
    VARIANTS,
    WIRINGS,
    Activation,
    EfficientDetConfig,
    Fusion,
    Suppression,
    base_model,
    get_config,
)

OTHERS = {
    "image_size": (1280, 1920),
    "anchor_scale": (1.0, 2.5, 3.0, 4.0, 1e-5),
    "aspect_ratios": ((1.4, 0.7), 1.0, (0.7, 1.4)),
    "num_scales": 1,
    "num_classes": 3,
    "mean_rgb": (1.0, 2.0, 3.5),
    "stddev_rgb": (128.0, 128.0, 128.0),
    "scale_range": True,
    "activation": Activation.MISH,
    "fusion": Fusion.SOFTMAX_ATTENTION,
    "head_survival_probability": 0.8,
    "head_repeats": 5,
    "fpn_channels": 24,
    "fpn_cells": 1,
    "min_level": 2,
    "max_level": 6,
    "separable_conv": False,
    "conv_after_downsample": True,
    "conv_bn_act": True,
    "resample_bn": False,
    "fpn_nodes": OWN_NODES,
    "backbone_name": "efficientnet-b1",
    "backbone_stages": OWN_STAGES,
    "suppression": Suppression(method="diou", pyfunc=True, iou_thresh=0.4, score_thresh=None),
    "label_map": ((1, "yes"), (2, "a: 'b', #c"), (3, "Grüße\t\x07")),
}
CASES = {
    **MODELS,
    **VARIANTS,
    **CONFIGURATIONS,
    **{
        f"{name} of {config.name}": replace(config, **{name: value})
        for name, value in OTHERS.items()
        for config in (TINY, get_config("d0-advprop"))
        if not (name in ("min_level", "max_level") and config is not TINY)
    },
    "all at once": replace(
        TINY, **{key: value for key, value in OTHERS.items() if not key.endswith("_level")}
    ),
    "a square": replace(TINY, image_size=(96, 96)),
    "a usual cell that is listed": replace(TINY, fpn_nodes=WIRINGS["bifpn"](TINY.levels)),
    "own nodes that are summed": replace(TINY, fpn_nodes=OWN_NODES, fusion=Fusion.SUM),
    "a variant with what it changes taken back": replace(
        get_config("d0-advprop"), mean_rgb=MODELS["efficientdet-d0"].mean_rgb, scale_range=False
    ),
    "labels of a data set": replace(get_config("d0"), label_map=DATA_SETS["coco"]),
    "one ratio": replace(TINY, aspect_ratios=(2.0,)),
}
DEFAULTS = hparams_goldens.read("defaults.json")["common"]


def test_every_field_is_tried():
    assert OTHERS.keys() | {"name"} == {item.name for item in fields(EfficientDetConfig)}
    keys = {OFFICIAL_KEYS.get(name, name) for name in OTHERS} | {"name", "fpn_config"}
    assert keys == set(HONOURED)


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_it_is_read_as_the_same_model(config):
    values = official_values(config)
    text = yaml_text(values)
    for read in (values, parse_yaml(text.encode(), "config.yaml")):
        assert apply(get_config(config.name), read) == config
        base = get_config(read["name"])
        assert apply(base, read) == replace(config, name=base.name)
        assert reads_as(read, config)


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_keys_and_kinds_of_values_are_official(config):
    for key, value in official_values(config).items():
        assert key in DEFAULTS and key in HONOURED
        default = DEFAULTS[key]
        plain = {type(None), type(default), str if key == "image_size" else type(default)}
        if key == "fpn_config":
            assert value.keys() == {"nodes", "weight_method"}
        elif key == "nms_configs":
            assert value.keys() <= default.keys()
        elif default is not None:
            # Lists of numbers may be one number for all, and one may be several.
            numbers = {float, list} if plain & {float, list} else set()
            assert type(value) in plain | numbers, key


@pytest.mark.parametrize("name", [*MODELS, *VARIANTS])
def test_of_an_official_model_there_is_its_name_alone(name):
    values = official_values(get_config(name))
    assert values["name"] == base_model(name)
    changed = {"advprop": {"mean_rgb", "stddev_rgb", "scale_range"}, "640": {"image_size"}}
    assert values.keys() - {"name"} == (
        changed[name.rpartition("-")[2]] if name in VARIANTS else set()
    )


def test_height_and_width_do_not_swap():
    assert official_values(replace(TINY, image_size=(1280, 1920)))["image_size"] == "1920x1280"
    assert official_values(replace(TINY, image_size=(96, 96)))["image_size"] == 96


def test_what_was_said_can_be_kept():
    stated = ("act_type", "fpn_name", "image_size", "nms_configs")
    values = official_values(TINY, stated)
    assert values == {
        "name": TINY.name,
        "image_size": 128,
        "act_type": "swish",
        "fpn_name": "bifpn",
        "nms_configs": DEFAULTS["nms_configs"],
    }
    assert apply(TINY, values) == TINY


def test_of_a_model_of_its_own_name_all_is_written():
    values = official_values(replace(TINY, name="mine"))
    assert apply(get_config("efficientdet-d7x"), values) == replace(TINY, name="efficientdet-d7x")


def test_another_model_is_told_from_this_one():
    values = official_values(replace(TINY, anchor_scale=0.25))
    assert not reads_as(values, TINY)
    assert not reads_as({**values, "anchor_scale": "x"}, TINY)
    assert not reads_as({"image_size": "96x128"}, replace(TINY, image_size=(96, 128)))


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_a_line_is_read_as_the_same_or_there_is_none(config):
    line = line_of(official_values(config))
    if line is None:
        listed = config.fpn_nodes is not None or config.backbone_stages is not None
        assert listed or config.label_map
    else:
        assert len(line) <= LONGEST_LINE and "'" not in line
        assert apply(get_config(config.name), parse_text(line)) == config


def test_lines():
    config = replace(
        get_config("d0"),
        image_size=(1280, 1920),
        anchor_scale=0.25,
        aspect_ratios=(1.0, 2.0),
        scale_range=True,
        suppression=Suppression(sigma=0.3, score_thresh=None),
    )
    assert line_of(official_values(config)) == (
        "name=efficientdet-d0,image_size=1920x1280,anchor_scale=0.25,aspect_ratios=1.0*2.0,"
        "scale_range=true,nms_configs.score_thresh=None,nms_configs.sigma=0.3"
    )
