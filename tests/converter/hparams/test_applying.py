"""Each hyperparameter becomes what the official code makes of it, or is refused by its name."""

import hparams_goldens
import pytest

from converter.hparams.applying import apply
from converter.hparams.keys import HONOURED, KNOWN, OF_A_RUN, REFUSED, TRAINING
from converter.hparams.labels import DATA_SETS, check_ids, read_labels
from efficientdet_spec import MODELS, TINY, Activation, Fusion, InputError, StageSpec, get_config
from efficientdet_spec.suppression import Suppression

DEFAULTS = hparams_goldens.read("defaults.json")


def test_every_official_hyperparameter_is_of_one_kind():
    assert set(DEFAULTS["common"]) == KNOWN
    kinds = (set(HONOURED), set(TRAINING), set(REFUSED), set(OF_A_RUN))
    assert sum(map(len, kinds)) == len(set().union(*kinds))


@pytest.mark.parametrize("name", DEFAULTS["models"])
def test_the_official_defaults_of_a_model_are_its_configuration(name):
    official = {**DEFAULTS["common"], **DEFAULTS["models"][name]}
    official["name"] = name
    assert apply(MODELS[name], official) == MODELS[name]
    # From any other model too: they say all that there is to say.
    other = apply(get_config("efficientdet-d7x"), official)
    assert {**other.to_dict(), "name": ""} == {**MODELS[name].to_dict(), "name": ""}


def test_a_wrong_configuration_would_be_seen():
    official = {**DEFAULTS["common"], **DEFAULTS["models"]["efficientdet-d0"]}
    assert (
        apply(MODELS["efficientdet-d7"], {**official, "anchor_scale": 4.5})
        != MODELS["efficientdet-d0"]
    )


SIZES = hparams_goldens.read("override.json")["parse_image_size"]


@pytest.mark.parametrize("row", SIZES, ids=str)
def test_image_sizes(row):
    value = row["image_size"]
    if "hw" in row and value is not True:
        assert list(apply(TINY, {"image_size": value}).image_size) == row["hw"]
    elif isinstance(value, list):
        # In YAML people write a list where the official code needs a tuple.
        assert apply(TINY, {"image_size": value}).image_size == tuple(value)
    else:
        with pytest.raises(InputError, match="a text is WxH, while --size is HxW"):
            apply(TINY, {"image_size": value})


@pytest.mark.parametrize("name", DATA_SETS)
def test_label_maps_of_data_sets(name):
    official = hparams_goldens.read("labels.json")[name]
    assert dict(read_labels(name)) == {int(number): label for number, label in official.items()}


@pytest.mark.parametrize("zero", ["background", "__background__", "Background", "none"])
def test_a_background_is_no_class(zero):
    assert read_labels({0: zero, 1: "cat"}) == ((1, "cat"),)


def test_ids_that_a_model_does_not_have():
    check_ids(((1, "cat"), (7, "dog")), 7)
    for wrong in (8, 0):
        with pytest.raises(
            InputError, match=rf"the id {wrong} \('x'\), but .* 7 classes, .* 1 to 7"
        ):
            check_ids(((1, "cat"), (wrong, "x")), 7)


@pytest.mark.parametrize(
    "values, fields",
    [
        ({"act_type": "silu"}, {"activation": Activation.SWISH}),
        ({"act_type": "swish_native"}, {"activation": Activation.SWISH}),
        ({"act_type": "mish"}, {"activation": Activation.MISH}),
        ({"fpn_weight_method": "sum"}, {"fusion": Fusion.SUM}),
        ({"fpn_weight_method": None}, {"fusion": Fusion.FAST_ATTENTION}),
        ({"anchor_scale": 1}, {"anchor_scale": 1.0}),
        ({"anchor_scale": [1, 2, 3, 4, 5]}, {"anchor_scale": (1.0, 2.0, 3.0, 4.0, 5.0)}),
        ({"aspect_ratios": [[1.4, 0.7], 1]}, {"aspect_ratios": ((1.4, 0.7), 1.0)}),
        ({"survival_prob": 0}, {"head_survival_probability": None}),
        ({"survival_prob": 1}, {"head_survival_probability": 1.0}),
        ({"mean_rgb": 127.0}, {"mean_rgb": (127.0, 127.0, 127.0)}),
        ({"stddev_rgb": [1, 2, 3]}, {"stddev_rgb": (1.0, 2.0, 3.0)}),
        ({"separable_conv": 0}, {"separable_conv": False}),
        ({"conv_bn_act_pattern": True}, {"conv_bn_act": True}),
        ({"nms_configs": {"method": None}}, {"suppression": Suppression(method="hard")}),
        ({"nms_configs": {"sigma": 0.3}}, {"suppression": Suppression(sigma=0.3)}),
        ({"label_map": {"2": "dog", 1: "cat"}}, {"label_map": ((1, "cat"), (2, "dog"))}),
        ({"fpn_name": "bifpn_dyn"}, {"fpn_nodes": None}),
    ],
    ids=str,
)
def test_values(values, fields):
    config = apply(TINY, values)
    assert {name: getattr(config, name) for name in fields} == fields


def test_a_wiring_is_that_of_the_levels_that_are_given():
    config = apply(TINY, {"fpn_name": "qufpn", "min_level": 2})
    assert {level for level, _ in config.fpn_nodes} == set(range(2, 8))


def test_own_nodes_count_in_place_of_the_name_and_method():
    nodes = [{"feat_level": level, "inputs_offsets": [level - 3, 0]} for level in range(3, 8)]
    given = {
        "fpn_config": {"nodes": nodes, "weight_method": "sum"},
        "fpn_name": "qufpn",
        "fpn_weight_method": "attn",
    }
    config = apply(TINY, given)
    assert config.fusion is Fusion.SUM
    assert config.fpn_nodes == tuple((level, (level - 3, 0)) for level in range(3, 8))


def test_stages_as_texts_and_as_fields():
    text = "r2_k5_s22_e6_i16_o24_se0.25_noskip"
    fields = {
        "num_repeat": 2,
        "kernel_size": 5,
        "strides": [2, 2],
        "expand_ratio": 6,
        "input_filters": 16,
        "output_filters": 24,
        "se_ratio": 0.25,
        "id_skip": False,
    }
    first = "r1_k3_s11_e1_i8_o16_c0_f0_p0"
    expected = (StageSpec(1, 3, 1, 1, 8, 16, None), StageSpec(2, 5, 2, 6, 16, 24, 0.25, False))
    more = ["r1_k3_s22_e1_i24_o24", "r1_k3_s22_e1_i24_o24", "r1_k3_s22_e1_i24_o24"]
    for second in (text, fields):
        config = apply(TINY, {"backbone_config": {"blocks": [first, second, *more]}})
        assert config.backbone_stages[:2] == expected


@pytest.mark.parametrize(
    "values, words",
    [
        ({"act_type": "srelu"}, "act_type is 'srelu'; give one of swish"),
        ({"act_type": None}, "act_type is None"),
        ({"act_type": "Swish"}, "did you mean swish"),
        ({"fpn_weight_method": "softmax"}, "fpn_weight_method is 'softmax'"),
        ({"fpn_name": "fpn"}, "fpn_name is 'fpn'; give one of bifpn"),
        ({"fpn_config": {}}, "fpn_config is {}; give nodes"),
        ({"fpn_config": {"nodes": []}}, "its weight_method too"),
        ({"fpn_config": {"nodes": 1, "weight_method": "sum"}}, "Node 0 of fpn_config is None"),
        ({"num_classes": "20"}, "num_classes is '20'; give a whole number"),
        ({"num_classes": True}, "num_classes is True"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"fpn_num_filters": 0}, "fpn_num_filters is 0"),
        ({"fpn_cell_repeats": 0}, "fpn_cell_repeats is 0"),
        ({"box_class_repeats": 99}, "box_class_repeats is 99"),
        ({"survival_prob": 2}, "survival_prob is 2"),
        ({"survival_prob": "8e-1"}, "survival_prob is '8e-1'"),
        ({"separable_conv": "no"}, "separable_conv is 'no'; give true or false"),
        ({"anchor_scale": [1, 2]}, "anchor_scale has 2 numbers"),
        ({"anchor_scale": -1}, "anchor_scale is -1"),
        ({"anchor_scale": "4"}, "anchor_scale is '4'"),
        ({"aspect_ratios": 1.0}, r"aspect_ratios is 1.0; give a list, as in"),
        ({"aspect_ratios": []}, "aspect_ratios is"),
        ({"aspect_ratios": [[1, 2, 3]]}, "aspect_ratios is"),
        ({"aspect_ratios": [0]}, "aspect_ratios is"),
        ({"mean_rgb": [1, 2]}, "mean_rgb is .* one number, or three"),
        ({"stddev_rgb": 0}, "stddev_rgb is"),
        ({"min_level": 6}, "levels 6..7 cannot be built"),
        ({"backbone_name": "resnet50"}, "Unknown backbone 'resnet50'"),
        ({"backbone_config": {"blocks": ["x"]}}, "block 0 as 'x'"),
        ({"backbone_config": {"blocks": ["r1_k3_s11_e1_i8_o8_c1"]}}, "conv_type 1, which is not"),
        ({"backbone_config": {"blocks": ["r1_k3_s11_e1_i8_o8_cc"]}}, "condconv True, which is not"),
        ({"backbone_config": {"blocks": [{"fused_conv": 1}]}}, "fused_conv 1, which is not"),
        ({"backbone_config": {"blocks": ["r1_k3_s12_e1_i8_o8"]}}, "strides"),
        ({"backbone_config": {"blocks": ["r1_k3_s11_e1_i8"]}}, "without output_filters"),
        ({"backbone_config": {"blocks": ["r1_k3_s22_e1_i8_o8"] * 5}}, "5 stages of stride 2; give"),
        ({"nms_configs": "hard"}, "nms_configs is 'hard'; give a mapping"),
        ({"nms_configs": {"sigm": 1}}, "did you mean sigma"),
        ({"nms_configs": {"method": "linear"}}, "nms_configs.method is linear, which"),
        ({"label_map": "mine"}, "label_map is 'mine'"),
        ({"label_map": {1: False}}, "calls class 1 False"),
        ({"label_map": {"a": "b"}}, "has the id 'a'"),
        ({"label_map": {1: "a", "1": "b"}}, "there twice"),
        ({"label_map": {0: "c0", 1: "c1"}}, "calls class 0 'c0', but ids are class index \\+ 1"),
        ({"image_size": "512"}, "image_size is '512'"),
        ({"image_size": "99999x1"}, "image_size is"),
    ],
    ids=str,
)
def test_what_is_refused_has_its_official_name(values, words):
    with pytest.raises(InputError, match=words) as caught:
        apply(TINY, values)
    assert len(str(caught.value)) < 600


WRITTEN_BY_HAND = {"blocks_strings", "blocks_dicts", "block_se_None"}
"""Stages of a backbone that the official code takes from Python alone, and not from a file."""

ERRORS = {
    name: row["hparams"]
    for name, row in hparams_goldens.read("outcomes.json")["outcomes"].items()
    if name not in WRITTEN_BY_HAND
    and all("error" in row[form] for form in ("efficientdet_keras", "efficientdet_arch"))
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_the_official_code_cannot_build_is_refused(name):
    with pytest.raises(InputError):
        apply(get_config("efficientdet-d0"), ERRORS[name])
